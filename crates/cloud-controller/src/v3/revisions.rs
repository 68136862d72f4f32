//! `/v3/revisions` and `/v3/apps/:guid/revisions`: what an app ran, and with which variables.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use sql::Connection;

use crate::auth::Caller;
use crate::db::access::{self, DEVELOPERS, Rights};
use crate::db::metadata::{self, Metadata};
use crate::db::{Columns as _, Row, apps, query};
use crate::errors::{ApiError, ApiResult};
use crate::message::Body;
use crate::query::{Filter, List, Listing, Params};
use crate::urls::Urls;
use crate::v3::apps::visible as visible_app;
use crate::{Cc, respond};

const KIND: &str = "revision";

const LIST: List = List {
    table: "revisions",
    filters: &[("versions", Filter::Int("revisions.version"))],
    orders: &[],
    includes: &[],
    labels: Some(KIND),
};

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/revisions/{guid}", get(find).patch(update))
        .route("/v3/revisions/{guid}/environment_variables", get(environment_variables))
        .route("/v3/apps/{guid}/revisions", get(list))
        .route("/v3/apps/{guid}/revisions/deployed", get(deployed))
}

async fn list(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    params: Params,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    let mut connection = cc.db.read().await?;
    visible_app(&mut connection, &caller, &guid).await?;
    listing.equals("revisions.app_guid", &guid);
    answer(&mut connection, &listing, &urls).await
}

/// Those that a process with running instances belongs to.
async fn deployed(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    params: Params,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    let mut connection = cc.db.read().await?;
    let (app, _) = visible_app(&mut connection, &caller, &guid).await?;
    listing.equals("revisions.app_guid", &guid);
    let runs = app.is_started();
    listing.condition("revisions.guid IN (SELECT p.revision_guid FROM processes p WHERE p.app_guid = revisions.app_guid AND p.instances > 0)");
    if !runs {
        listing.condition("1 = 0");
    }
    answer(&mut connection, &listing, &urls).await
}

async fn answer(
    connection: &mut Connection,
    listing: &Listing,
    urls: &Urls,
) -> ApiResult<Response> {
    let page = listing.fetch(connection, "revisions.*, d.state AS droplet_state", FROM).await?;
    let guids: Vec<String> =
        page.items.iter().map(|row| row.text("guid")).collect::<Result<_, _>>()?;
    let metadata = metadata::load(connection, KIND, &guids).await?;
    let none = Metadata::default();
    let show =
        |(row, guid): (&Row, &String)| present(row, metadata.get(guid).unwrap_or(&none), urls);
    let resources: Vec<Value> =
        page.items.iter().zip(&guids).map(show).collect::<Result<_, _>>()?;
    Ok(respond::ok(listing.present(urls, page.total, resources, BTreeMap::new())))
}

const FROM: &str = "revisions LEFT JOIN droplets d ON d.guid = revisions.droplet_guid";

async fn visible(
    connection: &mut Connection,
    caller: &Caller,
    guid: &str,
) -> ApiResult<(Row, Rights)> {
    let not_found = || ApiError::not_found("Revision");
    let text = format!(
        "SELECT revisions.*, d.state AS droplet_state FROM {FROM} WHERE revisions.guid = $1"
    );
    let row = query(&text, [guid.into()]).optional(connection).await?.ok_or_else(not_found)?;
    let app = apps::find(connection, &row.text("app_guid")?).await?.ok_or_else(not_found)?;
    let rights = access::in_space(connection, caller, &app.space_guid).await?;
    rights.see("Revision")?;
    Ok((row, rights))
}

async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    let (row, _) = visible(&mut connection, &caller, &guid).await?;
    let metadata = metadata::load_one(&mut connection, KIND, &guid).await?;
    Ok(respond::ok(present(&row, &metadata, &urls)?))
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut fields = body.fields();
    let patch = fields.metadata();
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let (row, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.change("Revision", DEVELOPERS)?;
    crate::v3::common::write_metadata(&mut tx, KIND, &guid, &patch).await?;
    let metadata = metadata::load_one(&mut tx, KIND, &guid).await?;
    tx.commit().await?;
    Ok(respond::ok(present(&row, &metadata, &urls)?))
}

async fn environment_variables(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    let (row, rights) = visible(&mut connection, &caller, &guid).await?;
    rights.see_secrets("Revision")?;
    let own = format!("revisions/{guid}");
    Ok(respond::ok(json!({
        "var": cc.seal.open_json(row.maybe_text("sealed_env")?.as_deref())?,
        "links": {
            "self": urls.link(&format!("{own}/environment_variables")),
            "revision": urls.link(&own),
            "app": urls.link(&format!("apps/{}", row.text("app_guid")?)),
        },
    })))
}

fn present(row: &Row, metadata: &Metadata, urls: &Urls) -> ApiResult<Value> {
    let (guid, app) = (row.text("guid")?, row.text("app_guid")?);
    let commands = row.json("commands")?;
    let entries = commands.as_object().into_iter().flatten();
    let processes: serde_json::Map<String, Value> =
        entries.map(|(kind, command)| (kind.clone(), json!({ "command": command }))).collect();
    Ok(json!({
        "guid": guid,
        "version": row.int("version")?,
        "droplet": { "guid": row.maybe_text("droplet_guid")? },
        "processes": processes,
        "sidecars": row.json("sidecars")?,
        "description": row.text("description")?,
        "deployable": row.maybe_text("droplet_state")?.as_deref() == Some("STAGED"),
        "relationships": { "app": { "data": { "guid": app } } },
        "created_at": row.moment("created_at")?.to_rfc3339(),
        "updated_at": row.moment("updated_at")?.to_rfc3339(),
        "metadata": metadata.to_json(),
        "links": {
            "self": urls.link(&format!("revisions/{guid}")),
            "app": urls.link(&format!("apps/{app}")),
            "environment_variables": urls.link(&format!("revisions/{guid}/environment_variables")),
        },
    }))
}
