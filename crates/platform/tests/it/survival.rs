//! What survives: kills at any moment, ended processes, cut power. The real program is killed, the real data is looked at.

mod chaos;
mod lines;
mod power;
mod traces;
mod traffic;
mod world;
