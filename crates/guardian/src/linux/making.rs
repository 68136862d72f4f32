//! One container from nothing: a number with network and groups, its files, its limits, its keeper; and back to nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use garden::{ContainerSpec, GardenError, Handle, Limits, Result};
use shim::wire::{Bind, Isolation, Rootfs, Start};
use tracing::warn;

use super::ahead::Wish;
use super::cgroups::Group;
use super::disk::Layer;
use super::nft::Member;
use super::spares::{Spare, patiently};
use super::{IDS, Linux, egress, seccomp};
use crate::containers::{Container, Record, make_keeper_folders, remove_tree, save, text};
use crate::furnish::{self, Identity};
use crate::keeper::Waiting;

pub async fn make(
    linux: Arc<Linux>,
    handle: Handle,
    spec: ContainerSpec,
) -> Result<Arc<Container>> {
    let wish = Wish { chain: egress::chain(&spec.egress)?, ports: spec.ports.clone() };
    let Spare { index, shim, member } = linux.spares.take(&wish).await?;
    let (known, other) = match member {
        Some(member) if wish.is_met_by(&member) => (Some(member), None),
        other => (None, other),
    };
    if let Some(other) = other {
        linux.leave_filter(&other).await;
        linux.ports.release(&other.ports);
    }
    let is_known = known.is_some();
    let member = match known.map_or_else(|| linux.member(index, &wish), Ok) {
        Ok(member) => member,
        Err(error) => {
            drop(shim);
            linux.clear(index).await;
            return Err(error);
        }
    };
    let record = Record {
        index,
        handle,
        ports: member.ports.clone(),
        host_ip: linux.config.host_ip,
        container_ip: member.address,
        created_at: linux.config.clock.now(),
        owner: if spec.privileged { 0 } else { linux.config.first_id + index * IDS },
        spec,
    };
    let (building_on, building) = (linux.clone(), record.clone());
    let built = tokio::task::spawn_blocking(move || building_on.build(&building, shim));
    let joining = async { if is_known { Ok(()) } else { linux.nft.add(&member).await } };
    let (built, joined) = tokio::join!(built, joining);
    let built = built
        .map_err(|error| GardenError::failed("making a container", error))
        .and_then(|built| built);
    let made = match (built, &joined) {
        (Ok(()), Ok(())) => Container::find(linux.containers.folder(index), record)
            .await
            .map_err(|error| GardenError::failed("finding the container just made", error)),
        (Ok(()), Err(error)) => Err(GardenError::failed("filtering packets", error.to_string())),
        (Err(error), _) => Err(error),
    };
    if made.is_err() {
        if joined.is_ok() {
            linux.leave_filter(&member).await;
        }
        linux.clear(index).await;
        linux.ports.release(&member.ports);
    }
    made
}

impl Linux {
    /// Everything on disk, the limits, and then the container itself.
    fn build(&self, record: &Record, shim: Waiting) -> Result<()> {
        let fail = |what: &'static str| move |error| GardenError::failed(what, error);
        let dir = self.containers.folder(record.index);
        make_keeper_folders(&dir, record.owner).map_err(fail("making the container's folder"))?;
        fs::create_dir(dir.join("root")).map_err(fail("making the container's folder"))?;
        let layers: Vec<_> =
            std::iter::once(&record.spec.rootfs.lower).chain(&record.spec.layers).collect();
        for number in 0..layers.len() {
            fs::create_dir(dir.join(format!("l{number}")))
                .map_err(fail("making the container's folder"))?;
        }
        let Limits { disk_bytes, .. } = record.spec.limits;
        let layer = self
            .disk
            .create(record.index, disk_bytes)
            .map_err(fail("making the writable layer"))?;
        let hostname = furnish::hostname(record.handle.as_str());
        let identity = Identity {
            hostname: &hostname,
            hosts: furnish::hosts(record.container_ip, &hostname),
            resolv_conf: format!("nameserver {}\n", self.config.network.gateway()),
            owner: Some(record.owner),
        };
        furnish::furnish(&layer.upper, &identity).map_err(fail("filling the writable layer"))?;
        let group = self.spares.group(record.index);
        group.limit(&record.spec.limits).map_err(fail("limiting the container"))?;
        save(&dir, record).map_err(fail("keeping the container's record"))?;
        let start = self.start(record, &dir, hostname, &layers, &layer, &group)?;
        shim.start(&start)?;
        self.disk.settle(record.index).map_err(fail("hiding the writable layer"))
    }

    fn start(
        &self,
        record: &Record,
        dir: &Path,
        hostname: String,
        layers: &[&PathBuf],
        layer: &Layer,
        group: &Group,
    ) -> Result<Start> {
        let shifted = record.owner > 0;
        let binds = record.spec.rootfs.binds.iter().chain(&record.spec.mounts).map(|bind| {
            Ok(Bind {
                source: text(&bind.source)?,
                target: text(&bind.target)?,
                writable: bind.writable,
                shifted,
            })
        });
        let cgroups = group.shown().into_iter().map(|(source, target)| {
            Ok(Bind { source: text(&source)?, target, writable: false, shifted: false })
        });
        Ok(Start {
            isolation: Isolation::Full(record.owner),
            dir: text(dir)?,
            hostname,
            rootfs: Rootfs {
                layers: layers.iter().map(|layer| text(layer)).collect::<Result<_>>()?,
                upper: self.seen_from_folder(&layer.upper)?,
                work: self.seen_from_folder(&layer.work)?,
                binds: binds.collect::<Result<_>>()?,
                cgroups: cgroups.collect::<Result<_>>()?,
            },
            oom_file: group.oom_file().map(|path| text(&path)).transpose()?,
            capabilities: if shifted { seccomp::CAPABILITIES } else { u64::MAX },
            filters: if shifted { self.filters.clone() } else { Vec::new() },
            segment_bytes: self.config.output_bytes / 2,
        })
    }

    /// As seen from a container's folder: containers can read the options of their own root, and learn no host path there.
    fn seen_from_folder(&self, path: &Path) -> Result<String> {
        let below = path.strip_prefix(&self.config.state_dir);
        below.map_or_else(|_| text(path), |below| text(&Path::new("../..").join(below)))
    }

    pub(super) async fn leave_filter(&self, member: &Member) {
        if let Err(error) = self.nft.remove(member).await {
            warn!(%error, address = %member.address, "a container stays in the packet filter");
        }
    }

    /// Takes away everything of a number and gives it back.
    pub(super) async fn clear(self: &Arc<Self>, index: u32) {
        let linux = self.clone();
        let cleared = tokio::task::spawn_blocking(move || {
            linux.spares.clear(index);
            let folder = linux.containers.folder(index);
            patiently(|| linux.disk.remove(index))?;
            remove_tree(&folder)?;
            linux.spares.release(index);
            std::io::Result::Ok(())
        });
        match cleared.await {
            Ok(Ok(())) => {}
            // The number stays taken until the next start, which tries again.
            Ok(Err(error)) => warn!(index, %error, "a container's files stay behind"),
            Err(error) => warn!(index, %error, "clearing a container away"),
        }
    }
}
