//! What an app goes through: made with its web process, started, stopped, given a droplet, deleted with all it has.

use base::Timestamp;
use serde_json::{Value, json};
use sql::Connection;

use crate::Cc;
use crate::auth::Caller;
use crate::db::apps::{self, App, NewApp, STARTED, STOPPED};
use crate::db::audit_events::{Actor, Event, record};
use crate::db::metadata::{self, MetadataPatch};
use crate::db::processes::{self, NewProcess, Process, WEB};
use crate::db::{
    self, Columns as _, blobs, deployments, query, quota_usage, recipes, tasks, usage_events,
};
use crate::errors::{ApiError, ApiResult, Kind, when_taken};
use crate::v3::lifecycle;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Start,
    Stop,
    Restart,
}

impl Turn {
    pub fn spoken(self) -> &'static str {
        match self {
            Turn::Start => "Starting",
            Turn::Stop => "Stopping",
            Turn::Restart => "Restarting",
        }
    }

    fn event(self) -> &'static str {
        match self {
            Turn::Start => "audit.app.start",
            Turn::Stop => "audit.app.stop",
            Turn::Restart => "audit.app.restart",
        }
    }
}

/// Records an event about the app itself.
pub async fn audit(
    cc: &Cc,
    connection: &mut Connection,
    caller: &Caller,
    kind: &str,
    app: &App,
    data: Value,
) -> db::Result<()> {
    audit_by(connection, cc.now(), caller.into(), kind, app, data).await
}

pub async fn audit_by(
    connection: &mut Connection,
    now: Timestamp,
    actor: Actor,
    kind: &str,
    app: &App,
    data: Value,
) -> db::Result<()> {
    let target = (app.guid.as_str(), "app", app.name.as_str());
    record(
        connection,
        now,
        Event { kind, actor, target, space_guid: Some(&app.space_guid), org_guid: None, data },
    )
    .await
}

/// Makes the app and its web process. `request` is what the audit event shows.
pub async fn create(
    cc: &Cc,
    connection: &mut Connection,
    caller: &Caller,
    new: &NewApp,
    metadata: &MetadataPatch,
    request: Value,
) -> ApiResult<App> {
    let now = cc.now();
    let taken = || crate::v3::apps::name_taken(&new.name);
    let guid =
        apps::insert(connection, now, new).await.map_err(|error| when_taken(error, taken()))?;
    crate::v3::common::write_metadata(connection, "app", &guid, metadata).await?;
    let app = apps::find(connection, &guid).await?.ok_or_else(|| ApiError::not_found("App"))?;
    audit(cc, connection, caller, "audit.app.create", &app, json!({ "request": request })).await?;
    add_process(cc, connection, &app, WEB, 1, caller.into()).await?;
    Ok(app)
}

/// Adds a process of a type the app does not have. The web process bears the app's guid.
pub async fn add_process(
    cc: &Cc,
    connection: &mut Connection,
    app: &App,
    kind: &str,
    instances: i64,
    actor: Actor,
) -> db::Result<()> {
    let limits = &cc.config.limits;
    let free = kind == WEB && processes::find(connection, &app.guid).await?.is_none();
    let new = NewProcess {
        guid: if free { app.guid.clone() } else { base::new_guid() },
        app_guid: app.guid.clone(),
        kind: kind.to_owned(),
        command: None,
        instances,
        memory_mb: limits.app_memory_mb,
        disk_mb: limits.app_disk_mb,
        log_rate: limits.app_log_rate,
    };
    processes::insert(connection, cc.now(), &new).await?;
    let data = json!({ "process_guid": new.guid, "process_type": kind });
    audit_by(connection, cc.now(), actor, "audit.app.process.create", app, data).await
}

/// Starts, stops or restarts; the bridge does the rest once the transaction is committed and it was poked.
pub async fn turn(
    cc: &Cc,
    connection: &mut Connection,
    caller: &Caller,
    app: &App,
    turn: Turn,
) -> ApiResult<App> {
    let now = cc.now();
    if turn != Turn::Stop && app.droplet_guid.is_none() {
        return Err(ApiError::unprocessable("Assign a droplet before starting this app."));
    }
    if turn != Turn::Stop {
        lifecycle::check_kind(connection, &app.lifecycle).await?;
    }
    let deployment = deployments::active_of_app(connection, &app.guid).await?;
    match deployment {
        Some(deployment) if turn == Turn::Stop && deployment.state == deployments::CANCELING => {
            // Nothing has to be kept serving for.
            super::deployments::finish_canceled(cc, connection, &deployment, app, None).await?;
        }
        Some(_) if turn == Turn::Stop => {
            let detail = "Cannot stop the app while it is deploying, please cancel the deployment before stopping the app.";
            return Err(Kind::StopDisabledDuringDeployment.with(detail));
        }
        _ => {}
    }
    let state = if turn == Turn::Stop { STOPPED } else { STARTED };
    let was_started = app.is_started();
    if app.state != state {
        apps::update(connection, now, &app.guid, vec![("state", state.into())]).await?;
    }
    let anew = turn == Turn::Restart || (turn == Turn::Start && !was_started);
    if anew {
        recipes::check_service_files(connection, &cc.seal, app).await?;
        let revision = super::revisions::update(cc, connection, &caller.into(), app).await?;
        let guid = revision.map(|revision| revision.guid);
        let text = "UPDATE processes SET revision_guid = $1 WHERE app_guid = $2";
        query(text, [guid.into(), (&app.guid).into()]).run(connection).await?;
    }
    for process in processes::of_app(connection, &app.guid).await? {
        match (turn, anew) {
            (Turn::Stop, _) if was_started => {
                processes::changed(connection, &process.guid, &process.version).await?;
                usage_events::record(connection, now, "STOPPED", &process).await?;
            }
            (_, true) => {
                let started = Process { app_started: true, ..process.clone() };
                let before = Process { app_started: was_started, ..process.clone() };
                quota_usage::check_process(connection, &started, &before).await?;
                processes::renew(connection, now, &process).await?;
                usage_events::record(connection, now, "STARTED", &process).await?;
            }
            _ => {}
        }
    }
    audit(cc, connection, caller, turn.event(), app, json!({})).await?;
    apps::find(connection, &app.guid).await?.ok_or_else(|| ApiError::not_found("App"))
}

/// Makes a droplet the app's own: its process types become processes, its sidecars the app's.
pub async fn assign_droplet(
    cc: &Cc,
    connection: &mut Connection,
    actor: &Actor,
    app: &App,
    droplet: &db::droplets::Droplet,
) -> ApiResult<()> {
    let now = cc.now();
    apps::update(connection, now, &app.guid, vec![("droplet_guid", (&droplet.guid).into())])
        .await?;
    let present: Vec<Process> = processes::of_app(connection, &app.guid).await?;
    for (kind, _) in apps::as_texts(&droplet.process_types) {
        if !present.iter().any(|process| process.kind == kind) {
            let instances = i64::from(kind == WEB);
            add_process(cc, connection, app, kind, instances, actor.clone()).await?;
        }
    }
    for process in processes::of_app(connection, &app.guid).await? {
        usage_events::record_buildpack(connection, now, &process, droplet).await?;
    }
    sidecars_from(connection, now, app, &droplet.sidecars).await?;
    let data = json!({ "request": { "droplet_guid": droplet.guid } });
    audit_by(connection, now, actor.clone(), "audit.app.droplet.mapped", app, data).await?;
    Ok(())
}

async fn sidecars_from(
    connection: &mut Connection,
    now: Timestamp,
    app: &App,
    sidecars: &Value,
) -> ApiResult<()> {
    let remove = "DELETE FROM sidecars WHERE app_guid = $1 AND origin = 'buildpack'";
    query(remove, [(&app.guid).into()]).run(connection).await?;
    for sidecar in sidecars.as_array().into_iter().flatten() {
        let text = |key: &str| sidecar.get(key).and_then(Value::as_str).unwrap_or_default();
        let name = text("name");
        let columns = vec![
            ("app_guid", (&app.guid).into()),
            ("name", name.into()),
            ("command", text("command").into()),
            ("process_types", sidecar.get("process_types").unwrap_or(&json!([])).into()),
            ("memory_mb", sidecar.get("memory").and_then(Value::as_i64).into()),
            ("origin", "buildpack".into()),
        ];
        let inserted = db::insert_new(connection, now, "sidecars", columns).await;
        let taken = format!(
            "Buildpack defined sidecar '{name}' conflicts with an existing user-defined sidecar. Consider renaming '{name}'."
        );
        inserted.map_err(|error| when_taken(error, ApiError::unprocessable(taken)))?;
    }
    Ok(())
}

/// Removes the app and all that hangs on it. Its blobs go when nothing names them any more.
pub async fn delete(
    cc: &Cc,
    connection: &mut Connection,
    caller: &Caller,
    app: &App,
) -> db::Result<()> {
    let now = cc.now();
    blobs::note_app(connection, now, &app.guid).await?;
    for process in processes::of_app(connection, &app.guid).await? {
        processes::changed(connection, &process.guid, &process.version).await?;
        metadata::remove(connection, "process", &process.guid).await?;
        if app.is_started() {
            usage_events::record(connection, now, "STOPPED", &process).await?;
        }
    }
    // The sweeps take tasks and builds from Diego once their rows are gone.
    for task in tasks::open_of_app(connection, &app.guid).await? {
        usage_events::record_task(connection, now, "TASK_STOPPED", &task).await?;
    }
    audit(
        cc,
        connection,
        caller,
        "audit.app.delete-request",
        app,
        json!({ "request": { "recursive": true } }),
    )
    .await?;
    let made = "DELETE FROM deployment_processes WHERE deployment_guid IN (SELECT guid FROM deployments WHERE app_guid = $1)";
    query(made, [(&app.guid).into()]).run(connection).await?;
    for (table, kind) in [
        ("packages", "package"),
        ("builds", "build"),
        ("droplets", "droplet"),
        ("revisions", "revision"),
        ("deployments", "deployment"),
        ("tasks", "task"),
    ] {
        let rows =
            query(&format!("SELECT guid FROM {table} WHERE app_guid = $1"), [(&app.guid).into()])
                .all(connection)
                .await?;
        for row in rows {
            metadata::remove(connection, kind, &row.text("guid")?).await?;
        }
        db::delete(connection, table, "app_guid", &app.guid).await?;
    }
    for table in ["sidecars", "route_destinations", "service_credential_bindings", "processes"] {
        db::delete(connection, table, "app_guid", &app.guid).await?;
    }
    metadata::remove(connection, "app", &app.guid).await?;
    db::delete(connection, "apps", "guid", &app.guid).await?;
    Ok(())
}
