//! What all steps of one container have in common.

use std::collections::HashSet;
use std::sync::Arc;

use base::{CancellationToken, Clock};
use diego::{NetInfo, PortMapping};
use garden::{Garden, Handle, ProcessId};

use crate::config::Timings;
use crate::journal::Journal;
use crate::logger::Logger;
use crate::probe::Prober;
use crate::transfer::Transfers;

pub(crate) struct Scene {
    pub garden: Arc<dyn Garden>,
    pub handle: Handle,
    /// What the container may write, in bytes; none of its files may turn out larger outside.
    pub disk_bytes: Option<u64>,
    pub net: NetInfo,
    /// Variables of the container's that must read otherwise, because the backend moved a port.
    pub env: Vec<(String, String)>,
    pub log: Logger,
    pub journal: Arc<Journal>,
    pub transfers: Arc<Transfers>,
    pub prober: Arc<Prober>,
    pub timings: Timings,
    pub clock: Clock,
    /// Processes that an earlier life of this program started.
    pub known: HashSet<ProcessId>,
    /// Cancelled as soon as a process of the action runs.
    pub started: CancellationToken,
}

pub(crate) fn listen_port(ports: &[PortMapping], asked: u16) -> u16 {
    ports.iter().find(|port| port.container_port == asked).map_or(asked, |port| port.listen_port)
}
