//! `/v3/processes` and `/v3/apps/:guid/processes`: read, change, scale.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use sql::Connection;

use crate::auth::Caller;
use crate::db::access::{self, OPERATORS, Rights};
use crate::db::apps::{self, App};
use crate::db::deployments;
use crate::db::feature_flags;
use crate::db::metadata::Metadata;
use crate::db::processes::{self, HealthCheck, Process, WEB};
use crate::errors::{ApiError, ApiResult, Kind};
use crate::message::{Body, Change, Fields};
use crate::query::{Filter, List, Listing, Params};
use crate::urls::Urls;
use crate::v3::process_stats;
use crate::v3::resource::{Resource, fetch, present_one};
use crate::{Cc, actions, respond};

const KIND: &str = "process";
const MAX_INT: i64 = i32::MAX as i64;
/// What lists show in place of a command.
const HIDDEN: &str = "[PRIVATE DATA HIDDEN IN LISTS]";

const LIST: List = List {
    table: "processes",
    filters: &[
        ("types", Filter::Text("processes.type")),
        ("app_guids", Filter::Text("processes.app_guid")),
        ("space_guids", Filter::Text("a.space_guid")),
        (
            "organization_guids",
            Filter::Sql("a.space_guid IN (SELECT guid FROM spaces WHERE org_guid IN ({}))"),
        ),
        ("embed", Filter::Own),
    ],
    orders: &[],
    includes: &[],
    labels: Some(KIND),
};

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/processes", get(list))
        .route("/v3/processes/{guid}", get(find).patch(update))
        .route("/v3/processes/{guid}/actions/scale", post(scale))
        .route("/v3/apps/{guid}/processes", get(list_of_app))
        .route("/v3/apps/{guid}/processes/{type}", get(find).patch(update))
        .route("/v3/apps/{guid}/processes/{type}/actions/scale", post(scale))
        .merge(process_stats::routes())
}

fn not_found() -> ApiError {
    ApiError::not_found("Process")
}

/// How a path names a process: by its own guid, or by its app's and its type.
#[derive(Debug, Deserialize)]
pub struct Named {
    guid: String,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// The process, and what the caller may do with it; 404 when that is nothing.
pub async fn visible(
    connection: &mut Connection,
    caller: &Caller,
    Named { guid, kind }: &Named,
) -> ApiResult<(Process, Rights)> {
    if let Some(kind) = kind {
        let (_, rights) = crate::v3::apps::visible(connection, caller, guid).await?;
        let process = processes::find_by_type(connection, guid, kind).await?;
        return Ok((process.ok_or_else(not_found)?, rights));
    }
    let process = processes::find(connection, guid).await?.ok_or_else(not_found)?;
    let rights = access::in_space(connection, caller, &process.space_guid).await?;
    rights.see("Process")?;
    Ok((process, rights))
}

/// Whether instances are asked for; then what runs is known, or waited for.
///
/// # Errors
/// 10005 for anything but `embed=process_instances`; 200002 when Diego is not heard.
async fn embedded(cc: &Cc, params: &Params) -> ApiResult<bool> {
    match params.get("embed") {
        None => Ok(false),
        Some("process_instances") => process_stats::heard(cc).await.map(|()| true),
        Some(other) => Err(ApiError::bad_query(&format!(
            "Invalid embedded resource: '{other}'. Valid embedded resources are: 'process_instances'"
        ))),
    }
}

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    listing.visible(|sql| access::visible_space(sql, &caller, "a.space_guid"));
    let embed = embedded(&cc, &listing.params).await?;
    let mut connection = cc.db.read().await?;
    answer(&cc, &mut connection, &listing, &urls, embed).await
}

async fn list_of_app(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    params: Params,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    let embed = embedded(&cc, &listing.params).await?;
    let mut connection = cc.db.read().await?;
    crate::v3::apps::visible(&mut connection, &caller, &guid).await?;
    listing.equals("processes.app_guid", &guid);
    answer(&cc, &mut connection, &listing, &urls, embed).await
}

async fn answer(
    cc: &Cc,
    connection: &mut Connection,
    listing: &Listing,
    urls: &Urls,
    embed: bool,
) -> ApiResult<Response> {
    let (total, found, mut documents) = fetch::<Process>(connection, listing, urls).await?;
    for (process, document) in found.iter().zip(&mut documents) {
        if document["command"].is_string() {
            document["command"] = HIDDEN.into();
        }
        if embed {
            document["process_instances"] = process_stats::instances(cc, process);
        }
    }
    Ok(respond::ok(listing.present(urls, total, documents, BTreeMap::new())))
}

async fn find(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    params: Params,
    Path(named): Path<Named>,
) -> ApiResult<Response> {
    params.only(&["embed"])?;
    let embed = embedded(&cc, &params).await?;
    let mut connection = cc.db.read().await?;
    let (process, rights) = visible(&mut connection, &caller, &named).await?;
    let mut document = present_one(&mut connection, &process, &urls).await?;
    if !rights.can_read_secrets() && document["command"].is_string() {
        document["command"] = crate::REDACTED.into();
    }
    if embed {
        document["process_instances"] = process_stats::instances(&cc, &process);
    }
    Ok(respond::ok(document))
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(named): Path<Named>,
    body: Body,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let (process, rights) = visible(&mut tx, &caller, &named).await?;
    rights.change("Process", OPERATORS)?;
    let mut fields = body.fields();
    let patch = Patch::read(&mut fields);
    let metadata = fields.metadata();
    fields.finish()?;
    let app = app_of(&mut tx, &process).await?;
    if process.kind == WEB && deployments::is_deploying(&mut tx, &app.guid).await? {
        let detail = "Cannot update this process while a deployment is in flight.";
        return Err(Kind::ProcessUpdateDisabledDuringDeployment.with(detail));
    }
    if apply(&cc, &mut tx, &process, patch).await? && process.app_started {
        processes::renew(&mut tx, cc.now(), &process).await?;
    }
    crate::v3::common::write_metadata(&mut tx, KIND, &process.guid, &metadata).await?;
    let request = body.redacted(&["command", "environment_variables"]);
    let data =
        json!({ "process_guid": process.guid, "process_type": process.kind, "request": request });
    actions::apps::audit(&cc, &mut tx, &caller, "audit.app.process.update", &app, data).await?;
    let process = processes::find(&mut tx, &process.guid).await?.ok_or_else(not_found)?;
    let document = present_one(&mut tx, &process, &urls).await?;
    tx.commit().await?;
    cc.nsync.poke();
    Ok(respond::ok(document))
}

async fn app_of(connection: &mut Connection, process: &Process) -> ApiResult<App> {
    apps::find(connection, &process.app_guid).await?.ok_or_else(|| ApiError::not_found("App"))
}

/// What of a process can be changed besides its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    pub command: Change<String>,
    pub user: Change<String>,
    pub health: HealthPatch,
    pub readiness: HealthPatch,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthPatch {
    pub kind: Option<String>,
    pub endpoint: Change<String>,
    pub timeout: Change<i64>,
    pub invocation_timeout: Change<i64>,
    pub interval: Change<i64>,
}

impl Patch {
    pub fn read(fields: &mut Fields<'_>) -> Patch {
        let command = fields.change_text("command");
        if let Change::Set(text) = &command
            && !(1..=4096).contains(&text.chars().count())
        {
            fields.error("Command must be between 1 and 4096 characters");
        }
        let user = fields.change_text("user");
        if let Change::Set(text) = &user
            && !(1..=255).contains(&text.chars().count())
        {
            fields.error("User must be between 1 and 255 characters");
        }
        let health = fields
            .inside("health_check", |check| HealthPatch::read(check, true))
            .unwrap_or_default();
        let readiness = fields
            .inside("readiness_health_check", |check| HealthPatch::read(check, false))
            .unwrap_or_default();
        Patch { command, user, health, readiness }
    }
}

impl HealthPatch {
    fn read(check: &mut Fields<'_>, liveness: bool) -> HealthPatch {
        let kind = check.text("type");
        if kind.as_ref().is_some_and(|kind| !["port", "process", "http"].contains(&kind.as_str())) {
            check.error("type must be \"port\", \"process\", or \"http\"");
        }
        let data = check.inside("data", |data| {
            let endpoint = data.change_text("endpoint");
            if let Change::Set(path) = &endpoint
                && (!path.starts_with('/')
                    || path.len() > 255
                    || path.chars().any(char::is_whitespace))
            {
                data.error("endpoint must be a valid URI path");
            }
            let timeout =
                if liveness { data.change_int("timeout", 1..=MAX_INT) } else { Change::Keep };
            HealthPatch {
                kind: None,
                endpoint,
                timeout,
                invocation_timeout: data.change_int("invocation_timeout", 1..=MAX_INT),
                interval: data.change_int("interval", 1..=MAX_INT),
            }
        });
        HealthPatch { kind, ..data.unwrap_or_default() }
    }

    fn over(self, before: &HealthCheck) -> HealthCheck {
        let kind = self.kind.unwrap_or_else(|| before.kind.clone());
        let endpoint = self.endpoint.over(before.endpoint.clone());
        // An http check has a path, any other none.
        let endpoint = (kind == "http").then(|| endpoint.unwrap_or_else(|| "/".to_owned()));
        HealthCheck {
            kind,
            endpoint,
            timeout: self.timeout.over(before.timeout),
            invocation_timeout: self.invocation_timeout.over(before.invocation_timeout),
            interval: self.interval.over(before.interval),
        }
    }
}

/// Writes a change; answers whether another check decides about the instances' health, so that they must be made anew.
pub async fn apply(
    cc: &Cc,
    connection: &mut Connection,
    process: &Process,
    patch: Patch,
) -> ApiResult<bool> {
    let health = patch.health.over(&process.health);
    let readiness = patch.readiness.over(&process.readiness);
    let anew = health.kind != process.health.kind || health.endpoint != process.health.endpoint;
    let set = vec![
        ("command", patch.command.over(process.command.clone()).into()),
        ("run_as", patch.user.over(process.run_as.clone()).into()),
        ("health_check_type", health.kind.into()),
        ("health_check_endpoint", health.endpoint.into()),
        ("health_check_timeout", health.timeout.into()),
        ("health_check_invocation_timeout", health.invocation_timeout.into()),
        ("health_check_interval", health.interval.into()),
        ("readiness_type", readiness.kind.into()),
        ("readiness_endpoint", readiness.endpoint.into()),
        ("readiness_invocation_timeout", readiness.invocation_timeout.into()),
        ("readiness_interval", readiness.interval.into()),
    ];
    processes::update(connection, cc.now(), &process.guid, set).await?;
    Ok(anew)
}

/// What of a process's size is to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    pub instances: Option<i64>,
    pub memory_mb: Option<i64>,
    pub disk_mb: Option<i64>,
    pub log_rate: Option<i64>,
}

impl Scale {
    pub fn read(fields: &mut Fields<'_>) -> Scale {
        Scale {
            instances: fields.int("instances", 0..=MAX_INT),
            memory_mb: fields.int("memory_in_mb", 1..=MAX_INT),
            disk_mb: fields.int("disk_in_mb", 1..=MAX_INT),
            log_rate: fields.int("log_rate_limit_in_bytes_per_second", -1..=i64::MAX),
        }
    }
}

async fn scale(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(named): Path<Named>,
    body: Body,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let (process, rights) = visible(&mut tx, &caller, &named).await?;
    rights.change("Process", OPERATORS)?;
    let mut fields = body.fields();
    let scale = Scale::read(&mut fields);
    fields.finish()?;
    feature_flags::require(&mut tx, &caller, "app_scaling").await?;
    let app = app_of(&mut tx, &process).await?;
    if process.kind == WEB && deployments::is_deploying(&mut tx, &app.guid).await? {
        let detail = "Cannot scale this process while a deployment is in flight.";
        return Err(Kind::ScaleDisabledDuringDeployment.with(detail));
    }
    actions::scale::run(&cc, &mut tx, &process, scale).await?;
    let data = json!({ "process_guid": process.guid, "process_type": process.kind, "request": body.redacted(&[]) });
    actions::apps::audit(&cc, &mut tx, &caller, "audit.app.process.scale", &app, data).await?;
    let process = processes::find(&mut tx, &process.guid).await?.ok_or_else(not_found)?;
    let document = present_one(&mut tx, &process, &urls).await?;
    tx.commit().await?;
    cc.nsync.poke();
    Ok(respond::accepted(document))
}

impl Resource for Process {
    const KIND: &'static str = KIND;

    fn guid(&self) -> &str {
        &self.guid
    }

    fn present(&self, metadata: &Metadata, urls: &Urls) -> Value {
        let own = format!("processes/{}", self.guid);
        let link = |rest: &str| urls.link(&format!("{own}/{rest}"));
        let revision = self.revision_guid.as_ref().map(|guid| json!({ "data": { "guid": guid } }));
        json!({
            "guid": self.guid,
            "created_at": self.created_at.to_rfc3339(),
            "updated_at": self.updated_at.to_rfc3339(),
            "version": self.version,
            "type": self.kind,
            "command": self.start_command(),
            "user": self.run_as.as_deref().unwrap_or("vcap"),
            "instances": self.instances,
            "memory_in_mb": self.memory_mb,
            "disk_in_mb": self.disk_mb,
            "log_rate_limit_in_bytes_per_second": self.log_rate,
            "health_check": present_check(&self.health, true),
            "readiness_health_check": present_check(&self.readiness, false),
            "relationships": { "app": { "data": { "guid": self.app_guid } }, "revision": revision },
            "metadata": metadata.to_json(),
            "links": {
                "self": urls.link(&own),
                "scale": urls.action(&format!("{own}/actions/scale"), "POST"),
                "app": urls.link(&format!("apps/{}", self.app_guid)),
                "space": urls.link(&format!("spaces/{}", self.space_guid)),
                "stats": link("stats"),
                "process_instances": link("process_instances"),
            },
        })
    }
}

fn present_check(check: &HealthCheck, liveness: bool) -> Value {
    let mut data =
        json!({ "invocation_timeout": check.invocation_timeout, "interval": check.interval });
    if liveness {
        data["timeout"] = check.timeout.into();
    }
    if check.kind == "http" {
        data["endpoint"] = check.endpoint.clone().into();
    }
    json!({ "type": check.kind, "data": data })
}
