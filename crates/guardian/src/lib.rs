//! Containers as processes of this host: isolated ones on Linux, plain ones elsewhere. It knows no app and no LRP.

pub mod bench;
mod containers;
mod follow;
mod furnish;
mod hosted;
mod keeper;
pub mod linux;
pub mod memory;
mod output;
pub mod process;
mod watch;

pub use linux::{Check, check};
