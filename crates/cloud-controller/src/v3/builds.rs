//! `/v3/builds`: stage a package.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use sql::Connection;

use crate::auth::Caller;
use crate::bridge::explain::Failure;
use crate::bridge::staging;
use crate::config::Limits;
use crate::db::access::OPERATORS;
use crate::db::apps::{self, App};
use crate::db::builds::{self, Build, STAGING};
use crate::db::droplets;
use crate::db::metadata::Metadata;
use crate::db::packages::{Package, READY};
use crate::db::processes::{self, Process, WEB};
use crate::db::{quota_usage, usage_events};
use crate::errors::{ApiError, ApiResult, Kind};
use crate::message::{Body, Change};
use crate::query::{Filter, List};
use crate::urls::Urls;
use crate::v3::lifecycle::{self, CNB, DOCKER};
use crate::v3::resource::{self, OfApp, Resource, present_one, visible};
use crate::{Cc, actions, respond};

const KIND: &str = "build";
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
        .route("/v3/builds", get(resource::list::<Build>).post(create))
        .route("/v3/builds/{guid}", get(find).patch(resource::update_metadata::<Build>))
        .route("/v3/apps/{guid}/builds", get(resource::list_of_app::<Build>))
}

/// Held until the build has ended: whoever asks wants to know just that.
async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let look = || load(cc.clone(), caller.clone(), guid.clone());
    let build = cc.changes.hold(&guid, cc.config.limits.hold, look, Build::is_final).await?;
    if build.state == builds::FAILED {
        let ago = cc.clock.now().since(build.updated_at);
        tokio::time::sleep(cc.config.limits.hold_failure.saturating_sub(ago)).await;
    }
    Ok(respond::ok(present_one(&mut *cc.db.read().await?, &build, &urls).await?))
}

async fn load(cc: Cc, caller: Caller, guid: String) -> ApiResult<Build> {
    Ok(visible::<Build>(&mut *cc.db.read().await?, &caller, &guid).await?.0)
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
    let found = visible::<Package>(&mut tx, &caller, &package.unwrap_or_default()).await;
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
    let kind = if package.kind == DOCKER { DOCKER } else { kind }.to_owned();
    let sizes = match allowed(&cc, &mut tx, &app, &kind, (memory, disk, log_rate)).await {
        Ok(sizes) => sizes,
        Err(error) => {
            let names = apps::names(&mut tx, &app.guid).await?;
            cc.tell_refusal(&names, "STG", "Failed to stage build", &error);
            return Err(error);
        }
    };
    let mut stack = app.stack.clone();
    let mut buildpacks = app.buildpacks.clone();
    if let Some(lifecycle) = &lifecycle {
        lifecycle.check(&mut tx).await?;
        if let Change::Set(own) = &lifecycle.stack {
            stack = Some(own.clone());
        }
        buildpacks = lifecycle.buildpacks.clone().unwrap_or(buildpacks);
    }
    let now = cc.now();
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
        memory_mb: sizes.memory_mb,
        disk_mb: sizes.disk_mb,
        log_rate: sizes.log_rate,
        created_by: (caller.guid.clone(), caller.name.clone(), caller.email.clone()),
        created_at: now,
        updated_at: now,
    };
    builds::insert(&mut tx, &build).await?;
    usage_events::record_staging(&mut tx, now, "STAGING_STARTED", &build, &Value::Null).await?;
    droplets::update(&mut tx, now, &droplet, vec![("build_guid", (&build.guid).into())]).await?;
    crate::v3::common::write_metadata(&mut tx, KIND, &build.guid, &metadata).await?;
    let recipe = staging::recipe(&cc, &mut tx, build.clone()).await?;
    audit_create(&cc, &mut tx, &caller, &app, &build).await?;
    let document = present_one(&mut tx, &build, &urls).await?;
    let names = apps::names(&mut tx, &app.guid).await?;
    tx.commit().await?;
    cc.api_log(&names, &format!("Creating build for app with guid {}", app.guid));

    if let Err(error) = staging::desire(&cc, &recipe).await {
        let description = "Stager is unavailable: Diego does not answer";
        let failure = Failure::new("StagerUnavailable", description, staging::AGAIN);
        staging::fail(&cc, &build, &failure).await?;
        return Err(Kind::StagerUnavailable.with(format!("Stager is unavailable: {error}")));
    }
    Ok(respond::created(document))
}

/// What was asked of a build: memory in MB, disk in MB, bytes of logs per second.
type Asked = (Option<i64>, Option<i64>, Option<i64>);

/// What the build may use.
///
/// # Errors
/// For what cannot be staged here, and for what the quotas do not hold.
async fn allowed(
    cc: &Cc,
    tx: &mut Connection,
    app: &App,
    kind: &str,
    asked: Asked,
) -> ApiResult<Sizes> {
    lifecycle::check_kind(tx, kind).await?;
    refuse_unsupported(kind)?;
    let web = processes::of_app(tx, &app.guid).await?;
    let web = web.iter().rfind(|process| process.kind == WEB);
    let sizes = Sizes::choose(&cc.config.limits, asked, web)?;
    quota_usage::check_staging(tx, &app.space_guid, sizes.asked_memory_mb, sizes.log_rate).await?;
    Ok(sizes)
}

/// What a build may use.
#[derive(Debug, PartialEq, Eq)]
struct Sizes {
    memory_mb: i64,
    /// As much of the quotas; the least that every build gets is free.
    asked_memory_mb: Option<i64>,
    disk_mb: i64,
    log_rate: i64,
}

impl Sizes {
    /// What was asked for, or what the app's web process has, but not less than staging takes.
    ///
    /// # Errors
    /// 422 for more disk than any app may have.
    fn choose(
        limits: &Limits,
        (memory, disk, log_rate): Asked,
        web: Option<&Process>,
    ) -> ApiResult<Sizes> {
        let memory = memory.or(web.map(|web| web.memory_mb)).unwrap_or(0);
        let disk = disk.or(web.map(|web| web.disk_mb)).unwrap_or(0);
        if disk > limits.max_app_disk_mb.max(limits.staging_disk_mb) {
            return Err(ApiError::unprocessable("disk limit exceeded"));
        }
        Ok(Sizes {
            memory_mb: memory.max(limits.staging_memory_mb),
            asked_memory_mb: (memory >= limits.staging_memory_mb).then_some(memory),
            disk_mb: disk.max(limits.staging_disk_mb),
            log_rate: log_rate.or(web.map(|web| web.log_rate)).unwrap_or(limits.app_log_rate),
        })
    }
}

/// # Errors
/// 422 for what only other stagers can stage.
fn refuse_unsupported(kind: &str) -> ApiResult<()> {
    let what = match kind {
        DOCKER => "Docker images",
        CNB => "Cloud Native Buildpacks",
        _ => return Ok(()),
    };
    Err(ApiError::unprocessable(format!(
        "{what} are not supported by this platform yet. Push the app's source or its binary with a buildpack instead."
    )))
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

impl Resource for Build {
    const KIND: &'static str = KIND;

    fn guid(&self) -> &str {
        &self.guid
    }

    fn present(&self, metadata: &Metadata, urls: &Urls) -> Value {
        let droplet = self.droplet_guid.as_ref().filter(|_| self.state == builds::STAGED);
        let mut links = json!({
            "self": urls.link(&format!("builds/{}", self.guid)),
            "app": urls.link(&format!("apps/{}", self.app_guid)),
        });
        if let Some(guid) = droplet {
            links["droplet"] = urls.link(&format!("droplets/{guid}"));
        }
        let parts: Vec<&str> = [&self.error_id, &self.error_description]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        let error = (!parts.is_empty()).then(|| parts.join(" - "));
        json!({
            "guid": self.guid,
            "created_at": self.created_at.to_rfc3339(),
            "updated_at": self.updated_at.to_rfc3339(),
            "state": self.state,
            "staging_memory_in_mb": self.memory_mb,
            "staging_disk_in_mb": self.disk_mb,
            "staging_log_rate_limit_bytes_per_second": self.log_rate,
            "error": error,
            "lifecycle": lifecycle::present(&self.lifecycle, &self.buildpacks, self.stack.as_deref()),
            "package": { "guid": self.package_guid },
            "droplet": droplet.map(|guid| json!({ "guid": guid })),
            "created_by": { "guid": self.created_by.0, "name": self.created_by.1, "email": self.created_by.2 },
            "relationships": { "app": { "data": { "guid": self.app_guid } } },
            "metadata": metadata.to_json(),
            "links": links,
        })
    }
}

impl OfApp for Build {
    const WHAT: &'static str = "Build";
    const LIST: List = LIST;

    fn app_guid(&self) -> &str {
        &self.app_guid
    }
}
