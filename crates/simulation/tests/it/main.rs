//! Distribution by scenario, and whole runs by seed.

mod processes;
mod scenarios;
mod seeds;
