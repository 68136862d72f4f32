//! Jobs: what a client polls after a 202.

use base::Timestamp;
use serde_json::{Value, json};
use sql::Connection;

use super::{Columns as _, Result, query};
use crate::errors::ApiError;

#[derive(Clone, Debug)]
pub struct Job {
    pub guid: String,
    pub operation: String,
    pub state: String,
    pub resource_type: String,
    pub resource_guid: String,
    pub errors: Value,
    pub warnings: Value,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Job {
    pub fn is_final(&self) -> bool {
        matches!(self.state.as_str(), "COMPLETE" | "FAILED")
    }
}

/// How a job ended. Jobs are done within the request that asks for them, so none is ever seen under way.
#[derive(Clone, Debug)]
pub enum Outcome {
    Complete,
    Failed(ApiError),
}

/// Records a finished job and answers its guid. `operation` is `app.delete` and the like; `resource_type` is
/// the link's key (`app`, `buildpacks`), empty when there is nothing to link to.
pub async fn insert(
    connection: &mut Connection,
    now: Timestamp,
    operation: &str,
    resource: (&str, &str),
    outcome: &Outcome,
) -> Result<String> {
    let (state, errors) = parts(outcome);
    let columns = vec![
        ("operation", operation.into()),
        ("state", state.into()),
        ("resource_type", resource.0.into()),
        ("resource_guid", resource.1.into()),
        ("errors", (&errors).into()),
        ("warnings", "[]".into()),
    ];
    super::insert_new(connection, now, "jobs", columns).await
}

fn parts(outcome: &Outcome) -> (&'static str, Value) {
    match outcome {
        Outcome::Complete => ("COMPLETE", json!([])),
        Outcome::Failed(error) => ("FAILED", error.to_json()),
    }
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<Job>> {
    let Some(row) =
        query("SELECT * FROM jobs WHERE guid = $1", [guid.into()]).optional(connection).await?
    else {
        return Ok(None);
    };
    Ok(Some(Job {
        guid: row.text("guid")?,
        operation: row.text("operation")?,
        state: row.text("state")?,
        resource_type: row.text("resource_type")?,
        resource_guid: row.text("resource_guid")?,
        errors: row.json("errors")?,
        warnings: row.json("warnings")?,
        created_at: row.moment("created_at")?,
        updated_at: row.moment("updated_at")?,
    }))
}
