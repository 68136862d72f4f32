//! `/v3/builds`: stage a package.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use sql::Connection;

use crate::auth::Caller;
use crate::bridge::staging;
use crate::db::access::{self, DEVELOPERS, OPERATORS, Rights};
use crate::db::apps::{self, App};
use crate::db::builds::{self, Build, STAGING};
use crate::db::droplets;
use crate::db::metadata::{self, Metadata};
use crate::db::packages::READY;
use crate::db::usage_events;
use crate::errors::{ApiError, ApiResult, Kind};
use crate::message::{Body, Change};
use crate::query::{Filter, List, Listing, Params};
use crate::urls::Urls;
use crate::v3::lifecycle::{self, DOCKER};
use crate::{Cc, actions, respond};

const KIND: &str = "build";
const FROM: &str = "builds JOIN apps a ON a.guid = builds.app_guid";
const MAX_INT: i64 = i32::MAX as i64;

const LIST: List = List {
    table: "builds",
    filters: &[
        ("states", Filter::Text("builds.state")),
        ("app_guids", Filter::Text("builds.app_guid")),
        ("package_guids", Filter::Text("builds.package_guid")),
    ],
    orders: &[],
    includes: &[],
    labels: Some(KIND),
};

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/builds", get(list).post(create))
        .route("/v3/builds/{guid}", get(find).patch(update))
        .route("/v3/apps/{guid}/builds", get(list_of_app))
}

async fn visible(
    connection: &mut Connection,
    caller: &Caller,
    guid: &str,
) -> ApiResult<(Build, Rights)> {
    let not_found = || ApiError::not_found("Build");
    let build = builds::find(connection, guid).await?.ok_or_else(not_found)?;
    let app = apps::find(connection, &build.app_guid).await?.ok_or_else(not_found)?;
    let rights = access::in_space(connection, caller, &app.space_guid).await?;
    rights.see("Build")?;
    Ok((build, rights))
}

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    listing.visible(|sql| access::visible_space(sql, &caller, "a.space_guid"));
    answer(&mut *cc.db.read().await?, &listing, &urls).await
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
    crate::v3::apps::visible(&mut connection, &caller, &guid).await?;
    listing.equals("builds.app_guid", &guid);
    answer(&mut connection, &listing, &urls).await
}

async fn answer(
    connection: &mut Connection,
    listing: &Listing,
    urls: &Urls,
) -> ApiResult<Response> {
    let page = listing.fetch(connection, "builds.*", FROM).await?;
    let found: Vec<Build> = page.items.iter().map(builds::read).collect::<Result<_, _>>()?;
    let guids: Vec<String> = found.iter().map(|build| build.guid.clone()).collect();
    let metadata = metadata::load(connection, KIND, &guids).await?;
    let none = Metadata::default();
    let show = |build: &Build| present(build, metadata.get(&build.guid).unwrap_or(&none), urls);
    Ok(respond::ok(listing.present(
        urls,
        page.total,
        found.iter().map(show).collect(),
        BTreeMap::new(),
    )))
}

/// Held until the build has ended: whoever asks wants to know just that.
async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let look = || load(cc.clone(), caller.clone(), guid.clone());
    let build = cc.changes.hold(&guid, cc.config.limits.hold, look, Build::is_final).await?;
    Ok(respond::ok(present_one(&mut *cc.db.read().await?, &build, &urls).await?))
}

async fn load(cc: Cc, caller: Caller, guid: String) -> ApiResult<Build> {
    Ok(visible(&mut *cc.db.read().await?, &caller, &guid).await?.0)
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    let mut fields = body.fields();
    let package = fields.inside("package", |package| package.required_text("guid"));
    if package.is_none() && !fields.has("package") {
        fields.error("Package guid can't be blank");
    }
    let memory = fields.int("staging_memory_in_mb", 1..=MAX_INT);
    let disk = fields.int("staging_disk_in_mb", 1..=MAX_INT);
    let log_rate = fields.int("staging_log_rate_limit_bytes_per_second", -1..=i64::MAX);
    let lifecycle = lifecycle::read(&mut fields);
    let metadata = fields.metadata();
    fields.finish()?;

    let mut tx = cc.db.begin().await?;
    let unknown = |_| {
        ApiError::unprocessable(
            "Unable to use package. Ensure that the package exists and you have access to it.",
        )
    };
    let found = crate::v3::packages::visible(&mut tx, &caller, &package.unwrap_or_default()).await;
    let (package, app, rights) = found.map_err(unknown)?;
    rights.change("Package", OPERATORS)?;
    if package.state != READY {
        return Err(ApiError::bad_request("Cannot stage package whose state is not ready."));
    }
    if builds::is_staging(&mut tx, &app.guid).await? {
        return Err(Kind::StagingInProgress
            .with("Only one build can be STAGING at a time per application."));
    }
    let kind =
        lifecycle.as_ref().map_or(app.lifecycle.as_str(), |lifecycle| lifecycle.kind.as_str());
    if kind == DOCKER || package.kind == DOCKER {
        return Err(Kind::StagerError.with("Stager error: images cannot be staged yet"));
    }
    let mut stack = app.stack.clone();
    let mut buildpacks = app.buildpacks.clone();
    if let Some(lifecycle) = &lifecycle {
        lifecycle.check(&mut tx).await?;
        if let Change::Set(own) = &lifecycle.stack {
            stack = Some(own.clone());
        }
        buildpacks = lifecycle.buildpacks.clone().unwrap_or(buildpacks);
    }
    let (now, limits) = (cc.now(), &cc.config.limits);
    let kind = kind.to_owned();
    let columns = vec![("package_guid", (&package.guid).into()), ("stack", (&stack).into())];
    let droplet = droplets::insert(&mut tx, now, &app.guid, "STAGING", &kind, columns).await?;
    let build = Build {
        guid: base::new_guid(),
        app_guid: app.guid.clone(),
        package_guid: package.guid,
        droplet_guid: Some(droplet.clone()),
        state: STAGING.to_owned(),
        error_id: None,
        error_description: None,
        lifecycle: kind,
        stack,
        buildpacks,
        memory_mb: memory.unwrap_or(limits.staging_memory_mb),
        disk_mb: disk.unwrap_or(limits.staging_disk_mb),
        log_rate: log_rate.unwrap_or(limits.app_log_rate),
        created_by: (caller.guid.clone(), caller.name.clone(), caller.email.clone()),
        created_at: now,
        updated_at: now,
    };
    builds::insert(&mut tx, &build).await?;
    usage_events::record_staging(&mut tx, now, "STAGING_STARTED", &build, &Value::Null).await?;
    droplets::update(&mut tx, now, &droplet, vec![("build_guid", (&build.guid).into())]).await?;
    metadata::apply(&mut tx, KIND, &build.guid, &metadata).await?;
    let recipe = staging::recipe(&cc, &mut tx, build.clone()).await?;
    audit_create(&cc, &mut tx, &caller, &app, &build).await?;
    let document = present_one(&mut tx, &build, &urls).await?;
    let names = apps::names(&mut tx, &app.guid).await?;
    tx.commit().await?;
    cc.api_log(&names, &format!("Creating build for app with guid {}", app.guid));

    if let Err(error) = staging::desire(&cc, &recipe).await {
        staging::fail(
            &cc,
            &build,
            "StagerUnavailable",
            "Stager is unavailable: Diego does not answer",
        )
        .await?;
        return Err(Kind::StagerUnavailable.with(format!("Stager is unavailable: {error}")));
    }
    Ok(respond::created(document))
}

async fn audit_create(
    cc: &Cc,
    tx: &mut Connection,
    caller: &Caller,
    app: &App,
    build: &Build,
) -> ApiResult<()> {
    let data = json!({ "build_guid": build.guid, "package_guid": build.package_guid });
    actions::apps::audit(cc, tx, caller, "audit.app.build.create", app, data).await?;
    Ok(())
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut fields = body.fields();
    let metadata = fields.metadata();
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let (build, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.change("Build", DEVELOPERS)?;
    metadata::apply(&mut tx, KIND, &guid, &metadata).await?;
    let document = present_one(&mut tx, &build, &urls).await?;
    tx.commit().await?;
    Ok(respond::ok(document))
}

async fn present_one(connection: &mut Connection, build: &Build, urls: &Urls) -> ApiResult<Value> {
    let metadata = metadata::load_one(connection, KIND, &build.guid).await?;
    Ok(present(build, &metadata, urls))
}

fn present(build: &Build, metadata: &Metadata, urls: &Urls) -> Value {
    let droplet = build.droplet_guid.as_ref().filter(|_| build.state == builds::STAGED);
    let mut links = json!({
        "self": urls.link(&format!("builds/{}", build.guid)),
        "app": urls.link(&format!("apps/{}", build.app_guid)),
    });
    if let Some(guid) = droplet {
        links["droplet"] = urls.link(&format!("droplets/{guid}"));
    }
    let parts: Vec<&str> = [&build.error_id, &build.error_description]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let error = (!parts.is_empty()).then(|| parts.join(" - "));
    json!({
        "guid": build.guid,
        "created_at": build.created_at.to_rfc3339(),
        "updated_at": build.updated_at.to_rfc3339(),
        "state": build.state,
        "staging_memory_in_mb": build.memory_mb,
        "staging_disk_in_mb": build.disk_mb,
        "staging_log_rate_limit_bytes_per_second": build.log_rate,
        "error": error,
        "lifecycle": lifecycle::present(&build.lifecycle, &build.buildpacks, build.stack.as_deref()),
        "package": { "guid": build.package_guid },
        "droplet": droplet.map(|guid| json!({ "guid": guid })),
        "created_by": { "guid": build.created_by.0, "name": build.created_by.1, "email": build.created_by.2 },
        "relationships": { "app": { "data": { "guid": build.app_guid } } },
        "metadata": metadata.to_json(),
        "links": links,
    })
}
