//! Containers that an ordinary user can make: own files, processes and names, where the host allows it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use garden::{ContainerSpec, GardenError, Handle, Result};
use shim::wire::{Bind, Isolation, Rootfs, Start};
use tracing::{info, warn};

use super::{Config, Kind};
use crate::containers::{Container, Containers, Record, make_keeper_folders, remove_tree, text};
use crate::furnish::{self, Identity};

/// The one id inside a rootless container.
const VCAP: u32 = 2000;

/// Whether this host lets this user make a container that sees only its own files.
pub async fn probe(config: &Config, containers: &Containers) -> Kind {
    let dir = config.state_dir.join("probe");
    let tried = async {
        remove_tree(&dir)?;
        make_keeper_folders(&dir, 0)?;
        let lower = dir.join("lower");
        fs::create_dir(&lower)?;
        let record = Record {
            index: 0,
            handle: Handle::from("probe"),
            spec: ContainerSpec {
                rootfs: garden::Rootfs { lower, binds: Vec::new() },
                ..ContainerSpec::default()
            },
            ports: Vec::new(),
            host_ip: config.host_ip,
            container_ip: config.host_ip,
            created_at: config.clock.now(),
            owner: 0,
        };
        let start = rootless(&record, &dir, config)?;
        containers.program.spawn()?.start(&start)?;
        Container::find(dir.clone(), record).await?.end(true).await?;
        anyhow::Ok(())
    };
    let kind = match tried.await {
        Ok(()) => Kind::Rootless,
        Err(error) => {
            info!(error = %format!("{error:#}"), "no namespaces for ordinary users here");
            Kind::Plain
        }
    };
    if let Err(error) = remove_tree(&dir) {
        warn!(%error, "removing a trial container");
    }
    kind
}

/// A container with its own files and processes, made by an ordinary user.
pub fn rootless(record: &Record, dir: &Path, config: &Config) -> Result<Start> {
    let fail = |error| GardenError::failed("filling the writable layer", error);
    let layers: Vec<_> =
        std::iter::once(&record.spec.rootfs.lower).chain(&record.spec.layers).collect();
    for folder in (0..layers.len())
        .map(|number| format!("l{number}"))
        .chain(["root", "upper", "work"].map(str::to_owned))
    {
        fs::create_dir(dir.join(folder)).map_err(fail)?;
    }
    let hostname = furnish::hostname(record.handle.as_str());
    let host_file = |path| fs::read_to_string(path).unwrap_or_default();
    let hosts =
        format!("{}\n{}", host_file("/etc/hosts"), furnish::hosts(Ipv4Addr::LOCALHOST, &hostname));
    let identity = Identity {
        hostname: &hostname,
        hosts,
        resolv_conf: host_file("/etc/resolv.conf"),
        owner: None,
    };
    furnish::furnish(&dir.join("upper"), &identity).map_err(fail)?;
    let binds = record.spec.rootfs.binds.iter().chain(&record.spec.mounts).map(|bind| {
        Ok(Bind {
            source: text(&bind.source)?,
            target: text(&bind.target)?,
            writable: bind.writable,
            shifted: false,
        })
    });
    Ok(Start {
        isolation: Isolation::Rootless(VCAP),
        dir: text(dir)?,
        rootfs: Rootfs {
            layers: layers.iter().map(|layer| text(layer)).collect::<Result<_>>()?,
            upper: "upper".into(),
            work: "work".into(),
            binds: binds.collect::<Result<_>>()?,
            cgroups: Vec::new(),
        },
        hostname,
        oom_file: None,
        capabilities: 0,
        filters: Vec::new(),
        segment_bytes: config.output_bytes / 2,
    })
}
