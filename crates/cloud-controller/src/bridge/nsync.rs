//! Keeps Diego's desired LRPs in step with what users want: what changed at once, and everything now and then.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use diego::bbs::ErrorKind;
use diego::{DesiredLrpUpdate, Domain, ProcessGuid, SchedulingInfo};
use futures::StreamExt as _;
use futures::stream;
use tracing::warn;

use super::{APPS_DOMAIN, recipe};
use crate::Cc;
use crate::db::processes::{self, Process};
use crate::db::{Columns as _, Sql, Stored as _, apps, query, recipes, routing};
use crate::logs::AppNames;

/// How long Diego may take the desired state for complete: three full passes and some.
const FRESH: Duration = Duration::from_secs(120);
/// Changes dealt with in one round, and processes read at once.
const BATCH: i64 = 500;
const AT_ONCE: usize = 8;

/// One thing to bring in step.
type Target = (String, String);

/// What was noted down since the last round, oldest first; each process in its own order, processes side by side.
pub async fn changes(cc: &Cc) -> anyhow::Result<()> {
    loop {
        let text =
            format!("SELECT id, process_guid, version FROM lrp_changes ORDER BY id LIMIT {BATCH}");
        let rows = query(&text, []).all(&mut *cc.db.read().await?).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut by_process: BTreeMap<String, Vec<(i64, Target)>> = BTreeMap::new();
        for row in &rows {
            let target = (row.text("process_guid")?, row.text("version")?);
            by_process.entry(target.0.clone()).or_default().push((row.int("id")?, target));
        }
        let done: Vec<Vec<i64>> = stream::iter(by_process.into_values())
            .map(|list| in_order(cc, list))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let done: Vec<i64> = done.into_iter().flatten().collect();
        let mut sql = Sql::default();
        let list = sql.list(done.iter().copied());
        sql.push(&format!("DELETE FROM lrp_changes WHERE id IN ({list})"));
        let mut tx = cc.db.begin().await?;
        sql.run(&mut tx).await?;
        tx.commit().await?;
        ensure!(
            done.len() == rows.len(),
            "{} changes are left for the next round",
            rows.len() - done.len()
        );
    }
}

/// Answers what was done; stops at the first that could not be.
async fn in_order(cc: &Cc, list: Vec<(i64, Target)>) -> Vec<i64> {
    let mut done = Vec::new();
    for (id, (process, version)) in list {
        if let Err(error) = bring(cc, &process, &version).await {
            warn!(process.guid = process, error = %format!("{error:#}"), "an app's change did not reach Diego yet");
            break;
        }
        cc.changes.tell(&process);
        done.push(id);
    }
    done
}

/// Makes one version of a process at Diego what it should be: there and up to date, or gone.
async fn bring(cc: &Cc, process: &str, version: &str) -> anyhow::Result<()> {
    let guid: ProcessGuid = processes::lrp_guid(process, version).into();
    let recipe = {
        let mut connection = cc.db.read().await?;
        let current = processes::find(&mut connection, process).await?;
        match current.filter(|current| current.version == version && current.app_started) {
            Some(current) => {
                recipes::running(&mut connection, &cc.seal, &cc.config.cf_api(), current).await?
            }
            None => None,
        }
    };
    let Some(recipe) = recipe else {
        return match cc.bbs.remove_lrp(&guid).await {
            Err(error) if !error.is_not_found() => Err(error).context("removing an LRP"),
            _ => Ok(()),
        };
    };
    let lrp = recipe::desired_lrp(&recipe, &cc.config);
    let update = DesiredLrpUpdate {
        instances: Some(lrp.instances),
        routes: Some(lrp.routes.clone()),
        annotation: Some(lrp.annotation.clone()),
        metric_tags: Some(lrp.metric_tags.clone()),
    };
    match cc.bbs.desire_lrp(lrp).await {
        Ok(()) => Ok(()),
        Err(error) if error.kind == ErrorKind::ResourceExists => {
            cc.bbs.update_lrp(&guid, update).await.context("updating an LRP")
        }
        Err(error) => Err(error).context("desiring an LRP"),
    }
}

/// Everything: what is missing or differs is brought in step, what is not wanted goes, and Diego is told that it knows all.
pub async fn everything(cc: &Cc) -> anyhow::Result<()> {
    let domain: Domain = APPS_DOMAIN.into();
    let known = cc.bbs.scheduling_infos(Some(&domain)).await.context("listing LRPs")?;
    let mut known: HashMap<String, SchedulingInfo> =
        known.into_iter().map(|info| (info.process_guid.to_string(), info)).collect();
    let (mut wrong, mut last) = (Vec::new(), 0);
    loop {
        let page = wanted(cc, last).await?;
        let Some(end) = page.last().map(|wanted| wanted.id) else { break };
        last = end;
        for wanted in page {
            let info = known.remove(&wanted.process.lrp_guid());
            if !info.is_some_and(|info| wanted.fits(&info)) {
                wrong.push((wanted.process.guid, wanted.process.version));
            }
        }
    }
    wrong.extend(known.into_keys().filter_map(|guid| {
        let process = processes::process_of(&guid)?;
        Some((process.to_owned(), guid.get(process.len() + 1..)?.to_owned()))
    }));
    let count = wrong.len();
    let list = wrong.into_iter().map(|target| in_order(cc, vec![(0, target)]));
    let done: usize = stream::iter(list)
        .buffer_unordered(AT_ONCE)
        .map(|done| done.len())
        .fold(0, async |sum, one| sum + one)
        .await;
    ensure!(done == count, "{} of {count} LRPs could not be brought in step", count - done);
    cc.bbs.upsert_domain(&domain, Some(FRESH)).await.context("telling that all is known")
}

/// As much of a started process as decides whether Diego has it right.
struct Wanted {
    id: i64,
    process: Process,
    routes: diego::desired_lrp::Routes,
    tags: String,
}

impl Wanted {
    fn fits(&self, info: &SchedulingInfo) -> bool {
        i64::from(info.instances) == self.process.instances
            && info.routes == self.routes
            && info.annotation == self.tags
    }
}

async fn wanted(cc: &Cc, after: i64) -> anyhow::Result<Vec<Wanted>> {
    let text = format!(
        "SELECT {}, a.guid AS app_guid, a.name AS app_name, s.guid AS space_guid, s.name AS space_name, o.guid AS org_guid, \
         o.name AS org_name FROM {} JOIN spaces s ON s.guid = a.space_guid JOIN organizations o ON o.guid = s.org_guid \
         WHERE a.state = 'STARTED' AND d.state = 'STAGED' AND processes.id > $1 ORDER BY processes.id LIMIT {BATCH}",
        processes::COLUMNS.replace("processes.*", PROCESS_COLUMNS),
        processes::FROM
    );
    let mut connection = cc.db.read().await?;
    let rows = query(&text, [after.into()]).all(&mut connection).await?;
    let mut read: Vec<(i64, Process, AppNames)> = Vec::new();
    for row in &rows {
        read.push((row.int("id")?, Process::read(row)?, apps::read_names(row)?));
    }
    let guids: Vec<String> = read.iter().map(|(_, process, _)| process.app_guid.clone()).collect();
    let mappings = routing::of_apps(&mut connection, &guids).await?;
    let wanted = |(id, process, names): (i64, Process, AppNames)| {
        let mappings = mappings.get(&process.app_guid).map_or(&[][..], Vec::as_slice);
        let tags = recipe::digest(&recipe::metric_tags(&names, &process.guid, &process.kind));
        Wanted { id, routes: routing::lrp_routes(mappings, &process.kind), tags, process }
    };
    Ok(read.into_iter().map(wanted).collect())
}

/// Every column but the app's guid, which comes from the app.
const PROCESS_COLUMNS: &str = "processes.id, processes.guid, processes.type, processes.version, processes.command, processes.run_as, \
    processes.instances, processes.memory_mb, processes.disk_mb, processes.log_rate, processes.health_check_type, \
    processes.health_check_endpoint, processes.health_check_timeout, processes.health_check_invocation_timeout, \
    processes.health_check_interval, processes.readiness_type, processes.readiness_endpoint, \
    processes.readiness_invocation_timeout, processes.readiness_interval, processes.revision_guid, \
    processes.created_at, processes.updated_at";
