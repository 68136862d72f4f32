//! What may be started from a droplet (`launch.yml`, `release`, `Procfile`), and the description that says so.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use serde_norway::Value;

use crate::launcher::EntrypointConfig;

/// The processes known so far, in the order they were named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Launch {
    #[serde(default)]
    processes: Vec<Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Entry {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    command: String,
    #[serde(default)]
    platforms: Platforms,
    #[serde(default)]
    limits: ProcessLimits,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Platforms {
    #[serde(default)]
    cloudfoundry: CloudFoundry,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct CloudFoundry {
    #[serde(default)]
    sidecar_for: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct ProcessLimits {
    /// In MB.
    #[serde(default)]
    memory: u64,
}

impl Launch {
    /// A later process takes the place of an earlier one of its type.
    pub fn merge(&mut self, later: Launch) {
        for entry in later.processes {
            match self.processes.iter_mut().find(|known| known.kind == entry.kind) {
                Some(known) => *known = entry,
                None => self.processes.push(entry),
            }
        }
    }

    fn of_commands(commands: BTreeMap<String, String>) -> Launch {
        let entry = |(kind, command)| Entry { kind, command, ..Entry::default() };
        Launch { processes: commands.into_iter().map(entry).collect() }
    }
}

/// Reads a `launch.yml`.
pub fn read(path: &Path) -> Result<Launch> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let launch: Option<Launch> = serde_norway::from_str(&text)
        .with_context(|| format!("invalid YAML in {}", path.display()))?;
    Ok(launch.unwrap_or_default())
}

/// Reads what a buildpack's `release` printed.
pub fn release(output: &[u8]) -> Result<Launch> {
    let released: Value =
        serde_norway::from_slice(output).context("buildpack's release output invalid")?;
    let types = released.get("default_process_types").cloned().unwrap_or(Value::Null);
    commands(types).map(Launch::of_commands).context("buildpack's release output invalid")
}

/// Reads the app's `Procfile`, if it has one.
pub fn procfile(app: &Path) -> Result<Launch> {
    let text = match fs::read_to_string(app.join("Procfile")) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Launch::default()),
        Err(error) => return Err(error).context("Failed to read command from Procfile"),
    };
    let invalid = || anyhow!("Failed to read command from Procfile: invalid YAML");
    let value = serde_norway::from_str(&text).map_err(|_| invalid())?;
    commands(value).map(Launch::of_commands).ok_or_else(invalid)
}

/// A map of types to commands; a command may look like a number or a truth value.
fn commands(value: Value) -> Option<BTreeMap<String, String>> {
    let text = |value: Value| match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null => Some(String::new()),
        _ => None,
    };
    match value {
        Value::Null => Some(BTreeMap::new()),
        Value::Mapping(map) => {
            map.into_iter().map(|(kind, command)| Some((text(kind)?, text(command)?))).collect()
        }
        _ => None,
    }
}

/// `result.json`: what Cloud Controller learns of a build.
#[derive(Clone, Debug, Serialize)]
pub struct StagingResult {
    pub lifecycle_metadata: LifecycleMetadata,
    pub process_types: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProcessInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sidecars: Vec<Sidecar>,
    pub execution_metadata: String,
    pub lifecycle_type: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub struct LifecycleMetadata {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub buildpack_key: String,
    pub detected_buildpack: String,
    pub buildpacks: Vec<BuildpackMetadata>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ProcessInfo {
    #[serde(rename = "type")]
    pub kind: String,
    pub command: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Sidecar {
    pub name: String,
    pub process_types: Vec<String>,
    pub command: String,
    /// In MB; 0 leaves it to the platform.
    #[serde(skip_serializing_if = "is_zero")]
    pub memory: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes what it asks about by reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A buildpack's `config.yml`, with the key it was chosen by.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BuildpackMetadata {
    #[serde(skip_deserializing)]
    pub key: String,
    #[serde(default)]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<EntrypointConfig>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub output_metadata: BTreeMap<String, Value>,
}

impl BuildpackMetadata {
    /// A missing or odd file leaves the rest empty: a buildpack need not speak of itself.
    pub fn read(key: &str, path: &Path) -> BuildpackMetadata {
        let text = fs::read_to_string(path).unwrap_or_default();
        let read: BuildpackMetadata = serde_norway::from_str(&text).unwrap_or_default();
        BuildpackMetadata { key: key.to_owned(), ..read }
    }
}

impl StagingResult {
    pub fn new(launch: Launch, buildpacks: Vec<BuildpackMetadata>) -> StagingResult {
        let (sidecars, processes): (Vec<_>, Vec<_>) = launch
            .processes
            .into_iter()
            .partition(|entry| !entry.platforms.cloudfoundry.sidecar_for.is_empty());
        let last = buildpacks.last().cloned().unwrap_or_default();
        let process = |entry: Entry| ProcessInfo { kind: entry.kind, command: entry.command };
        let sidecar = |entry: Entry| Sidecar {
            name: entry.kind,
            process_types: entry.platforms.cloudfoundry.sidecar_for,
            command: entry.command,
            memory: entry.limits.memory,
        };
        let processes: Vec<ProcessInfo> = processes.into_iter().map(process).collect();
        StagingResult {
            lifecycle_metadata: LifecycleMetadata {
                buildpack_key: last.key,
                detected_buildpack: last.name,
                buildpacks,
            },
            process_types: processes
                .iter()
                .map(|one| (one.kind.clone(), one.command.clone()))
                .collect(),
            processes,
            sidecars: sidecars.into_iter().map(sidecar).collect(),
            execution_metadata: String::new(),
            lifecycle_type: "buildpack",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(text: &str) -> Launch {
        serde_norway::from_str(text).unwrap()
    }

    #[test]
    fn later_processes_win_and_sidecars_are_told_apart() {
        let mut all =
            launch("processes: [{type: web, command: one}, {type: worker, command: two}]");
        all.merge(launch(
            "processes: [{type: web, command: three}, {type: agent, command: four, limits: {memory: 10}, platforms: {cloudfoundry: {sidecar_for: [web]}}}]",
        ));
        let result = StagingResult::new(all, vec![]);
        let shown = serde_json::to_value(&result).unwrap();
        let want = serde_json::json!({
            "lifecycle_type": "buildpack",
            "lifecycle_metadata": {"detected_buildpack": "", "buildpacks": []},
            "process_types": {"web": "three", "worker": "two"},
            "processes": [{"type": "web", "command": "three"}, {"type": "worker", "command": "two"}],
            "sidecars": [{"name": "agent", "process_types": ["web"], "command": "four", "memory": 10}],
            "execution_metadata": "",
        });
        assert_eq!(shown, want);
    }

    #[test]
    fn release_may_say_nothing() {
        assert_eq!(release(b"").unwrap(), Launch::default());
        assert_eq!(release(b"---\nconfig_vars:\n").unwrap(), Launch::default());
        assert_eq!(release(b"--- {}\n").unwrap(), Launch::default());
        let web = release(b"default_process_types:\n  web: npm start\n").unwrap();
        assert_eq!(
            (web.processes[0].kind.as_str(), web.processes[0].command.as_str()),
            ("web", "npm start")
        );
        assert!(release(b"\tx: [").is_err());
        assert!(release(b"default_process_types: [a]").is_err());
    }

    #[test]
    fn a_procfile_is_a_map() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(procfile(folder.path()).unwrap(), Launch::default());
        fs::write(folder.path().join("Procfile"), "web: run -p $PORT\nworker: 5\n").unwrap();
        let read = procfile(folder.path()).unwrap();
        assert_eq!(read.processes[0].command, "run -p $PORT");
        assert_eq!(read.processes[1].command, "5");
        for wrong in ["web run", "web: [a]", "{"] {
            fs::write(folder.path().join("Procfile"), wrong).unwrap();
            let error = procfile(folder.path()).unwrap_err();
            assert_eq!(error.to_string(), "Failed to read command from Procfile: invalid YAML");
        }
    }
}
