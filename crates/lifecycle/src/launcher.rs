//! Starts an app: its environment, its profile scripts, then its command in place of this process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::root::Root;
use crate::services::{Instance, database_url, vcap_application};

/// `staging_info.yml`: what the builder leaves in a droplet for the launcher. Written as JSON, which is YAML too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagingInfo {
    #[serde(default)]
    pub detected_buildpack: String,
    #[serde(default)]
    pub start_command: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<EntrypointConfig>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntrypointConfig {
    /// Runs the start command in place of `bash -c`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub entrypoint_prefix: String,
}

impl StagingInfo {
    pub const FILE: &str = "staging_info.yml";
}

pub fn main(arguments: &[String]) -> ExitCode {
    let [folder, command, _metadata, ..] = arguments else {
        eprintln!("launcher: received only {} arguments", arguments.len());
        eprintln!("Usage: launcher <app-directory> <start-command> <metadata>");
        return ExitCode::FAILURE;
    };
    match launch(&Root::from_env(), Path::new(folder), command) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("launcher: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn launch(root: &Root, folder: &Path, command: &str) -> Result<std::convert::Infallible> {
    let app = app_folder(root, folder)?;
    let info = staging_info(&app)?;
    let command = if command.is_empty() { info.start_command.as_str() } else { command };
    if command.is_empty() {
        bail!("no start command specified or detected in droplet");
    }
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let prefix = info.config.map(|config| config.entrypoint_prefix).unwrap_or_default();
    let error = Command::new("/bin/bash")
        .arg("-c")
        .arg(script(&prefix))
        .arg("launcher")
        .arg(&app)
        .arg(command)
        .env_clear()
        .envs(environment(variables.collect(), &app))
        .exec();
    Err(error).context("starting /bin/bash")
}

/// The caller means its working directory, else the home of the container's user.
fn app_folder(root: &Root, folder: &Path) -> Result<PathBuf> {
    let here =
        std::env::current_dir().context("finding the working directory")?.join(root.path(folder));
    let home = root.path("/home/vcap").join(folder);
    [here, home]
        .into_iter()
        .find(|app| app.is_dir())
        .with_context(|| format!("no app folder {}", folder.display()))
}

fn staging_info(app: &Path) -> Result<StagingInfo> {
    let path = app.with_file_name(StagingInfo::FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().is_empty() => Ok(StagingInfo::default()),
        Ok(text) => serde_norway::from_str(&text)
            .with_context(|| format!("invalid staging info {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(StagingInfo::default()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Pure: what the app sees of `variables`, with what the contract promises on top.
fn environment(
    mut variables: BTreeMap<String, OsString>,
    app: &Path,
) -> BTreeMap<String, OsString> {
    let text = |variables: &BTreeMap<String, OsString>, name: &str| {
        variables.get(name).and_then(|value| value.to_str()).unwrap_or_default().to_owned()
    };
    let instance = Instance {
        guid: text(&variables, "INSTANCE_GUID"),
        index: text(&variables, "INSTANCE_INDEX").parse().ok(),
        port: text(&variables, "PORT").parse().ok(),
    };
    if let Some(application) = vcap_application(&text(&variables, "VCAP_APPLICATION"), &instance) {
        variables.insert("VCAP_APPLICATION".into(), application.into());
    }
    if let Some(url) = database_url(&text(&variables, "VCAP_SERVICES")) {
        variables.insert("DATABASE_URL".into(), url.into());
    }
    variables.remove("VCAP_PLATFORM_OPTIONS");
    variables.insert("HOME".into(), app.into());
    variables.insert("PWD".into(), app.into());
    variables.insert("TMPDIR".into(), app.with_file_name("tmp").into());
    variables.insert("DEPS_DIR".into(), app.with_file_name("deps").into());
    variables
}

/// What bash does before the command takes its place: buildpacks' scripts, then the app's own.
fn script(entrypoint_prefix: &str) -> String {
    let entrypoint = if entrypoint_prefix.is_empty() { "bash -c" } else { entrypoint_prefix };
    format!(
        r#"cd "$1" || exit 4
shift
echo 'Invoking pre-start scripts.'
for script in ../profile.d/* .profile.d/* .profile; do
  if [ -f "$script" ]; then
    source "$script"
  fi
done
unset script
echo 'Invoking start command.'
exec {entrypoint} "$@"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_points_into_the_droplet() {
        let given = [("HOME", "/home/vcap"), ("VCAP_PLATFORM_OPTIONS", "{}"), ("KEPT", "yes")];
        let given = given.map(|(name, value)| (name.to_owned(), OsString::from(value))).into();
        let variables = environment(given, Path::new("/home/vcap/app"));
        let shown: Vec<String> =
            variables.iter().map(|(name, value)| format!("{name}={}", value.display())).collect();
        let want = "DEPS_DIR=/home/vcap/deps HOME=/home/vcap/app KEPT=yes PWD=/home/vcap/app TMPDIR=/home/vcap/tmp";
        assert_eq!(shown.join(" "), want);
    }

    #[test]
    fn staging_info_may_be_json_or_yaml() {
        let json = r#"{"detected_buildpack":"python","start_command":"run","config":{"entrypoint_prefix":"x -c"}}"#;
        let info: StagingInfo = serde_norway::from_str(json).unwrap();
        assert_eq!(info.config.unwrap().entrypoint_prefix, "x -c");
        let info: StagingInfo = serde_norway::from_str("start_command: 'run me'\n").unwrap();
        assert_eq!(info.start_command, "run me");
    }
}
