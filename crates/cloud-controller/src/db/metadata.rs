//! Labels and annotations of every resource, in one table each.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use sql::Connection;

use super::{Columns as _, Result, Sql, query};

/// What stands under `metadata`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

impl Metadata {
    pub fn to_json(&self) -> Value {
        json!({ "labels": self.labels, "annotations": self.annotations })
    }
}

/// A change of it: `None` removes the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataPatch {
    pub labels: BTreeMap<String, Option<String>>,
    pub annotations: BTreeMap<String, Option<String>>,
}

impl MetadataPatch {
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }
}

/// Of many resources of one `kind` (`app`, `space`, …) with one query, by guid.
pub async fn load(
    connection: &mut Connection,
    kind: &str,
    guids: &[String],
) -> Result<HashMap<String, Metadata>> {
    let mut found: HashMap<String, Metadata> = HashMap::new();
    if guids.is_empty() {
        return Ok(found);
    }
    let mut sql = Sql::default();
    let (kind, list) = (sql.arg(kind), sql.list(guids));
    sql.push(&format!(
        "SELECT 'label' AS sort, resource_guid, name, value FROM labels WHERE resource_type = {kind} AND resource_guid IN ({list}) \
         UNION ALL SELECT 'annotation', resource_guid, name, value FROM annotations WHERE resource_type = {kind} AND resource_guid IN ({list})"
    ));
    for row in sql.all(connection).await? {
        let metadata = found.entry(row.text("resource_guid")?).or_default();
        let into = if row.text("sort")? == "label" {
            &mut metadata.labels
        } else {
            &mut metadata.annotations
        };
        into.insert(row.text("name")?, row.text("value")?);
    }
    Ok(found)
}

pub async fn load_one(connection: &mut Connection, kind: &str, guid: &str) -> Result<Metadata> {
    Ok(load(connection, kind, &[guid.to_owned()]).await?.remove(guid).unwrap_or_default())
}

/// Merges a change in. Limits on how many there may be were checked by [`crate::message`] against the message alone.
pub async fn apply(
    connection: &mut Connection,
    kind: &str,
    guid: &str,
    patch: &MetadataPatch,
) -> Result<()> {
    for (table, entries) in [("labels", &patch.labels), ("annotations", &patch.annotations)] {
        for (name, value) in entries {
            let remove = format!(
                "DELETE FROM {table} WHERE resource_type = $1 AND resource_guid = $2 AND name = $3"
            );
            query(&remove, [kind.into(), guid.into(), name.into()]).run(connection).await?;
            if let Some(value) = value {
                let columns = vec![
                    ("resource_type", kind.into()),
                    ("resource_guid", guid.into()),
                    ("name", name.into()),
                    ("value", value.into()),
                ];
                super::insert(connection, table, columns).await?;
            }
        }
    }
    Ok(())
}

/// Gives one resource what another of its kind has.
pub async fn copy(connection: &mut Connection, kind: &str, from: &str, to: &str) -> Result<()> {
    for table in ["labels", "annotations"] {
        let text = format!(
            "INSERT INTO {table} (resource_type, resource_guid, name, value) \
             SELECT resource_type, $1, name, value FROM {table} WHERE resource_type = $2 AND resource_guid = $3"
        );
        query(&text, [to.into(), kind.into(), from.into()]).run(connection).await?;
    }
    Ok(())
}

/// Forgets all of a resource that is being deleted.
pub async fn remove(connection: &mut Connection, kind: &str, guid: &str) -> Result<()> {
    for table in ["labels", "annotations"] {
        let text = format!("DELETE FROM {table} WHERE resource_type = $1 AND resource_guid = $2");
        query(&text, [kind.into(), guid.into()]).run(connection).await?;
    }
    Ok(())
}
