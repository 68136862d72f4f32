//! Follows what runs: keeps the mirror, wakes who waits for it, and tells of crashes.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use base::Backoff;
use diego::actual_lrp::State;
use diego::bbs::ActualLrpFilter;
use diego::task::State as TaskState;
use diego::{ActualLrp, Event, InstanceKey, LrpKey, Task};
use envelope::LogType;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tracing::warn;

use super::{APPS_DOMAIN, STAGING_DOMAIN, explain, staging};
use crate::Cc;
use crate::actions::apps::audit_by;
use crate::db::apps;
use crate::db::audit_events::{self, Actor};
use crate::db::processes::{self, Process};

const PROCESS_CRASH: &str = "audit.app.process.crash";
/// As Diego counts crashes in a row.
const QUIET_NANOS: i64 = 5 * 60 * 1_000_000_000;
/// An app's newest crashes, among which one is looked for.
const LOOKED_AT: u32 = 200;

/// Runs until the Cloud Controller stops; a stream that ends is taken up anew.
pub async fn follow(cc: Cc) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let result = tokio::select! {
            () = cc.stop.cancelled() => return,
            result = stream(&cc, &mut backoff) => result,
        };
        if let Err(error) = result {
            warn!(error = %format!("{error:#}"), "what runs is not heard from Diego");
        }
        tokio::select! {
            () = cc.stop.cancelled() => return,
            () = tokio::time::sleep(backoff.step()) => {}
        }
    }
}

/// Subscribe first, then list, then apply.
async fn stream(cc: &Cc, backoff: &mut Backoff) -> anyhow::Result<()> {
    let mut events = cc.bbs.events().await.context("subscribing")?;
    let filter = ActualLrpFilter { domain: Some(APPS_DOMAIN.into()), ..ActualLrpFilter::default() };
    let all = cc.bbs.actual_lrps(&filter).await.context("listing actual LRPs")?;
    for lrp in all.iter().filter(|lrp| lrp.crash_count > 0) {
        missed(cc, lrp).await.context("recording a crash that nobody heard of")?;
    }
    cc.mirror.replace(all);
    cc.rollouts.poke();
    backoff.reset();
    let mut told = Unplaced::default();
    while let Some(event) = events.next().await {
        if let Event::ActualLrpCrashed { key, instance, crash_count, crash_reason, since } = &event
            && key.domain.as_str() == APPS_DOMAIN
        {
            let crash = Crash {
                key,
                instance: Some(instance),
                count: *crash_count,
                reason: crash_reason,
                since: *since,
            };
            if let Err(error) = crashed(cc, &crash).await {
                warn!(lrp = %key, error = %format!("{error:#}"), "a crash was not recorded");
            }
        }
        if let Some(change) = readiness(&event)
            && let Err(error) = record_readiness(cc, &change).await
        {
            warn!(lrp = %change.key, error = %format!("{error:#}"), "a change of readiness was not recorded");
        }
        if let Some(task) = waiting_build(&event)
            && let Err(error) = staging::waits(cc, task).await
        {
            warn!(build.guid = %task.task_guid, error = %format!("{error:#}"), "a build without a cell was not told of");
        }
        if let Some((key, error)) = told.news(&event)
            && let Err(error) = unplaced(cc, key, error).await
        {
            warn!(lrp = %key, error = %format!("{error:#}"), "an instance without a cell was not told of");
        }
        if let Some(guid) = cc.mirror.apply(&event)
            && let Some(process) = processes::process_of(&guid)
        {
            cc.changes.tell(process);
        }
    }
    Ok(())
}

/// An instance gets requests from now on, or none any more.
struct Readiness<'a> {
    key: &'a LrpKey,
    by: &'a InstanceKey,
    ready: bool,
}

/// Pure: an instance that begins without being ready is no change, and one that ends is another event.
fn readiness(event: &Event) -> Option<Readiness<'_>> {
    let Event::ActualLrpChanged { before, after } = event else { return None };
    let State::Running { by, routable: ready, .. } = &after.state else { return None };
    let was_ready = matches!(&before.state, State::Running { routable: true, .. });
    (*ready != was_ready && after.key.domain.as_str() == APPS_DOMAIN).then_some(Readiness {
        key: &after.key,
        by,
        ready: *ready,
    })
}

/// Of processes with a readiness check: of others their start tells as much.
async fn record_readiness(cc: &Cc, change: &Readiness<'_>) -> anyhow::Result<()> {
    let Some(process) = processes::process_of(change.key.process_guid.as_str()) else {
        return Ok(());
    };
    let found = processes::find(&mut *cc.db.read().await?, process).await?;
    let Some(process) = found.filter(|process| process.readiness.kind != "process") else {
        return Ok(());
    };
    let mut tx = cc.db.begin().await?;
    let Some(app) = apps::find(&mut tx, &process.app_guid).await? else { return Ok(()) };
    let data = json!({
        "instance": change.by.instance_guid,
        "index": change.key.index,
        "cell_id": change.by.cell_id,
        "ready": change.ready,
    });
    let kind = if change.ready { "audit.app.process.ready" } else { "audit.app.process.not-ready" };
    audit_by(&mut tx, cc.now(), actor(&process), kind, &app, data).await?;
    tx.commit().await?;
    Ok(())
}

fn actor(process: &Process) -> Actor {
    Actor { guid: process.guid.clone(), kind: "process".to_owned(), name: process.kind.clone() }
}

/// Pure: the staging task that no cell took at the first try. Diego tries it again before it gives up.
fn waiting_build(event: &Event) -> Option<&Task> {
    let Event::TaskChanged { before, after } = event else { return None };
    let first = before.rejection_count == 0 && after.rejection_count > 0;
    let waits = after.state == TaskState::Pending && after.domain.as_str() == STAGING_DOMAIN;
    (first && waits).then_some(after)
}

/// Which instances their apps were told to be without a cell, and why. As large as there are such instances.
#[derive(Default)]
struct Unplaced(HashMap<LrpKey, String>);

impl Unplaced {
    /// The instance and what keeps it from being placed, when its app does not know that yet.
    fn news<'a>(&mut self, event: &'a Event) -> Option<(&'a LrpKey, &'a str)> {
        let lrp = match event {
            Event::ActualLrpCreated { actual_lrp } => actual_lrp,
            Event::ActualLrpChanged { after, .. } => after,
            Event::ActualLrpRemoved { actual_lrp } => {
                self.0.remove(&actual_lrp.key);
                return None;
            }
            _ => return None,
        };
        let State::Unclaimed { placement_error } = &lrp.state else {
            self.0.remove(&lrp.key);
            return None;
        };
        if placement_error.is_empty() || lrp.key.domain.as_str() != APPS_DOMAIN {
            // Tried once more; that is no news by itself.
            return None;
        }
        // How much is free where changes all the time.
        let gist = placement_error.split(" (").next().unwrap_or_default();
        if self.0.get(&lrp.key).is_some_and(|known| known == gist) {
            return None;
        }
        self.0.insert(lrp.key.clone(), gist.to_owned());
        Some((&lrp.key, placement_error))
    }
}

async fn unplaced(cc: &Cc, key: &LrpKey, error: &str) -> anyhow::Result<()> {
    let Some(process) = processes::process_of(key.process_guid.as_str()) else { return Ok(()) };
    let mut connection = cc.db.read().await?;
    let Some(process) = processes::find(&mut connection, process).await? else { return Ok(()) };
    let names = apps::names(&mut connection, &process.app_guid).await?;
    let next = explain::placement(error, &process, &names.app_name);
    let line =
        format!("Instance {} of process {} has no cell: {error}. {next}", key.index, process.kind);
    cc.app_log(&names, "API", LogType::Err, &line);
    Ok(())
}

struct Crash<'a> {
    key: &'a LrpKey,
    /// Known only while it is news.
    instance: Option<&'a InstanceKey>,
    count: u32,
    reason: &'a str,
    since: base::Timestamp,
}

/// Events are heard by whoever listens at that moment; a record tells of its last crash for as long as it is there.
async fn missed(cc: &Cc, lrp: &ActualLrp) -> anyhow::Result<()> {
    let crash = Crash {
        key: &lrp.key,
        instance: None,
        count: lrp.crash_count,
        reason: &lrp.crash_reason,
        since: lrp.since,
    };
    crashed(cc, &crash).await
}

/// Pure: whether one of `known`, an app's newest crashes, is this one. Crashes in a row are counted, and only five quiet
/// minutes begin a new row, so the same count of the same instance is the same crash unless much time lies between.
fn is_known(known: &[Value], version: &str, crash: &Crash<'_>) -> bool {
    let newest =
        known.iter().find(|data| data["version"] == version && data["index"] == crash.key.index);
    newest.is_some_and(|data| {
        let at = data["crash_timestamp"].as_i64().unwrap_or_default();
        let apart = crash.since.as_nanos().saturating_sub(at);
        let news = crash.instance.is_some();
        data["crash_count"] == crash.count && (!news || apart < QUIET_NANOS)
    })
}

async fn crashed(cc: &Cc, crash: &Crash<'_>) -> anyhow::Result<()> {
    let Some(process) = processes::process_of(crash.key.process_guid.as_str()) else {
        return Ok(());
    };
    let mut tx = cc.db.begin().await?;
    let Some(process) = processes::find(&mut tx, process).await? else { return Ok(()) };
    let Some(app) = apps::find(&mut tx, &process.app_guid).await? else { return Ok(()) };
    let version = crash.key.process_guid.as_str().get(process.guid.len() + 1..).unwrap_or_default();
    let known = audit_events::newest_of(&mut tx, &app.guid, PROCESS_CRASH, LOOKED_AT).await?;
    if is_known(&known, version, crash) {
        return Ok(());
    }
    let status =
        crash.reason.split("status ").nth(1).and_then(|rest| rest.split([' ', '(']).next());
    let data = json!({
        "instance": crash.instance.map(|instance| &instance.instance_guid),
        "index": crash.key.index,
        "cell_id": crash.instance.map(|instance| &instance.cell_id),
        "reason": "CRASHED",
        "exit_description": crash.reason,
        "exit_status": status.and_then(|status| status.parse::<i64>().ok()),
        "crash_count": crash.count,
        "crash_timestamp": crash.since.as_nanos(),
        "version": version,
    });
    for kind in ["app.crash", PROCESS_CRASH] {
        audit_by(&mut tx, cc.now(), actor(&process), kind, &app, data.clone()).await?;
    }
    let names = apps::names(&mut tx, &app.guid).await?;
    tx.commit().await?;
    let line = format!("App instance exited with guid {} payload: {data}", app.guid);
    cc.app_log(&names, "API", LogType::Out, &line);
    let next = explain::crash(crash.reason, &process, &app.name);
    let (index, kind, reason) = (crash.key.index, &process.kind, crash.reason);
    let line = format!("Instance {index} of process {kind} crashed: {reason}. {next}");
    cc.app_log(&names, "API", LogType::Err, &line);
    Ok(())
}

#[cfg(test)]
mod tests {
    use base::Timestamp;

    use super::*;

    #[test]
    fn a_crash_is_recorded_once_however_it_is_heard_of() {
        let key = LrpKey { process_guid: "p-v".into(), index: 1, domain: APPS_DOMAIN.into() };
        let instance = InstanceKey { instance_guid: "i".into(), cell_id: "c".into() };
        let crash = |instance, count, minute: i64| Crash {
            key: &key,
            instance,
            count,
            reason: "Exited with status 3",
            since: Timestamp::from_secs(60 * minute),
        };
        let known = |count: u32, minute: i64| {
            vec![
                json!({ "version": "v", "index": 1, "crash_count": count, "crash_timestamp": minute * 60_000_000_000 }),
            ]
        };
        assert!(!is_known(&[], "v", &crash(None, 1, 0)));
        assert!(is_known(&known(1, 1), "v", &crash(Some(&instance), 1, 1)));
        assert!(is_known(&known(1, 1), "v", &crash(None, 1, 30)), "it restarted late");
        assert!(!is_known(&known(1, 1), "v", &crash(Some(&instance), 2, 1)));
        assert!(!is_known(&known(1, 1), "v", &crash(Some(&instance), 1, 30)), "a new row");
        assert!(!is_known(&known(1, 1), "w", &crash(None, 1, 1)), "another version");
    }
}
