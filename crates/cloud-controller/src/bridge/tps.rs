//! Follows what runs: keeps the mirror, wakes who waits for it, and tells of crashes.

use std::time::Duration;

use anyhow::Context as _;
use base::Backoff;
use diego::bbs::ActualLrpFilter;
use diego::{Event, InstanceKey, LrpKey};
use envelope::LogType;
use futures::StreamExt as _;
use serde_json::json;
use tracing::warn;

use super::APPS_DOMAIN;
use crate::Cc;
use crate::actions::apps::audit_by;
use crate::db::audit_events::Actor;
use crate::db::{apps, processes};

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
    cc.mirror.replace(all);
    cc.rollouts.poke();
    backoff.reset();
    while let Some(event) = events.next().await {
        if let Event::ActualLrpCrashed { key, instance, crash_count, crash_reason, since } = &event
            && key.domain.as_str() == APPS_DOMAIN
        {
            let crash =
                Crash { key, instance, count: *crash_count, reason: crash_reason, since: *since };
            if let Err(error) = crashed(cc, &crash).await {
                warn!(lrp = %key, error = %format!("{error:#}"), "a crash was not recorded");
            }
        }
        if let Some(guid) = cc.mirror.apply(&event)
            && let Some(process) = processes::process_of(&guid)
        {
            cc.changes.tell(process);
        }
    }
    Ok(())
}

struct Crash<'a> {
    key: &'a LrpKey,
    instance: &'a InstanceKey,
    count: u32,
    reason: &'a str,
    since: base::Timestamp,
}

async fn crashed(cc: &Cc, crash: &Crash<'_>) -> anyhow::Result<()> {
    let Some(process) = processes::process_of(crash.key.process_guid.as_str()) else {
        return Ok(());
    };
    let mut tx = cc.db.begin().await?;
    let Some(process) = processes::find(&mut tx, process).await? else { return Ok(()) };
    let Some(app) = apps::find(&mut tx, &process.app_guid).await? else { return Ok(()) };
    let status =
        crash.reason.split("status ").nth(1).and_then(|rest| rest.split([' ', '(']).next());
    let data = json!({
        "instance": crash.instance.instance_guid,
        "index": crash.key.index,
        "cell_id": crash.instance.cell_id,
        "reason": "CRASHED",
        "exit_description": crash.reason,
        "exit_status": status.and_then(|status| status.parse::<i64>().ok()),
        "crash_count": crash.count,
        "crash_timestamp": crash.since.as_nanos(),
        "version": process.version,
    });
    let actor = Actor {
        guid: process.guid.clone(),
        kind: "process".to_owned(),
        name: process.kind.clone(),
    };
    for kind in ["app.crash", "audit.app.process.crash"] {
        audit_by(&mut tx, cc.now(), actor.clone(), kind, &app, data.clone()).await?;
    }
    let names = apps::names(&mut tx, &app.guid).await?;
    tx.commit().await?;
    let line = format!("App instance exited with guid {} payload: {data}", app.guid);
    cc.app_log(&names, "API", LogType::Out, &line);
    Ok(())
}
