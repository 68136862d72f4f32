//! The flags of `cf push`: what they are, and which of them contradict each other.

use std::path::PathBuf;

use serde_json::json;

use crate::command::Context;
use crate::commands::rollout::{Rollout, RolloutFlags, Strategy};
use crate::error::{Error, Result};
use crate::manifest::{self, Overrides, read_var};
use crate::size;

/// `cf push`
#[derive(clap::Args)]
pub struct Push {
    #[arg(value_name = "APP_NAME")]
    pub(super) app: Option<String>,
    /// Seconds from the start of an app to its first healthy answer
    #[arg(long = "app-start-timeout", short = 't', value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// Buildpack by name or Git URL (with #branch or #tag); several in their order. 'default' or 'null' to detect it
    #[arg(long = "buildpack", short = 'b')]
    buildpacks: Vec<String>,
    /// Disk limit (e.g. 256M, 1024M, 1G)
    #[arg(long, short = 'k')]
    disk: Option<String>,
    /// Docker image to use (e.g. user/docker-image-name)
    #[arg(long, short = 'o')]
    docker_image: Option<String>,
    /// Repository username; used with password from environment variable CF_DOCKER_PASSWORD
    #[arg(long)]
    docker_username: Option<String>,
    /// Path to a tgz file with a pre-staged app
    #[arg(long)]
    pub(super) droplet: Option<PathBuf>,
    /// Path on the app that an HTTP health check asks for. Only with --health-check-type=http
    #[arg(long = "endpoint")]
    endpoint: Option<String>,
    /// Health check: port (default), process or http, which needs an endpoint such as '/health'
    #[arg(long, short = 'u', value_parser = ["port", "process", "http", "none"])]
    health_check_type: Option<String>,
    /// Number of instances
    #[arg(long, short = 'i', allow_negative_numbers = true)]
    instances: Option<u32>,
    /// How the app is staged and run: buildpack, docker or cnb
    #[arg(long, value_parser = ["buildpack", "docker", "cnb"])]
    lifecycle: Option<String>,
    /// Log rate limit per second, in bytes (e.g. 128B, 4K, 1M). -l=-1 represents unlimited
    #[arg(long, short = 'l', allow_hyphen_values = true)]
    log_rate_limit: Option<String>,
    /// Path to manifest
    #[arg(long, short = 'f')]
    pub(super) manifest: Option<PathBuf>,
    /// Memory limit (e.g. 256M, 1024M, 1G)
    #[arg(long, short = 'm')]
    memory: Option<String>,
    /// Ignore manifest file
    #[arg(long)]
    pub(super) no_manifest: bool,
    /// Do not map a route to this app
    #[arg(long)]
    no_route: bool,
    /// Do not stage and start the app after pushing
    #[arg(long)]
    pub(super) no_start: bool,
    /// Path to app directory or to a zip file of its contents
    #[arg(long, short = 'p')]
    path: Option<PathBuf>,
    /// Create a random route for this app (except when no-route is specified in the manifest)
    #[arg(long)]
    random_route: bool,
    /// Do not print values of environment variables
    #[arg(long)]
    pub(super) redact_env: bool,
    /// Stack to use (the root file system apps run in)
    #[arg(long, short = 's')]
    stack: Option<String>,
    /// Startup command, set to null to reset to default start command
    #[arg(long = "start-command", short = 'c', allow_hyphen_values = true)]
    command: Option<String>,
    /// The app only runs tasks: it is staged, but not started, and gets no route
    #[arg(long)]
    pub(super) task: bool,
    /// Variable for the manifest (e.g. name=app1); may be given several times
    #[arg(long = "var", value_parser = read_var)]
    pub(super) vars: Vec<(String, serde_norway::Value)>,
    /// File of variables for the manifest; may be given several times
    #[arg(long = "vars-file")]
    pub(super) vars_files: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) rollout: RolloutFlags,
}

impl Push {
    /// Refuses a path that leads nowhere, before anything is changed.
    pub(super) fn check_path(&self, cx: &Context) -> Result<()> {
        match &self.path {
            Some(path) if !cx.ui.io.dir.join(path).exists() => Err(Error::Usage(format!(
                "The specified path '{}' does not exist.",
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Pure: refuses flags that cannot go together.
    pub(super) fn check(&self) -> Result<()> {
        let together = |flags: &[&str]| Err(Error::together(flags));
        let needs = |one: &str, other: &str| Err(Error::apart(one, other));
        let (docker, packs) = (self.docker_image.is_some(), !self.buildpacks.is_empty());
        let (lifecycle, droplet) = (self.lifecycle.as_deref(), self.droplet.is_some());
        let rolls = self.rollout.by.strategy.filter(|strategy| *strategy != Strategy::Null);
        let strategy = if rolls == Some(Strategy::Canary) {
            "--strategy=canary"
        } else {
            "--strategy=rolling"
        };
        match () {
            () if lifecycle == Some("buildpack") && docker => {
                together(&["--lifecycle buildpack", "--docker-image, -o"])
            }
            () if lifecycle == Some("docker") && packs => {
                together(&["--lifecycle docker", "--buildpack, -b"])
            }
            () if lifecycle == Some("docker") && self.stack.is_some() => {
                together(&["--lifecycle docker", "--stack, -s"])
            }
            () if lifecycle == Some("docker") && droplet => {
                together(&["--lifecycle docker", "--droplet"])
            }
            () if lifecycle == Some("cnb") && docker => {
                together(&["--lifecycle cnb", "--docker-image, -o"])
            }
            () if self.docker_username.is_some() && !docker => {
                needs("--docker-image, -o", "--docker-username")
            }
            () if docker && packs => together(&["--buildpack, -b", "--docker-image, -o"]),
            () if docker && self.path.is_some() => together(&["--docker-image, -o", "--path, -p"]),
            () if docker && self.stack.is_some() => {
                together(&["--stack, -s", "--docker-image, -o"])
            }
            () if self.no_manifest && self.manifest.is_some() => {
                together(&["--no-manifest", "--manifest, -f"])
            }
            () if self.no_manifest && !self.vars_files.is_empty() => {
                together(&["--no-manifest", "--vars-file"])
            }
            () if self.no_manifest && !self.vars.is_empty() => {
                together(&["--no-manifest", "--vars"])
            }
            () if self.health_check_type.as_deref() == Some("http") && self.endpoint.is_none() => {
                needs("--endpoint", "--health-check-type=http, -u=http")
            }
            () if droplet && (docker || self.path.is_some()) => {
                together(&["--droplet", "--docker-image, -o", "--docker-username", "-p"])
            }
            () if self.no_start && rolls.is_some() => together(&["--no-start", strategy]),
            () if self.task && rolls.is_some() => together(&["--task", strategy]),
            () if self.no_start && self.rollout.no_wait => together(&["--no-start", "--no-wait"]),
            () if self.no_route && self.random_route => together(&["--no-route", "--random-route"]),
            () if self.buildpacks.len() > 1
                && self.buildpacks.iter().any(|name| name == "null" || name == "default") =>
            {
                Err(Error::Failed(
                    "Multiple buildpacks flags cannot have null/default option.".to_owned(),
                ))
            }
            () => Ok(()),
        }
    }

    /// The deployment that replaces the app, with the scale that flags give it.
    pub(super) fn rollout(&self) -> Result<Option<Rollout>> {
        let Some(mut rollout) = self.rollout.by.rollout()? else { return Ok(None) };
        let wrong = |flag: &'static str| {
            move |why: String| Error::Usage(format!("invalid argument for flag `{flag}': {why}"))
        };
        if let Some(count) = self.instances {
            rollout.scale.push(("web_instances", json!(count)));
        }
        if let Some(text) = &self.memory {
            rollout
                .scale
                .push(("memory_in_mb", json!(size::megabytes(text).map_err(wrong("-m"))?)));
        }
        if let Some(text) = &self.disk {
            rollout.scale.push(("disk_in_mb", json!(size::megabytes(text).map_err(wrong("-k"))?)));
        }
        if let Some(text) = &self.log_rate_limit {
            rollout.scale.push((
                "log_rate_limit_in_bytes_per_second",
                json!(size::log_rate(text).map_err(wrong("-l"))?),
            ));
        }
        Ok(Some(rollout))
    }

    pub(super) fn overrides(&self, cx: &Context) -> Overrides {
        Overrides {
            name: self.app.clone(),
            buildpacks: self.buildpacks.clone(),
            command: self.command.as_deref().map(|command| match command {
                "null" | "default" | "" => manifest::Command::Default,
                own => manifest::Command::Own(own.to_owned()),
            }),
            disk: self.disk.clone(),
            docker_image: self.docker_image.clone(),
            docker_username: self.docker_username.clone(),
            health_check_endpoint: self.endpoint.clone(),
            // `none` is the old word for it.
            health_check_type: self
                .health_check_type
                .as_deref()
                .map(|kind| if kind == "none" { "process" } else { kind }.to_owned()),
            instances: self.instances,
            lifecycle: self.lifecycle.clone(),
            log_rate_limit: self.log_rate_limit.clone(),
            memory: self.memory.clone(),
            no_route: self.no_route || self.task,
            path: self.path.as_ref().map(|path| cx.ui.io.dir.join(path)),
            random_route: self.random_route,
            stack: self.stack.clone(),
            has_strategy: self
                .rollout
                .by
                .strategy
                .is_some_and(|strategy| strategy != Strategy::Null),
            timeout: self.timeout,
        }
    }
}
