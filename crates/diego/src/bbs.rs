//! What clients and cells may ask of the brain.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::desired_lrp::DesiredLrpUpdate;
use crate::task::Attempt;
use crate::{
    ActualLrp, CellId, CellPresence, DesiredLrp, Domain, Event, InstanceKey, LrpKey, NetInfo,
    ProcessGuid, SchedulingInfo, Task, TaskDefinition, TaskGuid,
};

/// Told apart by `kind`; the texts are Diego's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct BbsError {
    pub kind: ErrorKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    InvalidRequest,
    InvalidStateTransition,
    ResourceExists,
    ResourceNotFound,
    RunningOnDifferentCell,
    ActualLrpCannotBeClaimed,
    ActualLrpCannotBeStarted,
    ActualLrpCannotBeCrashed,
    ActualLrpCannotBeRemoved,
    ActualLrpCannotBeUnclaimed,
    /// The other side did not answer; whether it acted is not known.
    Unreachable,
    Unknown,
}

impl BbsError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> BbsError {
        BbsError { kind, message: message.into() }
    }

    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::ResourceNotFound
    }
}

pub type Result<T> = std::result::Result<T, BbsError>;

/// Every absent condition matches all; different conditions must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ActualLrpFilter {
    pub domain: Option<Domain>,
    pub cell_id: Option<CellId>,
    pub process_guids: Option<Vec<ProcessGuid>>,
    pub index: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskFilter {
    pub domain: Option<Domain>,
    pub cell_id: Option<CellId>,
}

impl TaskFilter {
    pub fn matches(&self, task: &Task) -> bool {
        self.domain.as_ref().is_none_or(|domain| task.domain == *domain)
            && self.cell_id.as_ref().is_none_or(|cell| task.cell_id() == Some(cell))
    }
}

/// `bbs::client` asks over HTTP; tests ask a real BBS on a temporary database.
#[async_trait]
pub trait Bbs: Send + Sync {
    /// The domain's desired state is complete for `ttl` from now; `None` = for ever. Without it nothing surplus is removed.
    async fn upsert_domain(&self, domain: &Domain, ttl: Option<Duration>) -> Result<()>;
    async fn domains(&self) -> Result<Vec<Domain>>;

    async fn desire_lrp(&self, lrp: DesiredLrp) -> Result<()>;
    async fn update_lrp(&self, guid: &ProcessGuid, update: DesiredLrpUpdate) -> Result<()>;
    async fn remove_lrp(&self, guid: &ProcessGuid) -> Result<()>;
    async fn desired_lrp(&self, guid: &ProcessGuid) -> Result<DesiredLrp>;
    async fn desired_lrps(&self, domain: Option<&Domain>) -> Result<Vec<DesiredLrp>>;
    async fn scheduling_infos(&self, domain: Option<&Domain>) -> Result<Vec<SchedulingInfo>>;

    async fn actual_lrps(&self, filter: &ActualLrpFilter) -> Result<Vec<ActualLrp>>;
    /// Stops one index; convergence starts it anew when it is still desired.
    async fn retire(&self, key: &LrpKey) -> Result<()>;

    async fn claim(&self, key: &LrpKey, instance: &InstanceKey) -> Result<()>;
    async fn start(
        &self,
        key: &LrpKey,
        instance: &InstanceKey,
        net: &NetInfo,
        routable: bool,
    ) -> Result<()>;
    async fn crash(&self, key: &LrpKey, instance: &InstanceKey, reason: &str) -> Result<()>;
    async fn remove(&self, key: &LrpKey, instance: &InstanceKey) -> Result<()>;
    async fn evacuate(
        &self,
        key: &LrpKey,
        instance: &InstanceKey,
        evacuation: Evacuation,
    ) -> Result<Keep>;

    async fn desire_task(
        &self,
        guid: &TaskGuid,
        domain: &Domain,
        definition: TaskDefinition,
    ) -> Result<()>;
    async fn task(&self, guid: &TaskGuid) -> Result<Task>;
    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>>;
    /// Grants the run to one attempt once; `false` when that one has it already.
    async fn start_task(&self, guid: &TaskGuid, by: &Attempt) -> Result<bool>;
    async fn complete_task(
        &self,
        guid: &TaskGuid,
        by: &Attempt,
        failure: Option<&str>,
        result: &str,
    ) -> Result<()>;
    /// The container could not be made; another cell may try.
    async fn reject_task(&self, guid: &TaskGuid, by: &Attempt, reason: &str) -> Result<()>;
    async fn cancel_task(&self, guid: &TaskGuid) -> Result<()>;
    /// Exactly one caller wins; it deletes the task when it has dealt with the outcome.
    async fn resolve_task(&self, guid: &TaskGuid) -> Result<()>;
    async fn delete_task(&self, guid: &TaskGuid) -> Result<()>;

    /// A cell says that it lives, for `ttl` from now.
    async fn announce(&self, presence: &CellPresence, ttl: Duration) -> Result<()>;
    /// A cell says goodbye.
    async fn retract(&self, cell: &CellId) -> Result<()>;
    async fn cells(&self) -> Result<Vec<CellPresence>>;
    /// A cell says which image layers it holds by now, all of them. Starts that want them like it a little better; whoever
    /// forgets it asks the cell. Nobody has to keep it.
    async fn hold_layers(&self, cell: &CellId, layers: &[String]) -> Result<()> {
        let _ = (cell, layers);
        Ok(())
    }

    /// Ends when the reader is too slow or the brain goes away; then subscribe and list anew.
    async fn events(&self) -> Result<BoxStream<'static, Event>>;
}

/// What an evacuating cell says of one container (Diego's evacuation calls).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Evacuation {
    Claimed,
    Running { net: NetInfo, routable: bool },
    Crashed { reason: String },
    Stopped,
}

/// Whether the evacuating cell keeps the container for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keep {
    Keep,
    Delete,
}
