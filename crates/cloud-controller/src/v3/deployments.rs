//! `/v3/deployments`: reading them.

use std::collections::{BTreeMap, HashMap};

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use sql::Connection;

use crate::auth::Caller;
use crate::db::access;
use crate::db::metadata::{self, Metadata};
use crate::db::{Columns as _, Row, Sql, apps, query};
use crate::errors::{ApiError, ApiResult};
use crate::query::{Filter, List, Params};
use crate::urls::Urls;
use crate::{Cc, respond};

const KIND: &str = "deployment";

const LIST: List = List {
    table: "deployments",
    filters: &[
        ("app_guids", Filter::Text("deployments.app_guid")),
        ("states", Filter::Text("deployments.state")),
        ("status_values", Filter::Text("deployments.status_value")),
        ("status_reasons", Filter::Text("deployments.status_reason")),
    ],
    orders: &[],
    includes: &[],
    labels: Some(KIND),
};

pub fn routes() -> Router<Cc> {
    Router::new().route("/v3/deployments", get(list)).route("/v3/deployments/{guid}", get(find))
}

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    listing.visible(|sql| access::visible_space(sql, &caller, "a.space_guid"));
    let mut connection = cc.db.read().await?;
    let from = "deployments JOIN apps a ON a.guid = deployments.app_guid";
    let page = listing.fetch(&mut connection, "deployments.*", from).await?;
    let resources = present_all(&mut connection, &page.items, &urls).await?;
    Ok(respond::ok(listing.present(&urls, page.total, resources, BTreeMap::new())))
}

/// Held until the deployment has ended or waits for a person.
async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let look = || load(cc.clone(), caller.clone(), guid.clone());
    let settled = |row: &Row| {
        let at_rest = |column: &str, value: &str| row.text(column).is_ok_and(|text| text == value);
        at_rest("status_value", "FINALIZED") || at_rest("status_reason", "PAUSED")
    };
    let row = cc.changes.hold(&guid, cc.config.limits.hold, look, settled).await?;
    let mut documents = present_all(&mut *cc.db.read().await?, &[row], &urls).await?;
    Ok(respond::ok(documents.remove(0)))
}

async fn load(cc: Cc, caller: Caller, guid: String) -> ApiResult<Row> {
    let not_found = || ApiError::not_found("Deployment");
    let mut connection = cc.db.read().await?;
    let found = query("SELECT * FROM deployments WHERE guid = $1", [guid.into()])
        .optional(&mut connection)
        .await?;
    let row = found.ok_or_else(not_found)?;
    let app = apps::find(&mut connection, &row.text("app_guid")?).await?.ok_or_else(not_found)?;
    access::in_space(&mut connection, &caller, &app.space_guid).await?.see("Deployment")?;
    Ok(row)
}

async fn present_all(
    connection: &mut Connection,
    rows: &[Row],
    urls: &Urls,
) -> ApiResult<Vec<Value>> {
    let guids: Vec<String> = rows.iter().map(|row| row.text("guid")).collect::<Result<_, _>>()?;
    let metadata = metadata::load(connection, KIND, &guids).await?;
    let mut sql = Sql::default();
    let list = sql.list(&guids);
    sql.push(&format!(
        "SELECT * FROM deployment_processes WHERE deployment_guid IN ({list}) ORDER BY id"
    ));
    let mut processes: HashMap<String, Vec<Value>> = HashMap::new();
    for row in sql.all(connection).await? {
        let process =
            json!({ "guid": row.text("process_guid")?, "type": row.text("process_type")? });
        processes.entry(row.text("deployment_guid")?).or_default().push(process);
    }
    let none = Metadata::default();
    let show = |(row, guid): (&Row, &String)| {
        let made = processes.get(guid).map_or(&[][..], Vec::as_slice);
        present(row, made, metadata.get(guid).unwrap_or(&none), urls)
    };
    rows.iter().zip(&guids).map(show).collect()
}

fn present(row: &Row, processes: &[Value], metadata: &Metadata, urls: &Urls) -> ApiResult<Value> {
    let guid = row.text("guid")?;
    let moment = |column: &str| {
        Ok::<_, sqlx::Error>(
            row.maybe_int(column)?.map(|nanos| base::Timestamp::from_nanos(nanos).to_rfc3339()),
        )
    };
    let app = row.text("app_guid")?;
    let revision = match row.maybe_text("revision_guid")? {
        Some(guid) => json!({ "guid": guid, "version": row.maybe_int("revision_version")? }),
        None => Value::Null,
    };
    let mut status = json!({
        "value": row.text("status_value")?,
        "reason": row.text("status_reason")?,
        "details": { "last_successful_healthcheck": moment("last_healthy_at")?, "last_status_change": moment("status_changed_at")? },
    });
    let options = row.json("options")?;
    if let Some(steps) = options.pointer("/canary/steps").and_then(Value::as_array) {
        status["canary"] =
            json!({ "steps": { "current": row.int("canary_step")?, "total": steps.len() } });
    }
    Ok(json!({
        "guid": guid,
        "created_at": row.moment("created_at")?.to_rfc3339(),
        "updated_at": row.moment("updated_at")?.to_rfc3339(),
        "state": row.text("state")?,
        "status": status,
        "strategy": row.text("strategy")?,
        "options": options,
        "droplet": { "guid": row.maybe_text("droplet_guid")? },
        "previous_droplet": { "guid": row.maybe_text("previous_droplet_guid")? },
        "new_processes": processes,
        "revision": revision,
        "relationships": { "app": { "data": { "guid": app } } },
        "metadata": metadata.to_json(),
        "links": {
            "self": urls.link(&format!("deployments/{guid}")),
            "app": urls.link(&format!("apps/{app}")),
            "cancel": urls.action(&format!("deployments/{guid}/actions/cancel"), "POST"),
            "continue": urls.action(&format!("deployments/{guid}/actions/continue"), "POST"),
        },
    }))
}
