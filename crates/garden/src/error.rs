//! What can go wrong with a container, told apart where callers act on the difference.

use crate::{Handle, ProcessId};

#[derive(Debug, thiserror::Error)]
pub enum GardenError {
    #[error("handle {0} is taken")]
    HandleTaken(Handle),
    #[error("no container {0}")]
    UnknownContainer(Handle),
    #[error("no process {0} in container {1}")]
    UnknownProcess(ProcessId, Handle),
    #[error("no program {0} in the container")]
    ExecutableNotFound(String),
    #[error("no user {0} in the container")]
    UnknownUser(String),
    #[error("no file {0} in the container")]
    FileNotFound(String),
    #[error("container {1} has no property {0}")]
    UnknownProperty(String, Handle),
    /// It reads from nowhere, or has ended, or is on no terminal.
    #[error("process {0} in container {1} takes no input")]
    NoInput(ProcessId, Handle),
    #[error("host port {0} is taken")]
    PortTaken(u16),
    /// A rule of egress that this garden cannot keep; it says why.
    #[error("egress rule: {0}")]
    BadEgress(String),
    /// What this garden, or this host, cannot do.
    #[error("{0} is not possible here")]
    Unsupported(&'static str),
    /// The host has no room, address or id left: another cell may do better.
    #[error("out of {0}")]
    Exhausted(&'static str),
    /// `what` says what was being done.
    #[error("{what}")]
    Failed { what: String, source: Box<dyn std::error::Error + Send + Sync> },
}

impl GardenError {
    pub fn failed(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> GardenError {
        GardenError::Failed { what: what.into(), source: source.into() }
    }
}
