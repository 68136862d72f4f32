//! What components need of one another, handed to them: each declares a small trait, and here is who keeps the promise.

mod log_access;
mod usage;

pub use log_access::LogAccess;
pub use usage::FromLogs;
