//! Audit events: written in the transaction of the change they tell of.

use base::Timestamp;
use serde_json::Value;
use sql::Connection;

use super::{Columns as _, Result, query};
use crate::auth::Caller;

/// Who did it.
#[derive(Clone, Debug)]
pub struct Actor {
    pub guid: String,
    pub kind: String,
    pub name: String,
}

impl From<&Caller> for Actor {
    fn from(caller: &Caller) -> Actor {
        Actor { guid: caller.guid.clone(), kind: caller.kind.to_owned(), name: caller.name.clone() }
    }
}

/// What happened to what. Secrets must already be out of `data`.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// `audit.app.create` and the like.
    pub kind: &'a str,
    pub actor: Actor,
    /// Guid, type (`app`) and name.
    pub target: (&'a str, &'a str, &'a str),
    pub space_guid: Option<&'a str>,
    /// Filled from the space when absent.
    pub org_guid: Option<&'a str>,
    pub data: Value,
}

pub async fn record(connection: &mut Connection, now: Timestamp, event: Event<'_>) -> Result<()> {
    let org = match (event.org_guid, event.space_guid) {
        (Some(org), _) => Some(org.to_owned()),
        (None, Some(space)) => {
            let row = query("SELECT org_guid FROM spaces WHERE guid = $1", [space.into()])
                .optional(connection)
                .await?;
            row.map(|row| row.text("org_guid")).transpose()?
        }
        (None, None) => None,
    };
    let columns = vec![
        ("guid", base::new_guid().into()),
        ("type", event.kind.into()),
        ("actor_guid", event.actor.guid.into()),
        ("actor_type", event.actor.kind.into()),
        ("actor_name", event.actor.name.into()),
        ("target_guid", event.target.0.into()),
        ("target_type", event.target.1.into()),
        ("target_name", event.target.2.into()),
        ("data", (&event.data).into()),
        ("space_guid", event.space_guid.into()),
        ("org_guid", org.into()),
        ("created_at", now.into()),
        ("updated_at", now.into()),
    ];
    super::insert(connection, "audit_events", columns).await
}

/// What the newest `most` events of one kind about one target say, newest first.
pub async fn newest_of(
    connection: &mut Connection,
    target: &str,
    kind: &str,
    most: u32,
) -> Result<Vec<Value>> {
    let text = format!(
        "SELECT data FROM audit_events WHERE target_guid = $1 AND type = $2 ORDER BY id DESC LIMIT {most}"
    );
    let rows = query(&text, [target.into(), kind.into()]).all(connection).await?;
    rows.iter().map(|row| row.json("data")).collect()
}
