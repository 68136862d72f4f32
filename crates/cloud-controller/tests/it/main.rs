//! The Cloud Controller against real databases, with fakes at its seams.

mod explained;
mod harness;
mod housekeeping;
mod lists;
mod push;
mod uploads;
mod v3;
