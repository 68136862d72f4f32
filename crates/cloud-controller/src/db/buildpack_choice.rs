//! Which buildpacks a build tries, in which order.

use std::collections::BTreeMap;

use sql::Connection;

use super::{Columns as _, Result, Row, query};
use crate::bridge::staging::Chosen;
use crate::errors::{ApiError, ApiResult};
use crate::v3::lifecycle::is_address;

const READY: &str = "SELECT guid, name, stack, sha256, enabled FROM buildpacks WHERE state = 'READY' AND lifecycle = 'buildpack' AND sha256 IS NOT NULL";

/// The named and enabled ones in their order, or, when none are named, every enabled one that fits the stack.
///
/// # Errors
/// 422 for a name that is neither installed nor an address.
pub async fn choose(
    connection: &mut Connection,
    named: &[String],
    stack: &str,
) -> ApiResult<Vec<Chosen>> {
    let text = format!("{READY} AND stack IN ('', $1) ORDER BY position, id");
    let rows = query(&text, [stack.into()]).all(connection).await?;
    if named.is_empty() {
        let mut found = Vec::new();
        for row in &rows {
            if row.flag("enabled")? {
                found.push(chosen(row)?);
            }
        }
        return Ok(found);
    }
    let mut found = Vec::new();
    for name in named {
        let mut best: Option<&Row> = None;
        for row in &rows {
            // One made for the stack is better than one for any.
            if row.text("name")? == *name && (best.is_none() || !row.text("stack")?.is_empty()) {
                best = Some(row);
            }
        }
        found.push(match best {
            // As if it did not fit: staging then finds nothing to build with.
            Some(row) if !row.flag("enabled")? => continue,
            Some(row) => chosen(row)?,
            None if is_address(name) => Chosen::Address(name.clone()),
            None => {
                let detail = format!(
                    "Buildpack \"{name}\" must be an existing admin buildpack or a valid git URI"
                );
                return Err(ApiError::unprocessable(detail));
            }
        });
    }
    Ok(found)
}

fn chosen(row: &Row) -> Result<Chosen> {
    let (guid, sha256) = (row.text("guid")?, row.text("sha256")?);
    Ok(Chosen::Installed { key: key(&guid, &sha256), name: row.text("name")?, sha256 })
}

/// Changes with the content, so that cells never use an old one.
fn key(guid: &str, sha256: &str) -> String {
    format!("{guid}_{}", sha256.get(..16).unwrap_or(sha256))
}

/// Names of installed buildpacks by the keys that builds know them by.
pub async fn names_by_key(connection: &mut Connection) -> Result<BTreeMap<String, String>> {
    let rows = query(READY, []).all(connection).await?;
    rows.iter()
        .map(|row| Ok((key(&row.text("guid")?, &row.text("sha256")?), row.text("name")?)))
        .collect()
}
