//! What a manifest will change, line by line.

use serde::Deserialize;
use serde_norway::{Mapping, Value};

/// `POST /v3/spaces/:guid/manifest_diff`
#[derive(Debug, Default, Deserialize)]
pub struct Diff {
    #[serde(default)]
    pub diff: Vec<Change>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Change {
    op: Op,
    path: String,
    #[serde(default)]
    was: serde_json::Value,
    #[serde(default)]
    value: serde_json::Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Add,
    Remove,
    Replace,
}

/// What happens to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Same,
    Added,
    Removed,
}

impl Diff {
    /// Pure: the manifest with what comes and what goes marked. `hide_env` hides the values of environment variables.
    pub fn lines(&self, manifest: &Mapping, hide_env: bool) -> Vec<(Mark, String)> {
        let mut out = Lines { lines: Vec::new(), diff: self, hide_env };
        out.push(Mark::Same, "---", 0, false);
        // What else stands in a manifest is there for anchors, and nobody applies it.
        if let Some(apps) = manifest.get("applications") {
            out.walk("/applications", "applications", apps, 0, false);
        }
        out.lines
    }
}

struct Lines<'a> {
    lines: Vec<(Mark, String)>,
    diff: &'a Diff,
    hide_env: bool,
}

impl Lines<'_> {
    fn walk(&mut self, path: &str, key: &str, value: &Value, depth: usize, dashed: bool) {
        let is_item = key.parse::<usize>().is_ok();
        let change =
            self.diff.diff.iter().find(|change| change.op != Op::Remove && change.path == path);
        if let Some(change) = change.cloned() {
            self.change(key, &change, depth, dashed || is_item);
            return;
        }
        if !value.is_mapping() && !value.is_sequence() {
            self.push(Mark::Same, &self.entry(path, key, value), depth, dashed || is_item);
            return;
        }
        let mut inner = depth;
        if !is_item {
            self.push(Mark::Same, &format!("{key}:"), depth, dashed);
            inner += 1;
        }
        match value {
            Value::Mapping(map) => {
                for (index, (key, value)) in ordered(path, map).into_iter().enumerate() {
                    self.walk(&format!("{path}/{key}"), &key, value, inner, is_item && index == 0);
                }
            }
            Value::Sequence(items) => {
                for (index, value) in items.iter().enumerate() {
                    self.walk(&format!("{path}/{index}"), &index.to_string(), value, inner, false);
                }
            }
            _ => {}
        }
        let gone = |change: &&Change| {
            change.op == Op::Remove
                && change.path.rsplit_once('/').map(|(parent, _)| parent) == Some(path)
        };
        for change in self.diff.diff.iter().filter(gone).cloned().collect::<Vec<_>>() {
            let key = change.path.rsplit('/').next().unwrap_or_default().to_owned();
            self.change(&key, &change, inner, key.parse::<usize>().is_ok());
        }
    }

    fn change(&mut self, key: &str, change: &Change, depth: usize, dashed: bool) {
        let yaml = |value: &serde_json::Value| serde_norway::to_value(value).unwrap_or(Value::Null);
        if change.op != Op::Add {
            self.push(
                Mark::Removed,
                &self.entry(&change.path, key, &yaml(&change.was)),
                depth,
                dashed,
            );
        }
        if change.op != Op::Remove {
            self.push(
                Mark::Added,
                &self.entry(&change.path, key, &yaml(&change.value)),
                depth,
                dashed,
            );
        }
    }

    /// `key: value`, as YAML would have it; a list item has no key.
    fn entry(&self, path: &str, key: &str, value: &Value) -> String {
        let value = &self.shown(path, value);
        let text = yaml(value);
        if key.parse::<usize>().is_ok() {
            return text;
        }
        match value {
            Value::Sequence(items) if !items.is_empty() => format!("{key}:\n{text}"),
            Value::Mapping(map) if !map.is_empty() => {
                let inner: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
                format!("{key}:\n{}", inner.join("\n"))
            }
            _ => format!("{key}: {text}"),
        }
    }

    /// Environment variables may be secrets, credentials always are.
    fn shown(&self, path: &str, value: &Value) -> Value {
        let keys: Vec<&str> = path.split('/').collect();
        if keys.contains(&"cnb-credentials") {
            return "[PRIVATE DATA HIDDEN]".into();
        }
        let in_env = keys.iter().rev().skip(1).any(|key| *key == "env");
        if self.hide_env {
            redact(value, in_env, keys.last() == Some(&"env"))
        } else {
            value.clone()
        }
    }

    fn push(&mut self, mark: Mark, text: &str, depth: usize, dashed: bool) {
        for (index, line) in text.lines().filter(|line| !line.is_empty()).enumerate() {
            let indent = match depth {
                0 => String::new(),
                _ => format!(
                    "{}{}",
                    "  ".repeat(depth - 1),
                    if dashed && index == 0 { "- " } else { "  " }
                ),
            };
            let sign = match mark {
                Mark::Same => "  ",
                Mark::Added => "+ ",
                Mark::Removed => "- ",
            };
            self.lines.push((mark, format!("{sign}{indent}{line}")));
        }
    }
}

/// Keys of applications that come first, in this order; all others follow in the order of their letters.
const FIRST: &[&str] = &[
    "name",
    "disk-quota",
    "docker",
    "health-check-type",
    "health-check-http-endpoint",
    "timeout",
    "instances",
    "path",
    "processes",
    "memory",
    "no-route",
    "random-route",
    "default-route",
    "stack",
    "log-rate-limit-per-second",
    "lifecycle",
];

/// Pure: the entries as the official command line shows them.
fn ordered<'a>(path: &str, map: &'a Mapping) -> Vec<(String, &'a Value)> {
    let is_app = path.strip_prefix("/applications/").is_some_and(|rest| !rest.contains('/'));
    let rank = |key: &str| match FIRST.iter().position(|first| is_app && *first == key) {
        Some(place) => place,
        None => FIRST.len(),
    };
    let mut entries: Vec<(String, &Value)> =
        map.iter().map(|(key, value)| (plain(key), value)).collect();
    entries.sort_by(|(a, _), (b, _)| (rank(a), a).cmp(&(rank(b), b)));
    entries
}

fn redact(value: &Value, hidden: bool, is_env: bool) -> Value {
    match value {
        Value::Mapping(map) => {
            let inner = |key: &Value| key.as_str() == Some("env");
            map.iter()
                .map(|(key, value)| (key.clone(), redact(value, hidden || is_env, inner(key))))
                .collect::<Mapping>()
                .into()
        }
        _ if hidden => "<redacted>".into(),
        other => other.clone(),
    }
}

fn plain(key: &Value) -> String {
    key.as_str().map_or_else(|| yaml(key), str::to_owned)
}

fn yaml(value: &Value) -> String {
    serde_norway::to_string(value).unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(manifest: &str, diff: &str, hide_env: bool, want: Expect) {
        let manifest: Mapping = serde_norway::from_str(manifest).unwrap();
        let diff: Diff = serde_json::from_str(diff).unwrap();
        let lines: Vec<String> = diff
            .lines(&manifest, hide_env)
            .into_iter()
            .map(|(_, line)| format!("|{line}"))
            .collect();
        want.assert_eq(&lines.join("\n"));
    }

    const APP: &str =
        "applications:\n- name: a\n  memory: 64M\n  buildpacks:\n  - go\n  env:\n    KEY: secret\n";

    #[test]
    fn without_changes_it_is_the_manifest() {
        check(
            APP,
            r#"{"diff":[]}"#,
            false,
            expect![[r#"
                |  ---
                |  applications:
                |  - name: a
                |    memory: 64M
                |    buildpacks:
                |    - go
                |    env:
                |      KEY: secret"#]],
        );
    }

    #[test]
    fn only_applications_are_shown_in_the_usual_order() {
        check(
            "x: &x {b: 1, a: 2}\nmemory: 1G\napplications:\n- stack: s\n  env: *x\n  default-route: true\n  name: a\n",
            r#"{"diff":[]}"#,
            false,
            expect![[r#"
                |  ---
                |  applications:
                |  - name: a
                |    default-route: true
                |    stack: s
                |    env:
                |      a: 2
                |      b: 1"#]],
        );
    }

    #[test]
    fn changes_stand_where_they_happen() {
        check(
            APP,
            r#"{"diff":[
                {"op":"replace","path":"/applications/0/memory","was":"32M","value":"64M"},
                {"op":"add","path":"/applications/0/env","value":{"KEY":"secret"}},
                {"op":"remove","path":"/applications/0/stack","was":"old"}]}"#,
            true,
            expect![[r#"
                |  ---
                |  applications:
                |  - name: a
                |-   memory: 32M
                |+   memory: 64M
                |    buildpacks:
                |    - go
                |+   env:
                |+     KEY: <redacted>
                |-   stack: old"#]],
        );
    }

    #[test]
    fn a_new_app_is_all_added() {
        check(
            "applications:\n- name: a\n  memory: 1G\n",
            r#"{"diff":[{"op":"add","path":"/applications/0","value":{"name":"a","memory":"1G"}}]}"#,
            false,
            expect![[r#"
                |  ---
                |  applications:
                |+ - memory: 1G
                |+   name: a"#]],
        );
    }
}
