//! The actual LRPs as last heard from Diego, so that stats cost no question. Subscribe, list, then apply events by tag.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use diego::actual_lrp::State;
use diego::{ActualLrp, Event, Presence};
use parking_lot::RwLock;
use tokio::sync::watch;

/// Process version, index, presence.
type Key = (Arc<str>, u32, Presence);

#[derive(Debug, Default)]
pub struct Mirror {
    lrps: RwLock<BTreeMap<Key, Arc<ActualLrp>>>,
    /// Process versions of which an instance ran, until they are gone from Diego.
    came_up: RwLock<HashSet<Arc<str>>>,
    loaded: watch::Sender<bool>,
}

fn key(lrp: &ActualLrp) -> Key {
    (lrp.key.process_guid.as_str().into(), lrp.key.index, lrp.presence)
}

impl Mirror {
    /// Whether Diego was ever heard.
    pub fn is_loaded(&self) -> bool {
        *self.loaded.borrow()
    }

    /// Completes once it was.
    pub async fn loaded(&self) {
        // The sender lives as long as this does.
        let _ = self.loaded.subscribe().wait_for(|loaded| *loaded).await;
    }

    /// Everything there is.
    pub fn replace(&self, lrps: Vec<ActualLrp>) {
        let fresh: BTreeMap<Key, Arc<ActualLrp>> =
            lrps.into_iter().map(|lrp| (key(&lrp), Arc::new(lrp))).collect();
        let there: HashSet<Arc<str>> = fresh.keys().map(|(guid, ..)| guid.clone()).collect();
        let run = fresh.iter().filter(|(_, lrp)| runs(lrp)).map(|((guid, ..), _)| guid.clone());
        let mut came_up = self.came_up.write();
        came_up.retain(|guid| there.contains(guid));
        came_up.extend(run);
        *self.lrps.write() = fresh;
        drop(came_up);
        self.loaded.send_replace(true);
    }

    /// Answers the process version whose instances changed.
    pub fn apply(&self, event: &Event) -> Option<String> {
        let touched = match event {
            Event::ActualLrpCreated { actual_lrp } => self.put(actual_lrp),
            Event::ActualLrpChanged { before, after } => {
                if before.presence != after.presence {
                    self.drop_one(before);
                }
                self.put(after)
            }
            Event::ActualLrpRemoved { actual_lrp } => self.drop_one(actual_lrp),
            Event::DesiredLrpRemoved { desired_lrp } => {
                self.came_up.write().remove(desired_lrp.process_guid.as_str());
                return None;
            }
            _ => return None,
        };
        Some(touched.key.process_guid.to_string())
    }

    /// Whether an instance of this process version ran since it was desired; what is not there now is then on its way
    /// back rather than on its way up.
    pub fn came_up(&self, lrp_guid: &str) -> bool {
        self.came_up.read().contains(lrp_guid)
    }

    fn put<'a>(&self, lrp: &'a Arc<ActualLrp>) -> &'a ActualLrp {
        if runs(lrp) && !self.came_up(lrp.key.process_guid.as_str()) {
            self.came_up.write().insert(lrp.key.process_guid.as_str().into());
        }
        let mut lrps = self.lrps.write();
        let held = lrps.get(&key(lrp));
        if held.is_none_or(|held| lrp.modification_tag.succeeds(&held.modification_tag)) {
            lrps.insert(key(lrp), lrp.clone());
        }
        lrp
    }

    fn drop_one<'a>(&self, lrp: &'a ActualLrp) -> &'a ActualLrp {
        let mut lrps = self.lrps.write();
        let held = lrps.get(&key(lrp));
        // A record of the same name that came later has another epoch and stays.
        if held.is_some_and(|held| held.modification_tag.epoch == lrp.modification_tag.epoch) {
            lrps.remove(&key(lrp));
        }
        lrp
    }

    /// One record per index of this process version: the one a reader should see.
    pub fn instances(&self, lrp_guid: &str) -> Vec<Arc<ActualLrp>> {
        let lrps = self.lrps.read();
        let mut chosen: BTreeMap<u32, Arc<ActualLrp>> = BTreeMap::new();
        let from: Key = (lrp_guid.into(), 0, Presence::Ordinary);
        for ((guid, index, _), lrp) in lrps.range(from..) {
            if **guid != *lrp_guid {
                break;
            }
            let better = chosen.get(index).is_none_or(|held| outranks(lrp, held));
            if better {
                chosen.insert(*index, lrp.clone());
            }
        }
        chosen.into_values().collect()
    }
}

fn runs(lrp: &ActualLrp) -> bool {
    matches!(lrp.state, State::Running { .. })
}

/// The ordinary record is shown when it runs or crashed; until then the one that is on its way out.
fn outranks(lrp: &ActualLrp, held: &ActualLrp) -> bool {
    let rank = |lrp: &ActualLrp| match (lrp.presence, &lrp.state) {
        (Presence::Ordinary, State::Running { .. } | State::Crashed) => 2,
        (Presence::Evacuating | Presence::Suspect, _) => 1,
        (Presence::Ordinary, _) => 0,
    };
    rank(lrp) > rank(held)
}

#[cfg(test)]
mod tests {
    use base::Timestamp;
    use diego::LrpKey;

    use super::*;

    fn lrp(index: u32, presence: Presence, state: State) -> ActualLrp {
        let key = LrpKey { process_guid: "p-v".into(), index, domain: "cf-apps".into() };
        ActualLrp { presence, state, ..ActualLrp::unclaimed(key, Timestamp::ZERO) }
    }

    #[test]
    fn an_evacuating_instance_is_shown_until_its_successor_runs() {
        let mirror = Mirror::default();
        let waiting = State::Unclaimed { placement_error: String::new() };
        mirror.replace(vec![
            lrp(0, Presence::Ordinary, waiting),
            lrp(0, Presence::Evacuating, State::Crashed),
        ]);
        assert_eq!(mirror.instances("p-v")[0].presence, Presence::Evacuating);
        mirror.replace(vec![
            lrp(0, Presence::Ordinary, State::Crashed),
            lrp(0, Presence::Evacuating, State::Crashed),
        ]);
        assert_eq!(mirror.instances("p-v")[0].presence, Presence::Ordinary);
        assert!(mirror.instances("p-w").is_empty());
    }

    #[test]
    fn what_is_older_changes_nothing() {
        let mirror = Mirror::default();
        let old = Arc::new(lrp(
            0,
            Presence::Ordinary,
            State::Unclaimed { placement_error: String::new() },
        ));
        let new = Arc::new(ActualLrp {
            state: State::Crashed,
            modification_tag: old.modification_tag.next(),
            ..(*old).clone()
        });
        mirror.apply(&Event::ActualLrpCreated { actual_lrp: new.clone() });
        mirror.apply(&Event::ActualLrpCreated { actual_lrp: old.clone() });
        assert_eq!(mirror.instances("p-v")[0].state, State::Crashed);
        let other = Arc::new(lrp(0, Presence::Ordinary, State::Crashed));
        mirror.apply(&Event::ActualLrpRemoved { actual_lrp: other });
        assert_eq!(mirror.instances("p-v").len(), 1);
        mirror.apply(&Event::ActualLrpRemoved { actual_lrp: old });
        assert!(mirror.instances("p-v").is_empty());
    }
}
