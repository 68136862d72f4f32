//! What an operator may choose about plain processes.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use base::Clock;

/// Everything [`super::ProcessGarden`] is told.
#[derive(Clone, Debug)]
pub struct Config {
    pub state_dir: PathBuf,
    /// Where processes say they can be reached.
    pub host_ip: Ipv4Addr,
    pub max_containers: u32,
    /// How much of a process's output is kept; the older half gives way.
    pub output_bytes: u64,
    /// Instead of what the host has.
    pub memory_mb: Option<u64>,
    pub disk_mb: Option<u64>,
    /// Do not even try to make namespaces.
    pub plain: bool,
    pub clock: Clock,
}

impl Config {
    /// The usual choices.
    pub fn new(state_dir: PathBuf) -> Config {
        Config {
            state_dir,
            host_ip: Ipv4Addr::LOCALHOST,
            max_containers: 250,
            output_bytes: 4 << 20,
            memory_mb: None,
            disk_mb: None,
            plain: false,
            clock: Clock::system(),
        }
    }
}
