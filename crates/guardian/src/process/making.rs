//! One container from nothing.

use std::sync::Arc;

use garden::{ContainerSpec, GardenError, Handle, Result};
use shim::wire::{Isolation, Start};

use super::plain::furnish_plain;
use super::rootless::rootless;
use super::{Kind, Processes};
use crate::containers::{Container, Record, make_keeper_folders, save, text};

pub async fn make(
    processes: Arc<Processes>,
    handle: Handle,
    spec: ContainerSpec,
) -> Result<Arc<Container>> {
    let ports = processes.map_ports(&spec.ports)?;
    let index = {
        let mut numbers = processes.numbers.lock();
        numbers.next += 1;
        numbers.next
    };
    let host_ip = processes.config.host_ip;
    let created_at = processes.config.clock.now();
    let record =
        Record { index, handle, spec, ports, host_ip, container_ip: host_ip, created_at, owner: 0 };
    let (building_on, building) = (processes.clone(), record.clone());
    let built = tokio::task::spawn_blocking(move || build(&building_on, &building)).await;
    let built = built
        .map_err(|error| GardenError::failed("making a container", error))
        .and_then(|built| built);
    let dir = processes.containers.folder(index);
    let made = match built {
        Ok(()) => Container::find(dir.clone(), record.clone())
            .await
            .map_err(|error| GardenError::failed("finding the container just made", error)),
        Err(error) => Err(error),
    };
    if made.is_err() {
        processes.clear(&record).await;
    }
    made
}

fn build(processes: &Processes, record: &Record) -> Result<()> {
    let fail = |what: &'static str| move |error| GardenError::failed(what, error);
    let dir = processes.containers.folder(record.index);
    make_keeper_folders(&dir, 0).map_err(fail("making the container's folder"))?;
    save(&dir, record).map_err(fail("keeping the container's record"))?;
    let start = match processes.kind {
        Kind::Rootless => rootless(record, &dir, &processes.config)?,
        Kind::Plain => {
            furnish_plain(record, &dir.join("root"))
                .map_err(fail("filling the container's folder"))?;
            let isolation = Isolation::Plain(());
            Start {
                isolation,
                dir: text(&dir)?,
                segment_bytes: processes.config.output_bytes / 2,
                ..Start::default()
            }
        }
    };
    let shim = processes.containers.program.spawn().map_err(fail("starting a shim"))?;
    shim.start(&start)
}
