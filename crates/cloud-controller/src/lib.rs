//! Cloud Controller: the v3 API and its database, and the bridge that turns what users want into Diego's words.
//!
//! It talks to the brain through [`diego::Bbs`] alone and knows no cell. `v3` has one file per resource (routes,
//! message, handlers, presenter), `db` its SQL, `actions` what crosses resources, `bridge` the way to Diego and back.

pub mod auth;
pub mod blobstore;
pub mod config;
pub mod testing;

mod actions;
mod bridge;
mod changes;
mod controller;
mod db;
mod errors;
mod internal;
mod logs;
mod manifest;
mod message;
mod query;
mod respond;
mod routing_api;
mod seal;
mod urls;
mod v3;
mod yaml;

pub use blobstore::Blobstore;
pub use bridge::metrics::{ContainerMetrics, Usage};
pub use config::{Config, Timings};
pub use controller::{CloudController, Deps};

/// Short for use in handlers.
pub use controller::CloudController as Cc;

/// What stands where a secret would.
pub(crate) const REDACTED: &str = "[PRIVATE DATA HIDDEN]";
