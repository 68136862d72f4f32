//! `/v3/apps`: create, read, change, delete; start, stop, restart.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};
use sql::Connection;

use crate::Cc;
use crate::actions::apps as actions;
use crate::auth::Caller;
use crate::db::access::{self, DEVELOPERS, OPERATORS, Rights};
use crate::db::apps::{self, App, NewApp};
use crate::db::audit_events::{Event, record};
use crate::db::jobs::{self, Outcome};
use crate::db::metadata::Metadata;
use crate::db::spaces::Space;
use crate::errors::{ApiError, ApiResult, when_taken};
use crate::message::{Body, Change, Fields};
use crate::query::{Filter, List, Params};
use crate::respond;
use crate::urls::Urls;
use crate::v3::lifecycle::{self, Lifecycle};
use crate::v3::organizations;
use crate::v3::resource::{Resource, by_guids, fetch, present_one};

const KIND: &str = "app";

const LIST: List = List {
    table: "apps",
    filters: &[
        ("names", Filter::Text("apps.name")),
        ("space_guids", Filter::Text("apps.space_guid")),
        (
            "organization_guids",
            Filter::Sql("apps.space_guid IN (SELECT guid FROM spaces WHERE org_guid IN ({}))"),
        ),
        ("stacks", Filter::Sql("COALESCE(apps.stack, '') IN ({})")),
        ("lifecycle_type", Filter::Text("apps.lifecycle")),
    ],
    orders: &[("name", "apps.name"), ("state", "apps.state")],
    includes: &["space", "space.organization", "org"],
    labels: Some(KIND),
};

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/apps", get(list).post(create))
        .route("/v3/apps/{guid}", get(find).patch(update).delete(delete))
        .route("/v3/apps/{guid}/actions/start", post(start))
        .route("/v3/apps/{guid}/actions/stop", post(stop))
        .route("/v3/apps/{guid}/actions/restart", post(restart))
        .route("/v3/apps/{guid}/actions/clear_buildpack_cache", post(clear_buildpack_cache))
        .route("/v3/apps/{guid}/permissions", get(permissions))
}

/// The app, and what the caller may do with it; 404 when that is nothing. Everything below an app begins here.
pub async fn visible(
    connection: &mut Connection,
    caller: &Caller,
    guid: &str,
) -> ApiResult<(App, Rights)> {
    let app = apps::find(connection, guid).await?.ok_or_else(|| ApiError::not_found("App"))?;
    let rights = access::in_space(connection, caller, &app.space_guid).await?;
    rights.see("App")?;
    Ok((app, rights))
}

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    listing.visible(|sql| access::visible_space(sql, &caller, "apps.space_guid"));
    let mut connection = cc.db.read().await?;
    let (total, apps, resources) = fetch::<App>(&mut connection, &listing, &urls).await?;
    let included = included(&mut connection, &apps, &listing.includes, &urls).await?;
    Ok(respond::ok(listing.present(&urls, total, resources, included)))
}

async fn included(
    connection: &mut Connection,
    apps: &[App],
    wanted: &[String],
    urls: &Urls,
) -> ApiResult<BTreeMap<&'static str, Vec<Value>>> {
    let mut included = BTreeMap::new();
    if wanted.is_empty() {
        return Ok(included);
    }
    let guids: Vec<String> = apps.iter().map(|app| app.space_guid.clone()).collect();
    let spaces = by_guids::<Space>(connection, &guids, urls).await?;
    if wanted.iter().any(|name| name != "space") {
        included.insert("organizations", organizations::of_spaces(connection, &guids, urls).await?);
    }
    if wanted.iter().any(|name| name == "space") {
        included.insert("spaces", spaces);
    }
    Ok(included)
}

async fn find(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    params: Params,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    params.only(&["include"])?;
    let wanted = params.includes(LIST.includes)?;
    let mut connection = cc.db.read().await?;
    let (app, _) = visible(&mut connection, &caller, &guid).await?;
    let mut document = present_one(&mut connection, &app, &urls).await?;
    if !wanted.is_empty() {
        let included = included(&mut connection, &[app], &wanted, &urls).await?;
        document["included"] = json!(included);
    }
    Ok(respond::ok(document))
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    let mut fields = body.fields();
    let name = name(&mut fields);
    let [space] = fields.relationships(["space"]);
    let variables = fields.object("environment_variables").cloned().map(Value::Object);
    if let Some(variables) = &variables {
        lifecycle::check_variables(variables, |error| fields.error(error));
    }
    let lifecycle = lifecycle::read(&mut fields);
    let metadata = fields.metadata();
    fields.finish()?;

    let mut tx = cc.db.begin().await?;
    let rights = access::in_space(&mut tx, &caller, &space).await?;
    if !rights.can_read() {
        let detail = "Invalid space. Ensure that the space exists and you have access to it.";
        return Err(ApiError::unprocessable(detail));
    }
    rights.change("Space", DEVELOPERS)?;
    let lifecycle = lifecycle.unwrap_or_else(|| Lifecycle::buildpack(cc.config.default_stack()));
    lifecycle.check(&mut tx).await?;
    let new = NewApp {
        name,
        space_guid: space,
        stack: lifecycle.stack_or(cc.config.default_stack()),
        lifecycle: lifecycle.kind,
        buildpacks: lifecycle.buildpacks.unwrap_or_default(),
        sealed_env: variables.as_ref().map(|variables| cc.seal.seal_json(variables)),
    };
    let app = actions::create(
        &cc,
        &mut tx,
        &caller,
        &new,
        &metadata,
        body.redacted(&["environment_variables"]),
    )
    .await?;
    let document = present_one(&mut tx, &app, &urls).await?;
    let names = apps::names(&mut tx, &app.guid).await?;
    tx.commit().await?;
    cc.api_log(&names, &format!("Created app with guid {}", app.guid));
    Ok(respond::created(document))
}

fn name(fields: &mut Fields<'_>) -> String {
    let name = fields.required_text("name");
    if name.chars().count() > 255 {
        fields.error("Name is too long (maximum is 255 characters)");
    }
    name
}

/// What another app of the same name in the space is answered with.
pub fn name_taken(name: &str) -> ApiError {
    ApiError::taken(format!("App with the name '{name}' already exists."))
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut fields = body.fields();
    let new_name = fields.has("name").then(|| name(&mut fields));
    let lifecycle = lifecycle::read(&mut fields);
    let metadata = fields.metadata();
    fields.finish()?;

    let mut tx = cc.db.begin().await?;
    let (app, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.change("App", DEVELOPERS)?;
    let mut set = Vec::new();
    if let Some(lifecycle) = lifecycle {
        if lifecycle.kind != app.lifecycle {
            return Err(ApiError::unprocessable("Lifecycle type cannot be changed"));
        }
        lifecycle.check(&mut tx).await?;
        if let Some(buildpacks) = &lifecycle.buildpacks {
            set.push(("buildpacks", buildpacks.into()));
        }
        match &lifecycle.stack {
            Change::Keep => {}
            Change::Clear => set.push(("stack", cc.config.default_stack().into())),
            Change::Set(stack) => set.push(("stack", stack.into())),
        }
    }
    if let Some(name) = &new_name {
        set.push(("name", name.into()));
    }
    let renamed = new_name.as_ref().is_some_and(|name| *name != app.name);
    let updated = apps::update(&mut tx, cc.now(), &guid, set).await;
    updated
        .map_err(|error| when_taken(error, name_taken(new_name.as_deref().unwrap_or_default())))?;
    crate::v3::common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    if renamed {
        // Its tags carry the name.
        crate::db::processes::app_changed(&mut tx, &guid).await?;
    }
    let app = apps::find(&mut tx, &guid).await?.ok_or_else(|| ApiError::not_found("App"))?;
    let request = body.redacted(&[]);
    actions::audit(&cc, &mut tx, &caller, "audit.app.update", &app, json!({ "request": request }))
        .await?;
    let document = present_one(&mut tx, &app, &urls).await?;
    let names = apps::names(&mut tx, &guid).await?;
    tx.commit().await?;
    cc.nsync.poke();
    cc.api_log(&names, &format!("Updated app with guid {guid} ({request})"));
    Ok(respond::ok(document))
}

async fn delete(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let (app, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.change("App", DEVELOPERS)?;
    let names = apps::names(&mut tx, &guid).await?;
    actions::delete(&cc, &mut tx, &caller, &app).await?;
    let job =
        jobs::insert(&mut tx, cc.now(), "app.delete", ("app", &guid), &Outcome::Complete).await?;
    tx.commit().await?;
    cc.apps_gone();
    cc.api_log(&names, &format!("Deleted app with guid {guid}"));
    Ok(respond::job(&urls, &job))
}

async fn start(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    turn(&cc, &caller, &urls, &guid, actions::Turn::Start).await
}

async fn stop(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    turn(&cc, &caller, &urls, &guid, actions::Turn::Stop).await
}

async fn restart(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    turn(&cc, &caller, &urls, &guid, actions::Turn::Restart).await
}

async fn turn(
    cc: &Cc,
    caller: &Caller,
    urls: &Urls,
    guid: &str,
    turn: actions::Turn,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let (app, rights) = visible(&mut tx, caller, guid).await?;
    rights.change("App", OPERATORS)?;
    let names = apps::names(&mut tx, guid).await?;
    let turned = actions::turn(cc, &mut tx, caller, &app, turn).await;
    let app = turned.inspect_err(|error| {
        let what = if turn == actions::Turn::Stop { "stop" } else { "start" };
        cc.tell_refusal(&names, "API", &format!("Failed to {what} app"), error);
    })?;
    let document = present_one(&mut tx, &app, urls).await?;
    tx.commit().await?;
    cc.nsync.poke();
    cc.api_log(&names, &format!("{} app with guid {guid}", turn.spoken()));
    Ok(respond::ok(document))
}

async fn clear_buildpack_cache(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let (app, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.change("App", OPERATORS)?;
    crate::db::update(&mut tx, "apps", &guid, vec![("buildpack_cache", None::<String>.into())])
        .await?;
    let event = Event {
        kind: "audit.app.clear_buildpack_cache",
        actor: (&caller).into(),
        target: (&guid, KIND, &app.name),
        space_guid: Some(&app.space_guid),
        org_guid: None,
        data: json!({}),
    };
    record(&mut tx, cc.now(), event).await?;
    let job = jobs::insert(
        &mut tx,
        cc.now(),
        "app.clear_buildpack_cache",
        ("app", &guid),
        &Outcome::Complete,
    )
    .await?;
    tx.commit().await?;
    Ok(respond::job(&urls, &job))
}

async fn permissions(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    let (_, rights) = visible(&mut connection, &caller, &guid).await?;
    let sensitive = rights.can_read_secrets();
    Ok(respond::ok(json!({ "read_basic_data": true, "read_sensitive_data": sensitive })))
}

impl Resource for App {
    const KIND: &'static str = KIND;

    fn guid(&self) -> &str {
        &self.guid
    }

    fn present(&self, metadata: &Metadata, urls: &Urls) -> Value {
        let own = format!("apps/{}", self.guid);
        let link = |rest: &str| urls.link(&format!("{own}/{rest}"));
        let droplet = self.droplet_guid.as_ref().map(|guid| json!({ "guid": guid }));
        json!({
            "guid": self.guid,
            "created_at": self.created_at.to_rfc3339(),
            "updated_at": self.updated_at.to_rfc3339(),
            "name": self.name,
            "state": self.state,
            "lifecycle": lifecycle::present(&self.lifecycle, &self.buildpacks, self.stack.as_deref()),
            "relationships": {
                "space": { "data": { "guid": self.space_guid } },
                "current_droplet": { "data": droplet },
            },
            "metadata": metadata.to_json(),
            "links": {
                "self": urls.link(&own),
                "environment_variables": link("environment_variables"),
                "space": urls.link(&format!("spaces/{}", self.space_guid)),
                "processes": link("processes"),
                "packages": link("packages"),
                "current_droplet": link("droplets/current"),
                "droplets": link("droplets"),
                "tasks": link("tasks"),
                "start": urls.action(&format!("{own}/actions/start"), "POST"),
                "stop": urls.action(&format!("{own}/actions/stop"), "POST"),
                "clear_buildpack_cache": urls.action(&format!("{own}/actions/clear_buildpack_cache"), "POST"),
                "revisions": link("revisions"),
                "deployed_revisions": link("revisions/deployed"),
                "features": link("features"),
            },
        })
    }
}
