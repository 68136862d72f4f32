//! What runs of a process: stats, instances, and killing one.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{delete, get};
use diego::actual_lrp::State;
use diego::{ActualLrp, LrpKey};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::bridge::APPS_DOMAIN;
use crate::db::access::OPERATORS;
use crate::db::processes::Process;
use crate::errors::{ApiError, ApiResult, Kind};
use crate::urls::Urls;
use crate::v3::processes::{Named, visible};
use crate::{Cc, actions, respond};

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/processes/{guid}/stats", get(stats))
        .route("/v3/processes/{guid}/process_instances", get(process_instances))
        .route("/v3/processes/{guid}/instances/{index}", delete(kill))
        .route("/v3/apps/{guid}/processes/{type}/stats", get(stats))
        .route("/v3/apps/{guid}/processes/{type}/instances/{index}", delete(kill))
}

/// Clients that wait for an app ask this every few seconds. While it is on its way up the answer is held for a moment,
/// so that the first answer that matters comes as soon as it is true. What ran already and is down now is told at once.
async fn stats(cc: Cc, caller: Caller, Path(named): Path<Named>) -> ApiResult<Response> {
    let (process, _) = visible(&mut *cc.db.read().await?, &caller, &named).await?;
    if process.wanted() > 0 {
        heard(&cc).await?;
    }
    let guid = process.guid.clone();
    let look = || std::future::ready(Ok(cc.mirror.instances(&process.lrp_guid())));
    let lrps = cc.changes.hold(&guid, cc.config.limits.hold_stats, look, |lrps| {
        let crashed = lrps.iter().filter(|lrp| lrp.state == State::Crashed).count();
        let runs = lrps.iter().any(|lrp| matches!(lrp.state, State::Running { .. }));
        process.wanted() == 0
            || runs
            || cc.mirror.came_up(&process.lrp_guid())
            || (!lrps.is_empty() && crashed == lrps.len())
    });
    let lrps = lrps.await?;
    let resources: Vec<Value> = (0..process.instances)
        .map(|index| match lrps.iter().find(|lrp| i64::from(lrp.key.index) == index) {
            Some(lrp) => present(&cc, &process, lrp),
            None => down(&process, index),
        })
        .collect();
    Ok(respond::ok(json!({ "resources": resources })))
}

/// Waits until Diego was heard: another brain may be about to lead.
///
/// # Errors
/// 200002 when it is not.
pub async fn heard(cc: &Cc) -> ApiResult<()> {
    let waited = tokio::time::timeout(cc.config.limits.hold, cc.mirror.loaded()).await;
    waited.map_err(|_| {
        Kind::StatsUnavailable.with("Stats unavailable: Stats server temporarily unavailable.")
    })
}

/// As clients name the states.
fn state(lrp: &ActualLrp) -> &'static str {
    match &lrp.state {
        State::Running { .. } => "RUNNING",
        State::Claimed { .. } => "STARTING",
        State::Unclaimed { placement_error } if placement_error.is_empty() => "STARTING",
        State::Unclaimed { .. } => "DOWN",
        State::Crashed => "CRASHED",
    }
}

fn details(lrp: &ActualLrp) -> Option<&str> {
    match &lrp.state {
        State::Unclaimed { placement_error } if !placement_error.is_empty() => {
            Some(placement_error)
        }
        State::Crashed => {
            Some(&lrp.crash_reason).filter(|reason| !reason.is_empty()).map(String::as_str)
        }
        _ => None,
    }
}

fn present(cc: &Cc, process: &Process, lrp: &ActualLrp) -> Value {
    let now = cc.now();
    let uptime = now.since(lrp.since).as_secs();
    if state(lrp) == "DOWN" {
        return json!({
            "type": process.kind, "index": lrp.key.index, "state": "DOWN", "routable": false, "uptime": uptime,
            "isolation_segment": null, "details": details(lrp),
        });
    }
    let usage = cc.metrics.latest(&process.app_guid, &process.guid, lrp.key.index);
    let running = matches!(lrp.state, State::Running { .. });
    let shown = usage.filter(|_| running).unwrap_or_default();
    let at = if shown.at == base::Timestamp::ZERO { now } else { shown.at };
    let quotas = running.then_some(());
    let ports = lrp.net().map(|net| {
        let port = |port: &diego::PortMapping| {
            json!({
                "external": port.host_port, "internal": port.container_port,
                "external_tls_proxy_port": null, "internal_tls_proxy_port": null,
            })
        };
        net.ports.iter().map(port).collect::<Vec<_>>()
    });
    json!({
        "type": process.kind,
        "index": lrp.key.index,
        "instance_guid": lrp.instance().map_or("", |key| key.instance_guid.as_str()),
        "state": state(lrp),
        "routable": matches!(lrp.state, State::Running { routable: true, .. }),
        "host": lrp.net().map_or(String::new(), |net| net.address.to_string()),
        "instance_internal_ip": lrp.net().map_or(String::new(), |net| net.instance_address.to_string()),
        "uptime": uptime,
        "mem_quota": quotas.map(|()| process.memory_mb << 20),
        "disk_quota": quotas.map(|()| process.disk_mb << 20),
        "log_rate_limit": quotas.map(|()| process.log_rate),
        "fds_quota": cc.config.limits.app_fds,
        "isolation_segment": null,
        "details": details(lrp),
        "instance_ports": ports.unwrap_or_default(),
        "usage": {
            "time": at.to_string(), "cpu": shown.cpu, "cpu_entitlement": shown.cpu_entitlement,
            "mem": shown.memory_bytes, "disk": shown.disk_bytes, "log_rate": shown.log_rate,
        },
    })
}

fn down(process: &Process, index: i64) -> Value {
    json!({
        "type": process.kind, "index": index, "state": "DOWN", "routable": false, "uptime": 0,
        "isolation_segment": null, "details": null,
    })
}

async fn process_instances(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(named): Path<Named>,
) -> ApiResult<Response> {
    let (process, _) = visible(&mut *cc.db.read().await?, &caller, &named).await?;
    heard(&cc).await?;
    let own = format!("processes/{}", process.guid);
    let links = json!({ "self": urls.link(&format!("{own}/process_instances")), "process": urls.link(&own) });
    Ok(respond::ok(json!({ "resources": instances(&cc, &process), "links": links })))
}

/// The short form: index, state, and for how many seconds.
pub fn instances(cc: &Cc, process: &Process) -> Value {
    let lrps = cc.mirror.instances(&process.lrp_guid());
    let one = |index: i64| match lrps.iter().find(|lrp| i64::from(lrp.key.index) == index) {
        Some(lrp) => {
            json!({ "index": index, "state": state(lrp), "since": cc.now().since(lrp.since).as_secs() })
        }
        None => json!({ "index": index, "state": "DOWN", "since": null }),
    };
    (0..process.instances).map(one).collect()
}

#[derive(Debug, Deserialize)]
struct Instance {
    index: String,
}

async fn kill(
    cc: Cc,
    caller: Caller,
    Path(named): Path<Named>,
    Path(Instance { index }): Path<Instance>,
) -> ApiResult<Response> {
    let (process, rights) = visible(&mut *cc.db.read().await?, &caller, &named).await?;
    rights.change("Process", OPERATORS)?;
    let wanted = index.parse::<u32>().ok().filter(|index| i64::from(*index) < process.wanted());
    let index = wanted.ok_or_else(|| ApiError::not_found("Instance"))?;
    let key = LrpKey { process_guid: process.lrp_guid().into(), index, domain: APPS_DOMAIN.into() };
    match cc.bbs.retire(&key).await {
        Ok(()) => {}
        Err(error) if error.is_not_found() => return Err(ApiError::not_found("Instance")),
        Err(error) => {
            return Err(Kind::RunnerUnavailable.with(format!("Runner is unavailable: {error}")));
        }
    }
    let mut tx = cc.db.begin().await?;
    if let Some(app) = crate::db::apps::find(&mut tx, &process.app_guid).await? {
        let data = json!({ "process_guid": process.guid, "process_type": process.kind, "process_index": index });
        actions::apps::audit(
            &cc,
            &mut tx,
            &caller,
            "audit.app.process.terminate_instance",
            &app,
            data,
        )
        .await?;
    }
    tx.commit().await?;
    Ok(respond::no_content())
}
