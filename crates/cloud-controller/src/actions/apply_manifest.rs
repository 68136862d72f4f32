//! Applying manifests: apps are found or made, then everything the manifest names is set, all or nothing.

mod routes;

use serde_json::{Map, Value, json};
use sql::Connection;

use crate::Cc;
use crate::actions::apps as app_actions;
use crate::actions::bindings;
use crate::auth::Caller;
use crate::db::apps::{self, App, NewApp};
use crate::db::metadata;
use crate::db::processes::{self, Process, WEB};
use crate::db::spaces::Space;
use crate::db::{
    self, Columns as _, feature_flags, query, quota_usage, service_bindings, service_instances,
    usage_events,
};
use crate::errors::{ApiError, ApiResult, Kind};
use crate::manifest::{AppManifest, ManifestProcess, ManifestService, ManifestSidecar};
use crate::message::Change;
use crate::v3::lifecycle::{self, Lifecycle};
use crate::v3::processes::{self as process_messages, Scale};

/// What was done, for the apps' own logs.
#[derive(Clone, Debug)]
pub struct Applied {
    pub app_guid: String,
    pub created: bool,
}

/// Applies all manifests to the space. On an error nothing of it stands once the transaction is dropped; the error
/// begins with the app it is about.
pub async fn run(
    cc: &Cc,
    tx: &mut Connection,
    caller: &Caller,
    space: &Space,
    manifests: &[AppManifest],
) -> ApiResult<Vec<Applied>> {
    let mut applied = Vec::new();
    for manifest in manifests {
        let one = apply(cc, tx, caller, space, manifest).await;
        applied.push(one.map_err(|error| about(&manifest.name, error))?);
    }
    Ok(applied)
}

fn about(app: &str, error: ApiError) -> ApiError {
    ApiError(
        error
            .0
            .into_iter()
            .map(|(kind, detail)| match kind {
                Kind::UnknownError => (kind, detail),
                _ => (kind, format!("For application '{app}': {detail}")),
            })
            .collect(),
    )
}

async fn apply(
    cc: &Cc,
    tx: &mut Connection,
    caller: &Caller,
    space: &Space,
    manifest: &AppManifest,
) -> ApiResult<Applied> {
    let (app, created) = find_or_make(cc, tx, caller, space, manifest).await?;
    check_lifecycle(&app, manifest)?;
    let data = json!({ "request": { "manifest": shown(manifest) } });
    app_actions::audit(cc, tx, caller, "audit.app.apply_manifest", &app, data).await?;
    set_app(cc, tx, caller, &app, manifest).await?;
    for process in &manifest.processes {
        set_process(cc, tx, caller, &app, process).await?;
    }
    for sidecar in &manifest.sidecars {
        set_sidecar(cc, tx, &app, sidecar).await?;
    }
    routes::set(cc, tx, caller, space, &app, &manifest.routes).await?;
    for service in &manifest.services {
        bind(cc, tx, caller, space, &app, service).await?;
    }
    Ok(Applied { app_guid: app.guid, created })
}

fn shown(manifest: &AppManifest) -> String {
    serde_norway::to_string(&json!({ "applications": [manifest.shown] })).unwrap_or_default()
}

async fn find_or_make(
    cc: &Cc,
    tx: &mut Connection,
    caller: &Caller,
    space: &Space,
    manifest: &AppManifest,
) -> ApiResult<(App, bool)> {
    if let Some(app) = apps::find_by_name(tx, &space.guid, &manifest.name).await? {
        return Ok((app, false));
    }
    let kind = match manifest.lifecycle.as_deref() {
        _ if manifest.docker => lifecycle::DOCKER,
        Some(kind) => kind,
        None => lifecycle::BUILDPACK,
    };
    let wanted = Lifecycle { kind: kind.to_owned(), ..Lifecycle::default() };
    wanted.check(tx).await?;
    let new = NewApp {
        name: manifest.name.clone(),
        space_guid: space.guid.clone(),
        stack: wanted.stack_or(cc.config.default_stack()),
        lifecycle: wanted.kind,
        ..NewApp::default()
    };
    let request = json!({
        "name": manifest.name,
        "relationships": { "space": { "data": { "guid": space.guid } } },
    });
    let app =
        app_actions::create(cc, tx, caller, &new, &metadata::MetadataPatch::default(), request)
            .await?;
    Ok((app, true))
}

fn check_lifecycle(app: &App, manifest: &AppManifest) -> ApiResult<()> {
    if app.lifecycle == lifecycle::DOCKER && manifest.buildpacks.is_some() {
        let detail = "Buildpacks cannot be configured for a docker lifecycle app.";
        return Err(ApiError::unprocessable(detail));
    }
    if app.lifecycle != lifecycle::DOCKER && manifest.docker {
        return Err(ApiError::unprocessable(
            "Docker cannot be configured for a buildpack lifecycle app.",
        ));
    }
    if manifest.lifecycle.as_ref().is_some_and(|kind| *kind != app.lifecycle) {
        return Err(ApiError::unprocessable("Lifecycle type cannot be changed"));
    }
    Ok(())
}

/// Lifecycle, features, variables, labels.
async fn set_app(
    cc: &Cc,
    tx: &mut Connection,
    caller: &Caller,
    app: &App,
    manifest: &AppManifest,
) -> ApiResult<()> {
    let stack = manifest.stack.clone().map_or(Change::Keep, Change::Set);
    let wanted =
        Lifecycle { kind: app.lifecycle.clone(), buildpacks: manifest.buildpacks.clone(), stack };
    wanted.check(tx).await?;
    let mut set: Vec<(&str, db::Arg)> = Vec::new();
    set.extend(manifest.buildpacks.as_ref().map(|buildpacks| ("buildpacks", buildpacks.into())));
    if app.lifecycle != lifecycle::DOCKER {
        set.extend(manifest.stack.as_ref().map(|stack| ("stack", stack.into())));
    }
    for (name, on) in &manifest.features {
        let column = match name.as_str() {
            "ssh" => "enable_ssh",
            "revisions" => "revisions_enabled",
            "service-binding-k8s" => "service_binding_k8s",
            _ => "file_based_vcap_services",
        };
        set.push((column, (*on).into()));
    }
    if !manifest.env.is_empty() {
        let mut variables = match cc.seal.open_json(app.sealed_env.as_deref())? {
            Value::Object(object) => object,
            _ => Map::new(),
        };
        variables
            .extend(manifest.env.iter().map(|(key, value)| (key.clone(), value.as_str().into())));
        set.push(("sealed_env", cc.seal.seal_json(&Value::Object(variables)).into()));
    }
    crate::v3::common::write_metadata(tx, "app", &app.guid, &manifest.metadata).await?;
    if set.is_empty() && manifest.metadata.is_empty() {
        return Ok(());
    }
    apps::update(tx, cc.now(), &app.guid, set).await?;
    let mut request = json!({ "lifecycle": lifecycle::present(&app.lifecycle, manifest.buildpacks.as_deref().unwrap_or(&app.buildpacks), manifest.stack.as_deref().or(app.stack.as_deref())) });
    if !manifest.env.is_empty() {
        request["environment_variables"] = crate::REDACTED.into();
    }
    let data = json!({ "request": request, "manifest_triggered": true });
    Ok(app_actions::audit(cc, tx, caller, "audit.app.update", app, data).await?)
}

async fn set_process(
    cc: &Cc,
    tx: &mut Connection,
    caller: &Caller,
    app: &App,
    wanted: &ManifestProcess,
) -> ApiResult<()> {
    if wanted.kind == WEB
        && wanted.patch == process_messages::Patch::default()
        && wanted.scale == Scale::default()
    {
        return Ok(());
    }
    let process = match processes::find_by_type(tx, &app.guid, &wanted.kind).await? {
        Some(process) => process,
        None => {
            app_actions::add_process(
                cc,
                tx,
                app,
                &wanted.kind,
                i64::from(wanted.kind == WEB),
                caller.into(),
            )
            .await?;
            let made = processes::find_by_type(tx, &app.guid, &wanted.kind).await?;
            made.ok_or_else(|| ApiError::not_found("Process"))?
        }
    };
    let described = |request: Value| json!({ "process_guid": process.guid, "process_type": process.kind, "request": request, "manifest_triggered": true });
    if wanted.patch != process_messages::Patch::default() {
        process_messages::apply(cc, tx, &process, wanted.patch.clone()).await?;
        let data = described(json!({}));
        app_actions::audit(cc, tx, caller, "audit.app.process.update", app, data).await?;
    }
    if wanted.scale != Scale::default() {
        feature_flags::require(tx, caller, "app_scaling").await?;
        let before = processes::find(tx, &process.guid)
            .await?
            .ok_or_else(|| ApiError::not_found("Process"))?;
        resize(cc, tx, &before, wanted.scale).await?;
        let Scale { instances, memory_mb, disk_mb, log_rate } = wanted.scale;
        let request = json!({
            "instances": instances,
            "memory_in_mb": memory_mb,
            "disk_in_mb": disk_mb,
            "log_rate_limit_in_bytes_per_second": log_rate,
        });
        app_actions::audit(cc, tx, caller, "audit.app.process.scale", app, described(request))
            .await?;
    }
    Ok(())
}

/// Unlike the API's scaling this never makes running instances anew: whoever applies a manifest restarts next.
async fn resize(cc: &Cc, tx: &mut Connection, process: &Process, scale: Scale) -> ApiResult<()> {
    let after = Process {
        instances: scale.instances.unwrap_or(process.instances),
        memory_mb: scale.memory_mb.unwrap_or(process.memory_mb),
        disk_mb: scale.disk_mb.unwrap_or(process.disk_mb),
        log_rate: scale.log_rate.unwrap_or(process.log_rate),
        ..process.clone()
    };
    quota_usage::check_process(tx, &after, process).await?;
    let still = Process { app_started: false, ..process.clone() };
    super::scale::run(cc, tx, &still, scale).await?;
    if process.app_started && after.instances != process.instances {
        processes::changed(tx, &process.guid, &process.version).await?;
        usage_events::record(tx, cc.now(), "STARTED", &after).await?;
    }
    Ok(())
}

async fn set_sidecar(
    cc: &Cc,
    tx: &mut Connection,
    app: &App,
    wanted: &ManifestSidecar,
) -> ApiResult<()> {
    let columns = vec![
        ("command", (&wanted.command).into()),
        ("process_types", (&wanted.process_types).into()),
        ("memory_mb", wanted.memory_mb.into()),
    ];
    let find = "SELECT guid FROM sidecars WHERE app_guid = $1 AND name = $2";
    match query(find, [(&app.guid).into(), (&wanted.name).into()]).optional(tx).await? {
        Some(row) => db::change(tx, cc.now(), "sidecars", &row.text("guid")?, columns).await?,
        None => {
            let rest = vec![("app_guid", (&app.guid).into()), ("name", (&wanted.name).into())];
            let columns = columns.into_iter().chain(rest).collect();
            db::insert_new(tx, cc.now(), "sidecars", columns).await?;
        }
    }
    Ok(())
}

async fn bind(
    cc: &Cc,
    tx: &mut Connection,
    caller: &Caller,
    space: &Space,
    app: &App,
    wanted: &ManifestService,
) -> ApiResult<()> {
    let instance = service_instances::find_by_name(tx, &space.guid, &wanted.name).await?;
    let instance = instance
        .ok_or_else(|| ApiError::not_found(&format!("Service instance '{}'", wanted.name)))?;
    if service_bindings::of_app_and_instance(tx, &app.guid, &instance.guid).await?.is_some() {
        return Ok(());
    }
    let about =
        |detail: &str| ApiError::unprocessable(format!("For service '{}': {detail}", wanted.name));
    if wanted.parameters.is_some() {
        return Err(about(
            "Binding parameters are not supported for user-provided service instances",
        ));
    }
    let bound =
        bindings::bind(cc, tx, caller, app, &instance, wanted.binding_name.as_deref(), true).await;
    bound.map(drop).map_err(|error| about(&error.to_string()))
}
