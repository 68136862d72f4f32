//! Whole runs by seed.

mod seeds;
