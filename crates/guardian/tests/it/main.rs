//! Containers of both kinds on this very host.

mod bed;
mod crowd;
mod disk;
mod escapes;
mod linux;
mod network;
mod process;
mod world;
