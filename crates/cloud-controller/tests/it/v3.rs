//! One file per resource.

mod app_env;
mod apps;
mod deployments;
mod domains;
mod endpoints;
mod manifests;
mod organizations;
mod packages;
mod platform;
mod processes;
mod quotas;
mod roles;
mod routes;
mod security_groups;
mod services;
mod shape;
mod spaces;
mod suspended;
mod tasks;
mod tcp;
