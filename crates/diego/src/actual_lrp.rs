//! One instance of a long running process as it is.

mod machine;

use std::fmt;
use std::net::Ipv4Addr;

use base::Timestamp;
use serde::{Deserialize, Serialize};

pub use machine::{Event, Refused};

use crate::{CellId, Domain, InstanceGuid, ModificationTag, ProcessGuid};

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LrpKey {
    pub process_guid: ProcessGuid,
    pub index: u32,
    pub domain: Domain,
}

impl fmt::Display for LrpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.process_guid, self.index)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstanceKey {
    pub instance_guid: InstanceGuid,
    pub cell_id: CellId,
}

/// Where a running instance listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetInfo {
    /// The cell's address; `ports[].host_port` belong to it.
    pub address: Ipv4Addr,
    /// The container's own address; `ports[].container_port` belong to it.
    pub instance_address: Ipv4Addr,
    pub ports: Vec<PortMapping>,
}

/// `container_port` is the port the LRP asked for. `listen_port` is what the process was told to use: the same, but
/// on backends without a network per container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    pub container_port: u16,
    pub listen_port: u16,
    pub host_port: u16,
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Presence {
    #[default]
    Ordinary,
    /// Its cell is on the way out and keeps it until the replacement runs.
    Evacuating,
    /// Its cell is missing; it may well serve behind a partition.
    Suspect,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActualLrp {
    #[serde(flatten)]
    pub key: LrpKey,
    pub presence: Presence,
    #[serde(flatten)]
    pub state: State,
    /// When it came to this state.
    pub since: Timestamp,
    /// Crashes in a row; tells of the past in every state.
    #[serde(default)]
    pub crash_count: u32,
    #[serde(default)]
    pub crash_reason: String,
    pub modification_tag: ModificationTag,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Wants a cell; the error says why the last auction found none, and is empty before the first.
    Unclaimed {
        #[serde(default)]
        placement_error: String,
    },
    /// A cell is making the container.
    Claimed {
        #[serde(flatten)]
        by: InstanceKey,
    },
    /// Healthy.
    Running {
        #[serde(flatten)]
        by: InstanceKey,
        net: NetInfo,
        /// Ready for requests: what readiness checks turn on and off.
        routable: bool,
    },
    /// Waits for its restart.
    Crashed,
}

impl State {
    pub fn name(&self) -> &'static str {
        match self {
            State::Unclaimed { .. } => "UNCLAIMED",
            State::Claimed { .. } => "CLAIMED",
            State::Running { .. } => "RUNNING",
            State::Crashed => "CRASHED",
        }
    }
}

impl ActualLrp {
    pub fn unclaimed(key: LrpKey, now: Timestamp) -> ActualLrp {
        ActualLrp {
            key,
            presence: Presence::Ordinary,
            state: State::Unclaimed { placement_error: String::new() },
            since: now,
            crash_count: 0,
            crash_reason: String::new(),
            modification_tag: ModificationTag::new(),
        }
    }

    pub fn instance(&self) -> Option<&InstanceKey> {
        match &self.state {
            State::Claimed { by } | State::Running { by, .. } => Some(by),
            State::Unclaimed { .. } | State::Crashed => None,
        }
    }

    pub fn net(&self) -> Option<&NetInfo> {
        match &self.state {
            State::Running { net, .. } => Some(net),
            _ => None,
        }
    }
}
