//! Runs containers by recipes: makes them, carries out their actions, watches their health, writes their logs and
//! measures them, and takes them up again when this program was away. Knows no LRP and no task: what the owner wants to
//! remember travels as opaque tags.

mod cache;
mod checksum;
mod config;
mod container;
mod crashed;
mod executor;
mod failure;
mod fetch;
mod flights;
mod full_disk;
mod gate;
mod health;
pub mod host_limits;
mod identity;
mod images;
mod journal;
mod life;
mod lines;
mod logger;
mod member;
mod meter;
mod probe;
mod progress;
mod rate;
mod recipe;
mod recovery;
mod scene;
mod steps;
mod supplies;
mod surroundings;
mod text;
mod transfer;
mod volumes;

pub use config::{Config, KeepCrashed, Timings};
pub use container::{
    Container, ContainerRequest, LogConfig, LogTags, Outcome, OwnerTags, State, Usage,
};
pub use crashed::Crashed;
pub use executor::{Executor, ExecutorError, Result};
pub use gate::Gate;
pub use identity::{Credentials, Identities, Subject};
