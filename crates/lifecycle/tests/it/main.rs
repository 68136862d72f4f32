//! The program as the platform calls it: stages, launches and serves real apps.

mod builder;
mod buildpacks;
mod launcher;
mod staticfile;
mod workshop;
