//! From the YAML of one application to [`AppManifest`], with every problem on the way.

use serde_json::{Map, Value, json};

use super::{
    AppManifest, ManifestProcess, ManifestRoute, ManifestService, ManifestSidecar, Routes,
};
use super::{read_process, units};
use crate::message::Fields;
use crate::v3::lifecycle;

const FEATURES: &[&str] = &["ssh", "revisions", "service-binding-k8s", "file-based-vcap-services"];

/// What was understood, and what was wrong.
pub fn application(value: &Value) -> (AppManifest, Vec<String>) {
    let Some(object) = value.as_object() else {
        return (AppManifest::default(), vec!["must be an object".to_owned()]);
    };
    let mut reader = Reader { object: underscored(object), problems: Vec::new() };
    let mut manifest =
        AppManifest { name: reader.name(), shown: shown(object), ..AppManifest::default() };
    manifest.lifecycle = reader.text("lifecycle");
    manifest.docker = reader.value("docker").is_some();
    if manifest
        .lifecycle
        .as_deref()
        .is_some_and(|kind| !["buildpack", "cnb", "docker"].contains(&kind))
    {
        reader.problem("Lifecycle type must be one of 'buildpack', 'cnb', 'docker'");
    }
    manifest.stack = reader.text("stack");
    manifest.buildpacks = reader.buildpacks();
    if manifest.docker && manifest.buildpacks.is_some() {
        reader.problem("Cannot specify both buildpack(s) and docker keys");
    }
    reader.env(&mut manifest);
    reader.features(&mut manifest);
    manifest.routes = reader.routes();
    manifest.services = reader.services();
    manifest.processes = reader.processes();
    manifest.sidecars = reader.sidecars();
    reader.metadata(&mut manifest);
    (manifest, reader.problems)
}

/// Keys may be written with `-` or `_`.
fn underscored(object: &Map<String, Value>) -> Map<String, Value> {
    object.iter().map(|(key, value)| (key.replace('-', "_"), value.clone())).collect()
}

fn shown(object: &Map<String, Value>) -> Value {
    let mut shown = object.clone();
    for secret in ["env", "cnb-credentials"] {
        if let Some(value) = shown.get_mut(secret) {
            *value = crate::REDACTED.into();
        }
    }
    Value::Object(shown)
}

struct Reader {
    object: Map<String, Value>,
    problems: Vec<String>,
}

impl Reader {
    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn name(&mut self) -> String {
        match self.object.get("name") {
            Some(Value::String(name)) if !name.is_empty() => return name.clone(),
            // A name such as 42 is a number to YAML.
            Some(Value::Number(name)) => return name.to_string(),
            Some(Value::String(_)) | None => self.problem("Name must not be empty"),
            Some(_) => self.problem("Name must be a string"),
        }
        String::new()
    }

    fn text(&mut self, key: &str) -> Option<String> {
        match self.value(key)?.clone() {
            Value::String(text) => Some(text),
            _ => {
                self.problem(format!("{} must be a string", spoken(key)));
                None
            }
        }
    }

    fn flag(&mut self, key: &str) -> bool {
        match self.value(key) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.problem(format!("{} must be a boolean", spoken(key).replace(' ', "-")));
                false
            }
        }
    }

    fn buildpacks(&mut self) -> Option<Vec<String>> {
        let (many, one) =
            (self.object.contains_key("buildpacks"), self.object.contains_key("buildpack"));
        if many && one {
            self.problem("Buildpack and Buildpacks fields cannot be used together.");
            return None;
        }
        if one {
            return match self.object["buildpack"].clone() {
                Value::Null => Some(Vec::new()),
                Value::String(name) if name == "default" || name == "null" => Some(Vec::new()),
                Value::String(name) => Some(vec![name]),
                _ => {
                    self.problem("Buildpack must be a string");
                    None
                }
            };
        }
        let items = match self.object.get("buildpacks")? {
            Value::Null => return Some(Vec::new()),
            Value::Array(items) => {
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
            }
            _ => None::<Vec<String>>,
        };
        if items.is_none() {
            self.problem("Buildpacks can only contain strings");
        }
        items
    }

    fn env(&mut self, manifest: &mut AppManifest) {
        let Some(value) = self.value("env").cloned() else { return };
        let Value::Object(variables) = value else {
            return self.problem("Env must be an object of keys and values");
        };
        for (key, value) in variables {
            let text = match value {
                Value::String(text) => text,
                Value::Null => String::new(),
                other => other.to_string(),
            };
            manifest.env.insert(key, text);
        }
        let variables = json!(manifest.env);
        lifecycle::check_variables(&variables, |problem| {
            self.problem(problem.replacen("Environment variables", "Env", 1));
        });
    }

    fn features(&mut self, manifest: &mut AppManifest) {
        let Some(value) = self.value("features").cloned() else { return };
        let Some(features) = value.as_object() else {
            return self.problem("Features must be a map of valid feature names to booleans (true = enabled, false = disabled)");
        };
        for (name, value) in features {
            match value.as_bool() {
                Some(on) if FEATURES.contains(&name.as_str()) => {
                    manifest.features.insert(name.clone(), on);
                }
                _ => {
                    return self.problem(
                        "Features must be a map of valid feature names to booleans (true = enabled, false = disabled)",
                    );
                }
            }
        }
        let on = |name: &str| manifest.features.get(name).copied().unwrap_or(false);
        if on("service-binding-k8s") && on("file-based-vcap-services") {
            self.problem("Features 'file-based-vcap-services' and 'service-binding-k8s' cannot be enabled at the same time.");
        }
    }

    fn routes(&mut self) -> Routes {
        let (none, random, default) =
            (self.flag("no_route"), self.flag("random_route"), self.flag("default_route"));
        if random && default {
            self.problem("Random-route and default-route may not be used together");
        }
        let these = self.value("routes").cloned().map(|value| self.these_routes(&value));
        match these {
            _ if none => Routes::None,
            Some(routes) => Routes::These(routes),
            None if random => Routes::Random,
            None if default => Routes::Default,
            None => Routes::Keep,
        }
    }

    fn these_routes(&mut self, value: &Value) -> Vec<ManifestRoute> {
        let Some(items) =
            value.as_array().filter(|items| items.iter().all(|item| item.get("route").is_some()))
        else {
            self.problem("Routes must be a list of route objects");
            return Vec::new();
        };
        let mut routes = Vec::new();
        for item in items {
            let text =
                item["route"].as_str().map_or_else(|| item["route"].to_string(), str::to_owned);
            let Some(mut route) = ManifestRoute::parse(&text) else {
                self.problem(format!("The route '{text}' is not a properly formed URL"));
                continue;
            };
            match item.get("protocol").filter(|value| !value.is_null()) {
                None => {}
                Some(Value::String(name)) if ["http1", "http2", "tcp"].contains(&name.as_str()) => {
                    route.protocol = Some(name.clone());
                }
                Some(_) => self.problem("Route protocol must be 'http1', 'http2' or 'tcp'."),
            }
            match item.get("options").filter(|value| !value.is_null()) {
                None => {}
                Some(Value::Object(options)) => route.options = options.clone(),
                Some(_) => self.problem(format!("For Route '{text}': options must be an object")),
            }
            routes.push(route);
        }
        routes
    }

    fn services(&mut self) -> Vec<ManifestService> {
        let Some(value) = self.value("services").cloned() else { return Vec::new() };
        let Some(items) = value.as_array() else {
            self.problem("Services must be a list of service instances");
            return Vec::new();
        };
        let mut services = Vec::new();
        for item in items {
            let text = |key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
            let dashed = item.get("binding-name").and_then(Value::as_str).map(str::to_owned);
            match (item, text("name")) {
                (Value::String(name), _) => {
                    services.push(ManifestService {
                        name: name.clone(),
                        binding_name: None,
                        parameters: None,
                    });
                }
                (Value::Object(_), Some(name)) => services.push(ManifestService {
                    name,
                    binding_name: text("binding_name").or(dashed),
                    parameters: item.get("parameters").filter(|value| !value.is_null()).cloned(),
                }),
                (Value::Object(_), None) => self.problem("For service '': Name must be specified"),
                _ => self.problem("Services list must contain strings or objects"),
            }
        }
        services
    }

    fn processes(&mut self) -> Vec<ManifestProcess> {
        let own = self.object.clone();
        let mut processes = vec![self.process(&own, "web", false)];
        let Some(value) = self.value("processes").cloned() else { return processes };
        let Some(items) = value.as_array() else {
            self.problem("Processes must be an array of process configurations");
            return processes;
        };
        let mut seen: Vec<String> = Vec::new();
        for item in items {
            let object = item.as_object().map(underscored).unwrap_or_default();
            let Some(kind) =
                object.get("type").and_then(Value::as_str).filter(|kind| !kind.is_empty())
            else {
                self.problem("All Processes must specify a type");
                continue;
            };
            if seen.iter().any(|other| other == kind) {
                self.problem(format!("Process \"{kind}\" may only be present once"));
                continue;
            }
            seen.push(kind.to_owned());
            let process = self.process(&object, kind, true);
            if kind == "web" {
                processes[0] = process;
            } else {
                processes.push(process);
            }
        }
        processes
    }

    fn process(
        &mut self,
        object: &Map<String, Value>,
        kind: &str,
        nested: bool,
    ) -> ManifestProcess {
        let (process, mut problems) = read_process::process(object, kind, nested);
        self.problems.append(&mut problems);
        process
    }

    fn sidecars(&mut self) -> Vec<ManifestSidecar> {
        let Some(value) = self.value("sidecars").cloned() else { return Vec::new() };
        let Some(items) = value.as_array() else {
            self.problem("Sidecars must be an array of sidecar configurations");
            return Vec::new();
        };
        items.iter().map(|item| self.sidecar(item)).collect()
    }

    fn sidecar(&mut self, item: &Value) -> ManifestSidecar {
        let object = item.as_object().map(underscored).unwrap_or_default();
        let text =
            |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (name, command) = (text("name"), text("command"));
        let who =
            if name.is_empty() { "Sidecar".to_owned() } else { format!("Sidecar \"{name}\":") };
        if name.is_empty() {
            self.problem("Sidecar name can't be blank");
        }
        if command.is_empty() {
            self.problem(format!("{who} Command can't be blank"));
        }
        let types =
            object.get("process_types").and_then(Value::as_array).cloned().unwrap_or_default();
        let process_types: Vec<String> =
            types.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        if process_types.is_empty() || process_types.len() != types.len() {
            self.problem(format!("{who} Process types must have at least 1 process_type"));
        }
        let memory_mb = match object.get("memory").filter(|value| !value.is_null()) {
            None => None,
            Some(Value::Number(number)) => number.as_i64(),
            Some(value) => match units::megabytes(value.as_str().unwrap_or_default()) {
                Ok(memory) => Some(memory),
                Err(wrong) => {
                    self.problem(format!("{who} Memory {wrong}"));
                    None
                }
            },
        };
        ManifestSidecar { name, command, process_types, memory_mb }
    }

    fn metadata(&mut self, manifest: &mut AppManifest) {
        let Some(value) = self.value("metadata").cloned() else { return };
        let object = Map::from_iter([("metadata".to_owned(), value)]);
        let mut fields = Fields::new(&object);
        manifest.metadata = fields.metadata();
        if let Err(error) = fields.finish() {
            self.problem(error.to_string());
        }
    }
}

/// `disk_quota` as it is spoken of in errors: `Disk quota`.
pub fn spoken(key: &str) -> String {
    let mut text = key.replace('_', " ").replace("http ", "HTTP ");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}
