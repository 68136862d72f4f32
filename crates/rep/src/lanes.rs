//! One lane per container: what concerns it is done one thing after the other, different containers side by side.

use std::collections::HashMap;
use std::sync::Arc;

use garden::Handle;
use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct Lanes(Mutex<HashMap<Handle, Lane>>);

struct Lane {
    /// Something happened since the last step began.
    dirty: bool,
    wake: Arc<Notify>,
}

impl Lanes {
    /// Notes that something happened. `Some` when the caller has to drive the lane from now on.
    #[must_use]
    pub fn poke(&self, guid: &Handle) -> Option<Arc<Notify>> {
        let mut lanes = self.0.lock();
        if let Some(lane) = lanes.get_mut(guid) {
            lane.dirty = true;
            lane.wake.notify_one();
            return None;
        }
        let wake = Arc::new(Notify::new());
        lanes.insert(guid.clone(), Lane { dirty: false, wake: wake.clone() });
        Some(wake)
    }

    /// Before a step: what happened so far is what it will see.
    pub fn begin(&self, guid: &Handle) {
        if let Some(lane) = self.0.lock().get_mut(guid) {
            lane.dirty = false;
        }
    }

    /// After a step that succeeded: `true` when nothing happened meanwhile, and the lane is gone.
    pub fn end(&self, guid: &Handle) -> bool {
        let mut lanes = self.0.lock();
        let idle = lanes.get(guid).is_none_or(|lane| !lane.dirty);
        if idle {
            lanes.remove(guid);
        }
        idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_during_a_step_makes_one_more() {
        let (lanes, guid) = (Lanes::default(), Handle::from("a"));
        assert!(lanes.poke(&guid).is_some());
        assert!(lanes.poke(&guid).is_none());
        lanes.begin(&guid);
        assert!(lanes.poke(&guid).is_none());
        assert!(!lanes.end(&guid));
        lanes.begin(&guid);
        assert!(lanes.end(&guid));
        assert!(lanes.poke(&guid).is_some());
    }
}
