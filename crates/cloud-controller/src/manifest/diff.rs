//! What applying a manifest would change, as JSON patch entries that also tell what was.

use serde_json::{Map, Value, json};

use super::units;

/// Keys of an application that are compared; others (`path` and such) are the client's.
const COMPARED: &[&str] = &[
    "buildpack",
    "buildpacks",
    "command",
    "default-route",
    "docker",
    "env",
    "features",
    "health-check-http-endpoint",
    "health-check-interval",
    "health-check-invocation-timeout",
    "health-check-type",
    "instances",
    "lifecycle",
    "log-rate-limit-per-second",
    "metadata",
    "name",
    "no-route",
    "processes",
    "random-route",
    "readiness-health-check-http-endpoint",
    "readiness-health-check-interval",
    "readiness-health-check-invocation-timeout",
    "readiness-health-check-type",
    "routes",
    "services",
    "sidecars",
    "stack",
    "timeout",
];

/// Parts that a manifest only adds to: what it does not name is no difference.
const ADDED_TO: &[&str] = &["processes", "routes", "sidecars"];

/// `existing` is the app's own manifest, or null; `at` its place in the list.
pub fn diff(existing: &Value, wanted: &Value, at: usize) -> Vec<Value> {
    let mut entries = Vec::new();
    let empty = Map::new();
    let web = web_process(existing);
    for (key, value) in wanted.as_object().unwrap_or(&empty) {
        if !COMPARED.contains(&key.as_str()) {
            continue;
        }
        let after = normalized(key, value);
        let before = existing.get(key).or_else(|| web.and_then(|web| web.get(key)));
        let before = before.map(|before| pruned(key, &normalized(key, before), &after));
        compare(before.as_ref(), &after, &format!("/applications/{at}/{key}"), &mut entries);
    }
    entries
}

fn web_process(existing: &Value) -> Option<&Value> {
    let processes = existing.get("processes")?.as_array()?;
    processes.iter().find(|process| process["type"] == "web")
}

/// Sizes in one spelling, and only the keys that are read.
fn normalized(key: &str, value: &Value) -> Value {
    match (key, value) {
        ("memory" | "disk_quota", Value::String(text)) => {
            units::megabytes(text).map_or_else(|_| value.clone(), |size| format!("{size}M").into())
        }
        ("log-rate-limit-per-second", Value::String(text)) if text == "-1" || text == "0" => {
            text.parse::<i64>().map_or_else(|_| value.clone(), Value::from)
        }
        ("log-rate-limit-per-second", Value::String(text)) => {
            units::bytes(text).map_or_else(|_| value.clone(), |size| units::spoken(size).into())
        }
        ("processes" | "sidecars", Value::Array(items)) => {
            items.iter().map(normalized_part).collect()
        }
        ("env", Value::Object(variables)) => {
            let text = |value: &Value| match value {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            variables.iter().map(|(key, value)| (key.clone(), Value::from(text(value)))).collect()
        }
        _ => value.clone(),
    }
}

fn normalized_part(item: &Value) -> Value {
    let Some(object) = item.as_object() else { return item.clone() };
    let known = |key: &str| {
        COMPARED.contains(&key)
            || ["type", "memory", "disk_quota", "user", "process_types"].contains(&key)
    };
    object
        .iter()
        .filter(|(key, _)| known(key))
        .map(|(key, value)| (key.clone(), normalized(key, value)))
        .collect()
}

/// What there is, without what the manifest does not speak of.
fn pruned(key: &str, before: &Value, after: &Value) -> Value {
    if key == "features" {
        let named = |name: &String| after.get(name).is_some();
        let features = before.as_object().into_iter().flatten().filter(|(name, _)| named(name));
        return features.map(|(name, value)| (name.clone(), value.clone())).collect();
    }
    let (Some(before), Some(after), true) =
        (before.as_array(), after.as_array(), ADDED_TO.contains(&key))
    else {
        return before.clone();
    };
    let one = |item: &Value| -> Option<Value> {
        let wanted = after.iter().find(|wanted| same(item, wanted))?;
        let object = item.as_object()?;
        Some(
            object
                .iter()
                .filter(|(key, _)| wanted.get(key).is_some())
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        )
    };
    before.iter().filter_map(one).collect()
}

/// Whether two list items speak of the same thing.
fn same(a: &Value, b: &Value) -> bool {
    let by = |key: &str| a.get(key).is_some() && a.get(key) == b.get(key);
    a == b || by("type") || by("name") || by("route")
}

fn compare(before: Option<&Value>, after: &Value, path: &str, entries: &mut Vec<Value>) {
    match (before, after) {
        (Some(before), after) if before == after => {}
        (None | Some(Value::Null), after) => {
            entries.push(json!({ "op": "add", "path": path, "value": after }))
        }
        (Some(Value::Object(old)), Value::Object(new)) => {
            for (key, was) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
                entries
                    .push(json!({ "op": "remove", "path": format!("{path}/{key}"), "was": was }));
            }
            for (key, value) in new {
                compare(old.get(key), value, &format!("{path}/{key}"), entries);
            }
        }
        (Some(Value::Array(old)), Value::Array(new)) => {
            for (at, was) in
                old.iter().enumerate().filter(|(_, was)| !new.iter().any(|item| same(was, item)))
            {
                entries.push(json!({ "op": "remove", "path": format!("{path}/{at}"), "was": was }));
            }
            for (at, item) in new.iter().enumerate() {
                compare(
                    old.iter().find(|was| same(was, item)),
                    item,
                    &format!("{path}/{at}"),
                    entries,
                );
            }
        }
        (Some(before), after) => {
            entries.push(json!({ "op": "replace", "path": path, "was": before, "value": after }));
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn check(existing: Value, wanted: Value, expected: &expect_test::Expect) {
        let lines: Vec<String> = diff(&existing, &wanted, 0).iter().map(Value::to_string).collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn everything_of_a_new_app_is_added() {
        check(
            Value::Null,
            json!({ "name": "a", "memory": "1G", "path": "/x", "default-route": true }),
            &expect![[r#"
                {"op":"add","path":"/applications/0/default-route","value":true}
                {"op":"add","path":"/applications/0/name","value":"a"}"#]],
        );
    }

    #[test]
    fn only_what_the_manifest_names_is_compared() {
        let existing = json!({
            "name": "a",
            "env": { "A": "1", "B": "2" },
            "routes": [{ "route": "a.x", "protocol": "http1" }, { "route": "b.x", "protocol": "http1" }],
            "processes": [{ "type": "web", "memory": "256M", "instances": 1 }, { "type": "worker", "instances": 3 }],
        });
        let wanted = json!({
            "name": "a",
            "instances": 2,
            "env": { "A": 1, "C": "3" },
            "routes": [{ "route": "a.x" }, { "route": "c.x" }],
            "processes": [{ "type": "web", "memory": "0.5G" }],
        });
        check(
            existing,
            wanted,
            &expect![[r#"
                {"op":"remove","path":"/applications/0/env/B","was":"2"}
                {"op":"add","path":"/applications/0/env/C","value":"3"}
                {"op":"replace","path":"/applications/0/instances","value":2,"was":1}
                {"op":"replace","path":"/applications/0/processes/0/memory","value":"512M","was":"256M"}
                {"op":"add","path":"/applications/0/routes/1","value":{"route":"c.x"}}"#]],
        );
    }
}
