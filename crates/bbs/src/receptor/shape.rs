//! Between the Receptor's JSON and ours. They differ in what is null, in how long a timeout is written, and in a few
//! names.

use axum::http::StatusCode;
use base::Timestamp;
use diego::desired_lrp::RunInfo;
use diego::{Action, ActualLrp, DesiredLrp, Presence, Task};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::error::{ReceptorError, Result};

const ACTIONS: [&str; 3] = ["action", "setup", "monitor"];
const NANOS_PER_MILLI: u64 = 1_000_000;

/// What is signed in the Receptor's own words: below zero it is a wrong value, not wrong JSON.
const SIGNED: [&str; 3] = ["instances", "memory_mb", "disk_mb"];

/// Reads what is desired; numbers below zero are refused under the error's name, each with its field.
pub(super) fn read_desired<T: DeserializeOwned>(body: &[u8], error: &'static str) -> Result<T> {
    let value = parse(body)?;
    let below = |field: &&str| value[*field].as_i64().is_some_and(|number| number < 0);
    let negative: Vec<_> = SIGNED.into_iter().filter(below).collect();
    if negative.is_empty() {
        return convert(value);
    }
    let message = diego::Invalid(negative).to_string();
    Err(ReceptorError::new(StatusCode::BAD_REQUEST, error, message))
}

/// Reads a request: nulls stand for absent fields (but not within routes), timeouts of actions are nanoseconds.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    convert(parse(body)?)
}

fn parse(body: &[u8]) -> Result<Value> {
    serde_json::from_slice(body).map_err(|error| ReceptorError::invalid_json(&error))
}

fn convert<T: DeserializeOwned>(mut value: Value) -> Result<T> {
    if let Value::Object(fields) = &mut value {
        let routes = fields.remove("routes").filter(|routes| !routes.is_null());
        fields.values_mut().for_each(drop_nulls);
        fields.retain(|_, value| !value.is_null());
        for name in ACTIONS {
            if let Some(action) = fields.get_mut(name) {
                timeouts(action, &mut to_millis);
            }
        }
        if let Some(given) = fields.remove("start_timeout") {
            let millis = given.as_u64().map(|seconds| json!(seconds.saturating_mul(1000)));
            fields.insert("start_timeout_ms".to_owned(), millis.unwrap_or(given));
        }
        fields.extend(routes.map(|routes| ("routes".to_owned(), routes)));
    }
    serde_json::from_value(value).map_err(|error| ReceptorError::invalid_json(&error))
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Changes every timeout action in a tree of actions.
fn timeouts(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    let Value::Object(fields) = value else { return };
    for (kind, body) in fields {
        let Value::Object(body) = body else { continue };
        if kind == "timeout" {
            change(body);
        }
        if let Some(inner) = body.get_mut("action") {
            timeouts(inner, change);
        }
        if let Some(Value::Array(inner)) = body.get_mut("actions") {
            inner.iter_mut().for_each(|action| timeouts(action, change));
        }
    }
}

/// Part of a millisecond counts as a whole one, lest a short timeout becomes none.
fn to_millis(body: &mut Map<String, Value>) {
    if let Some(given) = body.remove("timeout") {
        let millis = given.as_u64().map(|nanos| json!(nanos.div_ceil(NANOS_PER_MILLI)));
        body.insert("timeout_ms".to_owned(), millis.unwrap_or(given));
    }
}

fn to_nanos(body: &mut Map<String, Value>) {
    if let Some(millis) = body.remove("timeout_ms").and_then(|value| value.as_u64()) {
        body.insert("timeout".to_owned(), json!(millis.saturating_mul(NANOS_PER_MILLI)));
    }
}

fn action(action: Option<&Action>) -> Value {
    let mut value = json!(action);
    timeouts(&mut value, &mut to_nanos);
    value
}

/// What tasks and LRPs have in common.
fn run(run: &RunInfo) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("rootfs", json!(run.rootfs));
    put("action", action(run.action.as_ref()));
    put("cpu_weight", json!(run.cpu_weight));
    put("disk_mb", json!(run.disk_mb));
    put("memory_mb", json!(run.memory_mb));
    put("privileged", json!(run.privileged));
    put("log_guid", json!(run.log_guid));
    put("log_source", json!(run.log_source));
    put("metrics_guid", json!(run.metrics_guid));
    if !run.env.is_empty() {
        put("env", json!(run.env));
    }
    if !run.egress_rules.is_empty() {
        put("egress_rules", json!(run.egress_rules));
    }
    fields
}

pub(super) fn task(task: &Task) -> Value {
    let mut fields = run(&task.definition.run);
    let outcome = task.outcome().cloned().unwrap_or_default();
    fields.extend(object(json!({
        "task_guid": task.task_guid,
        "domain": task.domain,
        "completion_callback_url": task.definition.completion_callback_url,
        // The Receptor has the field and never fills it in.
        "result_file": "",
        "cell_id": task.cell_id().map_or("", |cell| cell.as_str()),
        "created_at": task.created_at,
        "state": task.state.name(),
        "failed": outcome.failed,
        "failure_reason": outcome.failure_reason,
        "result": outcome.result,
    })));
    if !task.definition.annotation.is_empty() {
        fields.insert("annotation".to_owned(), json!(task.definition.annotation));
    }
    // The Receptor never told these; without them nobody learns why a task waits.
    if task.rejection_count > 0 {
        fields.insert("rejection_count".to_owned(), json!(task.rejection_count));
        fields.insert("rejection_reason".to_owned(), json!(task.rejection_reason));
    }
    Value::Object(fields)
}

pub(super) fn desired(lrp: &DesiredLrp) -> Value {
    let mut fields = run(&lrp.run);
    fields.extend(object(json!({
        "process_guid": lrp.process_guid,
        "domain": lrp.domain,
        "instances": lrp.instances,
        "setup": action(lrp.run.setup.as_ref()),
        "monitor": action(lrp.run.monitor.as_ref()),
        "start_timeout": lrp.run.start_timeout_ms.div_ceil(1000),
        "ports": lrp.run.ports,
        "modification_tag": lrp.modification_tag,
    })));
    if !lrp.routes.is_empty() {
        fields.insert("routes".to_owned(), json!(lrp.routes));
    }
    if !lrp.annotation.is_empty() {
        fields.insert("annotation".to_owned(), json!(lrp.annotation));
    }
    Value::Object(fields)
}

pub(super) fn actual(lrp: &ActualLrp) -> Value {
    use diego::actual_lrp::State;
    let by = lrp.instance();
    let ports = lrp.net().map(|net| {
        let port = |port: &diego::PortMapping| json!({ "container_port": port.container_port, "host_port": port.host_port });
        net.ports.iter().map(port).collect::<Vec<_>>()
    });
    let since: Timestamp = lrp.since;
    let mut fields = object(json!({
        "process_guid": lrp.key.process_guid,
        "instance_guid": by.map_or("", |by| by.instance_guid.as_str()),
        "cell_id": by.map_or("", |by| by.cell_id.as_str()),
        "domain": lrp.key.domain,
        "index": lrp.key.index,
        "address": lrp.net().map(|net| net.address.to_string()).unwrap_or_default(),
        "ports": ports,
        "state": lrp.state.name(),
        "crash_count": lrp.crash_count,
        "since": since,
        "evacuating": lrp.presence == Presence::Evacuating,
        "modification_tag": lrp.modification_tag,
    }));
    if !lrp.crash_reason.is_empty() {
        fields.insert("crash_reason".to_owned(), json!(lrp.crash_reason));
    }
    if let State::Unclaimed { placement_error } = &lrp.state
        && !placement_error.is_empty()
    {
        fields.insert("placement_error".to_owned(), json!(placement_error));
    }
    Value::Object(fields)
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use diego::desired_lrp::DesiredLrp;

    use super::*;

    #[test]
    fn what_old_clients_send_is_read_and_shown_again() {
        let body = json!({
            "process_guid": "p", "domain": "lattice", "rootfs": "docker:///busybox", "instances": 2,
            "setup": null, "env": null, "start_timeout": 60, "ports": [8080],
            "action": {"timeout": {"timeout": 1_500_000_000_u64, "action": {"serial": {"actions": [
                {"run": {"path": "/x", "user": "root", "args": null, "env": [{"name": "A", "value": "B"}], "resource_limits": {}}},
                {"timeout": {"timeout": 1, "action": {"run": {"path": "/y", "user": "root", "timeout": 7}}}}
            ]}}}},
            "monitor": null,
            "routes": {"mine": {"kept": null}}
        });
        let lrp: DesiredLrp = read(body.to_string().as_bytes()).unwrap();
        let Some(Action::Timeout(outer)) = &lrp.run.action else { panic!("{:?}", lrp.run.action) };
        assert_eq!((outer.timeout_ms, lrp.run.start_timeout_ms), (1500, 60_000));
        let shown = desired(&lrp);
        assert_eq!(shown["action"]["timeout"]["timeout"], 1_500_000_000_u64);
        assert_eq!(
            shown["action"]["timeout"]["action"]["serial"]["actions"][1]["timeout"]["timeout"],
            1_000_000
        );
        assert_eq!((&shown["start_timeout"], &shown["setup"]), (&json!(60), &Value::Null));
        assert_eq!(shown["routes"], json!({"mine": {"kept": null}}));
        assert!(shown.get("env").is_none());
        let run = &shown["action"]["timeout"]["action"]["serial"]["actions"][0]["run"];
        assert!(run.get("resource_limits").is_none(), "{run}");
        assert!(read::<DesiredLrp>(b"{").is_err());
    }

    #[test]
    fn what_is_no_number_of_seconds_is_not_passed_over() {
        let with = |start_timeout: Value, timeout: Value| {
            let run = json!({"run": {"path": "/x", "user": "root"}});
            let body = json!({
                "process_guid": "p", "domain": "d", "instances": 1, "start_timeout": start_timeout,
                "action": {"timeout": {"timeout": timeout, "action": run}}
            });
            read::<DesiredLrp>(body.to_string().as_bytes()).is_ok()
        };
        assert!(with(json!(1), json!(1)));
        assert!(!with(json!(-1), json!(1)));
        assert!(!with(json!("soon"), json!(1)));
        assert!(!with(json!(1), json!(-1)));
    }
}
