//! How the containers of several platforms on one machine keep out of each other's way.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;
use guardian::linux::Network;

use crate::data_dir::DataDir;

/// Waits until no other platform on this machine is choosing its network; nobody chooses until the file is dropped.
pub fn turn() -> anyhow::Result<File> {
    let path = "/run/cupola.lock";
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("opening {path}"))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(file)
}

/// Tells this platform's interfaces and cgroups from those of another one on the same machine; kept, for containers outlive us.
pub(super) fn instance(data: &DataDir) -> anyhow::Result<String> {
    data.kept("instance", || base::new_guid()[..8].to_owned())
}

/// Chosen once, for containers outlive us: the first /16 from 10.254 downwards that no route of this machine leads to.
pub(super) fn free_network(data: &DataDir) -> anyhow::Result<Network> {
    let routes =
        std::fs::read_to_string("/proc/net/route").context("reading this machine's routes")?;
    let kept = data.kept("container-network", || {
        free(&routes).unwrap_or_else(|| "10.254.0.0/16".to_owned())
    })?;
    Network::parse(&kept)
        .with_context(|| format!("{} holds no range", data.file("container-network").display()))
}

/// A /16 below 10.0.0.0/8 that no route leads to. `routes` as `/proc/net/route` has them: hexadecimal, in the byte order of this machine.
pub fn free(routes: &str) -> Option<String> {
    let taken: BTreeSet<[u8; 2]> = routes
        .lines()
        .skip(1)
        .filter_map(|line| u32::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok())
        .map(|destination| destination.to_ne_bytes())
        .map(|[first, second, ..]| [first, second])
        .collect();
    (0..=254)
        .rev()
        .find(|second| !taken.contains(&[10, *second]))
        .map(|second| format!("10.{second}.0.0/16"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_in_use_is_passed_over() {
        let route =
            |address: [u8; 4]| format!("eth0\t{:08X}\t00000000\n", u32::from_ne_bytes(address));
        let header = "Iface\tDestination\tGateway\n";
        assert_eq!(free(header).as_deref(), Some("10.254.0.0/16"));
        let routes = format!(
            "{header}{}{}{}",
            route([10, 254, 3, 0]),
            route([10, 253, 0, 0]),
            route([192, 168, 0, 0])
        );
        assert_eq!(free(&routes).as_deref(), Some("10.252.0.0/16"));
    }
}
