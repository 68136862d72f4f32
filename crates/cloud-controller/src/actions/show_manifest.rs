//! An app as the manifest that would make it.

use serde_json::{Map, Value, json};
use sql::Connection;

use crate::Cc;
use crate::db::apps::App;
use crate::db::processes::{self, HealthCheck, Process};
use crate::db::{Columns as _, metadata, query, routes, service_bindings};
use crate::errors::ApiResult;
use crate::manifest::units;
use crate::v3::lifecycle;

/// The keys in the order people expect.
const ORDER: &[&str] = &[
    "name",
    "lifecycle",
    "stack",
    "buildpacks",
    "docker",
    "env",
    "features",
    "metadata",
    "routes",
    "services",
    "processes",
    "sidecars",
];

/// The entry of `applications`; empty parts are left out.
pub async fn app(cc: &Cc, connection: &mut Connection, app: &App) -> ApiResult<Map<String, Value>> {
    let mut manifest = Map::new();
    manifest.insert("name".to_owned(), app.name.as_str().into());
    manifest.insert("lifecycle".to_owned(), app.lifecycle.as_str().into());
    if app.lifecycle == lifecycle::DOCKER {
        manifest.extend(docker(connection, app).await?.map(|docker| ("docker".to_owned(), docker)));
    } else {
        manifest
            .extend(app.stack.as_ref().map(|stack| ("stack".to_owned(), stack.as_str().into())));
        let buildpacks: Vec<String> =
            app.buildpacks.iter().map(|name| lifecycle::without_password(name)).collect();
        put_list(&mut manifest, "buildpacks", buildpacks.into_iter().map(Value::from).collect());
    }
    let variables = cc.seal.open_json(app.sealed_env.as_deref())?;
    if variables.as_object().is_some_and(|object| !object.is_empty()) {
        manifest.insert("env".to_owned(), variables);
    }
    manifest.insert(
        "features".to_owned(),
        json!({
            "ssh": app.enable_ssh.unwrap_or(true),
            "revisions": app.revisions_enabled,
            "service-binding-k8s": app.service_binding_k8s,
            "file-based-vcap-services": app.file_based_vcap_services,
        }),
    );
    let own = metadata::load_one(connection, "app", &app.guid).await?;
    let mut shown = Map::new();
    for (name, entries) in [("labels", own.labels), ("annotations", own.annotations)] {
        if !entries.is_empty() {
            shown.insert(name.to_owned(), json!(entries));
        }
    }
    if !shown.is_empty() {
        manifest.insert("metadata".to_owned(), Value::Object(shown));
    }
    put_list(&mut manifest, "routes", shown_routes(connection, app).await?);
    let mut services: Vec<String> = service_bindings::of_app(connection, &app.guid)
        .await?
        .into_iter()
        .map(|(_, instance)| instance.name)
        .collect();
    services.sort_by_key(|name| name.to_lowercase());
    put_list(&mut manifest, "services", services.into_iter().map(Value::from).collect());
    let mut all = processes::of_app(connection, &app.guid).await?;
    all.sort_by(|a, b| a.kind.cmp(&b.kind));
    put_list(&mut manifest, "processes", all.iter().map(process).collect());
    put_list(&mut manifest, "sidecars", sidecars(connection, app).await?);
    Ok(manifest)
}

fn put_list(manifest: &mut Map<String, Value>, key: &str, items: Vec<Value>) {
    if !items.is_empty() {
        manifest.insert(key.to_owned(), Value::Array(items));
    }
}

/// As YAML, with the keys in order.
pub fn yaml(manifest: &Map<String, Value>) -> ApiResult<String> {
    let mut app = serde_norway::Mapping::new();
    for key in ORDER {
        if let Some(value) = manifest.get(*key) {
            app.insert((*key).into(), ordered(value)?);
        }
    }
    let mut document = serde_norway::Mapping::new();
    document.insert("applications".into(), serde_norway::Value::Sequence(vec![app.into()]));
    Ok(serde_norway::to_string(&document).map_err(anyhow::Error::from)?)
}

/// What names an item comes first in it.
fn ordered(value: &Value) -> ApiResult<serde_norway::Value> {
    Ok(match value {
        Value::Array(items) => {
            serde_norway::Value::Sequence(items.iter().map(ordered).collect::<ApiResult<_>>()?)
        }
        Value::Object(object) => {
            let first = ["type", "name", "route"];
            let names = first.into_iter().filter(|name| object.contains_key(*name));
            let rest = object.keys().map(String::as_str).filter(|key| !first.contains(key));
            let mut mapping = serde_norway::Mapping::new();
            for key in names.chain(rest) {
                mapping.insert(key.into(), ordered(&object[key])?);
            }
            mapping.into()
        }
        plain => serde_norway::to_value(plain).map_err(anyhow::Error::from)?,
    })
}

async fn docker(connection: &mut Connection, app: &App) -> ApiResult<Option<Value>> {
    let text = "SELECT docker_image, docker_username FROM packages WHERE app_guid = $1 AND type = 'docker' ORDER BY id DESC LIMIT 1";
    let Some(row) = query(text, [(&app.guid).into()]).optional(connection).await? else {
        return Ok(None);
    };
    let mut docker = json!({ "image": row.maybe_text("docker_image")? });
    if let Some(user) = row.maybe_text("docker_username")? {
        docker["username"] = user.into();
    }
    Ok(Some(docker))
}

async fn shown_routes(connection: &mut Connection, app: &App) -> ApiResult<Vec<Value>> {
    let found = routes::of_app(connection, &app.guid).await?;
    let guids: Vec<String> = found.iter().map(|route| route.guid.clone()).collect();
    let destinations = routes::destinations(connection, &guids).await?;
    let mut shown: Vec<(String, Value)> = Vec::new();
    for route in &found {
        let own = destinations
            .get(&route.guid)
            .into_iter()
            .flatten()
            .filter(|one| one.app_guid == app.guid);
        for destination in own {
            let url = route.url();
            let mut entry = json!({ "route": url, "protocol": destination.protocol });
            if route.options.as_object().is_some_and(|options| !options.is_empty()) {
                entry["options"] = route.options.clone();
            }
            shown.push((url.to_lowercase(), entry));
        }
    }
    shown.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(shown.into_iter().map(|(_, value)| value).collect())
}

fn process(process: &Process) -> Value {
    let rate = if process.log_rate < 0 {
        Value::from(-1)
    } else {
        Value::from(units::spoken(process.log_rate))
    };
    let mut shown = json!({
        "type": process.kind,
        "instances": process.instances,
        "memory": format!("{}M", process.memory_mb),
        "disk_quota": format!("{}M", process.disk_mb),
        "log-rate-limit-per-second": rate,
    });
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            shown[key] = value;
        }
    };
    put("command", process.command.clone().map(Value::from));
    put("user", process.run_as.clone().map(Value::from));
    put("timeout", process.health.timeout.map(Value::from));
    for (prefix, check) in [("", &process.health), ("readiness-", &process.readiness)] {
        let HealthCheck { kind, endpoint, invocation_timeout, interval, .. } = check;
        put(&format!("{prefix}health-check-type"), Some(kind.as_str().into()));
        put(&format!("{prefix}health-check-http-endpoint"), endpoint.clone().map(Value::from));
        put(
            &format!("{prefix}health-check-invocation-timeout"),
            invocation_timeout.map(Value::from),
        );
        put(&format!("{prefix}health-check-interval"), interval.map(Value::from));
    }
    shown
}

async fn sidecars(connection: &mut Connection, app: &App) -> ApiResult<Vec<Value>> {
    let text = "SELECT name, command, process_types, memory_mb FROM sidecars WHERE app_guid = $1 ORDER BY name";
    let mut shown = Vec::new();
    for row in query(text, [(&app.guid).into()]).all(connection).await? {
        let mut sidecar = json!({
            "name": row.text("name")?,
            "process_types": row.texts("process_types")?,
            "command": row.text("command")?,
        });
        if let Some(memory) = row.maybe_int("memory_mb")? {
            sidecar["memory"] = format!("{memory}M").into();
        }
        shown.push(sidecar);
    }
    Ok(shown)
}
