//! A cell's side of the bargain with the brain: takes work while it fits, turns it into containers, tells what becomes of
//! them, hands its instances over when it has to go. Knows LRPs and tasks; how a container runs is the executor's
//! business, what an app is nobody's here.

mod book;
mod cell;
mod client;
mod config;
mod convert;
mod crashed;
mod evacuation;
mod gate;
mod lanes;
mod layers;
mod lrp;
mod owner;
mod presence;
mod reconcile;
mod server;
mod task;
mod work;

/// The decisions alone, for simulations.
#[doc(hidden)]
pub mod simulation {
    pub use crate::reconcile::{judged, lrp_view, task_view};

    pub mod lrp {
        pub use crate::lrp::*;
    }

    pub mod task {
        pub use crate::task::*;
    }
}

pub use cell::Rep;
pub use client::{Client, Dialer, Pieces};
pub use config::{Config, Timings};
pub use crashed::{CrashedInstance, FileEntry, FileKind, Listing};
