//! Deployments: a new web process beside the old one, and how it ends: one of them is left and is the app's.

use serde_json::{Value, json};
use sql::Connection;

use crate::Cc;
use crate::actions::apps::{self as app_actions, Turn};
use crate::actions::revisions as keeping;
use crate::auth::Caller;
use crate::db::apps::{self, App};
use crate::db::audit_events::Actor;
use crate::db::deployments::{
    self, CANARY, CANCELED, DEPLOYED, DEPLOYING, Deployment, PREPAUSED, SUPERSEDED,
};
use crate::db::droplets::Droplet;
use crate::db::metadata;
use crate::db::processes::{self, Process, WEB};
use crate::db::revisions::{self, Revision};
use crate::db::{quota_usage, usage_events};
use crate::errors::{ApiError, ApiResult};
use crate::logs::AppNames;
use crate::v3::processes::Scale;

/// What is to be deployed, and how.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub strategy: String,
    pub options: Value,
    /// The size of the new process where it is another than the old one's.
    pub scale: Scale,
    pub droplet: Droplet,
    /// The revision to go back to.
    pub target: Option<Revision>,
    /// The message, for the audit event.
    pub request: Value,
}

/// Begins a deployment; it supersedes the one under way. A stopped app is started at once, and that was it.
pub async fn create(
    cc: &Cc,
    tx: &mut Connection,
    caller: &Caller,
    app: &App,
    wanted: &Wanted,
) -> ApiResult<Deployment> {
    let actor: Actor = caller.into();
    deployments::lock_app(tx, &app.guid).await?;
    let previous = deployments::active_of_app(tx, &app.guid).await?;
    let previous_droplet_guid = app.droplet_guid.clone();
    if app.droplet_guid.as_ref() != Some(&wanted.droplet.guid) {
        app_actions::assign_droplet(cc, tx, &actor, app, &wanted.droplet).await?;
    }
    let app = find_app(tx, &app.guid).await?;
    let revision = match &wanted.target {
        Some(target) => Some(keeping::roll_back(cc, tx, &actor, &app, target).await?),
        None => keeping::update(cc, tx, &actor, &app).await?,
    };
    let webs = webs(tx, &app.guid).await?;
    let (Some(oldest), Some(newest)) = (webs.first(), webs.last()) else {
        return Err(ApiError::unprocessable("The app has no web process to deploy"));
    };
    let original =
        previous.as_ref().map_or(oldest.instances, |previous| previous.original_web_instances);
    let canary = wanted.strategy == CANARY;
    let mut deployment = Deployment {
        guid: base::new_guid(),
        app_guid: app.guid.clone(),
        strategy: wanted.strategy.clone(),
        state: if canary { PREPAUSED } else { DEPLOYING }.to_owned(),
        status_value: deployments::ACTIVE.to_owned(),
        status_reason: DEPLOYING.to_owned(),
        droplet_guid: Some(wanted.droplet.guid.clone()),
        previous_droplet_guid,
        revision_guid: revision.as_ref().map(|revision| revision.guid.clone()),
        web_process_guid: None,
        original_web_instances: original,
        options: wanted.options.clone(),
        canary_step: i64::from(canary),
        stepped_at: cc.now(),
    };
    let process = successor(newest, &deployment, revision.as_ref(), wanted);
    let version = revision.as_ref().map(|revision| revision.version);
    if app.is_started() {
        begin(cc, tx, &process).await?;
        metadata::copy(tx, "process", &newest.guid, &process.guid).await?;
        deployment.web_process_guid = Some(process.guid.clone());
        if let Some(previous) = &previous {
            deployments::advance(tx, cc.now(), &previous.guid, SUPERSEDED).await?;
        }
        deployments::insert(tx, cc.now(), &deployment, version).await?;
    } else {
        let process = Process {
            guid: newest.guid.clone(),
            version: newest.version.clone(),
            instances: wanted.scale.instances.unwrap_or(newest.instances),
            ..process
        };
        processes::rewrite(tx, cc.now(), &process).await?;
        deployment.web_process_guid = Some(process.guid.clone());
        deployments::insert(tx, cc.now(), &deployment, version).await?;
        app_actions::turn(cc, tx, caller, &app, Turn::Start).await?;
        deployments::advance(tx, cc.now(), &deployment.guid, DEPLOYED).await?;
    }
    let data = json!({
        "deployment_guid": deployment.guid,
        "droplet_guid": wanted.droplet.guid,
        "type": wanted.target.as_ref().map(|_| "rollback"),
        "revision_guid": deployment.revision_guid,
        "strategy": wanted.strategy,
        "request": wanted.request,
    });
    app_actions::audit(cc, tx, caller, "audit.app.deployment.create", &app, data).await?;
    Ok(deployment)
}

/// The new web process: as the newest one is, with the revision's command and the sizes that were asked for.
fn successor(
    newest: &Process,
    deployment: &Deployment,
    revision: Option<&Revision>,
    wanted: &Wanted,
) -> Process {
    let target = if deployment.state == PREPAUSED {
        deployment.pause_at().min(deployment.wanted())
    } else {
        deployment.wanted()
    };
    Process {
        guid: base::new_guid(),
        version: base::new_guid(),
        command: revision.map_or_else(|| newest.command.clone(), |revision| revision.command(WEB)),
        instances: target.min(deployment.max_in_flight()),
        memory_mb: wanted.scale.memory_mb.unwrap_or(newest.memory_mb),
        disk_mb: wanted.scale.disk_mb.unwrap_or(newest.disk_mb),
        log_rate: wanted.scale.log_rate.unwrap_or(newest.log_rate),
        revision_guid: revision.map(|revision| revision.guid.clone()),
        ..newest.clone()
    }
}

async fn begin(cc: &Cc, tx: &mut Connection, process: &Process) -> ApiResult<()> {
    let before = Process { app_started: false, ..process.clone() };
    if let Err(error) = quota_usage::check_process(tx, process, &before).await {
        let names = apps::names(tx, &process.app_guid).await?;
        let told = |(kind, detail)| (kind, for_deployments(detail, &names));
        return Err(ApiError(error.0.into_iter().map(told).collect()));
    }
    processes::insert_as(tx, cc.now(), process).await?;
    processes::changed(tx, &process.guid, &process.version).await?;
    usage_events::record(tx, cc.now(), "STARTED", process).await?;
    Ok(())
}

/// A quota that the app keeps while it stands may still be too small for two versions side by side.
fn for_deployments(detail: String, names: &AppNames) -> String {
    let all = ["quota_exceeded", "app_instance_limit_exceeded"];
    let (kind, name) = match all.iter().find(|code| detail.contains(**code)) {
        Some(code) if detail.contains(&format!("space_{code}")) => ("space", &names.space_name),
        Some(_) => ("organization", &names.org_name),
        None => return detail,
    };
    format!(
        "{detail} for {kind} {name}. This {kind}'s quota may not be large enough to support rolling deployments or your \
         configured max-in-flight."
    )
}

async fn find_app(tx: &mut Connection, guid: &str) -> ApiResult<App> {
    apps::find(tx, guid).await?.ok_or_else(|| ApiError::not_found("App"))
}

/// Web processes, oldest first.
pub async fn webs(connection: &mut Connection, app: &str) -> crate::db::Result<Vec<Process>> {
    let all = processes::of_app(connection, app).await?;
    Ok(all.into_iter().filter(|process| process.kind == WEB).collect())
}

/// The new process is the app's: it gets its full number, the other web processes go, and what is not web runs the
/// same revision from now on.
pub async fn finish_deployed(
    cc: &Cc,
    tx: &mut Connection,
    deployment: &Deployment,
    app: &App,
) -> ApiResult<()> {
    let now = cc.now();
    let revision = match &deployment.revision_guid {
        Some(guid) => revisions::find(tx, guid).await?,
        None => None,
    };
    for process in processes::of_app(tx, &app.guid).await? {
        if Some(&process.guid) == deployment.web_process_guid.as_ref() {
            resize(cc, tx, &process, deployment.wanted()).await?;
        } else if process.kind == WEB {
            remove(cc, tx, app, &process).await?;
        } else {
            if let Some(revision) = &revision {
                let set = vec![
                    ("revision_guid", (&revision.guid).into()),
                    ("command", revision.command(&process.kind).into()),
                ];
                processes::update(tx, now, &process.guid, set).await?;
            }
            if app.is_started() {
                processes::renew(tx, now, &process).await?;
            }
        }
    }
    deployments::advance(tx, now, &deployment.guid, DEPLOYED).await?;
    Ok(())
}

/// The process `back` is the app's again, and so is the droplet it runs, unless another was assigned since.
pub async fn finish_canceled(
    cc: &Cc,
    tx: &mut Connection,
    deployment: &Deployment,
    app: &App,
    back: Option<&str>,
) -> ApiResult<()> {
    let now = cc.now();
    let webs = webs(tx, &app.guid).await?;
    let is_new = |process: &&Process| Some(&process.guid) == deployment.web_process_guid.as_ref();
    let chosen = webs.iter().find(|process| Some(process.guid.as_str()) == back);
    let chosen = chosen.or_else(|| webs.iter().find(|process| !is_new(process)));
    if let Some(chosen) = chosen {
        resize(cc, tx, chosen, deployment.original_web_instances).await?;
        for process in webs.iter().filter(|process| process.guid != chosen.guid) {
            remove(cc, tx, app, process).await?;
        }
        let revision = match &chosen.revision_guid {
            Some(guid) => revisions::find(tx, guid).await?,
            None => None,
        };
        let droplet = revision.and_then(|revision| revision.droplet_guid);
        let droplet = droplet.or_else(|| deployment.previous_droplet_guid.clone());
        if app.droplet_guid == deployment.droplet_guid && droplet.is_some() {
            apps::update(tx, now, &app.guid, vec![("droplet_guid", droplet.into())]).await?;
        }
    }
    deployments::advance(tx, now, &deployment.guid, CANCELED).await?;
    Ok(())
}

/// Another number of instances, without asking quotas: a deployment's numbers were allowed when it began.
pub async fn resize(
    cc: &Cc,
    tx: &mut Connection,
    process: &Process,
    instances: i64,
) -> ApiResult<()> {
    if process.instances == instances {
        return Ok(());
    }
    let after = Process { instances, ..process.clone() };
    processes::update(tx, cc.now(), &process.guid, vec![("instances", instances.into())]).await?;
    if process.app_started {
        processes::changed(tx, &process.guid, &process.version).await?;
        usage_events::record(tx, cc.now(), "STARTED", &after).await?;
    }
    Ok(())
}

async fn remove(cc: &Cc, tx: &mut Connection, app: &App, process: &Process) -> ApiResult<()> {
    processes::changed(tx, &process.guid, &process.version).await?;
    if app.is_started() {
        usage_events::record(tx, cc.now(), "STOPPED", process).await?;
    }
    metadata::remove(tx, "process", &process.guid).await?;
    crate::db::delete(tx, "processes", "guid", &process.guid).await?;
    Ok(())
}
