//! A cell as the brain sees it, and what the brain may ask of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::desired_lrp::RunInfo;
use crate::{
    BbsError, CellId, DesiredLrp, InstanceGuid, LrpKey, ModificationTag, ProcessGuid, Task,
    TaskGuid,
};

/// What a cell announces every few seconds; it counts as lost when it stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellPresence {
    pub cell_id: CellId,
    /// Where its API answers: `http://HOST:PORT`.
    pub rep_url: String,
    #[serde(default)]
    pub zone: String,
    pub capacity: Resources,
    /// Stacks it holds (`preloaded:NAME`).
    pub stacks: Vec<String>,
    #[serde(default)]
    pub placement_tags: Vec<String>,
    #[serde(default)]
    pub optional_placement_tags: Vec<String>,
    /// Volume drivers it can mount with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_drivers: Vec<String>,
    /// Takes no new work.
    #[serde(default)]
    pub evacuating: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub memory_mb: u64,
    pub disk_mb: u64,
    pub containers: u64,
}

impl Resources {
    /// What one container of it takes. Sidecars live on their container's share.
    pub fn of(run: &RunInfo) -> Resources {
        Resources { memory_mb: run.memory_mb, disk_mb: run.disk_mb, containers: 1 }
    }
}

/// What an auction asks of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellState {
    #[serde(flatten)]
    pub presence: CellPresence,
    pub available: Resources,
    pub lrps: Vec<LrpHeld>,
    pub tasks: Vec<TaskHeld>,
    /// Containers that are reserved or being made.
    pub starting: u32,
    /// Digests of the image layers it holds unpacked; a start of them here costs no download.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LrpHeld {
    #[serde(flatten)]
    pub key: LrpKey,
    pub instance_guid: InstanceGuid,
    pub resources: Resources,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskHeld {
    pub task_guid: TaskGuid,
    pub resources: Resources,
}

/// Work an auction gave to a cell. It carries all the cell needs, so that a start costs one request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    pub lrps: Vec<LrpStart>,
    pub tasks: Vec<Arc<Task>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LrpStart {
    pub index: u32,
    pub desired: Arc<DesiredLrp>,
}

impl LrpStart {
    pub fn key(&self) -> LrpKey {
        LrpKey {
            process_guid: self.desired.process_guid.clone(),
            index: self.index,
            domain: self.desired.domain.clone(),
        }
    }
}

/// What a cell could not take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub lrps: Vec<LrpKey>,
    pub tasks: Vec<TaskGuid>,
}

/// What of a running instance changes without a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LrpUpdate {
    /// Of the desired LRP: a cell that knows a later one lets the tags be.
    #[serde(default)]
    pub modification_tag: ModificationTag,
    /// The desired LRP's, whole: whatever the cell adds of its own stays.
    #[serde(default)]
    pub metric_tags: BTreeMap<String, String>,
}

/// `rep::client` asks a real cell over HTTP; `sim` has one that runs nothing.
#[async_trait]
pub trait Cell: Send + Sync {
    async fn state(&self) -> Result<CellState, BbsError>;

    /// Accepted work is reserved, not yet run. What does not fit is handed back.
    async fn perform(&self, work: Work) -> Result<Refused, BbsError>;

    /// Stops one instance; unknown ones are no error. Returns when the cell has taken note.
    async fn stop_lrp(
        &self,
        process_guid: &ProcessGuid,
        instance_guid: &InstanceGuid,
    ) -> Result<(), BbsError>;

    /// Gives a running instance new tags for its log lines and metrics; unknown ones are no error. The same again
    /// changes nothing.
    async fn update_lrp(
        &self,
        process_guid: &ProcessGuid,
        instance_guid: &InstanceGuid,
        update: &LrpUpdate,
    ) -> Result<(), BbsError>;

    /// Kills a task's container; unknown ones are no error.
    async fn cancel_task(&self, task_guid: &TaskGuid) -> Result<(), BbsError>;
}

/// How the brain reaches a cell that announced itself.
pub trait Dial: Send + Sync {
    fn dial(&self, presence: &CellPresence) -> Arc<dyn Cell>;
}
