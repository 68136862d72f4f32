//! The brain, its cells and the network between them in one thread and simulated time. Everything that decides is the
//! real code: the brain's state, `decide` and `converge`, the auction, the cells' tables. Only what carries decisions
//! out is played here, and it fails as a seed says: messages get lost, late and doubled, every part crashes, disks
//! stall and clocks jump. The same seed gives the same run.

mod brain;
mod cell;
pub mod chance;
mod check;
mod client;
mod faults;
mod lane;
mod world;

use world::World;

/// What became of one seed.
#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    /// Over every event and the state at the end.
    pub hash: u64,
    pub events: u64,
    /// Task runs, instance starts and the like: shows that a run did something.
    pub starts: u64,
    /// What must never be and was; empty when all is well.
    pub wrong: Vec<String>,
    /// What happened, when asked for.
    pub trace: Vec<String>,
}

/// Runs one seed: some minutes of trouble, then calm until everything is at rest as desired.
pub fn run(seed: u64, traced: bool) -> Report {
    World::new(seed, traced).run()
}
