//! App usage events: what billing reads. One is written in the transaction of what it tells of.

use base::Timestamp;
use serde_json::{Value, json};
use sql::Connection;

use super::builds::Build;
use super::droplets::Droplet;
use super::processes::Process;
use super::tasks::Task;
use super::{Columns as _, Result, query};

/// What is told besides the names of where it happened.
#[derive(Clone, Debug, Default)]
struct Told<'a> {
    state: &'a str,
    previous: String,
    app_guid: &'a str,
    /// Guid and type.
    process: Option<(&'a str, &'a str)>,
    /// Guid and name.
    task: Option<(&'a str, &'a str)>,
    /// Guid and name; one that is not installed has a name alone.
    buildpack: (Option<String>, Option<String>),
    memory_mb: (i64, i64),
    instances: (i64, i64),
}

/// Records that a process came to `state`: `STARTED` or `STOPPED`.
pub async fn record(
    connection: &mut Connection,
    now: Timestamp,
    state: &str,
    process: &Process,
) -> Result<()> {
    let text = "SELECT state, data FROM app_usage_events WHERE process_guid = $1 AND state IN ('STARTED', 'STOPPED') \
                ORDER BY id DESC LIMIT 1";
    let before = query(text, [(&process.guid).into()]).optional(connection).await?;
    let (mut previous, mut memory_mb, mut instances) =
        ("STOPPED".to_owned(), process.memory_mb, process.instances);
    if let Some(row) = before {
        let data = row.json("data")?;
        let current = |key: &str| data.pointer(&format!("/{key}/current")).and_then(Value::as_i64);
        memory_mb = current("memory_in_mb_per_instance").unwrap_or(memory_mb);
        instances = current("instance_count").unwrap_or(instances);
        previous = row.text("state")?;
    }
    let told = Told {
        state,
        previous,
        app_guid: &process.app_guid,
        process: Some((&process.guid, &process.kind)),
        memory_mb: (process.memory_mb, memory_mb),
        instances: (process.instances, instances),
        ..Told::default()
    };
    write(connection, now, told).await
}

/// Records that a droplet's buildpack is now what a process is billed by.
pub async fn record_buildpack(
    connection: &mut Connection,
    now: Timestamp,
    process: &Process,
    droplet: &Droplet,
) -> Result<()> {
    let told = Told {
        state: "BUILDPACK_SET",
        previous: if process.app_started { "STARTED" } else { "STOPPED" }.to_owned(),
        app_guid: &process.app_guid,
        process: Some((&process.guid, &process.kind)),
        buildpack: last_buildpack(connection, &droplet.buildpacks).await?,
        memory_mb: (process.memory_mb, process.memory_mb),
        instances: (process.instances, process.instances),
        ..Told::default()
    };
    write(connection, now, told).await
}

/// The final buildpack decides.
async fn last_buildpack(
    connection: &mut Connection,
    buildpacks: &Value,
) -> Result<(Option<String>, Option<String>)> {
    let last = buildpacks.as_array().and_then(|list| list.last());
    let Some(name) = last.and_then(|one| one.get("name")).and_then(Value::as_str) else {
        return Ok((None, None));
    };
    let text = "SELECT guid FROM buildpacks WHERE name = $1 ORDER BY position LIMIT 1";
    let row = query(text, [name.into()]).optional(connection).await?;
    Ok((row.map(|row| row.text("guid")).transpose()?, Some(name.to_owned())))
}

/// Records `TASK_STARTED` or `TASK_STOPPED`.
pub async fn record_task(
    connection: &mut Connection,
    now: Timestamp,
    state: &str,
    task: &Task,
) -> Result<()> {
    let told = Told {
        state,
        previous: if state == "TASK_STARTED" { "PENDING" } else { "RUNNING" }.to_owned(),
        app_guid: &task.app_guid,
        task: Some((&task.guid, &task.name)),
        memory_mb: (task.memory_mb, task.memory_mb),
        instances: (1, 1),
        ..Told::default()
    };
    write(connection, now, told).await
}

/// Records `STAGING_STARTED` or `STAGING_STOPPED`; `buildpacks` are those of the droplet, null before there is one.
pub async fn record_staging(
    connection: &mut Connection,
    now: Timestamp,
    state: &str,
    build: &Build,
    buildpacks: &Value,
) -> Result<()> {
    let told = Told {
        state,
        previous: if state == "STAGING_STARTED" { "STAGING" } else { build.state.as_str() }
            .to_owned(),
        app_guid: &build.app_guid,
        buildpack: last_buildpack(connection, buildpacks).await?,
        memory_mb: (build.memory_mb, build.memory_mb),
        instances: (1, 1),
        ..Told::default()
    };
    write(connection, now, told).await
}

async fn write(connection: &mut Connection, now: Timestamp, told: Told<'_>) -> Result<()> {
    let names = "SELECT a.name, s.guid AS space_guid, s.name AS space_name, s.org_guid FROM apps a \
                 JOIN spaces s ON s.guid = a.space_guid WHERE a.guid = $1";
    let Some(row) = query(names, [told.app_guid.into()]).optional(connection).await? else {
        return Ok(());
    };
    let ((process, kind), (task, task_name)) = (told.process.unzip(), told.task.unzip());
    let data = json!({
        "state": { "current": told.state, "previous": told.previous },
        "app": { "guid": told.app_guid, "name": row.text("name")? },
        "process": { "guid": process, "type": kind },
        "space": { "guid": row.text("space_guid")?, "name": row.text("space_name")? },
        "organization": { "guid": row.text("org_guid")? },
        "buildpack": { "guid": told.buildpack.0, "name": told.buildpack.1 },
        "task": { "guid": task, "name": task_name },
        "memory_in_mb_per_instance": { "current": told.memory_mb.0, "previous": told.memory_mb.1 },
        "instance_count": { "current": told.instances.0, "previous": told.instances.1 },
    });
    let columns = vec![
        ("guid", base::new_guid().into()),
        ("state", told.state.into()),
        ("app_guid", told.app_guid.into()),
        ("process_guid", process.unwrap_or_default().into()),
        ("data", (&data).into()),
        ("created_at", now.into()),
        ("updated_at", now.into()),
    ];
    super::insert(connection, "app_usage_events", columns).await
}
