//! What to run, and how far it got.

use std::collections::BTreeMap;

use base::Timestamp;
use diego::action::{Action, EnvVar};
use diego::cell::Resources;
use diego::desired_lrp::{
    CachedDependency, CheckDefinition, ImageLayer, Sidecar, VolumeMount, VolumeMountedFile,
};
use diego::{ModificationTag, NetInfo};
use garden::{EgressRule, Handle};
use serde::{Deserialize, Serialize};

/// What the owner wants to remember about a container; the executor carries it and reads none of it.
pub type OwnerTags = BTreeMap<String, String>;

/// A container with all that is to happen in it: `setup`, then `action` with its sidecars, watched by monitor or checks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerRequest {
    pub guid: Handle,
    /// `preloaded:STACK`, or an image.
    pub rootfs: String,
    pub resources: Resources,
    /// 1 to 100.
    pub cpu_weight: u32,
    /// 0 = no limit.
    pub max_pids: u64,
    pub privileged: bool,
    pub env: Vec<EnvVar>,
    pub ports: Vec<u16>,
    pub egress: Vec<EgressRule>,
    pub cached_dependencies: Vec<CachedDependency>,
    pub image_layers: Vec<ImageLayer>,
    #[serde(default)]
    pub volume_mounts: Vec<VolumeMount>,
    #[serde(default)]
    pub volume_mounted_files: Vec<VolumeMountedFile>,
    /// Units of its certificate's subject.
    #[serde(default)]
    pub units: Vec<String>,
    pub setup: Option<Action>,
    pub action: Action,
    pub monitor: Option<Action>,
    pub checks: Option<CheckDefinition>,
    /// 0 = wait for ever.
    pub start_timeout_ms: u64,
    pub sidecars: Vec<Sidecar>,
    pub log: LogConfig,
    /// Whom container metrics are about; empty = none are made.
    pub metrics_guid: String,
    pub owner: OwnerTags,
}

/// Whom the log lines are about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// Empty = nothing is logged.
    pub guid: String,
    pub index: u32,
    /// The source type of lines whose action names none.
    pub source: String,
    #[serde(flatten)]
    pub tags: LogTags,
    /// Bytes per second; -1 = no limit, 0 = nothing.
    pub bytes_per_second: i64,
}

/// What log lines and metrics carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTags {
    pub tags: BTreeMap<String, String>,
    /// Earlier versions do not replace later ones, whenever they come.
    #[serde(default)]
    pub version: ModificationTag,
}

impl LogTags {
    /// Takes what is newer, and says whether it did.
    pub fn replace(&mut self, others: LogTags) -> bool {
        let newer = others.version.succeeds(&self.version);
        if newer {
            *self = others;
        }
        newer
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Counted; nothing exists.
    Reserved,
    /// Downloads, then the container itself.
    Initializing,
    Created,
    /// Healthy, or without anything that could say otherwise.
    Running {
        net: NetInfo,
        /// What readiness checks turn on and off.
        routable: bool,
    },
    Completed(Outcome),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub failed: bool,
    pub reason: String,
    /// Somebody asked for the end.
    pub stopped: bool,
    /// No code of the owner has run: another cell may do better.
    pub retryable: bool,
}

impl Outcome {
    pub(crate) fn never_ran(reason: impl Into<String>) -> Outcome {
        Outcome { failed: true, reason: reason.into(), stopped: false, retryable: true }
    }

    pub(crate) fn failed(reason: impl Into<String>) -> Outcome {
        Outcome { failed: true, reason: reason.into(), stopped: false, retryable: false }
    }
}

/// What moves a container on.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Initialize,
    Create,
    Run(NetInfo, bool),
    Routable(bool),
    Complete(Outcome),
}

impl State {
    pub fn name(&self) -> &'static str {
        match self {
            State::Reserved => "reserved",
            State::Initializing => "initializing",
            State::Created => "created",
            State::Running { .. } => "running",
            State::Completed(_) => "completed",
        }
    }

    /// The only way a container's state changes; `None` when state and event do not go together.
    pub(crate) fn after(&self, event: Event) -> Option<State> {
        Some(match (self, event) {
            (State::Completed(_), _) => return None,
            (State::Reserved, Event::Initialize) => State::Initializing,
            (State::Initializing, Event::Create) => State::Created,
            (State::Created, Event::Run(net, routable)) => State::Running { net, routable },
            (State::Running { net, routable }, Event::Routable(now)) if now != *routable => {
                State::Running { net: net.clone(), routable: now }
            }
            (_, Event::Complete(outcome)) => State::Completed(outcome),
            _ => return None,
        })
    }
}

/// A container at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    pub guid: Handle,
    pub resources: Resources,
    pub owner: OwnerTags,
    pub state: State,
    /// When it came to this state.
    pub since: Timestamp,
    /// The last sample; `None` before the first.
    pub usage: Option<Usage>,
}

/// What a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub cpu_nanos: u64,
    /// 100 = one core.
    pub cpu_percent: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net() -> NetInfo {
        NetInfo {
            address: [10, 0, 0, 1].into(),
            instance_address: [10, 0, 0, 2].into(),
            ports: vec![],
        }
    }

    #[track_caller]
    fn check(events: Vec<Event>, want: &str) {
        let mut state = State::Reserved;
        let mut told = state.name().to_owned();
        for event in events {
            match state.after(event) {
                Some(next) => state = next,
                None => {
                    told.push_str(" > refused");
                    break;
                }
            }
            told.push_str(" > ");
            told.push_str(state.name());
        }
        assert_eq!(told, want);
    }

    #[test]
    fn a_life_runs_forward() {
        use Event::*;
        let run = || Run(net(), true);
        check(
            vec![Initialize, Create, run(), Routable(false), Complete(Outcome::default())],
            "reserved > initializing > created > running > running > completed",
        );
        check(vec![Complete(Outcome::default()), Initialize], "reserved > completed > refused");
        check(vec![Initialize, run()], "reserved > initializing > refused");
        check(
            vec![Initialize, Create, run(), Routable(true)],
            "reserved > initializing > created > running > refused",
        );
    }
}
