//! What changed, told after it was committed. A stream starts now: subscribe first, then list, then apply by tag.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{ActualLrp, DesiredLrp, InstanceKey, LrpKey, Task};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    DesiredLrpCreated {
        desired_lrp: Arc<DesiredLrp>,
    },
    DesiredLrpChanged {
        before: Arc<DesiredLrp>,
        after: Arc<DesiredLrp>,
    },
    DesiredLrpRemoved {
        desired_lrp: Arc<DesiredLrp>,
    },
    ActualLrpCreated {
        actual_lrp: Arc<ActualLrp>,
    },
    ActualLrpChanged {
        before: Arc<ActualLrp>,
        after: Arc<ActualLrp>,
    },
    ActualLrpRemoved {
        actual_lrp: Arc<ActualLrp>,
    },
    /// Comes before the change that follows from the crash.
    ActualLrpCrashed {
        key: LrpKey,
        instance: InstanceKey,
        crash_count: u32,
        crash_reason: String,
        since: base::Timestamp,
    },
    TaskCreated {
        task: Arc<Task>,
    },
    TaskChanged {
        before: Arc<Task>,
        after: Arc<Task>,
    },
    TaskRemoved {
        task: Arc<Task>,
    },
}
