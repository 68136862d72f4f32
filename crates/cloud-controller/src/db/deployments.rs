//! Deployments: an app on its way from one web process to the next.

use base::Timestamp;
use serde_json::Value;
use sql::Connection;

use super::{Arg, Columns as _, Result, Row, query};

pub const ACTIVE: &str = "ACTIVE";
pub const FINALIZED: &str = "FINALIZED";
pub const ROLLING: &str = "rolling";
pub const CANARY: &str = "canary";

/// Values of `state`, finer than what the API tells as reason.
pub const DEPLOYING: &str = "DEPLOYING";
/// On the way to a canary's next step.
pub const PREPAUSED: &str = "PREPAUSED";
pub const PAUSED: &str = "PAUSED";
pub const CANCELING: &str = "CANCELING";
pub const DEPLOYED: &str = "DEPLOYED";
pub const CANCELED: &str = "CANCELED";
pub const SUPERSEDED: &str = "SUPERSEDED";

#[derive(Clone, Debug)]
pub struct Deployment {
    pub guid: String,
    pub app_guid: String,
    pub strategy: String,
    pub state: String,
    pub status_value: String,
    pub status_reason: String,
    pub droplet_guid: Option<String>,
    pub previous_droplet_guid: Option<String>,
    pub revision_guid: Option<String>,
    /// The new process.
    pub web_process_guid: Option<String>,
    /// What a cancel goes back to.
    pub original_web_instances: i64,
    pub options: Value,
    /// Counted from 1; 0 without canary.
    pub canary_step: i64,
    /// When it last got another state or more new instances.
    pub stepped_at: Timestamp,
}

impl Deployment {
    pub fn is_active(&self) -> bool {
        self.status_value == ACTIVE
    }

    pub fn max_in_flight(&self) -> i64 {
        self.options.get("max_in_flight").and_then(Value::as_i64).unwrap_or(1)
    }

    /// How many instances the new process is to have at the end.
    pub fn wanted(&self) -> i64 {
        self.options
            .get("web_instances")
            .and_then(Value::as_i64)
            .unwrap_or(self.original_web_instances)
    }

    /// How many steps a canary has: the parts of a hundred at which it waits, or the one at its first instance.
    pub fn canary_steps(&self) -> i64 {
        let steps = self.options.pointer("/canary/steps").and_then(Value::as_array);
        i64::try_from(steps.map_or(1, Vec::len).max(1)).unwrap_or(1)
    }

    /// The number of new instances at which the current step of a canary waits.
    pub fn pause_at(&self) -> i64 {
        let at = usize::try_from(self.canary_step - 1).unwrap_or(0);
        let weight = self
            .options
            .pointer(&format!("/canary/steps/{at}/instance_weight"))
            .and_then(Value::as_i64);
        let whole = self.wanted().min(self.original_web_instances);
        weight.map_or(1, |weight| ((whole * weight + 50) / 100).max(1))
    }
}

pub fn read(row: &Row) -> Result<Deployment> {
    let grown = row.maybe_int("last_healthy_at")?.map(Timestamp::from_nanos);
    let changed = row.maybe_int("status_changed_at")?.map(Timestamp::from_nanos);
    Ok(Deployment {
        guid: row.text("guid")?,
        app_guid: row.text("app_guid")?,
        strategy: row.text("strategy")?,
        state: row.text("state")?,
        status_value: row.text("status_value")?,
        status_reason: row.text("status_reason")?,
        droplet_guid: row.maybe_text("droplet_guid")?,
        previous_droplet_guid: row.maybe_text("previous_droplet_guid")?,
        revision_guid: row.maybe_text("revision_guid")?,
        web_process_guid: row.maybe_text("web_process_guid")?,
        original_web_instances: row.int("original_web_instances")?,
        options: row.json("options")?,
        canary_step: row.int("canary_step")?,
        stepped_at: match grown.max(changed) {
            Some(at) => at,
            None => row.moment("created_at")?,
        },
    })
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<Deployment>> {
    let row = query("SELECT * FROM deployments WHERE guid = $1", [guid.into()])
        .optional(connection)
        .await?;
    row.as_ref().map(read).transpose()
}

/// The one of the app that has not ended.
pub async fn active_of_app(connection: &mut Connection, app: &str) -> Result<Option<Deployment>> {
    let text = "SELECT * FROM deployments WHERE app_guid = $1 AND status_value = 'ACTIVE' ORDER BY id DESC LIMIT 1";
    query(text, [app.into()]).optional(connection).await?.as_ref().map(read).transpose()
}

/// Whether the app is between two web processes, and not on its way back.
pub async fn is_deploying(connection: &mut Connection, app: &str) -> Result<bool> {
    Ok(active_of_app(connection, app).await?.is_some_and(|active| active.state != CANCELING))
}

/// All that have not ended.
pub async fn active(connection: &mut Connection) -> Result<Vec<String>> {
    let text = "SELECT guid FROM deployments WHERE status_value = 'ACTIVE' ORDER BY id";
    query(text, []).all(connection).await?.iter().map(|row| row.text("guid")).collect()
}

/// Takes hold of an app until the transaction ends, so that two deployments of it are decided one after the other.
pub async fn lock_app(connection: &mut Connection, app: &str) -> Result<()> {
    query("UPDATE apps SET updated_at = updated_at WHERE guid = $1", [app.into()])
        .run(connection)
        .await
        .map(drop)
}

pub async fn insert(
    connection: &mut Connection,
    now: Timestamp,
    deployment: &Deployment,
    revision_version: Option<i64>,
) -> Result<()> {
    let columns: Vec<(&str, Arg)> = vec![
        ("guid", (&deployment.guid).into()),
        ("app_guid", (&deployment.app_guid).into()),
        ("strategy", (&deployment.strategy).into()),
        ("state", (&deployment.state).into()),
        ("status_value", (&deployment.status_value).into()),
        ("status_reason", (&deployment.status_reason).into()),
        ("droplet_guid", (&deployment.droplet_guid).into()),
        ("previous_droplet_guid", (&deployment.previous_droplet_guid).into()),
        ("revision_guid", (&deployment.revision_guid).into()),
        ("revision_version", revision_version.into()),
        ("web_process_guid", (&deployment.web_process_guid).into()),
        ("original_web_instances", deployment.original_web_instances.into()),
        ("options", (&deployment.options).into()),
        ("canary_step", deployment.canary_step.into()),
        ("status_changed_at", now.into()),
        ("created_at", now.into()),
        ("updated_at", now.into()),
    ];
    super::insert(connection, "deployments", columns).await
}

/// Moves it on; what the API tells follows from `state`.
pub async fn advance(
    connection: &mut Connection,
    now: Timestamp,
    guid: &str,
    state: &str,
) -> Result<()> {
    let (value, reason) = match state {
        DEPLOYED | CANCELED | SUPERSEDED => (FINALIZED, state),
        PREPAUSED => (ACTIVE, DEPLOYING),
        _ => (ACTIVE, state),
    };
    let set = vec![
        ("state", state.into()),
        ("status_value", value.into()),
        ("status_reason", reason.into()),
        ("status_changed_at", now.into()),
    ];
    super::change(connection, now, "deployments", guid, set).await
}
