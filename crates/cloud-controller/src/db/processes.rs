//! Processes: what of an app runs, how many and how big. Every change that Diego must hear of leaves a row in `lrp_changes`.

use base::Timestamp;
use serde_json::Value;
use sql::Connection;

use super::{Arg, Columns as _, Result, Row, Stored, query};

pub const WEB: &str = "web";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub guid: String,
    pub app_guid: String,
    pub kind: String,
    pub version: String,
    /// What the user gave; over what was detected.
    pub command: Option<String>,
    /// What the current droplet has for this type.
    pub detected_command: Option<String>,
    pub run_as: Option<String>,
    pub instances: i64,
    pub memory_mb: i64,
    pub disk_mb: i64,
    pub log_rate: i64,
    pub health: HealthCheck,
    pub readiness: HealthCheck,
    pub revision_guid: Option<String>,
    pub space_guid: String,
    pub app_started: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthCheck {
    /// `port`, `process` or `http`.
    pub kind: String,
    pub endpoint: Option<String>,
    /// Seconds until it must be healthy; only of the liveness check.
    pub timeout: Option<i64>,
    pub invocation_timeout: Option<i64>,
    pub interval: Option<i64>,
}

impl Process {
    /// Instances that ought to run now.
    pub fn wanted(&self) -> i64 {
        if self.app_started { self.instances } else { 0 }
    }

    /// The name of this version at Diego.
    pub fn lrp_guid(&self) -> String {
        lrp_guid(&self.guid, &self.version)
    }

    pub fn start_command(&self) -> Option<&str> {
        self.command.as_deref().or(self.detected_command.as_deref())
    }
}

pub fn lrp_guid(process: &str, version: &str) -> String {
    format!("{process}-{version}")
}

/// The process a version at Diego belongs to: guids are 36 long.
pub fn process_of(lrp_guid: &str) -> Option<&str> {
    lrp_guid.get(..36)
}

pub const COLUMNS: &str = "processes.*, a.space_guid AS app_space_guid, a.state AS app_state, d.process_types AS detected";
pub const FROM: &str = "processes JOIN apps a ON a.guid = processes.app_guid LEFT JOIN droplets d ON d.guid = a.droplet_guid";

impl Stored for Process {
    const TABLE: &'static str = "processes";
    const COLUMNS: &'static str = COLUMNS;
    const FROM: &'static str = FROM;

    fn read(row: &Row) -> Result<Process> {
        let kind = row.text("type")?;
        let detected = row.json("detected")?.get(&kind).and_then(Value::as_str).map(str::to_owned);
        Ok(Process {
            guid: row.text("guid")?,
            app_guid: row.text("app_guid")?,
            version: row.text("version")?,
            command: row.maybe_text("command")?,
            detected_command: detected,
            run_as: row.maybe_text("run_as")?,
            instances: row.int("instances")?,
            memory_mb: row.int("memory_mb")?,
            disk_mb: row.int("disk_mb")?,
            log_rate: row.int("log_rate")?,
            health: HealthCheck {
                kind: row.text("health_check_type")?,
                endpoint: row.maybe_text("health_check_endpoint")?,
                timeout: row.maybe_int("health_check_timeout")?,
                invocation_timeout: row.maybe_int("health_check_invocation_timeout")?,
                interval: row.maybe_int("health_check_interval")?,
            },
            readiness: HealthCheck {
                kind: row.text("readiness_type")?,
                endpoint: row.maybe_text("readiness_endpoint")?,
                timeout: None,
                invocation_timeout: row.maybe_int("readiness_invocation_timeout")?,
                interval: row.maybe_int("readiness_interval")?,
            },
            revision_guid: row.maybe_text("revision_guid")?,
            space_guid: row.text("app_space_guid")?,
            app_started: row.text("app_state")? == super::apps::STARTED,
            created_at: row.moment("created_at")?,
            updated_at: row.moment("updated_at")?,
            kind,
        })
    }
}

async fn one(
    connection: &mut Connection,
    condition: &str,
    args: Vec<Arg>,
) -> Result<Option<Process>> {
    let text = format!(
        "SELECT {COLUMNS} FROM {FROM} WHERE {condition} ORDER BY processes.id DESC LIMIT 1"
    );
    query(&text, args).optional(connection).await?.as_ref().map(Process::read).transpose()
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<Process>> {
    one(connection, "processes.guid = $1", vec![guid.into()]).await
}

/// The newest process of a type: during a deployment there are two of type web.
pub async fn find_by_type(
    connection: &mut Connection,
    app: &str,
    kind: &str,
) -> Result<Option<Process>> {
    one(
        connection,
        "processes.app_guid = $1 AND processes.type = $2",
        vec![app.into(), kind.into()],
    )
    .await
}

/// All of an app, oldest first.
pub async fn of_app(connection: &mut Connection, app: &str) -> Result<Vec<Process>> {
    let text =
        format!("SELECT {COLUMNS} FROM {FROM} WHERE processes.app_guid = $1 ORDER BY processes.id");
    query(&text, [app.into()]).all(connection).await?.iter().map(Process::read).collect()
}

/// What a new process starts with.
#[derive(Clone, Debug)]
pub struct NewProcess {
    pub guid: String,
    pub app_guid: String,
    pub kind: String,
    pub command: Option<String>,
    pub instances: i64,
    pub memory_mb: i64,
    pub disk_mb: i64,
    pub log_rate: i64,
}

pub async fn insert(connection: &mut Connection, now: Timestamp, new: &NewProcess) -> Result<()> {
    let health = if new.kind == WEB { "port" } else { "process" };
    let columns = vec![
        ("guid", (&new.guid).into()),
        ("app_guid", (&new.app_guid).into()),
        ("type", (&new.kind).into()),
        ("version", base::new_guid().into()),
        ("command", (&new.command).into()),
        ("instances", new.instances.into()),
        ("memory_mb", new.memory_mb.into()),
        ("disk_mb", new.disk_mb.into()),
        ("log_rate", new.log_rate.into()),
        ("health_check_type", health.into()),
        ("created_at", now.into()),
        ("updated_at", now.into()),
    ];
    super::insert(connection, "processes", columns).await
}

/// A process just as it is given; for one that takes another's place.
pub async fn insert_as(
    connection: &mut Connection,
    now: Timestamp,
    process: &Process,
) -> Result<()> {
    let mut columns = own_columns(process);
    columns.extend([
        ("guid", Arg::from(&process.guid)),
        ("app_guid", (&process.app_guid).into()),
        ("type", (&process.kind).into()),
        ("version", (&process.version).into()),
        ("created_at", now.into()),
        ("updated_at", now.into()),
    ]);
    super::insert(connection, "processes", columns).await
}

/// Command, sizes, checks and revision become those given.
pub async fn rewrite(connection: &mut Connection, now: Timestamp, process: &Process) -> Result<()> {
    update(connection, now, &process.guid, own_columns(process)).await
}

fn own_columns(process: &Process) -> Vec<(&'static str, Arg)> {
    let (health, readiness) = (&process.health, &process.readiness);
    vec![
        ("command", (&process.command).into()),
        ("run_as", (&process.run_as).into()),
        ("instances", process.instances.into()),
        ("memory_mb", process.memory_mb.into()),
        ("disk_mb", process.disk_mb.into()),
        ("log_rate", process.log_rate.into()),
        ("health_check_type", (&health.kind).into()),
        ("health_check_endpoint", (&health.endpoint).into()),
        ("health_check_timeout", health.timeout.into()),
        ("health_check_invocation_timeout", health.invocation_timeout.into()),
        ("health_check_interval", health.interval.into()),
        ("readiness_type", (&readiness.kind).into()),
        ("readiness_endpoint", (&readiness.endpoint).into()),
        ("readiness_invocation_timeout", readiness.invocation_timeout.into()),
        ("readiness_interval", readiness.interval.into()),
        ("revision_guid", (&process.revision_guid).into()),
    ]
}

/// Sets columns and the time of the change.
pub async fn update(
    connection: &mut Connection,
    now: Timestamp,
    guid: &str,
    set: Vec<(&str, Arg)>,
) -> Result<()> {
    super::change(connection, now, "processes", guid, set).await
}

/// Diego must look again at this version: other instances, routes or names, or a process or app that is gone or stopped.
pub async fn changed(connection: &mut Connection, guid: &str, version: &str) -> Result<()> {
    super::insert(
        connection,
        "lrp_changes",
        vec![("process_guid", guid.into()), ("version", version.into())],
    )
    .await
}

/// Diego must look again at everything of an app.
pub async fn app_changed(connection: &mut Connection, app: &str) -> Result<()> {
    let text = "INSERT INTO lrp_changes (process_guid, version) SELECT guid, version FROM processes WHERE app_guid = $1";
    query(text, [app.into()]).run(connection).await.map(drop)
}

/// Diego must look again at everything that runs in a space or, with an empty one, in the organization: their names are
/// among the tags of what runs.
pub async fn place_changed(connection: &mut Connection, org: &str, space: &str) -> Result<()> {
    let text = "INSERT INTO lrp_changes (process_guid, version) SELECT p.guid, p.version FROM processes p \
                JOIN apps a ON a.guid = p.app_guid JOIN spaces s ON s.guid = a.space_guid \
                WHERE a.state = 'STARTED' AND s.org_guid = $1 AND $2 IN ('', s.guid)";
    query(text, [org.into(), space.into()]).run(connection).await.map(drop)
}

/// All instances must be made anew: under another version, after the old one is gone.
pub async fn renew(connection: &mut Connection, now: Timestamp, process: &Process) -> Result<()> {
    let version = base::new_guid();
    changed(connection, &process.guid, &process.version).await?;
    changed(connection, &process.guid, &version).await?;
    update(connection, now, &process.guid, vec![("version", version.into())]).await
}
