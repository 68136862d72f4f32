//! The stager: a build becomes a task of Diego's, and the task's end becomes a droplet.

use std::collections::BTreeMap;
use std::hash::Hasher as _;
use std::time::Duration;

use anyhow::Context as _;
use diego::action::{DownloadAction, EnvVar, ResourceLimits, RunAction, UploadAction};
use diego::bbs::ErrorKind;
use diego::desired_lrp::{CachedDependency, RunInfo};
use diego::task::TaskCallback;
use diego::{Action, Task, TaskDefinition};
use envelope::LogType;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;
use twox_hash::XxHash64;

use super::STAGING_DOMAIN;
use super::environment::{self, Limits, View};
use super::explain::{self, Failure, Given};
use super::recipe::{self, LIFECYCLE, unsigned};
use super::tasks;
use crate::Cc;
use crate::actions::apps::audit_by;
use crate::config::Config;
use crate::db::audit_events::Actor;
use crate::db::builds::{self, Build, FAILED, STAGED, STAGING};
use crate::db::packages::Package;
use crate::db::recipes::{self, Phase};
use crate::db::{self, apps, blobs, buildpack_choice, droplets, packages, usage_events};
use crate::errors::{ApiError, ApiResult, Kind};
use crate::internal::address;
use crate::v3::lifecycle;

const CPU_WEIGHT: u32 = 50;
/// Past the task's own limit nothing will be heard any more.
const GRACE: Duration = Duration::from_secs(120);
/// A build this young may not have its task at Diego yet, when this life of the Cloud Controller began it.
const YOUNG: Duration = Duration::from_secs(30);

/// What to do about what was not the app's fault.
pub const AGAIN: &str = "Push again; when that does not help, ask an operator.";

/// A build with all it needs.
#[derive(Clone, Debug)]
pub struct StagingRecipe {
    pub build: Build,
    pub package: Package,
    pub view: View,
    pub buildpacks: Vec<Chosen>,
    /// The user named them, so they need not be asked whether they fit.
    pub skip_detect: bool,
    pub security_rules: Vec<Value>,
    pub isolation_segment: Option<String>,
    /// Digest of what the last build left for the next.
    pub cache: Option<String>,
}

/// A buildpack to try: one that is installed, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    Installed { key: String, name: String, sha256: String },
    Address(String),
}

impl Chosen {
    pub fn key(&self) -> &str {
        match self {
            Chosen::Installed { key, .. } => key,
            Chosen::Address(address) => address,
        }
    }
}

/// Reads what a build needs.
///
/// # Errors
/// 400 when there is no buildpack to try.
pub async fn recipe(
    cc: &Cc,
    connection: &mut sql::Connection,
    build: Build,
) -> ApiResult<StagingRecipe> {
    let app =
        apps::find(connection, &build.app_guid).await?.ok_or_else(|| ApiError::not_found("App"))?;
    let package = packages::find(connection, &build.package_guid)
        .await?
        .ok_or_else(|| ApiError::not_found("Package"))?;
    let mappings = crate::db::routing::of_apps(connection, std::slice::from_ref(&app.guid)).await?;
    let mappings = mappings.get(&app.guid).map_or(&[][..], Vec::as_slice);
    let view =
        recipes::view(connection, &cc.seal, &cc.config.cf_api(), &app, mappings, Phase::Staging)
            .await?;
    let stack = build.stack.clone().unwrap_or_else(|| cc.config.default_stack().to_owned());
    let buildpacks = buildpack_choice::choose(connection, &build.buildpacks, &stack).await?;
    if buildpacks.is_empty() {
        return Err(Kind::NoBuildpacksFound.with("There are no buildpacks available"));
    }
    Ok(StagingRecipe {
        skip_detect: !build.buildpacks.is_empty(),
        security_rules: recipes::security_rules(connection, &app.space_guid, Phase::Staging)
            .await?,
        isolation_segment: recipes::isolation_segment(connection, &app.space_guid).await?,
        cache: app.buildpack_cache,
        build,
        package,
        view,
        buildpacks,
    })
}

/// Hands the build to Diego. One that is there already is what was asked for.
pub async fn desire(cc: &Cc, recipe: &StagingRecipe) -> diego::bbs::Result<()> {
    let guid = recipe.build.guid.as_str().into();
    let desired = cc.bbs.desire_task(&guid, &STAGING_DOMAIN.into(), task(recipe, &cc.config)).await;
    match desired {
        Err(error) if error.kind == ErrorKind::ResourceExists => Ok(()),
        desired => desired,
    }
}

/// Pure: the task that makes a droplet.
pub fn task(recipe: &StagingRecipe, config: &Config) -> TaskDefinition {
    let build = &recipe.build;
    let stack = build.stack.as_deref().unwrap_or_else(|| config.default_stack());
    let own = format!("/internal/builds/{}", build.guid);
    let mut downloads = vec![download(recipe, config).progress(
        "Downloading app package...",
        "Downloaded app package",
        "Downloading app package failed",
    )];
    if let Some(sha256) = &recipe.cache {
        let cache = Action::Download(DownloadAction {
            from: address(config, &format!("/internal/caches/{sha256}")),
            to: "/tmp/cache".to_owned(),
            user: "vcap".to_owned(),
            ..DownloadAction::default()
        });
        let told = cache.progress(
            "Downloading build artifacts cache...",
            "Downloaded build artifacts cache",
            "No build artifacts cache",
        );
        downloads.push(told.attempt());
    }
    let upload = |artifact: &str, from: &str, to: &str| {
        Action::Upload(UploadAction {
            artifact: artifact.to_owned(),
            from: from.to_owned(),
            to: address(config, &format!("{own}/{to}")),
            user: "vcap".to_owned(),
            log_source: String::new(),
        })
    };
    let uploads = Action::parallel(vec![
        upload("droplet", "/tmp/droplet", "droplet"),
        upload("build artifacts cache", "/tmp/output-cache", "cache"),
    ]);
    let uploads = uploads.progress(
        "Uploading droplet, build artifacts cache...",
        "Uploading complete",
        "Uploading failed",
    );
    let action =
        Action::serial(vec![Action::parallel(downloads), builder(recipe, config, stack), uploads]);
    let mut dependencies = vec![recipe::lifecycle(config)];
    dependencies.extend(recipe.buildpacks.iter().filter_map(|chosen| dependency(chosen, config)));
    TaskDefinition {
        run: RunInfo {
            rootfs: format!("preloaded:{stack}"),
            env: vec![EnvVar::new(environment::LANG.0, environment::LANG.1)],
            action: Some(action.timeout(config.limits.staging_timeout)),
            memory_mb: unsigned(build.memory_mb),
            disk_mb: unsigned(build.disk_mb),
            max_pids: config.limits.app_max_pids,
            cpu_weight: CPU_WEIGHT,
            egress_rules: recipe::egress_rules(&recipe.security_rules),
            cached_dependencies: dependencies,
            volume_mounted_files: recipe.view.mounted_files(),
            placement_tags: recipe.isolation_segment.iter().cloned().collect(),
            certificate_properties: Some(Box::new(recipe::certificate(&recipe.view.names))),
            log_guid: build.app_guid.clone(),
            log_source: "STG".to_owned(),
            log_rate_limit: build.log_rate,
            ..RunInfo::default()
        },
        result_file: "/tmp/result.json".to_owned(),
        completion_callback_url: address(config, &format!("{own}/completed")),
        annotation: json!({ "lifecycle": build.lifecycle }).to_string(),
        ..TaskDefinition::default()
    }
}

fn download(recipe: &StagingRecipe, config: &Config) -> Action {
    let sha256 = recipe.package.sha256.clone().unwrap_or_default();
    Action::Download(DownloadAction {
        from: address(config, &format!("/internal/packages/{sha256}")),
        to: "/tmp/app".to_owned(),
        user: "vcap".to_owned(),
        checksum_algorithm: "sha256".to_owned(),
        checksum_value: sha256,
        ..DownloadAction::default()
    })
}

fn builder(recipe: &StagingRecipe, config: &Config, stack: &str) -> Action {
    let build = &recipe.build;
    let order: Vec<&str> = recipe.buildpacks.iter().map(Chosen::key).collect();
    let limits = Limits {
        memory_mb: build.memory_mb,
        disk_mb: Some(build.disk_mb),
        fds: Some(config.limits.app_fds),
    };
    Action::Run(RunAction {
        path: format!("{LIFECYCLE}/builder"),
        args: vec![
            format!("-buildpackOrder={}", order.join(",")),
            "-skipCertVerify=false".to_owned(),
            format!("-skipDetect={}", recipe.skip_detect),
            "-buildDir=/tmp/app".to_owned(),
            "-outputDroplet=/tmp/droplet".to_owned(),
            "-outputMetadata=/tmp/result.json".to_owned(),
            "-outputBuildArtifactsCache=/tmp/output-cache".to_owned(),
            "-buildpacksDir=/tmp/buildpacks".to_owned(),
            "-buildArtifactsCacheDir=/tmp/cache".to_owned(),
        ],
        env: recipe.view.variables(&[("CF_STACK", stack.to_owned())], limits, None),
        resource_limits: ResourceLimits { nofile: Some(config.limits.app_fds) },
        user: "vcap".to_owned(),
        ..RunAction::default()
    })
}

/// Installed buildpacks lie unpacked in a folder named for their key.
fn dependency(chosen: &Chosen, config: &Config) -> Option<CachedDependency> {
    let Chosen::Installed { key, name, sha256 } = chosen else { return None };
    let mut hasher = XxHash64::with_seed(0);
    hasher.write(key.as_bytes());
    Some(CachedDependency {
        name: name.clone(),
        from: address(config, &format!("/internal/buildpacks/{sha256}")),
        to: format!("/tmp/buildpacks/{:016x}", hasher.finish()),
        cache_key: key.clone(),
        checksum_algorithm: "sha256".to_owned(),
        checksum_value: sha256.clone(),
    })
}

/// What the builder wrote to its result file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BuildResult {
    lifecycle_metadata: LifecycleMetadata,
    process_types: BTreeMap<String, String>,
    sidecars: Option<Value>,
    execution_metadata: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LifecycleMetadata {
    buildpack_key: String,
    detected_buildpack: String,
    buildpacks: Option<Vec<UsedBuildpack>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct UsedBuildpack {
    key: String,
    name: Option<String>,
    version: Option<String>,
}

fn given<'a>(cc: &'a Cc, build: &'a Build) -> Given<'a> {
    Given {
        memory_mb: build.memory_mb,
        disk_mb: build.disk_mb,
        timeout: cc.config.limits.staging_timeout,
        stack: build.stack.as_deref().unwrap_or_else(|| cc.config.default_stack()),
    }
}

/// Tells in the app's log that no cell took a build, for whoever waits does not see why.
pub async fn waits(cc: &Cc, task: &Task) -> anyhow::Result<()> {
    let mut connection = cc.db.read().await?;
    let build = builds::find(&mut connection, task.task_guid.as_str()).await?;
    let Some(build) = build.filter(|build| !build.is_final()) else { return Ok(()) };
    let names = apps::names(&mut connection, &build.app_guid).await?;
    let next = explain::staging(&task.rejection_reason, given(cc, &build)).next;
    let line = format!("The build waits, and is tried again for a while. {next}");
    cc.app_log(&names, "STG", LogType::Err, &line);
    Ok(())
}

/// Records how a build ended. Told twice, it changes nothing the second time.
pub async fn complete(cc: &Cc, guid: &str, callback: &TaskCallback) -> anyhow::Result<()> {
    let build = builds::find(&mut *cc.db.read().await?, guid).await?;
    let Some(build) = build.filter(|build| !build.is_final()) else { return Ok(()) };
    if callback.failed {
        let failure = explain::staging(&callback.failure_reason, given(cc, &build));
        return fail(cc, &build, &failure).await;
    }
    match serde_json::from_str::<BuildResult>(&callback.result) {
        Ok(result) => succeed(cc, &build, result).await,
        Err(_) => {
            let failure = Failure::other("the builder's result could not be read", AGAIN);
            fail(cc, &build, &failure).await
        }
    }
}

async fn succeed(cc: &Cc, build: &Build, result: BuildResult) -> anyhow::Result<()> {
    let now = cc.now();
    let mut tx = cc.db.begin().await?;
    let droplet = match &build.droplet_guid {
        Some(guid) => droplets::find(&mut tx, guid).await?,
        None => None,
    };
    let Some(droplet) = droplet.filter(|droplet| droplet.sha256.is_some()) else {
        drop(tx);
        return fail(cc, build, &Failure::other("no droplet", AGAIN)).await;
    };
    let installed = buildpack_choice::names_by_key(&mut tx).await?;
    let execution_metadata = match &result.execution_metadata {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let set = vec![
        ("state", droplets::STAGED.into()),
        ("stack", (&build.stack).into()),
        ("buildpacks", (&used(&result.lifecycle_metadata, &installed)).into()),
        ("process_types", (&json!(result.process_types)).into()),
        ("sidecars", result.sidecars.as_ref().unwrap_or(&json!([])).into()),
        ("execution_metadata", execution_metadata.into()),
    ];
    droplets::update(&mut tx, now, &droplet.guid, set).await?;
    builds::update(&mut tx, now, &build.guid, vec![("state", STAGED.into())]).await?;
    let used = used(&result.lifecycle_metadata, &installed);
    usage_events::record_staging(&mut tx, now, "STAGING_STOPPED", build, &used).await?;
    if let Some(app) = apps::find(&mut tx, &build.app_guid).await? {
        let data = json!({ "build_guid": build.guid, "package_guid": build.package_guid, "droplet_guid": droplet.guid });
        audit_by(&mut tx, now, actor(build), "audit.app.build.staged", &app, data).await?;
        blobs::expire(&mut tx, now, &app.guid, cc.config.limits.kept_per_app).await?;
    }
    tx.commit().await?;
    cc.changes.tell(&build.guid);
    cc.changes.tell(&droplet.guid);
    Ok(())
}

/// The droplet's buildpacks: those that are installed by their names here, others by their address.
fn used(metadata: &LifecycleMetadata, installed: &BTreeMap<String, String>) -> Value {
    let last = UsedBuildpack { key: metadata.buildpack_key.clone(), ..UsedBuildpack::default() };
    let list = match &metadata.buildpacks {
        Some(list) if !list.is_empty() => list.iter().collect(),
        _ if metadata.buildpack_key.is_empty() => Vec::new(),
        _ => vec![&last],
    };
    let present = |buildpack: &&UsedBuildpack| {
        let name = installed
            .get(&buildpack.key)
            .cloned()
            .unwrap_or_else(|| lifecycle::without_password(&buildpack.key));
        let detected =
            (buildpack.key == metadata.buildpack_key).then_some(&metadata.detected_buildpack);
        json!({ "name": name, "detect_output": detected, "buildpack_name": buildpack.name, "version": buildpack.version })
    };
    list.iter().map(present).collect()
}

fn actor(build: &Build) -> Actor {
    let (guid, name, _) = build.created_by.clone();
    Actor { guid, kind: "user".to_owned(), name }
}

/// Ends a build that cannot succeed.
pub async fn fail(cc: &Cc, build: &Build, failure: &Failure) -> anyhow::Result<()> {
    let now = cc.now();
    let Failure { id, description, next } = failure;
    let mut tx = cc.db.begin().await?;
    let set = vec![
        ("state", FAILED.into()),
        ("error_id", (*id).into()),
        ("error_description", description.into()),
    ];
    builds::update(&mut tx, now, &build.guid, set).await?;
    usage_events::record_staging(&mut tx, now, "STAGING_STOPPED", build, &Value::Null).await?;
    if let Some(droplet) = &build.droplet_guid {
        let set =
            vec![("state", "FAILED".into()), ("error", format!("{id} - {description}").into())];
        droplets::update(&mut tx, now, droplet, set).await?;
    }
    if let Some(app) = apps::find(&mut tx, &build.app_guid).await? {
        let data = json!({ "build_guid": build.guid, "package_guid": build.package_guid, "error_id": id, "error_message": description });
        audit_by(&mut tx, now, actor(build), "audit.app.build.failed", &app, data).await?;
    }
    let names = apps::names(&mut tx, &build.app_guid).await?;
    tx.commit().await?;
    cc.changes.tell(&build.guid);
    let line = format!("Failed to stage build: {description}. {next}");
    cc.app_log(&names, "STG", LogType::Err, &line);
    Ok(())
}

/// Tells in the app's log why what a build made could not be stored.
pub async fn upload_failed(
    cc: &Cc,
    build: &Build,
    kind: &str,
    error: &ApiError,
) -> anyhow::Result<()> {
    let names = apps::names(&mut *cc.db.read().await?, &build.app_guid).await?;
    let what = if kind == "caches" { "build artifacts cache" } else { "droplet" };
    let line = format!("Storing the {what} failed: {error}");
    cc.app_log(&names, "STG", LogType::Err, &line);
    Ok(())
}

/// Hands builds to Diego that did not get there, because their request was cut off, ends those that take too long, and
/// cancels what Diego still stages for builds that have ended or went with their app.
pub async fn sweep(cc: &Cc) -> anyhow::Result<()> {
    let now = cc.now();
    let found = tasks::at_diego(cc, STAGING_DOMAIN).await.context("listing staging tasks")?;
    let (at_diego, busy) = tasks::guids(&found);
    // Read after Diego was asked, so that whatever it has is known here.
    let (waiting, states) = {
        let mut connection = cc.db.read().await?;
        let before = cc.began.max(now - YOUNG);
        let waiting = builds::staging_since(&mut connection, before).await?;
        (waiting, db::states(&mut connection, "builds", &busy).await?)
    };
    for build in waiting {
        let late = now.since(build.created_at) > cc.config.limits.staging_timeout + GRACE;
        if late {
            let description = "Staging time expired: the build took too long";
            fail(cc, &build, &Failure::new("StagingTimeExpired", description, AGAIN)).await?;
        } else if !at_diego.contains(build.guid.as_str()) {
            again(cc, &build).await?;
        }
    }
    let wanted = |guid: &str| states.get(guid).is_some_and(|state| state == STAGING);
    let unwanted: Vec<String> =
        busy.iter().filter(|guid| !wanted(guid)).map(|guid| (*guid).to_owned()).collect();
    tasks::cancel(cc, &unwanted).await;
    Ok(())
}

/// A task leaves Diego after its end was recorded here, so a build that is still under way has none: it is desired anew.
async fn again(cc: &Cc, build: &Build) -> anyhow::Result<()> {
    let recipe = {
        let mut connection = cc.db.read().await?;
        let current = builds::find(&mut connection, &build.guid).await?;
        let Some(build) = current.filter(|build| !build.is_final()) else { return Ok(()) };
        recipe(cc, &mut connection, build).await
    };
    match recipe {
        Ok(recipe) => desire(cc, &recipe).await.context("desiring a staging task again"),
        Err(error) => {
            warn!(build.guid = build.guid, %error, "a build cannot be taken up again");
            fail(cc, build, &Failure::other("the staging task was lost", AGAIN)).await
        }
    }
}
