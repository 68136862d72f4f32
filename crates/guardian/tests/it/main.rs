//! Containers of both kinds on this very host.

mod bed;
mod breakouts;
mod changes;
mod crowd;
mod disk;
mod escapes;
mod firewall;
mod leaks;
mod linux;
mod network;
mod process;
mod world;
