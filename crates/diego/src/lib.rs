//! Diego's words: tasks, desired and actual LRPs, cells, events, and the seams between the brain, the cells and whoever
//! asks for work. Knows no app, no space and no user: their guids travel as opaque tags.
//!
//! JSON forms follow the Receptor API where it has the thing; times are nanoseconds since the epoch.

pub mod action;
pub mod actual_lrp;
pub mod bbs;
pub mod cell;
pub mod crash;
pub mod desired_lrp;
pub mod event;
pub mod routing;
pub mod sim;
pub mod task;
pub mod text;
pub mod validate;

pub use action::Action;
pub use actual_lrp::{ActualLrp, InstanceKey, LrpKey, NetInfo, PortMapping, Presence};
pub use bbs::{Bbs, BbsError};
pub use cell::{Cell, CellPresence, CellState, Work};
pub use desired_lrp::{DesiredLrp, DesiredLrpUpdate, SchedulingInfo};
pub use event::Event;
pub use task::{Task, TaskDefinition};
pub use validate::Invalid;

base::guid! {
    /// Names a version of a desired LRP; chosen by the client, `[a-zA-Z0-9_-]+`.
    ProcessGuid
    /// Names one attempt to run one instance; made by the cell.
    InstanceGuid
    /// Names a task; chosen by the client, `[a-zA-Z0-9_-]+`.
    TaskGuid
    CellId
    /// Groups LRPs and tasks of one client, for listing and for freshness.
    Domain
}

/// Orders the versions of one record (diego-notes: modification tags).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ModificationTag {
    pub epoch: std::sync::Arc<str>,
    pub index: u32,
}

impl ModificationTag {
    pub fn new() -> ModificationTag {
        ModificationTag { epoch: base::new_guid().into(), index: 0 }
    }

    pub fn next(&self) -> ModificationTag {
        ModificationTag { epoch: self.epoch.clone(), index: self.index + 1 }
    }

    /// Whether a holder of `held` should take this one in its place.
    pub fn succeeds(&self, held: &ModificationTag) -> bool {
        self.epoch.is_empty()
            || held.epoch.is_empty()
            || self.epoch != held.epoch
            || self.index > held.index
    }
}
