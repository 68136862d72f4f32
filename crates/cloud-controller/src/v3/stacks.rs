//! `/v3/stacks`: root file systems that apps run on.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use base::Timestamp;
use serde_json::{Value, json};
use sql::Connection;

use super::common;
use crate::Cc;
use crate::auth::Caller;
use crate::db::apps::App;
use crate::db::metadata::{self, Metadata};
use crate::db::{self, Columns as _, Row, access, query};
use crate::errors::{ApiError, ApiResult, when_taken};
use crate::message::{Body, Fields};
use crate::query::{Filter, List, Params};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/stacks", get(list).post(create))
        .route("/v3/stacks/{guid}", get(find).patch(update).delete(delete))
        .route("/v3/stacks/{guid}/apps", get(apps_on))
}

const KIND: &str = "stack";
const STATES: &[&str] = &["ACTIVE", "RESTRICTED", "DEPRECATED", "DISABLED"];

const LIST: List = List {
    table: "stacks",
    filters: &[("names", Filter::Text("stacks.name")), ("default", Filter::Own)],
    orders: &[("name", "stacks.name")],
    includes: &[],
    labels: Some(KIND),
};

const APPS: List = List {
    table: "apps",
    filters: &[
        ("names", Filter::Text("apps.name")),
        ("space_guids", Filter::Text("apps.space_guid")),
        (
            "organization_guids",
            Filter::Sql("apps.space_guid IN (SELECT guid FROM spaces WHERE org_guid IN ({}))"),
        ),
    ],
    orders: &[("name", "apps.name"), ("state", "apps.state")],
    includes: &[],
    labels: Some("app"),
};

struct Stack {
    guid: String,
    name: String,
    description: Option<String>,
    state: String,
    state_reason: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

fn read(row: &Row) -> db::Result<Stack> {
    Ok(Stack {
        guid: row.text("guid")?,
        name: row.text("name")?,
        description: row.maybe_text("description")?,
        state: row.text("state")?,
        state_reason: row.maybe_text("state_reason")?,
        created_at: row.moment("created_at")?,
        updated_at: row.moment("updated_at")?,
    })
}

async fn list(cc: Cc, _: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    let wanted = match listing.params.get("default") {
        None => None,
        Some("true") => Some("="),
        Some("false") => Some("<>"),
        Some(_) => return Err(ApiError::bad_query("Default must be 'true' or 'false'")),
    };
    if let Some(operator) = wanted {
        let name = listing.sql().arg(cc.config.default_stack());
        listing.condition(format!("stacks.name {operator} {name}"));
    }
    let mut connection = cc.db.read().await?;
    let page = listing.fetch(&mut connection, "stacks.*", "stacks").await?;
    let found = page.items.iter().map(read).collect::<db::Result<Vec<_>>>()?;
    let guids: Vec<String> = found.iter().map(|stack| stack.guid.clone()).collect();
    let metadata = metadata::load(&mut connection, KIND, &guids).await?;
    let none = Metadata::default();
    let one =
        |stack: &Stack| present(&cc, stack, metadata.get(&stack.guid).unwrap_or(&none), &urls);
    let resources = found.iter().map(one).collect();
    Ok(respond::ok(listing.present(&urls, page.total, resources, BTreeMap::new())))
}

fn read_state(fields: &mut Fields<'_>) -> Option<String> {
    let state = fields.text("state");
    if state.as_deref().is_some_and(|state| !STATES.contains(&state)) {
        fields.error(format!("State must be one of {}", STATES.join(", ")));
    }
    state
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    caller.require_admin()?;
    let mut fields = body.fields();
    let name = fields.required_text("name");
    let description = fields.text("description");
    if name.chars().count() > 250 {
        fields.error("Name is too long (maximum is 250 characters)");
    }
    let (state, reason) = (read_state(&mut fields), fields.text("state_reason"));
    let metadata = fields.metadata();
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let columns = vec![
        ("name", (&name).into()),
        ("description", description.into()),
        ("state", state.unwrap_or_else(|| "ACTIVE".to_owned()).into()),
        ("state_reason", reason.into()),
    ];
    let made = db::insert_new(&mut tx, cc.now(), "stacks", columns).await;
    let taken = ApiError::unprocessable("Name must be unique");
    let guid = made.map_err(|cause| when_taken(cause, taken))?;
    common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    let document = document(&cc, &mut tx, &urls, &guid).await?;
    tx.commit().await?;
    Ok(respond::created(document))
}

async fn expect(connection: &mut Connection, guid: &str) -> ApiResult<Stack> {
    let row =
        query("SELECT * FROM stacks WHERE guid = $1", [guid.into()]).optional(connection).await?;
    Ok(read(&row.ok_or_else(|| ApiError::not_found("Stack"))?)?)
}

async fn find(cc: Cc, _: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    Ok(respond::ok(document(&cc, &mut *cc.db.read().await?, &urls, &guid).await?))
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    caller.require_admin()?;
    let mut tx = cc.db.begin().await?;
    expect(&mut tx, &guid).await?;
    let mut fields = body.fields();
    let (state, reason) = (read_state(&mut fields), fields.change_text("state_reason"));
    let metadata = fields.metadata();
    fields.finish()?;
    let mut set = Vec::new();
    set.extend(state.map(|state| ("state", state.into())));
    match reason {
        crate::message::Change::Keep => {}
        change => set.push(("state_reason", change.over(None).into())),
    }
    db::change(&mut tx, cc.now(), "stacks", &guid, set).await?;
    common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    let document = document(&cc, &mut tx, &urls, &guid).await?;
    tx.commit().await?;
    Ok(respond::ok(document))
}

async fn delete(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    caller.require_admin()?;
    let mut tx = cc.db.begin().await?;
    let stack = expect(&mut tx, &guid).await?;
    let used = query("SELECT guid FROM apps WHERE stack = $1 LIMIT 1", [(&stack.name).into()]);
    if used.optional(&mut tx).await?.is_some() {
        let detail = format!(
            "Cannot delete stack '{}' because apps are currently using the stack.",
            stack.name
        );
        return Err(ApiError::unprocessable(detail));
    }
    metadata::remove(&mut tx, KIND, &guid).await?;
    db::delete(&mut tx, "stacks", "guid", &guid).await?;
    tx.commit().await?;
    Ok(respond::no_content())
}

async fn apps_on(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    let mut listing = APPS.read(params)?;
    let mut connection = cc.db.read().await?;
    let stack = expect(&mut connection, &guid).await?;
    listing.equals("apps.stack", &stack.name);
    listing.visible(|sql| access::visible_space(sql, &caller, "apps.space_guid"));
    super::resource::page::<App>(&mut connection, &listing, &urls).await
}

async fn document(
    cc: &Cc,
    connection: &mut Connection,
    urls: &Urls,
    guid: &str,
) -> ApiResult<Value> {
    let stack = expect(connection, guid).await?;
    let metadata = metadata::load_one(connection, KIND, guid).await?;
    Ok(present(cc, &stack, &metadata, urls))
}

fn present(cc: &Cc, stack: &Stack, metadata: &Metadata, urls: &Urls) -> Value {
    json!({
        "guid": stack.guid,
        "created_at": stack.created_at.to_rfc3339(),
        "updated_at": stack.updated_at.to_rfc3339(),
        "name": stack.name,
        "description": stack.description,
        "state": stack.state,
        "state_reason": stack.state_reason,
        "run_rootfs_image": stack.name,
        "build_rootfs_image": stack.name,
        "default": stack.name == cc.config.default_stack(),
        "metadata": metadata.to_json(),
        "links": { "self": urls.link(&format!("stacks/{}", stack.guid)) },
    })
}
