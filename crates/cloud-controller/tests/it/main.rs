//! The Cloud Controller against real databases, with fakes at its seams.

mod harness;
mod push;
mod v3;
