//! The brain: what is desired, what runs where, and everything that keeps the two in step. It holds the BBS, the
//! auctioneer, the converger and the route emitter, and speaks an internal HTTP API. It knows no app, no space and no
//! user.
//!
//! A change goes one way: a command is decided by a pure function over the state, written to the store together with
//! whatever else was waiting, and only then answered, published and acted on.

mod aftermath;
mod alarm;
mod auctioneer;
pub mod bench;
mod callbacks;
mod cells;
mod client;
mod config;
mod converge;
mod converger;
mod decide;
mod emitter;
mod http;
mod hub;
mod lease;
mod receptor;
mod retagger;
mod retirer;
mod routes;
mod seat;
mod server;
#[doc(hidden)]
pub mod simulation;
mod state;
mod store;
mod wire;
mod writer;

pub use client::{Client, Standing};
pub use config::{Config, Credentials, Prefer, Timings};
pub use seat::Seat;
pub use server::{BbsServer, Deps};
