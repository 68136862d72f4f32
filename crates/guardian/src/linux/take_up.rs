//! From what an earlier life of this program left to a garden that goes on with it.

use std::collections::{BTreeSet, HashSet};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use shim::wire::Blob;
use tracing::info;

use super::cgroups::Layout;
use super::config::Config;
use super::disk::Disk;
use super::network::Wiring;
use super::nft::{Member, Nft};
use super::ports::HostPorts;
use super::spares::Spares;
use super::{Linux, seccomp};
use crate::containers::{Containers, Record, remove_tree};

/// Everything but the tasks that go on for as long as the garden does.
pub async fn open(config: Config, containers: Containers, lock: OwnedFd) -> anyhow::Result<Linux> {
    let layout = Layout::find().context("looking for control groups")?;
    let wiring = Wiring { network: config.network, prefix: config.interface_prefix() };
    let (program, count) = (containers.program.clone(), config.indexes());
    let spares =
        Arc::new(Spares::new(layout, wiring, config.name(), program, config.spares, count));
    let dead = containers.recover().await.context("looking for containers")?;
    let lives: HashSet<u32> =
        containers.all().iter().map(|container| container.record().index).collect();
    let mut left = end_leftovers(&dead, &lives, &spares);
    let disk =
        Disk::open(&config, !lives.is_empty()).context("opening the disk of writable layers")?;
    left.extend(disk.indexes().into_iter().filter(|index| !lives.contains(index)));
    let ports = HostPorts::new(config.host_ports.clone(), config.host_ip);
    let filters = seccomp::filters()
        .context("compiling the system call filters")?
        .into_iter()
        .map(Blob)
        .collect();
    let prepared = async {
        spares.layout.make_parent(&spares.parent).context("making the control groups")?;
        spares.wiring.prepare_host().context("giving the host its address among the containers")?;
        let members = take_up(&containers, left, &spares, &disk, &ports)?;
        let (tasks, stop) = (&containers.tasks, containers.stop.clone());
        Nft::open(&config, &members, tasks, stop).await.context("making the packet filter's table")
    };
    match prepared.await {
        Ok(nft) => Ok(Linux { config, containers, spares, nft, disk, ports, filters, _lock: lock }),
        Err(error) => {
            containers.close().await;
            if containers.all().is_empty() {
                // The reason it failed is told, rather than what cannot be taken back because of it.
                let _ = give_back(&spares, &disk, &config.state_dir);
            }
            Err(error)
        }
    }
}

/// What belongs to the platform rather than to a container, once there is no container.
pub fn give_back(spares: &Spares, disk: &Disk, state: &Path) -> anyhow::Result<()> {
    spares.wiring.clear_host().context("taking the host's address away")?;
    spares.layout.remove_parent(&spares.parent).context("removing the control groups")?;
    disk.close(state).context("removing writable layers")
}

/// Ends what lives of containers that were never finished or are broken, and answers their numbers. Before anything is taken
/// away from under them: a shim may still be putting its root together.
fn end_leftovers(
    dead: &[(u32, Option<Record>)],
    lives: &HashSet<u32>,
    spares: &Spares,
) -> BTreeSet<u32> {
    let mut left: BTreeSet<u32> = dead.iter().map(|(index, _)| *index).collect();
    let groups = spares.layout.children(&spares.parent);
    left.extend(groups.iter().filter_map(|name| name.parse::<u32>().ok()));
    left.extend(spares.wiring.interfaces());
    left.retain(|index| !lives.contains(index));
    for index in &left {
        info!(index, "clearing away what is left of a container");
        spares.clear(*index);
    }
    left
}

/// Finds what lives and clears what does not. Answers the packet filter's members.
fn take_up(
    containers: &Containers,
    left: BTreeSet<u32>,
    spares: &Arc<Spares>,
    disk: &Disk,
    ports: &HostPorts,
) -> anyhow::Result<Vec<Member>> {
    let alive: Vec<Record> = containers.all().iter().map(|container| container.record()).collect();
    for index in left {
        disk.remove(index).context("removing a writable layer")?;
        remove_tree(&containers.folder(index)).context("removing a container's folder")?;
    }
    for record in &alive {
        spares.occupy(record.index);
        disk.settle(record.index).context("hiding a writable layer")?;
        record.ports.iter().for_each(|port| ports.occupy(port.host_port));
    }
    alive
        .iter()
        .map(|record| Member::of(record).context("reading a container's egress rules"))
        .collect()
}
