//! Turns an app's files into a droplet by its buildpacks, as Cloud Foundry's buildpack contract says.

mod buildpack;
mod launch;
mod package;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

use buildpack::Buildpack;
use launch::{BuildpackMetadata, Launch, StagingResult};

use crate::launcher::StagingInfo;

pub use settings::Settings;

/// What went wrong, told apart where the platform's answer differs.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("None of the buildpacks detected a compatible application")]
    Detect,
    #[error("Failed to compile droplet: {0}")]
    Compile(String),
    #[error("Failed to build droplet release: {0}")]
    Release(String),
    #[error("Failed to run all supply scripts: {0}")]
    Supply(String),
    #[error(
        "Error: one of the buildpacks chosen to supply dependencies does not support multi-buildpack apps"
    )]
    NoSupply,
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl BuildError {
    /// By this number Cloud Controller knows the kind of failure.
    pub fn exit_code(&self) -> u8 {
        match self {
            BuildError::Detect => 222,
            BuildError::Compile(_) => 223,
            BuildError::Release(_) => 224,
            BuildError::Supply(_) | BuildError::NoSupply => 225,
            BuildError::Other(_) => 1,
        }
    }
}

const COMPILES_ALONE: &str = "Warning: the last buildpack is not compatible with multi-buildpack apps and cannot make use of any dependencies supplied by the buildpacks specified before it";

pub fn main(arguments: &[String]) -> ExitCode {
    let built =
        Settings::read(arguments).map_err(BuildError::from).and_then(|settings| build(&settings));
    match built {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Everything, from buildpacks that lie there or are fetched to the droplet and its description.
pub fn build(settings: &Settings) -> Result<(), BuildError> {
    let stage = Stage::new(settings)?;
    let chosen = match settings.skip_detect {
        true => stage.supply()?,
        false => stage.detect()?,
    };
    match stage.compile(&chosen) {
        Ok(launch) => stage.write(&chosen, launch)?,
        Err(error) => {
            // Tells which buildpacks were at work, also when they did not finish.
            stage.write_result(&StagingResult::new(Launch::default(), stage.metadata(&chosen)))?;
            return Err(error);
        }
    }
    package::droplet(settings, &stage.contents)?;
    package::cache(settings)?;
    Ok(())
}

/// The buildpack that finishes the build.
struct Chosen {
    buildpack: Buildpack,
    /// What its `detect` printed; empty when it was not asked.
    detected: String,
}

/// One build under way; its temporary folder goes with it.
struct Stage<'a> {
    settings: &'a Settings,
    contents: TempDir,
    deps: PathBuf,
    profile: PathBuf,
}

impl<'a> Stage<'a> {
    fn new(settings: &'a Settings) -> Result<Stage<'a>> {
        for file in [&settings.droplet, &settings.metadata, &settings.cache_output] {
            make_folder(file.parent().context("an output file needs a folder")?)?;
        }
        make_folder(&settings.temp_dir)?;
        let contents = tempfile::Builder::new().prefix("contents").tempdir_in(&settings.temp_dir);
        let contents = contents.context("making a folder for the droplet")?;
        let (deps, profile) = (contents.path().join("deps"), contents.path().join("profile.d"));
        make_folder(&profile)?;
        for index in 0..=settings.supplying().len() {
            make_folder(&deps.join(settings.index(index)))?;
        }
        for key in &settings.order {
            buildpack::fetch(settings, key)?;
        }
        clean_cache(settings)?;
        Ok(Stage { settings, contents, deps, profile })
    }

    /// Asks each buildpack in its order; the first that agrees is taken.
    fn detect(&self) -> Result<Chosen, BuildError> {
        for key in &self.settings.order {
            let found = buildpack::find(self.settings, key);
            let Some(buildpack) = found.map_err(|error| eprintln!("{error:#}")).ok() else {
                continue;
            };
            match buildpack.is_executable("detect") {
                Ok(true) => {}
                Ok(false) => println!("WARNING: buildpack script '/bin/detect' is not executable"),
                Err(error) => {
                    eprintln!("{error:#}");
                    continue;
                }
            }
            let mut command = buildpack.script("detect");
            let output = command.arg(&self.settings.build_dir).stderr(Stdio::inherit()).output();
            if let Some(output) = output.ok().filter(|output| output.status.success()) {
                let detected = String::from_utf8_lossy(&output.stdout);
                return Ok(Chosen {
                    buildpack,
                    detected: detected.trim_end_matches(['\r', '\n']).to_owned(),
                });
            }
        }
        Err(BuildError::Detect)
    }

    /// Lets all but the last buildpack supply what the last may use.
    fn supply(&self) -> Result<Chosen, BuildError> {
        let reason = |error: anyhow::Error| {
            eprintln!("{error:#}");
            BuildError::Supply(format!("{error:#}"))
        };
        let find = |key: &String| buildpack::find(self.settings, key).map_err(reason);
        let supplying =
            self.settings.supplying().iter().map(find).collect::<Result<Vec<_>, _>>()?;
        if supplying.iter().any(|buildpack| !buildpack.has("supply")) {
            return Err(BuildError::NoSupply);
        }
        for (index, buildpack) in supplying.iter().enumerate() {
            let cache = self.settings.cache_of(&buildpack.key);
            self.run_supply(buildpack, &cache, index).map_err(BuildError::Supply)?;
        }
        let last = self.settings.order.last().context("no buildpack was named")?;
        let buildpack = buildpack::find(self.settings, last).map_err(reason)?;
        Ok(Chosen { buildpack, detected: String::new() })
    }

    fn run_supply(&self, buildpack: &Buildpack, cache: &Path, index: usize) -> Result<(), String> {
        let mut command = buildpack.script("supply");
        run(command
            .arg(&self.settings.build_dir)
            .arg(cache)
            .arg(&self.deps)
            .arg(self.settings.index(index)))
    }

    /// Runs the last buildpack and gathers what may be started.
    fn compile(&self, chosen: &Chosen) -> Result<Launch, BuildError> {
        self.finalize(&chosen.buildpack).map_err(BuildError::Compile)?;
        let last = self.settings.supplying().len();
        let mut launch = Launch::default();
        for index in 0..last {
            launch.merge(self.launch_of(index)?.unwrap_or_default());
        }
        launch.merge(match self.launch_of(last)? {
            Some(own) => own,
            None => self.release(&chosen.buildpack)?,
        });
        launch.merge(launch::procfile(&self.settings.build_dir)?);
        Ok(launch)
    }

    fn finalize(&self, buildpack: &Buildpack) -> Result<(), String> {
        let (settings, last) = (self.settings, self.settings.supplying().len());
        let cache = settings.cache_dir.join("final");
        if buildpack.has("finalize") {
            if buildpack.has("supply") {
                let supplied = self.run_supply(buildpack, &cache, last);
                supplied.map_err(|why| format!("Failed to run all supply scripts: {why}"))?;
            }
            let mut command = buildpack.script("finalize");
            command
                .arg(&settings.build_dir)
                .arg(&cache)
                .arg(&self.deps)
                .arg(settings.index(last))
                .arg(&self.profile);
            return run(&mut command)
                .map_err(|why| format!("Failed to run finalize script: {why}"));
        }
        if last > 0 {
            eprintln!("{COMPILES_ALONE}");
        }
        fs::remove_dir_all(self.deps.join(settings.index(last)))
            .map_err(|error| error.to_string())?;
        run(buildpack.script("compile").arg(&settings.build_dir).arg(&cache))
    }

    /// A buildpack's `launch.yml`, which older ones look for under the index without its zeros.
    fn launch_of(&self, index: usize) -> Result<Option<Launch>> {
        let folders = [self.settings.index(index), index.to_string()];
        let found = folders
            .iter()
            .map(|folder| self.deps.join(folder).join("launch.yml"))
            .find(|path| path.exists());
        found.map(|path| launch::read(&path)).transpose()
    }

    fn release(&self, buildpack: &Buildpack) -> Result<Launch, BuildError> {
        let mut command = buildpack.script("release");
        let output = command.arg(&self.settings.build_dir).stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| BuildError::Release(error.to_string()))?;
        ended(output.status).map_err(BuildError::Release)?;
        launch::release(&output.stdout).map_err(|error| BuildError::Release(format!("{error:#}")))
    }

    /// What the buildpacks say of themselves.
    fn metadata(&self, chosen: &Chosen) -> Vec<BuildpackMetadata> {
        let keys = match self.settings.skip_detect {
            true => self.settings.order.as_slice(),
            false => std::slice::from_ref(&chosen.buildpack.key),
        };
        let read = |(index, key): (usize, &String)| {
            BuildpackMetadata::read(
                key,
                &self.deps.join(self.settings.index(index)).join("config.yml"),
            )
        };
        let mut all: Vec<_> = keys.iter().enumerate().map(read).collect();
        if let Some(last) = all.last_mut().filter(|last| last.name.is_empty()) {
            last.name.clone_from(&chosen.detected);
        }
        all
    }

    fn write(&self, chosen: &Chosen, launch: Launch) -> Result<()> {
        let result = StagingResult::new(launch, self.metadata(chosen));
        let web = result.process_types.get("web").cloned().unwrap_or_default();
        if web.is_empty() {
            eprintln!("No start command specified by buildpack or via Procfile.");
            eprintln!("App will not start unless a command is provided at runtime.");
        }
        let last = result.lifecycle_metadata.buildpacks.last();
        let info = StagingInfo {
            detected_buildpack: last.map(|buildpack| buildpack.name.clone()).unwrap_or_default(),
            start_command: web,
            config: last.and_then(|buildpack| buildpack.config.clone()),
        };
        write_json(&self.contents.path().join(StagingInfo::FILE), &info)?;
        self.write_result(&result)
    }

    fn write_result(&self, result: &StagingResult) -> Result<()> {
        write_json(&self.settings.metadata, result)
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    ended(
        command
            .status()
            .map_err(|error| format!("{}: {error}", Path::new(command.get_program()).display()))?,
    )
}

/// In the words that users of Cloud Foundry search for.
fn ended(status: ExitStatus) -> Result<(), String> {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(format!("exit status {code}")),
        (None, signal) => Err(format!("signal {}", signal.unwrap_or_default())),
    }
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_string(value).context("writing JSON")?;
    text.push('\n');
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("making the folder {}", path.display()))
}

/// Makes every buildpack's cache folder and removes those of buildpacks that are no longer used.
fn clean_cache(settings: &Settings) -> Result<()> {
    let mut needed = vec![settings.cache_dir.join("final")];
    needed.extend(settings.supplying().iter().map(|key| settings.cache_of(key)));
    for folder in &needed {
        make_folder(folder)?;
    }
    for entry in fs::read_dir(&settings.cache_dir).context("reading the cache")? {
        let entry = entry.context("reading the cache")?;
        if needed.contains(&entry.path()) {
            continue;
        }
        let removed = match entry.file_type().context("reading the cache")?.is_dir() {
            true => fs::remove_dir_all(entry.path()),
            false => fs::remove_file(entry.path()),
        };
        removed.with_context(|| format!("removing the unused {}", entry.path().display()))?;
    }
    Ok(())
}
