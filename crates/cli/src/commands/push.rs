//! `cf push`: from files and a manifest to a running app. And `cf apply-manifest`, its first half.

mod flags;
pub mod source;

use std::path::PathBuf;

use reqwest::Method;
use serde_json::json;

use crate::client::Body;
use crate::command::{Command, Context, Needs, Spec};
use crate::commands::deploy::{self, act};
use crate::commands::rollout::{self, Rollout, Version};
use crate::commands::summary;
use crate::error::{Error, Result};
use crate::manifest::{AppSource, Diff, Manifest, Mark, Vars, read_vars_file};
use crate::resources::App;
use crate::ui::say;

pub use flags::Push;

impl Command for Push {
    const SPEC: &'static Spec = &Spec {
        name: "push",
        alias: "p",
        about: "Push a new app or sync changes to an existing app",
        usage: "{cf} push APP_NAME [-b BUILDPACK_NAME]...\n[-c COMMAND] [-f MANIFEST_PATH | --no-manifest] [--lifecycle (buildpack | docker | cnb)] [--no-start] [--no-wait]\n[-i NUM_INSTANCES] [-k DISK] [-m MEMORY] [-l LOG_RATE_LIMIT] [-p PATH] [-s STACK] [-t HEALTH_TIMEOUT] [--task]\n[-u (process | port | http)] [--no-route | --random-route] [--strategy (canary | rolling)]\n[--var KEY=VALUE]... [--vars-file VARS_FILE_PATH]...\n\n{cf} push APP_NAME --docker-image [REGISTRY_HOST:PORT/]IMAGE[:TAG] [--docker-username USERNAME] [...]",
        environment: &[
            ("CF_DOCKER_PASSWORD=", "Password used for private docker repository"),
            ("CF_STAGING_TIMEOUT=15", "Max wait time for staging, in minutes"),
            ("CF_STARTUP_TIMEOUT=5", "Max wait time for app instance startup, in minutes"),
        ],
        see_also: &["apps", "create-app-manifest", "logs", "restage", "scale"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        self.check()?;
        self.check_path(cx)?;
        let rollout = self.rollout()?;
        let overrides = self.overrides(cx);
        let mut manifest = self.manifest(cx)?;
        overrides.apply(&mut manifest, &cx.ui.io.dir)?;
        let password = self.docker_password(cx, &manifest)?;
        // A deployment brings the new scale along; until then the old one holds.
        let shown = if rollout.is_some() { manifest.scaled(&overrides) } else { manifest.clone() };

        let names = manifest.names();
        let (list, place) = (cx.ui.name(names.join(", ")), cx.place()?);
        let what = if names.len() == 1 { "app" } else { "apps" };
        say!(cx.ui, "Pushing {what} {list} to {place}...");
        if let Some(path) = &manifest.path {
            let file = self.manifest.as_ref().filter(|given| cx.ui.io.dir.join(given).is_file());
            say!(cx.ui, "Applying manifest file {}...", file.unwrap_or(path).display());
            tell_unread(cx, &manifest);
            show_diff(cx, &shown, self.redact_env).await?;
        }
        apply(cx, &manifest).await?;
        if manifest.path.is_some() {
            say!(cx.ui, "Manifest applied");
        }
        for source in manifest.sources() {
            let app = cx.client.app(&source.name, &cx.space().guid).await?;
            let done =
                self.push_one(cx, &app, &source, rollout.as_ref(), password.as_deref()).await;
            if matches!(done, Ok(()) | Err(Error::Crashed { .. })) {
                say!(cx.ui);
                summary::show_app(cx, &app.name, true).await?;
            }
            done?;
        }
        Ok(())
    }
}

impl Push {
    fn manifest(&self, cx: &Context) -> Result<Manifest> {
        let bare = Manifest::bare(self.app.as_deref().unwrap_or_default());
        if self.no_manifest {
            return Ok(bare);
        }
        let dir = &cx.ui.io.dir;
        let vars = variables(dir, &self.vars, &self.vars_files)?;
        match (
            &self.manifest,
            Manifest::locate(&self.manifest.as_ref().map_or(dir.clone(), |path| dir.join(path))),
        ) {
            (_, Some(path)) => Manifest::load(&path, &vars),
            (None, None) => Ok(bare),
            (Some(path), None) if dir.join(path).is_dir() => Err(Error::Failed(format!(
                "Incorrect Usage: The specified directory '{}' does not contain a file named 'manifest.yml'.",
                path.display()
            ))),
            (Some(path), None) => Err(Error::Failed(format!(
                "Incorrect Usage: The specified path '{}' does not exist.",
                path.display()
            ))),
        }
    }

    fn docker_password(&self, cx: &mut Context, manifest: &Manifest) -> Result<Option<String>> {
        let private = |source: &AppSource| {
            source.docker.as_ref().is_some_and(|docker| docker.username.is_some())
        };
        if !manifest.sources().iter().any(private) {
            return Ok(None);
        }
        if let Some(password) = cx.ui.env("CF_DOCKER_PASSWORD").map(str::to_owned) {
            say!(
                cx.ui,
                "Using docker repository password from environment variable CF_DOCKER_PASSWORD."
            );
            return Ok(Some(password));
        }
        say!(cx.ui, "Environment variable CF_DOCKER_PASSWORD not set.");
        cx.ui.password("Docker password").map(Some)
    }

    /// Brings one app to what was asked: its source up, staged, and running.
    async fn push_one(
        &self,
        cx: &mut Context<'_>,
        app: &App,
        source: &AppSource,
        rollout: Option<&Rollout>,
        password: Option<&str>,
    ) -> Result<()> {
        let dir = cx.ui.io.dir.clone();
        let mut droplet = None;
        let mut package = None;
        match (&self.droplet, &source.docker) {
            (Some(path), _) => {
                droplet = Some(source::upload_droplet(cx, app, &dir.join(path)).await?)
            }
            (None, Some(docker)) => {
                package = Some(source::docker_package(cx, app, docker, password).await?)
            }
            (None, None) => {
                let path = source.path.clone().unwrap_or(dir);
                package = Some(source::upload_bits(cx, app, &path).await?);
            }
        }
        if let Some(package) = package.filter(|_| !self.no_start) {
            say!(cx.ui, "\nStaging app and tracing logs...");
            droplet = Some(deploy::stage(cx, app, &package).await?);
        }
        if self.no_start || self.task {
            return self.leave_stopped(cx, app, droplet.as_deref()).await;
        }
        if let Some(rollout) = rollout {
            let name = cx.ui.name(&app.name);
            say!(cx.ui, "\nStarting deployment for app {name}...");
            let version = droplet.as_deref().map_or(Version::Current, Version::Droplet);
            let guid = rollout::create_deployment(cx, app, version, rollout).await?;
            say!(cx.ui, "Waiting for app to deploy...\n");
            return rollout::wait_deployed(cx, app, &guid, self.rollout.no_wait).await;
        }
        if let Some(droplet) = droplet {
            deploy::set_droplet(cx, &app.guid, &droplet).await?;
        }
        let name = cx.ui.name(&app.name);
        say!(cx.ui, "\nWaiting for app {name} to start...\n");
        act(cx, &app.guid, "restart").await?;
        deploy::wait_running(cx, app, self.rollout.no_wait).await
    }

    /// Without an instance that runs: the app is uploaded, or has its droplet for tasks.
    async fn leave_stopped(
        &self,
        cx: &mut Context<'_>,
        app: &App,
        droplet: Option<&str>,
    ) -> Result<()> {
        if app.is_started() {
            say!(cx.ui, "Stopping Application...");
            act(cx, &app.guid, "stop").await?;
            say!(cx.ui, "Application Stopped");
        }
        match droplet {
            Some(droplet) => deploy::set_droplet(cx, &app.guid, droplet).await,
            None => Ok(()),
        }
    }
}

/// Variables of files, then of flags: the later one counts.
fn variables(
    dir: &std::path::Path,
    vars: &[(String, serde_norway::Value)],
    files: &[PathBuf],
) -> Result<Vars> {
    let mut all = Vars::new();
    for file in files {
        let path = dir.join(file);
        if !path.exists() {
            let file = file.display();
            return Err(Error::Usage(format!("The specified path '{file}' does not exist.")));
        }
        all.extend(read_vars_file(&path)?);
    }
    all.extend(vars.iter().cloned());
    Ok(all)
}

/// Shows what the manifest will change; a server that cannot tell is no reason to stop.
async fn show_diff(cx: &mut Context<'_>, manifest: &Manifest, redact_env: bool) -> Result<()> {
    let path = format!("/v3/spaces/{}/manifest_diff", cx.space().guid);
    let diff: Diff =
        match cx.client.send(Method::POST, &path, &[], Body::Yaml(manifest.to_yaml())).await {
            Err(Error::Api(error)) if error.status >= 500 || error.status == 404 => {
                cx.ui.warn("Unable to generate diff. Continuing to apply manifest...");
                return Ok(());
            }
            reply => reply?.json()?,
        };
    say!(cx.ui, "\nUpdating with these attributes...");
    for (mark, line) in diff.lines(manifest.root(), redact_env) {
        let line = match mark {
            Mark::Same => line,
            Mark::Added => cx.ui.green(line),
            Mark::Removed => cx.ui.red(line),
        };
        say!(cx.ui, "{line}");
    }
    Ok(())
}

/// Keys that nobody reads are no error, but most often a slip.
fn tell_unread(cx: &mut Context, manifest: &Manifest) {
    for unread in manifest.unread() {
        cx.ui.warn(&format!("Warning: {unread}"));
    }
}

async fn apply(cx: &Context<'_>, manifest: &Manifest) -> Result<()> {
    let path = format!("/v3/spaces/{}/actions/apply_manifest", cx.space().guid);
    let sent = cx.client.send(Method::POST, &path, &[], Body::Yaml(manifest.to_yaml())).await;
    let reply = sent.map_err(|error| match error {
        Error::Api(refusal) if refusal.status == 422 => {
            Error::Failed(manifest.pointed(refusal.to_string()))
        }
        error => error,
    })?;
    // The manifest is to blame, not the job that read it.
    cx.client.finish(&reply).await.map_err(|error| match error {
        Error::Job { detail, .. } if detail.contains("must be an existing admin buildpack") => {
            let cf = cx.cf();
            Error::Failed(format!(
                "{detail}\n\nTIP: Use '{cf} buildpacks' to see a list of supported buildpacks."
            ))
        }
        Error::Job { detail, .. } => {
            let error = Error::Failed(manifest.pointed(detail));
            deploy::with_limits(error, &cx.cf(), &cx.org().name, &cx.space().name)
        }
        error => error,
    })
}

/// `cf apply-manifest`
#[derive(clap::Args)]
pub struct ApplyManifest {
    /// Path to app manifest
    #[arg(short = 'f')]
    manifest: Option<PathBuf>,
    /// Variable for the manifest (e.g. name=app1); may be given several times
    #[arg(long = "var", value_parser = crate::manifest::read_var)]
    vars: Vec<(String, serde_norway::Value)>,
    /// File of variables for the manifest; may be given several times
    #[arg(long = "vars-file")]
    vars_files: Vec<PathBuf>,
    /// Do not print values of environment variables
    #[arg(long)]
    redact_env: bool,
}

impl Command for ApplyManifest {
    const SPEC: &'static Spec = &Spec {
        name: "apply-manifest",
        about: "Apply manifest properties to a space",
        usage: "{cf} apply-manifest [-f APP_MANIFEST_PATH] [--var KEY=VALUE]... [--vars-file VARS_FILE_PATH]...",
        see_also: &["create-app", "create-app-manifest", "push"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let dir = cx.ui.io.dir.clone();
        let given = self.manifest.as_ref().map_or(dir.clone(), |path| dir.join(path));
        let Some(path) = Manifest::locate(&given) else {
            return Err(Error::Failed(format!(
                "Could not find 'manifest.yml' file in {}",
                given.display()
            )));
        };
        let vars = variables(&dir, &self.vars, &self.vars_files)?;
        let place = cx.place()?;
        say!(cx.ui, "Applying manifest {} in {place}...", path.display());
        let manifest = Manifest::load(&path, &vars)?;
        tell_unread(cx, &manifest);
        show_diff(cx, &manifest, self.redact_env).await?;
        apply(cx, &manifest).await?;
        cx.ui.ok();
        Ok(())
    }
}

/// The body of a new package.
pub(super) fn package_body(app: &str, kind: &str, data: serde_json::Value) -> serde_json::Value {
    json!({ "type": kind, "data": data, "relationships": { "app": { "data": { "guid": app } } } })
}
