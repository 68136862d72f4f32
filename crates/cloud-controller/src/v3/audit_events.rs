//! `/v3/audit_events`: who did what, when.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

use crate::Cc;
use crate::auth::Caller;
use crate::db::{Columns as _, Result, Row, Sql};
use crate::errors::{ApiError, ApiResult};
use crate::query::{Filter, List, Params};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new().route("/v3/audit_events", get(list)).route("/v3/audit_events/{guid}", get(find))
}

const LIST: List = List {
    table: "audit_events",
    filters: &[
        ("types", Filter::Text("audit_events.type")),
        ("target_guids", Filter::Text("audit_events.target_guid")),
        ("space_guids", Filter::Text("audit_events.space_guid")),
        ("organization_guids", Filter::Text("audit_events.org_guid")),
    ],
    orders: &[],
    includes: &[],
    labels: None,
};

/// Events of a space are for its auditors, developers and supporters, those of an organization for its auditors.
fn visible(sql: &mut Sql, caller: &Caller) -> Option<String> {
    if caller.reads_all() {
        return None;
    }
    let user = sql.arg(&caller.guid);
    Some(format!(
        "(audit_events.space_guid IN (SELECT own.space_guid FROM roles own WHERE own.user_guid = {user} \
         AND own.type IN ('space_auditor', 'space_developer', 'space_supporter')) \
         OR audit_events.org_guid IN (SELECT own.org_guid FROM roles own WHERE own.user_guid = {user} \
         AND own.type = 'organization_auditor'))"
    ))
}

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    if let Some(others) = listing.params.list("target_guids[not]") {
        let others = listing.sql().list(others);
        listing.condition(format!("audit_events.target_guid NOT IN ({others})"));
    }
    listing.visible(|sql| visible(sql, &caller));
    let mut connection = cc.db.read().await?;
    let page = listing.fetch(&mut connection, "audit_events.*", "audit_events").await?;
    let resources = page.items.iter().map(|row| present(row, &urls)).collect::<Result<Vec<_>>>()?;
    Ok(respond::ok(listing.present(&urls, page.total, resources, BTreeMap::new())))
}

async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut sql = Sql::default();
    let guid = sql.arg(&guid);
    let condition = visible(&mut sql, &caller);
    let condition = condition.as_deref().unwrap_or("1 = 1");
    sql.push(&format!(
        "SELECT audit_events.* FROM audit_events WHERE audit_events.guid = {guid} AND {condition}"
    ));
    let row = sql
        .optional(&mut *cc.db.read().await?)
        .await?
        .ok_or_else(|| ApiError::not_found("Event"))?;
    Ok(respond::ok(present(&row, &urls)?))
}

fn present(row: &Row, urls: &Urls) -> Result<Value> {
    let guid = row.text("guid")?;
    let place = |column: &str| -> Result<Value> {
        let guid = row.maybe_text(column)?.filter(|guid| !guid.is_empty());
        Ok(guid.map_or(Value::Null, |guid| json!({ "guid": guid })))
    };
    Ok(json!({
        "guid": guid,
        "created_at": row.moment("created_at")?.to_rfc3339(),
        "updated_at": row.moment("updated_at")?.to_rfc3339(),
        "type": row.text("type")?,
        "actor": {
            "guid": row.text("actor_guid")?,
            "type": row.text("actor_type")?,
            "name": row.text("actor_name")?,
        },
        "target": {
            "guid": row.text("target_guid")?,
            "type": row.text("target_type")?,
            "name": row.text("target_name")?,
        },
        "data": row.json("data")?,
        "space": place("space_guid")?,
        "organization": place("org_guid")?,
        "links": { "self": urls.link(&format!("audit_events/{guid}")) },
    }))
}
