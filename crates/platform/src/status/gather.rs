//! Asks a running platform for everything `status` tells. What does not answer becomes a fact too.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base::Clock;
use bbs::Standing;
use diego::actual_lrp::State;
use diego::bbs::{ActualLrpFilter, TaskFilter};
use diego::cell::Dial as _;
use diego::{ActualLrp, Bbs as _, CellPresence, Presence, ProcessGuid, task};
use tokio::time::Instant;

use super::facts::{
    Brain, Cell, Component, Disk, Facts, Instances, NAMED, Server, Tasks, Troubled,
};
use crate::cluster::Member;
use crate::operator::Asking;

pub async fn gather(asking: &Asking, data: &Path) -> Facts {
    let brain = timed("bbs", asking.brain_answers()).await;
    let told = async {
        // The questions below wait for a brain that leads, longer than anybody wants to look at nothing.
        if brain.error.is_some() {
            return Default::default();
        }
        let (cells, instances, tasks) =
            tokio::join!(cells(asking), instances(asking), tasks(asking));
        (cells.unwrap_or_default(), instances.unwrap_or_default(), tasks.unwrap_or_default())
    };
    let (components, servers, (cells, instances, tasks), about) =
        tokio::join!(components(asking, brain.clone()), servers(asking), told, asking.about());
    Facts {
        data: data.to_owned(),
        now: Clock::system().now(),
        running: asking.running.clone(),
        about: about.ok(),
        components,
        servers,
        cells,
        instances,
        tasks,
        disk: disk(data),
    }
}

async fn components(asking: &Asking, bbs: Component) -> Vec<Component> {
    let (cc, uaa, logs, router) = tokio::join!(
        timed("cloud controller", asking.answers("/v3/info")),
        timed("uaa", asking.answers("/info")),
        timed("log store", asking.answers("/api/v1/info")),
        timed("router", asking.answers("/")),
    );
    vec![router, cc, uaa, bbs, logs]
}

async fn servers(asking: &Asking) -> Vec<Server> {
    let standings: BTreeMap<_, _> = asking.bbs.standings().await.into_iter().collect();
    let brain = |standing: &Standing| match standing {
        Standing::Leads { fence } => Brain::Leads(*fence),
        Standing::StandsBy => Brain::StandsBy,
        Standing::Silent(why) => Brain::Silent(why.clone()),
    };
    let server = |member: &Member| Server {
        name: member.name.clone(),
        url: member.url.clone(),
        roles: member.roles.clone(),
        brain: standings.get(&member.url).map(brain),
    };
    asking.members.iter().map(server).collect()
}

async fn timed(name: &'static str, answer: impl Future<Output = anyhow::Result<()>>) -> Component {
    let began = Instant::now();
    let error = answer.await.err().map(|error| format!("{error:#}"));
    Component { name, error, took: began.elapsed() }
}

async fn cells(asking: &Asking) -> anyhow::Result<Vec<Cell>> {
    let dialer = rep::Dialer::new(&asking.secret);
    let mut presences = asking.bbs.cells().await?;
    presences.sort_by(|a, b| a.cell_id.cmp(&b.cell_id));
    let mut asked = tokio::task::JoinSet::new();
    let ask = |presence: CellPresence| {
        let cell = dialer.dial(&presence);
        async move {
            let limit = Duration::from_secs(5);
            let state = match tokio::time::timeout(limit, cell.state()).await {
                Ok(state) => state.map_err(|error| error.to_string()),
                Err(_) => Err("no answer in 5 s".to_owned()),
            };
            Cell { id: presence.cell_id.to_string(), state }
        }
    };
    presences.into_iter().map(ask).for_each(|cell| drop(asked.spawn(cell)));
    let mut cells = asked.join_all().await;
    cells.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(cells)
}

async fn instances(asking: &Asking) -> anyhow::Result<Instances> {
    let (desired, actual) = tokio::try_join!(asking.bbs.scheduling_infos(None), async {
        asking.bbs.actual_lrps(&ActualLrpFilter::default()).await
    })?;
    let mut instances = Instances {
        processes: desired.len(),
        desired: desired.iter().map(|info| u64::from(info.instances)).sum(),
        ..Instances::default()
    };
    let mut troubled: BTreeMap<ProcessGuid, Troubled> = BTreeMap::new();
    for lrp in actual.iter().filter(|lrp| lrp.presence == Presence::Ordinary) {
        match &lrp.state {
            State::Running { .. } => instances.running += 1,
            State::Crashed => {
                instances.crashed += 1;
                note(&mut troubled, lrp, &lrp.crash_reason);
            }
            State::Unclaimed { placement_error } if !placement_error.is_empty() => {
                instances.unplaced += 1;
                note(&mut troubled, lrp, placement_error);
            }
            State::Unclaimed { .. } | State::Claimed { .. } => instances.starting += 1,
        }
    }
    for (guid, mut one) in troubled.into_iter().take(NAMED) {
        if let Ok(desired) = asking.bbs.desired_lrp(&guid).await {
            let tag = |name: &str| desired.metric_tags.get(name).cloned();
            one.app = tag("app_name");
            let path = [tag("organization_name"), tag("space_name"), tag("app_name")];
            let path: Vec<String> = path.into_iter().flatten().collect();
            if path.len() == 3 {
                one.name = path.join("/");
            }
        }
        instances.troubled.push(one);
    }
    Ok(instances)
}

fn note(troubled: &mut BTreeMap<ProcessGuid, Troubled>, lrp: &ActualLrp, why: &str) {
    let guid = &lrp.key.process_guid;
    let one = troubled.entry(guid.clone()).or_insert_with(|| Troubled {
        name: guid.to_string(),
        why: why.to_owned(),
        crashed: lrp.state == State::Crashed,
        ..Troubled::default()
    });
    one.instances += 1;
}

async fn tasks(asking: &Asking) -> anyhow::Result<Tasks> {
    let mut tasks = Tasks::default();
    for task in asking.bbs.tasks(&TaskFilter::default()).await? {
        match task.state {
            task::State::Pending => tasks.waiting += 1,
            task::State::Running { .. } => tasks.running += 1,
            task::State::Completed { .. } | task::State::Resolving { .. } => tasks.ending += 1,
        }
    }
    Ok(tasks)
}

/// What ordinary users may still write on the data directory's file system.
pub fn disk(data: &Path) -> Disk {
    let Ok(about) = rustix::fs::statvfs(data) else { return Disk::default() };
    let mb = |blocks: u64| blocks.saturating_mul(about.f_frsize) >> 20;
    Disk { free_mb: mb(about.f_bavail), total_mb: mb(about.f_blocks) }
}
