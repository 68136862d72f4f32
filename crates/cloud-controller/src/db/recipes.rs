//! All that is needed to run or stage an app, read in one go for the bridge.

use serde_json::{Map, Value, json};
use sql::Connection;

use super::apps::App;
use super::droplets::Droplet;
use super::processes::Process;
use super::revisions::Revision;
use super::routing::{self, Mapping};
use super::{Columns as _, Result, apps, droplets, query, revisions};
use crate::bridge::environment::{ServiceFiles, View};
use crate::bridge::service_files;
use crate::errors::{ApiError, ApiResult};
use crate::seal::Seal;

/// A started process with all it runs on.
#[derive(Clone, Debug)]
pub struct RunRecipe {
    pub process: Process,
    pub app: App,
    pub droplet: Droplet,
    pub view: View,
    pub mappings: Vec<Mapping>,
    /// `(name, command, memory)` of those that go with this process's type.
    pub sidecars: Vec<(String, String, Option<i64>)>,
    pub security_rules: Vec<Value>,
    pub isolation_segment: Option<String>,
}

/// Running or staging: which groups of variables and of security rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Running,
    Staging,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Running => "running",
            Phase::Staging => "staging",
        }
    }
}

/// `None` when the app has no droplet that could run.
pub async fn running(
    connection: &mut Connection,
    seal: &Seal,
    cf_api: &str,
    process: Process,
) -> anyhow::Result<Option<RunRecipe>> {
    let Some(app) = apps::find(connection, &process.app_guid).await? else { return Ok(None) };
    let revision = match process.revision_guid.as_deref().filter(|_| app.revisions_enabled) {
        Some(guid) => revisions::find(connection, guid).await?,
        None => None,
    };
    let (process, app) = as_of(process, app, revision.as_ref());
    let droplet = match &app.droplet_guid {
        Some(guid) => droplets::find(connection, guid).await?,
        None => None,
    };
    let Some(droplet) = droplet.filter(|droplet| droplet.state == droplets::STAGED) else {
        return Ok(None);
    };
    let mappings = routing::of_apps(connection, std::slice::from_ref(&app.guid))
        .await?
        .remove(&app.guid)
        .unwrap_or_default();
    let view = view(connection, seal, cf_api, &app, &mappings, Phase::Running).await?;
    let process = match &revision {
        Some(_) => Process { detected_command: detected(&droplet, &process.kind), ..process },
        None => process,
    };
    let sidecars = match &revision {
        Some(revision) => sidecars_of(revision, &process.kind),
        None => sidecars(connection, &app.guid, &process.kind).await?,
    };
    let security_rules = security_rules(connection, &app.space_guid, Phase::Running).await?;
    let isolation_segment = isolation_segment(connection, &app.space_guid).await?;
    Ok(Some(RunRecipe {
        process,
        app,
        droplet,
        view,
        mappings,
        sidecars,
        security_rules,
        isolation_segment,
    }))
}

/// A process runs what its revision says, whatever was set on the app since.
fn as_of(process: Process, app: App, revision: Option<&Revision>) -> (Process, App) {
    let Some(revision) = revision else { return (process, app) };
    let droplet_guid = revision.droplet_guid.clone().or(app.droplet_guid);
    let app = App { droplet_guid, sealed_env: revision.sealed_env.clone(), ..app };
    (Process { command: revision.command(&process.kind), ..process }, app)
}

fn detected(droplet: &Droplet, kind: &str) -> Option<String> {
    droplet.process_types.get(kind).and_then(Value::as_str).map(str::to_owned)
}

fn sidecars_of(revision: &Revision, kind: &str) -> Vec<(String, String, Option<i64>)> {
    let text = |one: &Value, key: &str| {
        one.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let goes_with = |one: &&Value| {
        one.get("process_types")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .any(|own| own == kind)
    };
    let all = revision.sidecars.as_array().into_iter().flatten().filter(goes_with);
    all.map(|one| {
        (text(one, "name"), text(one, "command"), one.get("memory_in_mb").and_then(Value::as_i64))
    })
    .collect()
}

/// What an app's variables are made from.
pub async fn view(
    connection: &mut Connection,
    seal: &Seal,
    cf_api: &str,
    app: &App,
    mappings: &[Mapping],
    phase: Phase,
) -> anyhow::Result<View> {
    let group = apps::variable_group(connection, phase.name()).await?;
    let mut uris: Vec<String> =
        mappings.iter().filter(|mapping| !mapping.internal).map(Mapping::uri).collect();
    uris.dedup();
    Ok(View {
        names: apps::names(connection, &app.guid).await?,
        cf_api: cf_api.to_owned(),
        uris,
        group: seal.open_json(group.as_deref())?,
        own: seal.open_json(app.sealed_env.as_deref())?,
        services: services(connection, seal, &app.guid).await?,
        service_files: kind_of_files(app),
    })
}

async fn sidecars(
    connection: &mut Connection,
    app: &str,
    kind: &str,
) -> Result<Vec<(String, String, Option<i64>)>> {
    let text = "SELECT name, command, memory_mb, process_types FROM sidecars WHERE app_guid = $1 ORDER BY id";
    let mut found = Vec::new();
    for row in query(text, [app.into()]).all(connection).await? {
        if row.texts("process_types")?.iter().any(|own| own == kind) {
            found.push((row.text("name")?, row.text("command")?, row.maybe_int("memory_mb")?));
        }
    }
    Ok(found)
}

/// The rules of every group that holds for the space, as users wrote them.
pub async fn security_rules(
    connection: &mut Connection,
    space: &str,
    phase: Phase,
) -> Result<Vec<Value>> {
    let text = format!(
        "SELECT rules FROM security_groups g WHERE g.{0}_default = 1 OR EXISTS (SELECT 1 FROM security_group_spaces b \
         WHERE b.security_group_guid = g.guid AND b.space_guid = $1 AND b.phase = '{0}') ORDER BY g.id",
        phase.name()
    );
    let mut rules = Vec::new();
    for row in query(&text, [space.into()]).all(connection).await? {
        rules.extend(row.json("rules")?.as_array().into_iter().flatten().cloned());
    }
    Ok(rules)
}

/// The name of the segment a space's apps must run in: its own, or its organization's default.
pub async fn isolation_segment(connection: &mut Connection, space: &str) -> Result<Option<String>> {
    let text = "SELECT i.name FROM spaces s JOIN organizations o ON o.guid = s.org_guid \
                JOIN isolation_segments i ON i.guid = COALESCE(s.isolation_segment_guid, o.default_isolation_segment_guid) \
                WHERE s.guid = $1";
    let row = query(text, [space.into()]).optional(connection).await?;
    // The one that all cells belong to needs no tag.
    Ok(row.map(|row| row.text("name")).transpose()?.filter(|name| name != "shared"))
}

/// How the app wants to be told of its services.
fn kind_of_files(app: &App) -> ServiceFiles {
    match (app.service_binding_k8s, app.file_based_vcap_services) {
        (true, _) => ServiceFiles::Bindings,
        (false, true) => ServiceFiles::VcapServices,
        (false, false) => ServiceFiles::None,
    }
}

/// # Errors
/// 422 when the app wants files and its bindings cannot be files.
pub async fn check_service_files(
    connection: &mut Connection,
    seal: &Seal,
    app: &App,
) -> ApiResult<()> {
    let kind = kind_of_files(app);
    if kind != ServiceFiles::None {
        let services = services(connection, seal, &app.guid).await?;
        service_files::files(kind, &services).map_err(ApiError::unprocessable)?;
    }
    Ok(())
}

/// `VCAP_SERVICES`: the newest working binding of each service instance, by the service's label.
pub async fn services(
    connection: &mut Connection,
    seal: &Seal,
    app: &str,
) -> anyhow::Result<Value> {
    let text = "SELECT b.guid AS binding_guid, b.name AS binding_name, b.sealed_credentials, b.syslog_drain_url, b.volume_mounts, \
                i.guid AS instance_guid, i.name AS instance_name, i.type, i.tags \
                FROM service_credential_bindings b JOIN service_instances i ON i.guid = b.service_instance_guid \
                WHERE b.app_guid = $1 AND b.operation_type = 'create' AND b.operation_state = 'succeeded' ORDER BY b.id DESC";
    let mut services: Map<String, Value> = Map::new();
    let mut seen: Vec<String> = Vec::new();
    for row in query(text, [app.into()]).all(connection).await? {
        let instance = row.text("instance_guid")?;
        if seen.contains(&instance) {
            continue;
        }
        let (binding_name, instance_name) =
            (row.maybe_text("binding_name")?, row.text("instance_name")?);
        let label = "user-provided";
        let value = json!({
            "label": label,
            "name": binding_name.as_ref().unwrap_or(&instance_name),
            "tags": row.texts("tags")?,
            "instance_guid": instance,
            "instance_name": instance_name,
            "binding_guid": row.text("binding_guid")?,
            "binding_name": binding_name,
            "credentials": seal.open_json(row.maybe_text("sealed_credentials")?.as_deref())?,
            "syslog_drain_url": row.maybe_text("syslog_drain_url")?,
            "volume_mounts": row.json("volume_mounts")?,
        });
        seen.push(instance);
        if let Value::Array(list) = services.entry(label).or_insert_with(|| json!([])) {
            list.insert(0, value);
        }
    }
    Ok(Value::Object(services))
}
