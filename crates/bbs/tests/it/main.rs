//! The whole brain over real HTTP, on each real database, with cells that run nothing.

mod cells;
mod evacuation;
mod http;
mod lease;
mod loss;
mod lrps;
mod random;
mod receptor;
mod restart;
mod rig;
mod routes;
mod tasks;
