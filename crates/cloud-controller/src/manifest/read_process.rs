//! The keys of one process in a manifest: size, command, health.

use serde_json::{Map, Value};

use super::read::spoken;
use super::{ManifestProcess, units};
use crate::message::Change;
use crate::v3::processes::{HealthPatch, Patch, Scale};

const MOST_INSTANCES: i64 = 2_000_000;

/// What was understood, and what was wrong. `nested` ones, under `processes`, may also name a user.
pub fn process(
    object: &Map<String, Value>,
    kind: &str,
    nested: bool,
) -> (ManifestProcess, Vec<String>) {
    let mut part = Part { object, kind, problems: Vec::new() };
    let scale = Scale {
        memory_mb: part.megabytes("memory"),
        disk_mb: part.megabytes("disk_quota"),
        log_rate: part.log_rate(),
        instances: part.int("instances", 0, MOST_INSTANCES),
    };
    let health = HealthPatch { timeout: part.change_int("timeout"), ..part.health("") };
    let user = if nested { part.user() } else { Change::Keep };
    let patch =
        Patch { command: part.command(), user, health, readiness: part.health("readiness_") };
    (ManifestProcess { kind: kind.to_owned(), patch, scale }, part.problems)
}

/// The keys of one process, at the top or under `processes`.
struct Part<'a> {
    object: &'a Map<String, Value>,
    kind: &'a str,
    problems: Vec<String>,
}

impl Part<'_> {
    fn problem(&mut self, text: impl std::fmt::Display) {
        self.problems.push(format!("Process \"{}\": {text}", self.kind));
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// As written; numbers without a unit are texts too.
    fn written(&self, key: &str) -> Option<String> {
        self.value(key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    fn megabytes(&mut self, key: &str) -> Option<i64> {
        match units::megabytes(&self.written(key)?) {
            Ok(0) => self.problem(format!("{} must be greater than 0MB", spoken(key))),
            Ok(size) => return Some(size),
            Err(wrong) => self.problem(format!("{} {wrong}", spoken(key))),
        }
        None
    }

    fn log_rate(&mut self) -> Option<i64> {
        let key = "log_rate_limit_per_second";
        let text = self.written(key)?;
        match text.as_str() {
            "-1" => return Some(-1),
            "0" => return Some(0),
            _ => {}
        }
        match units::bytes(&text) {
            Ok(rate) => Some(rate),
            Err(wrong) => {
                self.problem(format!("{} {wrong}", spoken(key)));
                None
            }
        }
    }

    fn int(&mut self, key: &str, least: i64, most: i64) -> Option<i64> {
        let value = self.value(key)?.clone();
        match value.as_i64() {
            Some(number) if number < least && least == 1 => {
                self.problem(format!("{} must be greater than or equal to 1", spoken(key)))
            }
            Some(number) if number < least => {
                self.problem(format!("{} must be greater than or equal to {least}", spoken(key)))
            }
            Some(number) if number > most => {
                self.problem(format!("{} must be less than or equal to {most}", spoken(key)))
            }
            Some(number) => return Some(number),
            None if value.is_number() => {
                self.problem(format!("{} must be an integer", spoken(key)))
            }
            None => self.problem(format!("{} is not a number", spoken(key))),
        }
        None
    }

    fn change_int(&mut self, key: &str) -> Change<i64> {
        match self.object.get(key) {
            None => Change::Keep,
            Some(Value::Null) => Change::Clear,
            Some(_) => self.int(key, 1, i64::from(i32::MAX)).map_or(Change::Keep, Change::Set),
        }
    }

    fn command(&mut self) -> Change<String> {
        match self.object.get("command") {
            None => Change::Keep,
            Some(Value::Null) => Change::Clear,
            Some(Value::String(text)) if text == "null" || text == "default" => Change::Clear,
            Some(Value::String(text)) if (1..=4096).contains(&text.chars().count()) => {
                Change::Set(text.clone())
            }
            Some(Value::String(_)) => {
                self.problem("Command must be between 1 and 4096 characters");
                Change::Keep
            }
            Some(_) => {
                self.problem("Command must be a string");
                Change::Keep
            }
        }
    }

    /// `prefix` is empty, or `readiness_`.
    fn health(&mut self, prefix: &str) -> HealthPatch {
        let key = |rest: &str| format!("{prefix}health_check_{rest}");
        let kind = self
            .written(&key("type"))
            .map(|kind| if kind == "none" { "process".to_owned() } else { kind });
        if kind.as_ref().is_some_and(|kind| !["port", "process", "http"].contains(&kind.as_str())) {
            self.problem(format!(
                "{} must be \"port\", \"process\", or \"http\"",
                spoken(&key("type"))
            ));
        }
        let endpoint = match self.object.get(&key("http_endpoint")) {
            None => Change::Keep,
            Some(Value::Null) => Change::Clear,
            Some(Value::String(path))
                if path.starts_with('/') && !path.contains(char::is_whitespace) =>
            {
                Change::Set(path.clone())
            }
            Some(_) => {
                self.problem(format!("{} must be a valid URI path", spoken(&key("http_endpoint"))));
                Change::Keep
            }
        };
        if kind.as_ref().is_some_and(|kind| kind != "http") && matches!(endpoint, Change::Set(_)) {
            let text = "must be \"http\" to set a health check HTTP endpoint";
            self.problem(format!("{} {text}", spoken(&key("type"))));
        }
        HealthPatch {
            kind,
            endpoint,
            timeout: Change::Keep,
            invocation_timeout: self.change_int(&key("invocation_timeout")),
            interval: self.change_int(&key("interval")),
        }
    }

    fn user(&mut self) -> Change<String> {
        match self.object.get("user") {
            None => Change::Keep,
            Some(Value::Null) => Change::Clear,
            Some(Value::String(user)) if (1..=255).contains(&user.chars().count()) => {
                Change::Set(user.clone())
            }
            Some(_) => {
                self.problem("User must be between 1 and 255 characters");
                Change::Keep
            }
        }
    }
}
