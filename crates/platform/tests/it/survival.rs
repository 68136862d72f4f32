//! What survives: kills at any moment, ended processes, cut power. The real program is killed, the real data is looked at.

mod chaos;
mod joined;
mod lines;
mod power;
pub mod traces;
mod traffic;
mod world;
