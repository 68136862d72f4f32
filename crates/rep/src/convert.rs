//! Turns LRPs and tasks into containers with recipes.

use std::collections::BTreeMap;

use anyhow::Context;
use diego::action::EnvVar;
use diego::cell::Resources;
use diego::desired_lrp::RunInfo;
use diego::{DesiredLrp, Task};
use executor::{ContainerRequest, LogConfig, LogTags};
use garden::EgressRule;
use serde_json::{Map, Value};

use crate::owner::{Owner, handle};

/// How long an instance guid is: a UUID without its last eight digits, so that it fits where names are short.
const INSTANCE_GUID_LENGTH: usize = 28;

pub(crate) fn new_instance_guid() -> diego::InstanceGuid {
    base::new_guid()[..INSTANCE_GUID_LENGTH].into()
}

pub(crate) fn lrp_owner(
    desired: &DesiredLrp,
    index: u32,
    instance_guid: diego::InstanceGuid,
) -> Owner {
    let key = diego::LrpKey {
        process_guid: desired.process_guid.clone(),
        index,
        domain: desired.domain.clone(),
    };
    Owner::Lrp { key, instance_guid, log_source: action_source(&desired.run) }
}

pub(crate) fn task_owner(task: &Task) -> Owner {
    Owner::Task {
        guid: task.task_guid.clone(),
        result_file: task.definition.result_file.clone(),
        rejections: task.rejection_count,
    }
}

/// Whose lines the action writes; what a crash reason names.
fn action_source(run: &RunInfo) -> String {
    match &run.action {
        Some(diego::Action::Run(action)) if !action.log_source.is_empty() => {
            action.log_source.clone()
        }
        _ => run.log_source.clone(),
    }
}

pub(crate) fn lrp_request(desired: &DesiredLrp, owner: &Owner) -> anyhow::Result<ContainerRequest> {
    let Owner::Lrp { key, instance_guid, .. } = owner else {
        anyhow::bail!("not an LRP's container")
    };
    let (guid, index) = (instance_guid.as_str(), key.index.to_string());
    let own = [
        EnvVar::new("INSTANCE_GUID", guid),
        EnvVar::new("INSTANCE_INDEX", index.as_str()),
        EnvVar::new("CF_INSTANCE_GUID", guid),
        EnvVar::new("CF_INSTANCE_INDEX", index.as_str()),
    ];
    let tags = instance_tags(desired.metric_tags.clone(), owner);
    let tags = LogTags { tags, version: desired.modification_tag.clone() };
    let log = LogConfig { index: key.index, tags, ..log(&desired.run) };
    let request = request(&desired.run, owner, guid)?;
    Ok(ContainerRequest { env: own.into_iter().chain(request.env).collect(), log, ..request })
}

/// Whoever wants tags wants to know which instance it was as well, and who tells.
pub(crate) fn instance_tags(
    mut tags: BTreeMap<String, String>,
    owner: &Owner,
) -> BTreeMap<String, String> {
    if let (Owner::Lrp { key, instance_guid, .. }, false) = (owner, tags.is_empty()) {
        tags.insert("origin".to_owned(), "rep".to_owned());
        tags.insert("instance_id".to_owned(), key.index.to_string());
        tags.insert("process_instance_id".to_owned(), instance_guid.to_string());
    }
    tags
}

pub(crate) fn task_request(task: &Task, owner: &Owner) -> anyhow::Result<ContainerRequest> {
    let request = request(&task.definition.run, owner, task.task_guid.as_str())?;
    let tags = LogTags { tags: task.definition.metric_tags.clone(), ..LogTags::default() };
    let log = LogConfig { tags, ..request.log };
    Ok(ContainerRequest { log, ..request })
}

fn request(run: &RunInfo, owner: &Owner, guid: &str) -> anyhow::Result<ContainerRequest> {
    Ok(ContainerRequest {
        guid: handle(guid),
        rootfs: run.rootfs.clone(),
        resources: Resources::of(run),
        cpu_weight: run.cpu_weight.max(1),
        max_pids: run.max_pids,
        privileged: run.privileged,
        env: run.env.clone(),
        ports: run.ports.clone(),
        egress: run.egress_rules.iter().map(egress).collect::<anyhow::Result<_>>()?,
        cached_dependencies: run.cached_dependencies.clone(),
        image_layers: run.image_layers.clone(),
        volume_mounts: run.volume_mounts.clone(),
        volume_mounted_files: run.volume_mounted_files.clone(),
        units: run
            .certificate_properties
            .as_ref()
            .map(|properties| properties.organizational_unit.clone())
            .unwrap_or_default(),
        setup: run.setup.clone(),
        action: run.action.clone().context("there is no action")?,
        monitor: run.monitor.clone(),
        checks: run.check_definition.clone(),
        start_timeout_ms: run.start_timeout_ms,
        sidecars: run.sidecars.clone(),
        log: log(run),
        metrics_guid: run.metrics_guid.clone(),
        owner: owner.tags(),
    })
}

fn log(run: &RunInfo) -> LogConfig {
    LogConfig {
        guid: run.log_guid.clone(),
        index: 0,
        source: run.log_source.clone(),
        tags: Default::default(),
        bytes_per_second: run.log_rate_limit,
    }
}

/// Diego's rules hold a type and a code in `icmp_info`, and several destinations in one text.
fn egress(rule: &Value) -> anyhow::Result<EgressRule> {
    let mut fields: Map<String, Value> =
        rule.as_object().context("an egress rule is no object")?.clone();
    if let Some(Value::Object(info)) = fields.remove("icmp_info") {
        for (from, to) in [("type", "icmp_type"), ("code", "icmp_code")] {
            fields.extend(info.get(from).map(|value| (to.to_owned(), value.clone())));
        }
    }
    if fields.get("ports").is_some_and(Value::is_null) {
        fields.remove("ports");
    }
    let mut rule: EgressRule =
        serde_json::from_value(Value::Object(fields)).context("an egress rule")?;
    rule.destinations = rule
        .destinations
        .iter()
        .flat_map(|text| text.split(','))
        .map(|text| text.trim().to_owned())
        .collect();
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use diego::action::{Action, RunAction};
    use serde_json::json;

    use super::*;

    fn desired() -> DesiredLrp {
        let action = RunAction {
            path: "/bin/app".into(),
            log_source: "APP/PROC/WEB".into(),
            ..RunAction::default()
        };
        DesiredLrp {
            process_guid: "process".into(),
            domain: "cf-apps".into(),
            instances: 1,
            run: RunInfo {
                rootfs: "preloaded:host".into(),
                action: Some(Action::Run(action)),
                env: vec![EnvVar::new("A", "1")],
                log_guid: "app".into(),
                log_source: "CELL".into(),
                log_rate_limit: -1,
                memory_mb: 64,
                ..RunInfo::default()
            },
            routes: Default::default(),
            annotation: String::new(),
            metric_tags: [("app_name".to_owned(), "dora".to_owned())].into(),
            modification_tag: Default::default(),
        }
    }

    #[test]
    fn an_instance_knows_who_it_is() {
        let guid = new_instance_guid();
        assert_eq!(guid.as_str().len(), 28);
        let owner = lrp_owner(&desired(), 2, guid.clone());
        let request = lrp_request(&desired(), &owner).unwrap();
        assert_eq!(request.guid.as_str(), guid.as_str());
        let env: Vec<_> =
            request.env.iter().map(|var| format!("{}={}", var.name, var.value)).collect();
        let want = ["INSTANCE_GUID", "INSTANCE_INDEX", "CF_INSTANCE_GUID", "CF_INSTANCE_INDEX"]
            .map(|name| {
                format!("{name}={}", if name.ends_with("GUID") { guid.as_str() } else { "2" })
            });
        assert_eq!(env[..4], want);
        assert_eq!(env[4], "A=1");
        assert_eq!((request.log.index, &*request.log.source, request.cpu_weight), (2, "CELL", 1));
        assert_eq!(request.log.tags.tags["process_instance_id"], guid.as_str());
        let Some(Owner::Lrp { log_source, .. }) = Owner::of(&request.owner) else {
            panic!("no owner")
        };
        assert_eq!(log_source, "APP/PROC/WEB");
    }

    #[test]
    fn egress_rules_are_read_as_diego_writes_them() {
        let rule = egress(&json!({
            "protocol": "icmp", "destinations": ["10.0.0.1, 10.0.0.2-10.0.0.9"], "icmp_info": {"type": 8, "code": 0}
        }));
        let rule = rule.unwrap();
        assert_eq!(rule.destinations, ["10.0.0.1", "10.0.0.2-10.0.0.9"]);
        assert_eq!((rule.icmp_type, rule.icmp_code), (Some(8), Some(0)));
        assert!(egress(&json!({"protocol": "sctp", "destinations": []})).is_err());
    }
}
