//! `/v3/sidecars`: processes that run beside an app's own, in the same container.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use sql::Connection;

use crate::auth::Caller;
use crate::db::access::{self, DEVELOPERS, Rights};
use crate::db::{self, Columns as _, Row, apps, query};
use crate::errors::{ApiError, ApiResult, when_taken};
use crate::message::{Body, Fields};
use crate::query::{List, Listing, Params};
use crate::urls::Urls;
use crate::v3::{apps as v3_apps, processes as v3_processes};
use crate::{Cc, respond};

const LIST: List =
    List { table: "sidecars", filters: &[], orders: &[], includes: &[], labels: None };

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/sidecars/{guid}", get(find).patch(update).delete(delete))
        .route("/v3/apps/{guid}/sidecars", get(list_of_app).post(create))
        .route("/v3/processes/{guid}/sidecars", get(list_of_process))
}

async fn visible(
    connection: &mut Connection,
    caller: &Caller,
    guid: &str,
) -> ApiResult<(Row, Rights)> {
    let not_found = || ApiError::not_found("Sidecar");
    let row =
        query("SELECT * FROM sidecars WHERE guid = $1", [guid.into()]).optional(connection).await?;
    let row = row.ok_or_else(not_found)?;
    let app = apps::find(connection, &row.text("app_guid")?).await?.ok_or_else(not_found)?;
    let rights = access::in_space(connection, caller, &app.space_guid).await?;
    rights.see("Sidecar")?;
    Ok((row, rights))
}

async fn list_of_app(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    params: Params,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    let mut connection = cc.db.read().await?;
    v3_apps::visible(&mut connection, &caller, &guid).await?;
    listing.equals("sidecars.app_guid", &guid);
    answer(&mut connection, &listing, &urls).await
}

async fn list_of_process(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    params: Params,
    Path(named): Path<v3_processes::Named>,
) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    let mut connection = cc.db.read().await?;
    let (process, _) = v3_processes::visible(&mut connection, &caller, &named).await?;
    listing.equals("sidecars.app_guid", &process.app_guid);
    // The types are a JSON list of texts, and no type holds a quote.
    let quoted = listing.sql().arg(format!("%\"{}\"%", process.kind.replace(['%', '_'], "")));
    listing.condition(format!("sidecars.process_types LIKE {quoted}"));
    answer(&mut connection, &listing, &urls).await
}

async fn answer(
    connection: &mut Connection,
    listing: &Listing,
    urls: &Urls,
) -> ApiResult<Response> {
    let page = listing.fetch(connection, "sidecars.*", "sidecars").await?;
    let resources: Vec<Value> = page.items.iter().map(present).collect::<Result<_, _>>()?;
    Ok(respond::ok(listing.present(urls, page.total, resources, BTreeMap::new())))
}

async fn find(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    let (row, _) = visible(&mut *cc.db.read().await?, &caller, &guid).await?;
    Ok(respond::ok(present(&row)?))
}

struct Message {
    name: Option<String>,
    command: Option<String>,
    process_types: Option<Vec<String>>,
    memory_mb: Option<i64>,
}

fn read(fields: &mut Fields<'_>) -> Message {
    let process_types = fields.texts("process_types");
    if process_types.as_ref().is_some_and(Vec::is_empty) {
        fields.error("Process types must have at least 1 process_type");
    }
    Message {
        name: fields.has("name").then(|| fields.required_text("name")),
        command: fields.has("command").then(|| fields.required_text("command")),
        process_types,
        memory_mb: fields.int("memory_in_mb", 1..=i64::from(i32::MAX)),
    }
}

fn taken(name: Option<&str>) -> ApiError {
    ApiError::unprocessable(format!(
        "Sidecar with name '{}' already exists for given app",
        name.unwrap_or_default()
    ))
}

async fn create(
    cc: Cc,
    caller: Caller,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut fields = body.fields();
    let message = read(&mut fields);
    for (missing, name) in
        [(message.name.is_none(), "Name"), (message.command.is_none(), "Command")]
    {
        if missing {
            fields.error(format!("{name} can't be blank"));
        }
    }
    if message.process_types.is_none() && !fields.has("process_types") {
        fields.error("Process types must be an array");
    }
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let (app, rights) = v3_apps::visible(&mut tx, &caller, &guid).await?;
    rights.change("App", DEVELOPERS)?;
    let columns = vec![
        ("app_guid", (&app.guid).into()),
        ("name", (&message.name).into()),
        ("command", (&message.command).into()),
        ("process_types", (&message.process_types.unwrap_or_default()).into()),
        ("memory_mb", message.memory_mb.into()),
    ];
    let own = db::insert_new(&mut tx, cc.now(), "sidecars", columns)
        .await
        .map_err(|error| when_taken(error, taken(message.name.as_deref())))?;
    let (row, _) = visible(&mut tx, &caller, &own).await?;
    tx.commit().await?;
    Ok(respond::created(present(&row)?))
}

async fn update(
    cc: Cc,
    caller: Caller,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut fields = body.fields();
    let message = read(&mut fields);
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let (_, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.change("Sidecar", DEVELOPERS)?;
    let mut set = Vec::new();
    set.extend(message.name.as_ref().map(|name| ("name", name.into())));
    set.extend(message.command.map(|command| ("command", command.into())));
    set.extend(message.process_types.map(|types| ("process_types", (&types).into())));
    set.extend(message.memory_mb.map(|memory| ("memory_mb", memory.into())));
    db::change(&mut tx, cc.now(), "sidecars", &guid, set)
        .await
        .map_err(|error| when_taken(error, taken(message.name.as_deref())))?;
    let (row, _) = visible(&mut tx, &caller, &guid).await?;
    tx.commit().await?;
    Ok(respond::ok(present(&row)?))
}

async fn delete(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let (_, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.change("Sidecar", DEVELOPERS)?;
    db::delete(&mut tx, "sidecars", "guid", &guid).await?;
    tx.commit().await?;
    Ok(respond::no_content())
}

fn present(row: &Row) -> ApiResult<Value> {
    Ok(json!({
        "guid": row.text("guid")?,
        "name": row.text("name")?,
        "command": row.text("command")?,
        "process_types": row.texts("process_types")?,
        "memory_in_mb": row.maybe_int("memory_mb")?,
        "origin": row.text("origin")?,
        "relationships": { "app": { "data": { "guid": row.text("app_guid")? } } },
        "created_at": row.moment("created_at")?.to_rfc3339(),
        "updated_at": row.moment("updated_at")?.to_rfc3339(),
    }))
}
