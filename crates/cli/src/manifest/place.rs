//! Where in a manifest something stands, as well as lines tell: for errors that the server finds, and for keys that
//! nobody reads.

use serde_norway::{Mapping, Value};

/// A line of the manifest, counted from 1, and the key on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    pub line: usize,
    pub key: String,
}

const APP: &[&str] = &[
    "buildpack",
    "buildpacks",
    "cnb-credentials",
    "command",
    "default-route",
    "disk-quota",
    "disk_quota",
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
    "memory",
    "metadata",
    "name",
    "no-route",
    "path",
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
    "user",
];
const PROCESS: &[&str] = &[
    "command",
    "disk-quota",
    "disk_quota",
    "health-check-http-endpoint",
    "health-check-interval",
    "health-check-invocation-timeout",
    "health-check-type",
    "instances",
    "log-rate-limit-per-second",
    "memory",
    "readiness-health-check-http-endpoint",
    "readiness-health-check-interval",
    "readiness-health-check-invocation-timeout",
    "readiness-health-check-type",
    "timeout",
    "type",
    "user",
];
/// Lists inside an application, and the keys of their items.
const LISTS: [(&str, &[&str]); 3] = [
    ("processes", PROCESS),
    ("sidecars", &["command", "memory", "name", "process_types"]),
    ("routes", &["options", "protocol", "route"]),
];

/// Pure: what to say of keys that have no effect, each with its line.
pub fn unread(root: &Mapping, text: &str) -> Vec<String> {
    let mut said = Vec::new();
    for key in root.keys().filter_map(Value::as_str) {
        if APP.contains(&key) {
            let line = text.lines().position(|line| line.starts_with(&format!("{key}:")));
            said.push(format!(
                "{}key '{key}' has no effect above 'applications': give it to each application",
                at(line.map(|line| line + 1))
            ));
        }
    }
    let apps = root.get("applications").and_then(Value::as_sequence).into_iter().flatten();
    for (index, app) in apps.enumerate() {
        let Some(app) = app.as_mapping() else { continue };
        let block = block(text, index);
        let mut check = |map: &Mapping, known: &[&str], of: &str| {
            for key in map.keys().filter_map(Value::as_str).filter(|key| !known.contains(key)) {
                let line = block.iter().find(|(_, line)| key_of(line) == Some(key));
                said.push(format!(
                    "{}unknown key '{key}' of {of} is ignored",
                    at(line.map(|(number, _)| *number))
                ));
            }
        };
        check(app, APP, "an application");
        for (list, known) in LISTS {
            let items = app.get(list).and_then(Value::as_sequence).into_iter().flatten();
            for item in items.filter_map(Value::as_mapping) {
                check(item, known, &format!("'{list}'"));
            }
        }
    }
    said
}

fn at(line: Option<usize>) -> String {
    line.map_or(String::new(), |line| format!("line {line}: "))
}

/// Pure: the line that a refusal such as `For application 'a': Process "web": Memory must …` speaks of.
pub fn of_refusal(text: &str, refusal: &str) -> Option<Spot> {
    let (app, said) = refusal.strip_prefix("For application '")?.split_once("': ")?;
    let blocks: Vec<Vec<(usize, &str)>> =
        (0..).map(|index| block(text, index)).take_while(|block| !block.is_empty()).collect();
    let named = |block: &&Vec<(usize, &str)>| {
        block.iter().any(|(_, line)| key_of(line) == Some("name") && value_of(line) == app)
    };
    let only = || blocks.first().filter(|_| blocks.len() == 1);
    let block = blocks.iter().find(named).or_else(only)?;
    by_key(block, said).or_else(|| by_value(block, said))
}

/// The line whose key the sentence begins with; the longest such key.
fn by_key(block: &[(usize, &str)], said: &str) -> Option<Spot> {
    let subject = said.rsplit("\": ").next().unwrap_or(said);
    let plain = |text: &str| text.to_lowercase().replace(['-', '_'], " ");
    let subject = plain(subject);
    let found = block.iter().filter_map(|(line, text)| {
        let key = key_of(text)?;
        subject.starts_with(&format!("{} ", plain(key))).then_some((*line, key))
    });
    let (line, key) = found.max_by_key(|(_, key)| key.len())?;
    Some(Spot { line, key: key.to_owned() })
}

/// The line with something that the sentence quotes.
fn by_value(block: &[(usize, &str)], said: &str) -> Option<Spot> {
    let quoted = said.split(['\'', '"']).skip(1).step_by(2);
    let dotted = said.split_whitespace().filter(|word| word.contains('.') && !word.ends_with('.'));
    quoted.chain(dotted).filter(|part| part.len() > 1).find_map(|part| {
        let (line, text) = block.iter().find(|(_, text)| text.contains(part))?;
        Some(Spot { line: *line, key: key_of(text).unwrap_or(part).to_owned() })
    })
}

/// Where the list item with this number begins.
pub fn item(text: &str, index: usize) -> String {
    match block(text, index).first() {
        Some((line, _)) => format!("line {line}"),
        None => format!("application {}", index + 1),
    }
}

/// The lines of one application, with their numbers; none when it is written in another way than one key a line.
fn block(text: &str, index: usize) -> Vec<(usize, &str)> {
    let numbered = text.lines().enumerate().map(|(number, line)| (number + 1, line));
    let list: Vec<(usize, &str)> =
        numbered.skip_while(|(_, line)| !line.starts_with("applications:")).skip(1).collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let Some(own) = list
        .iter()
        .find(|(_, line)| line.trim_start().starts_with('-'))
        .map(|(_, line)| indent(line))
    else {
        return Vec::new();
    };
    let begins = |line: &str| line.trim_start().starts_with('-') && indent(line) == own;
    let outside = |line: &str| {
        let inside = line.trim().is_empty() || line.trim_start().starts_with('#');
        !inside && (indent(line) < own || (indent(line) == own && !begins(line)))
    };
    let mut seen = 0;
    let within = list.into_iter().take_while(|(_, line)| !outside(line));
    within
        .filter(|(_, line)| {
            seen += usize::from(begins(line));
            seen == index + 1
        })
        .collect()
}

/// `memory` of `  - memory: 64M`.
fn key_of(line: &str) -> Option<&str> {
    let bare = line.trim_start().trim_start_matches("- ").trim_start();
    let (key, _) = bare.split_once(':')?;
    let key = key.trim().trim_matches(['"', '\'']);
    (!key.is_empty() && !key.starts_with('#')).then_some(key)
}

fn value_of(line: &str) -> &str {
    line.split_once(':').map_or("", |(_, value)| value.trim().trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const TEXT: &str = "\
memory: 1G
defaults: &d
  stack: x
applications:
  - name: a
    memory: 64Q
    memmory: 1M
    routes:
    - route: a.nowhere.example
      protocoll: http1
  # the other one
  - name: \"b\"
    <<: *d
    health-check-type: foo
    health-check-http-endpoint: /x
    services: [db]
    processes:
    - type: worker
      disk_quota: 5
";

    #[track_caller]
    fn check(refusal: &str, want: &str) {
        let spot = of_refusal(TEXT, refusal);
        assert_eq!(spot.map_or(String::new(), |spot| format!("{} {}", spot.line, spot.key)), want);
    }

    #[test]
    fn a_refusal_finds_its_line() {
        check(
            "For application 'a': Process \"web\": Memory must use a supported unit: B",
            "6 memory",
        );
        check("For application 'a': No domains exist for route a.nowhere.example", "9 route");
        check(
            "For application 'b': Process \"web\": Health check type must be \"port\"",
            "14 health-check-type",
        );
        check(
            "For application 'b': Process \"worker\": Disk quota must use a unit",
            "19 disk_quota",
        );
        check("For application 'b': Service instance 'db' not found", "16 services");
        check("For application 'c': Memory is wrong", "");
        check("Something else", "");
    }

    #[track_caller]
    fn unread_of(text: &str, want: Expect) {
        let mut value: Value = serde_norway::from_str(text).unwrap();
        value.apply_merge().unwrap();
        want.assert_eq(&unread(value.as_mapping().unwrap(), text).join("\n"));
    }

    #[test]
    fn keys_that_nobody_reads_are_told() {
        unread_of(
            TEXT,
            expect![[r#"
                line 1: key 'memory' has no effect above 'applications': give it to each application
                line 7: unknown key 'memmory' of an application is ignored
                line 10: unknown key 'protocoll' of 'routes' is ignored"#]],
        );
        unread_of(
            "applications: [{name: a, host: b}]\n",
            expect!["unknown key 'host' of an application is ignored"],
        );
    }
}
