//! The role `cell` inside a process with others; a cell alone on its machine is `cupola cell join`.

use std::sync::Arc;

use anyhow::Context as _;
use envelope::Sink;

use crate::cell::{Cell, CellSettings, Deps, Site};
use crate::cluster::{Authority, Home, InstanceAuthority};
use crate::ground::Ground;
use crate::settings::Settings;

/// The cell that is always there, where the platform began.
const CELL: &str = "cell-0";

pub async fn start(ground: &Ground<'_>, sink: Arc<dyn Sink>) -> anyhow::Result<Cell> {
    let own = ground.members.own();
    let cell_id = match ground.first {
        None => CELL.to_owned(),
        Some(_) => own.name.replace("server-", "cell-"),
    };
    let deps = Deps {
        bbs: Arc::new(ground.brains.clone()),
        sink,
        secret: ground.secret.clone(),
        clock: ground.clock.clone(),
        instances: Some(InstanceAuthority::of(ground.data)?.cell(&cell_id)?),
    };
    Cell::start(&settings(ground.settings, cell_id), &site(ground)?, ground.data, deps).await
}

fn site(ground: &Ground<'_>) -> anyhow::Result<Site> {
    let (own, domain) = (ground.members.own(), &ground.settings.domain);
    if !ground.is_reachable {
        return Ok(Site::Inside { domain: domain.clone(), ports: own.ports.clone() });
    }
    let home = Home::of(domain, &ground.members).context(
        "no router runs yet, and a cell's apps find the platform behind one: start it first, or here: --roles router,cell",
    )?;
    let identity = Authority::of(ground.data)?.issue(own.address.into())?;
    Ok(Site::Outside { address: own.address, port: 0, identity, home })
}

fn settings(settings: &Settings, cell_id: String) -> CellSettings {
    CellSettings {
        cell_id,
        zone: String::new(),
        placement_tags: Vec::new(),
        backend: settings.backend,
        stacks: settings.stacks.clone(),
        memory_mb: settings.memory_mb,
        disk_mb: settings.disk_mb,
        disk_limits: settings.disk_limits,
        container_network: settings.container_network.clone(),
        timings: settings.timings.clone().into(),
        crashed: settings.crashed.clone(),
    }
}
