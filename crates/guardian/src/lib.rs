//! Containers as processes of this host: isolated ones on Linux, plain ones elsewhere. It knows no app and no LRP.

mod containers;
mod follow;
mod keeper;
pub mod linux;
mod output;
mod watch;

pub use linux::{Check, check};
