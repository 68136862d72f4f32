//! How far a recipe got, as a fold over what was written down: with it a container is taken up again after a restart.

use std::collections::HashMap;
use std::path::PathBuf;

use base::Timestamp;
use serde::{Deserialize, Serialize};

use crate::container::{LogTags, Outcome};
use crate::failure::Failure;

/// One line of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    /// The read-only layers it is made from.
    Layers {
        paths: Vec<PathBuf>,
    },
    /// The container has a certificate.
    Identified {
        from: Timestamp,
        until: Timestamp,
    },
    /// The container exists.
    Created,
    /// A step with a time limit has begun.
    Began {
        step: String,
        at: Timestamp,
    },
    /// A step has ended and is never done again.
    Ended {
        step: String,
        failure: Option<Failure>,
    },
    Healthy,
    Routable(bool),
    StopAsked,
    Retagged(LogTags),
    Completed {
        outcome: Outcome,
    },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    pub layers: Vec<PathBuf>,
    /// From when to when its certificate is good.
    pub identified: Option<(Timestamp, Timestamp)>,
    pub created: bool,
    pub began: HashMap<String, Timestamp>,
    pub ended: HashMap<String, Option<Failure>>,
    pub healthy: bool,
    pub routable: bool,
    pub stop_asked: bool,
    pub tags: Option<LogTags>,
    pub outcome: Option<Outcome>,
}

impl Progress {
    pub fn note(&mut self, entry: Entry) {
        match entry {
            Entry::Layers { paths } => self.layers = paths,
            Entry::Identified { from, until } => self.identified = Some((from, until)),
            Entry::Created => self.created = true,
            Entry::Began { step, at } => {
                self.began.entry(step).or_insert(at);
            }
            Entry::Ended { step, failure } => {
                self.ended.entry(step).or_insert(failure);
            }
            Entry::Healthy => self.healthy = true,
            Entry::Routable(routable) => self.routable = routable,
            Entry::StopAsked => self.stop_asked = true,
            Entry::Retagged(tags) => {
                self.tags.get_or_insert_default().replace(tags);
            }
            Entry::Completed { outcome } => {
                self.outcome.get_or_insert(outcome);
            }
        }
    }

    /// Reads a journal's text. The last line may be torn: it was never acted upon.
    pub fn replay(text: &str) -> Progress {
        let mut progress = Progress::default();
        text.lines()
            .map_while(|line| serde_json::from_str(line).ok())
            .for_each(|entry| progress.note(entry));
        progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_ends_the_replay() {
        let entries = [
            Entry::Created,
            Entry::Ended { step: "setup".into(), failure: None },
            Entry::Ended { step: "action.0".into(), failure: Some(Failure::Told("no".into())) },
        ];
        let mut text: String =
            entries.iter().map(|entry| serde_json::to_string(entry).unwrap() + "\n").collect();
        text.push_str(r#"{"ended":{"step":"act"#);
        let progress = Progress::replay(&text);
        assert!(progress.created && !progress.healthy);
        assert_eq!(progress.ended["setup"], None);
        assert_eq!(progress.ended["action.0"], Some(Failure::Told("no".into())));
        assert_eq!(progress.ended.len(), 2);
    }

    #[test]
    fn the_first_word_stands() {
        let mut progress = Progress::default();
        progress.note(Entry::Completed { outcome: Outcome::failed("first") });
        progress.note(Entry::Completed { outcome: Outcome::failed("second") });
        assert_eq!(progress.outcome.unwrap().reason, "first");
    }
}
