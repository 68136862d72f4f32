//! Cells over plain processes of this host, with the real brain on a temporary database.

#[path = "../../../executor/tests/it/garden_on_host.rs"]
mod garden_on_host;

mod api;
mod crashed;
mod evacuation;
mod faults;
mod link;
mod locality;
mod loss;
mod lrps;
mod restart;
mod speed;
mod support;
mod tags;
mod tasks;
