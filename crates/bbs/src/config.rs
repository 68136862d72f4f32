//! What can be set. The defaults are Diego's, or better ones.

use std::time::Duration;

use base::http::Secret;
use diego::crash;
use serde::{Deserialize, Serialize};

/// Everything the brain is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Shown by whoever asks over the internal API.
    pub secret: Secret,
    /// Whose brain it is, among those that share a store; at most one lives under a name at a time, so that one that
    /// comes back after its death need not wait for its own lease. Empty: nobody's.
    pub name: String,
    pub timings: Timings,
    pub weights: auction::Weights,
    /// Which of an instance's addresses routers are given.
    pub prefer: Prefer,
    /// Events that wait for one slow reader before it is cut off.
    pub event_buffer: usize,
    /// Receptor clients show these; `None` lets everyone in.
    pub receptor: Option<Credentials>,
    /// Whether pages of other origins may use the Receptor API.
    pub receptor_cors: bool,
}

impl Config {
    pub fn new(secret: Secret) -> Config {
        Config {
            secret,
            name: String::new(),
            timings: Timings::default(),
            // Diego's weight of a starting container outdoes every difference in size, and a mass of starts fills cells
            // by number instead of by room.
            weights: auction::Weights { starting: 0.001, ..auction::Weights::default() },
            prefer: Prefer::Instance,
            event_buffer: 16_384,
            receptor: None,
            receptor_cors: false,
        }
    }
}

/// A user and a password, as HTTP Basic carries them.
#[derive(Clone)]
pub struct Credentials {
    pub user: String,
    pub password: Secret,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({}, ..)", self.user)
    }
}

/// `Instance` reaches into the container's network: routers and cells share a machine or a network. `Host` goes by the
/// cell's address and forwarded ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    #[default]
    Instance,
    Host,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timings {
    /// Convergence runs at least this often; earlier when something is due or happens.
    #[serde(with = "base::millis")]
    pub converge_every: Duration,
    /// An instance without a cell is auctioned again after this.
    #[serde(with = "base::millis")]
    pub stale_unclaimed: Duration,
    /// A task without a cell is auctioned again after this.
    #[serde(with = "base::millis")]
    pub stale_pending: Duration,
    /// A task that no auction ever answered fails.
    #[serde(with = "base::millis")]
    pub pending_gives_up: Duration,
    /// A completed task is deleted, fetched or not.
    #[serde(with = "base::millis")]
    pub completed_expires: Duration,
    /// A completed task's callback is tried again.
    #[serde(with = "base::millis")]
    pub callback_again: Duration,
    /// Whoever resolves a task and is not heard of again loses it.
    #[serde(with = "base::millis")]
    pub resolving_falls_back: Duration,
    /// One try of a callback.
    #[serde(with = "base::millis")]
    pub callback_timeout: Duration,
    pub callback_tries: u32,
    /// A cell asked for its state or given work answers within this.
    #[serde(with = "base::millis")]
    pub cell_timeout: Duration,
    /// Once any cell has answered, an auction waits this long for the others.
    #[serde(with = "base::millis")]
    pub cell_patience: Duration,
    /// Brains that share a store: one that was not heard of for so long loses it.
    #[serde(with = "base::millis")]
    pub lease_ttl: Duration,
    /// How often the active brain is heard of at least.
    #[serde(with = "base::millis")]
    pub lease_renew: Duration,
    /// How often a brain that stands by looks.
    #[serde(with = "base::millis")]
    pub lease_look: Duration,
    /// A cell that was missing for so long has lost its tasks. Longer than its instances are waited for: a task is not
    /// begun a second time.
    #[serde(with = "base::millis")]
    pub task_lost: Duration,
    /// After a restart of the brain the cells it knew count as present for this long. Not less than the TTL with which
    /// cells announce themselves.
    #[serde(with = "base::millis")]
    pub cell_grace: Duration,
    /// A cell that took note of a stop and said no more is told again.
    #[serde(with = "base::millis")]
    pub stop_again: Duration,
    /// How long a lost cell's retired instances are remembered, lest it brings them back.
    #[serde(with = "base::millis")]
    pub retirement_kept: Duration,
    /// So many crashes in a row restart at once.
    pub crash_at_once: u32,
    /// After so many crashes in a row nothing restarts.
    pub crash_give_up: u32,
    /// The first crash that does not restart at once waits so long, each further one twice as long.
    #[serde(with = "base::millis")]
    pub crash_first_wait: Duration,
    /// No crashed instance waits longer.
    #[serde(with = "base::millis")]
    pub crash_last_wait: Duration,
    /// Whoever ran longer than this counts its crashes from one again.
    #[serde(with = "base::millis")]
    pub crash_stable: Duration,
}

impl Timings {
    pub fn crash_rule(&self) -> crash::Rule {
        crash::Rule {
            at_once: self.crash_at_once,
            give_up: self.crash_give_up,
            first_wait: self.crash_first_wait,
            last_wait: self.crash_last_wait,
            stable: self.crash_stable,
        }
    }
}

impl Default for Timings {
    fn default() -> Timings {
        let seconds = Duration::from_secs;
        let crash = crash::Rule::default();
        Timings {
            converge_every: seconds(30),
            stale_unclaimed: seconds(30),
            stale_pending: seconds(30),
            pending_gives_up: seconds(1800),
            completed_expires: seconds(120),
            callback_again: seconds(30),
            resolving_falls_back: seconds(30),
            callback_timeout: seconds(10),
            callback_tries: 3,
            cell_timeout: seconds(10),
            cell_patience: seconds(1),
            lease_ttl: Duration::from_millis(1500),
            lease_renew: Duration::from_millis(300),
            lease_look: Duration::from_millis(150),
            task_lost: seconds(15),
            cell_grace: seconds(5),
            stop_again: seconds(30),
            retirement_kept: seconds(24 * 3600),
            crash_at_once: crash.at_once,
            crash_give_up: crash.give_up,
            crash_first_wait: crash.first_wait,
            crash_last_wait: crash.last_wait,
            crash_stable: crash.stable,
        }
    }
}
