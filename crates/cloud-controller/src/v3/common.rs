//! What the handlers of several resources say in the same words.

use base::Timestamp;
use serde_json::{Map, Value, json};
use sql::Connection;

use crate::Cc;
use crate::auth::Caller;
use crate::db::audit_events::{self, Event};
use crate::db::jobs::{self, Outcome};
use crate::db::metadata::MetadataPatch;
use crate::errors::ApiResult;
use crate::message::check_metadata_limits;
use crate::urls::Urls;

/// How many labels and annotations a resource may carry.
const METADATA_LIMITS: (usize, usize) = (50, 200);

/// Notes a change in the transaction that makes it. `target` is guid, type and name; `place` space and organization.
pub async fn audit(
    tx: &mut Connection,
    cc: &Cc,
    caller: &Caller,
    kind: &str,
    target: (&str, &str, &str),
    place: (Option<&str>, Option<&str>),
    data: Value,
) -> ApiResult<()> {
    let (space_guid, org_guid) = place;
    let event = Event { kind, actor: caller.into(), target, space_guid, org_guid, data };
    Ok(audit_events::record(tx, cc.now(), event).await?)
}

/// A job for work that is done already; answers its guid. `kind` is singular, the path plural.
pub async fn done_job(
    tx: &mut Connection,
    now: Timestamp,
    operation: &str,
    resource: (&str, &str),
) -> ApiResult<String> {
    Ok(jobs::insert(tx, now, operation, resource, &Outcome::Complete).await?)
}

/// Writes labels and annotations after counting them.
pub async fn write_metadata(
    tx: &mut Connection,
    kind: &str,
    guid: &str,
    patch: &MetadataPatch,
) -> ApiResult<()> {
    check_metadata_limits(patch, METADATA_LIMITS)?;
    Ok(crate::db::metadata::apply(tx, kind, guid, patch).await?)
}

/// `{"data": {"guid": …}}`, or a null.
pub fn to_one(guid: Option<&str>) -> Value {
    json!({ "data": guid.map(|guid| json!({ "guid": guid })) })
}

/// `{"data": [{"guid": …}, …]}`.
pub fn to_many(guids: &[String]) -> Value {
    let data: Vec<Value> = guids.iter().map(|guid| json!({ "guid": guid })).collect();
    json!({ "data": data })
}

/// The document of a to-one relationship under a path of its own. `kind` is the plural in paths.
pub fn to_one_document(
    urls: &Urls,
    owner: &str,
    name: &str,
    kind: &str,
    guid: Option<&str>,
) -> Value {
    let mut links = Map::new();
    links.insert("self".to_owned(), urls.link(&format!("{owner}/relationships/{name}")));
    if let Some(guid) = guid {
        links.insert("related".to_owned(), urls.link(&format!("{kind}/{guid}")));
    }
    json!({ "data": guid.map(|guid| json!({ "guid": guid })), "links": links })
}

/// Guids in quotes with commas between: how errors list what is missing.
pub fn quoted(guids: &[String]) -> String {
    guids.iter().map(|guid| format!("\"{guid}\"")).collect::<Vec<_>>().join(", ")
}
