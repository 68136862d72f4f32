//! Work that is done once.

mod machine;

use std::collections::BTreeMap;

use base::Timestamp;
use serde::{Deserialize, Serialize};

pub use machine::{Event, MAX_REJECTIONS, Refused};

use crate::desired_lrp::RunInfo;
use crate::{CellId, Domain, TaskGuid};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskDefinition {
    #[serde(flatten)]
    pub run: RunInfo,
    /// A file in the container whose content becomes the result; empty = none.
    pub result_file: String,
    /// Told of the end by POST; user information in it is sent as basic authentication. Empty = nobody.
    pub completion_callback_url: String,
    pub annotation: String,
    /// Tags of the task's log lines and metrics.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metric_tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub task_guid: TaskGuid,
    pub domain: Domain,
    #[serde(flatten)]
    pub definition: TaskDefinition,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    #[serde(default)]
    pub rejection_count: u32,
    #[serde(default)]
    pub rejection_reason: String,
    #[serde(flatten)]
    pub state: State,
}

/// A cell's try at a task. What is said of one that is over, however late it comes, changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub cell_id: CellId,
    /// How often the task was rejected before.
    pub rejections: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    Pending,
    Running {
        cell_id: CellId,
    },
    Completed {
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// Somebody is dealing with the outcome.
    Resolving {
        #[serde(flatten)]
        outcome: Outcome,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub first_completed_at: Timestamp,
    pub failed: bool,
    #[serde(default)]
    pub failure_reason: String,
    #[serde(default)]
    pub result: String,
}

/// What is posted to `completion_callback_url`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCallback {
    pub task_guid: TaskGuid,
    pub failed: bool,
    pub failure_reason: String,
    pub result: String,
    pub annotation: String,
    pub created_at: Timestamp,
}
