//! Flows that cross resources, one file each.

pub mod apply_manifest;
pub mod apps;
pub mod bindings;
pub mod bits;
pub mod delete_org;
pub mod deployments;
pub mod packages;
pub mod revisions;
pub mod route_options;
pub mod route_ports;
pub mod routes;
pub mod scale;
pub mod seed;
pub mod show_manifest;
pub mod tidy;
pub mod zips;
