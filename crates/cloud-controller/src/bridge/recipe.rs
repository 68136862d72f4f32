//! Pure: what a started process is in Diego's words.

use std::collections::BTreeMap;

use diego::action::{ActionList, EnvVar, ResourceLimits, RunAction};
use diego::desired_lrp::{
    CachedDependency, CertificateProperties, Check, CheckDefinition, ImageLayer, RunInfo,
};
use diego::{Action, DesiredLrp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::APPS_DOMAIN;
use super::environment::{self, Limits, Running};
use crate::actions::seed::hex;
use crate::config::Config;
use crate::db::droplets::Droplet;
use crate::db::processes::HealthCheck;
use crate::db::recipes::RunRecipe;
use crate::db::routing;
use crate::internal::address;
use crate::logs::AppNames;

/// Where the lifecycle's programs lie in every container.
pub const LIFECYCLE: &str = "/tmp/lifecycle";
const DEFAULT_START_TIMEOUT_S: u64 = 60;
/// A gigabyte-sized weight is what one of eight gets of a whole core's worth.
const FULL_WEIGHT_MB: i64 = 8192;
const LEAST_WEIGHT_MB: i64 = 128;

/// The LRP that a started process should be.
pub fn desired_lrp(recipe: &RunRecipe, config: &Config) -> DesiredLrp {
    let process = &recipe.process;
    let ports = routing::ports(&recipe.mappings, &process.kind);
    let image = recipe.droplet.docker_image.as_deref();
    let user = process.run_as.as_deref().unwrap_or(if image.is_some() { "root" } else { "vcap" });
    let tags = metric_tags(&recipe.view.names, &process.guid, &process.kind);
    let run = RunInfo {
        rootfs: rootfs(&recipe.droplet, config),
        env: if image.is_some() {
            Vec::new()
        } else {
            vec![EnvVar::new(environment::LANG.0, environment::LANG.1)]
        },
        action: Some(action(recipe, config, &ports, user)),
        check_definition: check_definition(&process.health, &process.readiness, &ports),
        start_timeout_ms: process
            .health
            .timeout
            .and_then(|s| u64::try_from(s).ok())
            .unwrap_or(DEFAULT_START_TIMEOUT_S)
            * 1000,
        memory_mb: unsigned(process.memory_mb),
        disk_mb: unsigned(process.disk_mb),
        max_pids: config.limits.app_max_pids,
        cpu_weight: cpu_weight(process.memory_mb),
        ports,
        egress_rules: egress_rules(&recipe.security_rules),
        cached_dependencies: vec![lifecycle(config)],
        image_layers: droplet_layer(&recipe.droplet, config).into_iter().collect(),
        volume_mounted_files: recipe.view.mounted_files(),
        placement_tags: recipe.isolation_segment.iter().cloned().collect(),
        certificate_properties: Some(Box::new(certificate(&recipe.view.names))),
        log_guid: recipe.app.guid.clone(),
        log_source: "CELL".to_owned(),
        metrics_guid: recipe.app.guid.clone(),
        log_rate_limit: process.log_rate,
        ..RunInfo::default()
    };
    DesiredLrp {
        process_guid: process.lrp_guid().into(),
        domain: APPS_DOMAIN.into(),
        instances: u32::try_from(process.instances).unwrap_or(0),
        run,
        routes: routing::lrp_routes(&recipe.mappings, &process.kind),
        annotation: digest(&tags),
        metric_tags: tags,
        modification_tag: diego::ModificationTag::default(),
    }
}

/// The image the droplet names, or the stack it was made on.
pub fn rootfs(droplet: &Droplet, config: &Config) -> String {
    match droplet.docker_image.as_deref() {
        Some(image) => docker_rootfs(image),
        None => {
            let stack = droplet.stack.as_deref().unwrap_or_else(|| config.default_stack());
            format!("preloaded:{stack}")
        }
    }
}

/// The droplet's files; an image brings its own.
pub fn droplet_layer(droplet: &Droplet, config: &Config) -> Option<ImageLayer> {
    let sha256 = droplet.sha256.as_ref().filter(|_| droplet.docker_image.is_none())?;
    Some(ImageLayer {
        name: "droplet".to_owned(),
        url: address(config, &format!("/internal/droplets/{sha256}")),
        destination_path: "/home/vcap".to_owned(),
        digest_algorithm: "sha256".to_owned(),
        digest_value: sha256.clone(),
    })
}

/// What an instance's certificate says of whose it is; the words are Cloud Foundry's.
pub fn certificate(names: &AppNames) -> CertificateProperties {
    let of = |kind: &str, guid: &str| format!("{kind}:{guid}");
    let organizational_unit = vec![
        of("organization", &names.org_guid),
        of("space", &names.space_guid),
        of("app", &names.app_guid),
    ];
    CertificateProperties { organizational_unit }
}

/// Tells whether tags differ without comparing them; kept as the LRP's annotation.
pub fn digest(tags: &BTreeMap<String, String>) -> String {
    hex(&Sha256::digest(json!(tags).to_string())[..16])
}

pub fn metric_tags(
    names: &AppNames,
    process_guid: &str,
    process_type: &str,
) -> BTreeMap<String, String> {
    let mut tags = names.tags();
    let own = [
        ("source_id", names.app_guid.as_str()),
        ("process_id", process_guid),
        ("process_type", process_type),
    ];
    tags.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    tags
}

pub fn lifecycle(config: &Config) -> CachedDependency {
    let digest = hex(&Sha256::digest(&config.lifecycle_bundle));
    CachedDependency {
        name: "lifecycle".to_owned(),
        from: address(config, "/internal/lifecycle"),
        to: LIFECYCLE.to_owned(),
        cache_key: format!("lifecycle-{digest}"),
        checksum_algorithm: "sha256".to_owned(),
        checksum_value: digest,
    }
}

fn action(recipe: &RunRecipe, config: &Config, ports: &[u16], user: &str) -> Action {
    let process = &recipe.process;
    let source = format!("APP/PROC/{}", process.kind.to_uppercase());
    let sidecar_memory: i64 = recipe.sidecars.iter().filter_map(|(_, _, memory)| *memory).sum();
    let command = process.start_command().unwrap_or_default();
    let main = launch(
        recipe,
        config,
        ports,
        user,
        command,
        process.memory_mb - sidecar_memory,
        source.clone(),
    );
    let mut actions = vec![main];
    for (name, command, memory) in &recipe.sidecars {
        let source = format!("{source}/SIDECAR/{}", name.to_uppercase());
        actions.push(launch(
            recipe,
            config,
            ports,
            user,
            command,
            memory.unwrap_or(process.memory_mb),
            source,
        ));
    }
    Action::Codependent(ActionList { actions, log_source: String::new() })
}

fn launch(
    recipe: &RunRecipe,
    config: &Config,
    ports: &[u16],
    user: &str,
    command: &str,
    memory_mb: i64,
    log_source: String,
) -> Action {
    let process = &recipe.process;
    let limits =
        Limits { memory_mb, disk_mb: Some(process.disk_mb), fds: Some(config.limits.app_fds) };
    let running = Running {
        process_guid: &process.guid,
        process_type: &process.kind,
        version: &process.version,
    };
    let mut env = environment::ports(ports);
    if recipe.droplet.docker_image.is_some() {
        env.truncate(1);
    }
    env.extend(recipe.view.variables(&[], limits, Some(running)));
    Action::Run(RunAction {
        path: format!("{LIFECYCLE}/launcher"),
        args: vec!["app".to_owned(), command.to_owned(), recipe.droplet.execution_metadata.clone()],
        env,
        resource_limits: ResourceLimits { nofile: Some(config.limits.app_fds) },
        user: user.to_owned(),
        log_source,
        ..RunAction::default()
    })
}

fn check_definition(
    health: &HealthCheck,
    readiness: &HealthCheck,
    ports: &[u16],
) -> Option<CheckDefinition> {
    let (checks, readiness_checks) = (checks(health, ports), checks(readiness, ports));
    if checks.is_empty() && readiness_checks.is_empty() {
        return None;
    }
    Some(CheckDefinition { checks, readiness_checks, log_source: "HEALTH".to_owned() })
}

/// A port check looks at every port, an http check at the first, a process check at none.
fn checks(check: &HealthCheck, ports: &[u16]) -> Vec<Check> {
    let milliseconds = |seconds: Option<i64>| unsigned(seconds.unwrap_or(0)) * 1000;
    let (timeout, interval_ms) =
        (milliseconds(check.invocation_timeout), milliseconds(check.interval));
    match check.kind.as_str() {
        "port" => ports
            .iter()
            .map(|&port| Check::Tcp { port, connect_timeout_ms: timeout, interval_ms })
            .collect(),
        "http" => {
            let path = check.endpoint.clone().unwrap_or_else(|| "/".to_owned());
            ports
                .first()
                .map(|&port| Check::Http { port, path, request_timeout_ms: timeout, interval_ms })
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    }
}

pub fn cpu_weight(memory_mb: i64) -> u32 {
    let weight = 100 * memory_mb.clamp(LEAST_WEIGHT_MB, FULL_WEIGHT_MB) / FULL_WEIGHT_MB;
    u32::try_from(weight.max(1)).unwrap_or(1)
}

pub fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Security groups' rules in Diego's form; those that log come last, as the last match decides.
pub fn egress_rules(rules: &[Value]) -> Vec<Value> {
    let mut shown: Vec<Value> = Vec::new();
    for rule in rules.iter().filter_map(egress_rule) {
        if !shown.contains(&rule) {
            shown.push(rule);
        }
    }
    shown.sort_by_key(|rule| rule["log"] == true);
    shown
}

fn egress_rule(rule: &Value) -> Option<Value> {
    let protocol = rule.get("protocol")?.as_str()?;
    let destinations: Vec<&str> =
        rule.get("destination")?.as_str()?.split(',').map(str::trim).collect();
    let mut shown = json!({ "protocol": protocol, "destinations": destinations });
    match protocol {
        "tcp" | "udp" => {
            let ports = rule.get("ports").and_then(Value::as_str)?;
            match ports.split_once('-') {
                Some((start, end)) => {
                    let (start, end): (u16, u16) =
                        (start.trim().parse().ok()?, end.trim().parse().ok()?);
                    shown["port_range"] = json!({ "start": start, "end": end });
                }
                None => {
                    let list: Option<Vec<u16>> =
                        ports.split(',').map(|port| port.trim().parse().ok()).collect();
                    shown["ports"] = json!(list?);
                }
            }
        }
        "icmp" | "icmpv6" => {
            shown["icmp_type"] = rule.get("type").and_then(Value::as_i64).into();
            shown["icmp_code"] = rule.get("code").and_then(Value::as_i64).into();
        }
        _ => {}
    }
    if rule.get("log") == Some(&Value::Bool(true)) {
        shown["log"] = true.into();
    }
    Some(shown)
}

/// `docker://registry/path#tag`, as root file systems are named.
pub fn docker_rootfs(image: &str) -> String {
    let (path, tag) = match image.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (image, None),
    };
    let (registry, rest) = match path.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
            (host, rest.to_owned())
        }
        Some(_) => ("", path.to_owned()),
        None => ("", format!("library/{path}")),
    };
    let tag = tag.map(|tag| format!("#{tag}")).unwrap_or_default();
    format!("docker://{registry}/{rest}{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_put_in_diegos_form() {
        let rules = [
            json!({ "protocol": "tcp", "destination": "10.0.0.0/8,1.1.1.1", "ports": "443,80", "log": true }),
            json!({ "protocol": "udp", "destination": "1.1.1.1", "ports": "50-60" }),
            json!({ "protocol": "all", "destination": "1.0.0.0-2.0.0.0" }),
            json!({ "protocol": "tcp", "destination": "1.1.1.1" }),
        ];
        let expected = [
            json!({ "protocol": "udp", "destinations": ["1.1.1.1"], "port_range": { "start": 50, "end": 60 } }),
            json!({ "protocol": "all", "destinations": ["1.0.0.0-2.0.0.0"] }),
            json!({ "protocol": "tcp", "destinations": ["10.0.0.0/8", "1.1.1.1"], "ports": [443, 80], "log": true }),
        ];
        assert_eq!(egress_rules(&rules), expected);
    }

    #[test]
    fn images_are_named_as_root_file_systems() {
        assert_eq!(docker_rootfs("busybox"), "docker:///library/busybox");
        assert_eq!(docker_rootfs("me/app:v1"), "docker:///me/app#v1");
        assert_eq!(docker_rootfs("localhost:5000/app:v1"), "docker://localhost:5000/app#v1");
    }

    #[test]
    fn the_weight_follows_the_memory() {
        assert_eq!([cpu_weight(1), cpu_weight(1024), cpu_weight(100_000)], [1, 12, 100]);
    }
}
