//! One file per resource.

mod app_env;
mod apps;
mod packages;
mod processes;
