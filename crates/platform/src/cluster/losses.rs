//! Envelopes that a joined cell had to drop: counted by source and reason, and told to the readers of the source.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Clock;
use envelope::{Envelope, LogType, Source};
use tracing::warn;

/// Sources whose losses are counted one by one; more are only told of in the cell's log.
const SOURCES: usize = 4096;
/// The source type of what this says; if it is lost itself, nobody says so.
const TELLER: &str = "LGR";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// The spool is full, for the store is away.
    OutOfReach,
    /// The store said that it will never take them, with this status.
    Refused(u16),
    /// The disk did not take them, nor was there memory for more.
    Disk,
}

impl std::fmt::Display for Why {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::OutOfReach => out.write_str("the log store was out of reach"),
            Why::Refused(status) => write!(out, "the log store refused them ({status})"),
            Why::Disk => out.write_str("the cell's disk took nothing more"),
        }
    }
}

#[derive(Default)]
pub(super) struct Losses {
    by_source: BTreeMap<(Arc<str>, Arc<str>, Why), Lost>,
}

struct Lost {
    source: Source,
    count: u64,
}

impl Losses {
    pub fn count(&mut self, envelopes: impl IntoIterator<Item = Envelope>, why: Why) {
        for envelope in envelopes {
            if envelope.tags.get("source_type").is_some_and(|kind| kind == TELLER) {
                continue;
            }
            let key = (envelope.source_id.clone(), envelope.instance_id.clone(), why);
            if let Some(lost) = self.by_source.get_mut(&key) {
                lost.count += 1;
            } else if self.by_source.len() < SOURCES {
                let Envelope { source_id: id, instance_id: instance, tags, .. } = envelope;
                self.by_source
                    .insert(key, Lost { source: Source { id, instance, tags }, count: 1 });
            } else {
                warn!(source_id = %key.0, "an envelope was dropped: {why}");
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.by_source.is_empty()
    }

    /// What to tell the readers; nothing is lost any more.
    pub fn tell(&mut self, cell_id: &str, clock: &Clock) -> Vec<Envelope> {
        let lost = std::mem::take(&mut self.by_source).into_iter();
        lost.map(|((_, _, why), lost)| {
            let text = format!("{} messages were dropped on cell {cell_id}: {why}", lost.count);
            Envelope::log(&lost.source, TELLER, LogType::Err, text, clock.now())
        })
        .collect()
    }
}
