//! What can be set about a cell. Timings are Diego's where nothing is better.

use std::time::Duration;

use base::http::Secret;
use diego::CellId;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug)]
pub struct Config {
    pub cell_id: CellId,
    /// Where this cell's API answers: `http://HOST:PORT`.
    pub rep_url: String,
    /// Shown by whoever asks this cell.
    pub secret: Secret,
    pub zone: String,
    /// Names of the stacks this cell holds.
    pub stacks: Vec<String>,
    /// Whether images can be run (`docker://…`) beside the stacks.
    pub images: bool,
    pub placement_tags: Vec<String>,
    pub optional_placement_tags: Vec<String>,
    pub timings: Timings,
}

impl Config {
    pub fn new(cell_id: CellId, rep_url: impl Into<String>, secret: Secret) -> Config {
        Config {
            cell_id,
            rep_url: rep_url.into(),
            secret,
            zone: String::new(),
            stacks: vec![],
            images: true,
            placement_tags: vec![],
            optional_placement_tags: vec![],
            timings: Timings::default(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timings {
    /// The cell counts as lost when it has not announced itself for so long. Diego's is 15 s; whoever is routed to a
    /// lost cell waits for it, so it is short, and announcements are made by a thread that does nothing else.
    #[serde(with = "base::millis")]
    pub presence_ttl: Duration,
    /// Diego's is 5 s.
    #[serde(with = "base::millis")]
    pub announce: Duration,
    /// Everything is compared with the brain's records at least so often; events come first.
    #[serde(with = "base::millis")]
    pub reconcile: Duration,
    /// The same while evacuating.
    #[serde(with = "base::millis")]
    pub evacuating: Duration,
    /// Instances that found no other place by then are stopped.
    #[serde(with = "base::millis")]
    pub evacuation: Duration,
    /// How long stopped containers may take to go, the brain being told of each; then they are removed all the same.
    #[serde(with = "base::millis")]
    pub closing: Duration,
    /// Between two tries while the brain does not answer.
    #[serde(with = "base::millis")]
    pub first_retry: Duration,
    #[serde(with = "base::millis")]
    pub last_retry: Duration,
}

impl Default for Timings {
    fn default() -> Timings {
        let secs = Duration::from_secs;
        Timings {
            presence_ttl: Duration::from_millis(1500),
            announce: Duration::from_millis(400),
            reconcile: secs(30),
            evacuating: secs(10),
            evacuation: secs(600),
            closing: secs(20),
            first_retry: Duration::from_millis(50),
            last_retry: secs(5),
        }
    }
}
