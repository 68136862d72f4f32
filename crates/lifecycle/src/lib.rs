//! What runs inside containers (builder, launcher, health check, static file server) and the buildpacks that come
//! with the platform. This crate knows the buildpack contract and nothing of how containers are made.

pub mod builder;
pub mod buildpacks;
pub mod flags;
pub mod healthcheck;
pub mod launcher;
pub mod root;
pub mod services;
pub mod staticfile;

/// The programs this one can be, chosen by the name it is called by, else by its first argument.
pub const PROGRAMS: [&str; 4] = ["builder", "launcher", "healthcheck", "staticfile"];
