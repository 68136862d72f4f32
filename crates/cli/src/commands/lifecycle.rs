//! Starting, stopping, restarting and restaging apps.

use crate::command::{Command, Context, Needs, Spec};
use crate::commands::deploy::{self, Rollout, RolloutFlags, act};
use crate::commands::summary;
use crate::error::{Error, Result, failed};
use crate::resources::{App, Droplet, Package};
use crate::ui::say;

const TIMEOUTS: &[(&str, &str)] = &[
    ("CF_STAGING_TIMEOUT=15", "Max wait time for staging, in minutes"),
    ("CF_STARTUP_TIMEOUT=5", "Max wait time for app instance startup, in minutes"),
];

/// `cf start`
#[derive(clap::Args)]
pub struct Start {
    #[arg(value_name = "APP_NAME")]
    app: String,
}

impl Command for Start {
    const SPEC: &'static Spec = &Spec {
        name: "start",
        alias: "st",
        about: "Start an app",
        usage: "{cf} start APP_NAME\n\nIf the app's newest package is not staged yet, it is staged first.\nOtherwise the app's current droplet runs.",
        environment: TIMEOUTS,
        see_also: &["apps", "logs", "restart", "scale", "stop"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        if app.is_started() {
            announce(cx, "Starting", &app.name)?;
            say!(cx.ui, "App '{}' is already started.", app.name);
            cx.ui.ok();
            return Ok(());
        }
        match unstaged(cx, &app).await? {
            Some(package) => stage_and_start(cx, &app, &package, "Starting", None, false).await,
            None => start(cx, &app, None, "Starting", None, false).await,
        }
    }
}

/// `cf stop`
#[derive(clap::Args)]
pub struct Stop {
    #[arg(value_name = "APP_NAME")]
    app: String,
}

impl Command for Stop {
    const SPEC: &'static Spec = &Spec {
        name: "stop",
        alias: "sp",
        about: "Stop an app",
        usage: "{cf} stop APP_NAME",
        see_also: &["restart", "scale", "start"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        if !app.is_started() {
            let name = cx.ui.name(&app.name);
            say!(cx.ui, "App {name} is already stopped.");
            cx.ui.ok();
            return Ok(());
        }
        let (name, place) = (cx.ui.name(&app.name), cx.place()?);
        say!(cx.ui, "Stopping app {name} in {place}...");
        act(cx, &app.guid, "stop").await?;
        cx.ui.ok();
        Ok(())
    }
}

/// `cf restart`
#[derive(clap::Args)]
pub struct Restart {
    #[arg(value_name = "APP_NAME")]
    app: String,
    #[command(flatten)]
    rollout: RolloutFlags,
}

impl Command for Restart {
    const SPEC: &'static Spec = &Spec {
        name: "restart",
        alias: "rs",
        about: "Stop all instances of the app, then start them again",
        usage: "{cf} restart APP_NAME [--strategy (canary | rolling)] [--max-in-flight COUNT] [--no-wait]\n\nThe app is down in between unless a strategy is given.\nIf the app's newest package is not staged yet, it is staged first.",
        environment: TIMEOUTS,
        see_also: &["restage", "restart-app-instance"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let rollout = self.rollout.rollout()?;
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        match unstaged(cx, &app).await? {
            Some(package) => {
                stage_and_start(cx, &app, &package, "Restarting", rollout, self.rollout.no_wait)
                    .await
            }
            None => start(cx, &app, None, "Restarting", rollout, self.rollout.no_wait).await,
        }
    }
}

/// `cf restage`
#[derive(clap::Args)]
pub struct Restage {
    #[arg(value_name = "APP_NAME")]
    app: String,
    #[command(flatten)]
    rollout: RolloutFlags,
}

impl Command for Restage {
    const SPEC: &'static Spec = &Spec {
        name: "restage",
        alias: "rg",
        about: "Stage the app's newest package anew, and restart the app with it",
        usage: "{cf} restage APP_NAME [--strategy (canary | rolling)] [--max-in-flight COUNT] [--no-wait]\n\nThe app is down in between unless a strategy is given.",
        environment: TIMEOUTS,
        see_also: &["restart"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let rollout = self.rollout.rollout()?;
        if rollout.is_none() {
            cx.ui.warn("This action will cause app downtime.");
        }
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "\nRestaging app {name} in {place}...\n");
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let packages = packages(cx, &app).await?;
        let Some(package) = packages.into_iter().find(|package| package.state == "READY") else {
            let cf = cx.cf();
            return failed(format!(
                "App '{}' has no eligible packages.\n\nTIP: Use '{cf} push {}' to upload one.",
                self.app, self.app
            ));
        };
        stage_and_start(cx, &app, &package.guid, "Restarting", rollout, self.rollout.no_wait).await
    }
}

/// The app's packages, newest first.
async fn packages(cx: &Context<'_>, app: &App) -> Result<Vec<Package>> {
    let query = [("app_guids", app.guid.as_str()), ("order_by", "-created_at")];
    Ok(cx.client.list("/v3/packages", &query).await?.resources)
}

/// The newest package, when nothing was made of it yet.
async fn unstaged(cx: &Context<'_>, app: &App) -> Result<Option<String>> {
    let Some(package) =
        packages(cx, app).await?.into_iter().find(|package| package.state == "READY")
    else {
        return Ok(None);
    };
    let droplets = cx
        .client
        .list::<Droplet>(
            &format!("/v3/packages/{}/droplets", package.guid),
            &[("states", "STAGED")],
        )
        .await?;
    Ok(droplets.resources.is_empty().then_some(package.guid))
}

async fn stage_and_start(
    cx: &mut Context<'_>,
    app: &App,
    package: &str,
    verb: &str,
    rollout: Option<Rollout>,
    no_wait: bool,
) -> Result<()> {
    say!(cx.ui, "Staging app and tracing logs...");
    let droplet = deploy::stage(cx, app, package).await?;
    say!(cx.ui);
    start(cx, app, Some(&droplet), verb, rollout, no_wait).await
}

fn announce(cx: &mut Context, verb: &str, app: &str) -> Result<()> {
    let (name, place) = (cx.ui.name(app), cx.place()?);
    say!(cx.ui, "{verb} app {name} in {place}...\n");
    Ok(())
}

/// Brings the app up (again), on a new droplet when one is given, and shows what came of it.
async fn start(
    cx: &mut Context<'_>,
    app: &App,
    droplet: Option<&str>,
    verb: &str,
    rollout: Option<Rollout>,
    no_wait: bool,
) -> Result<()> {
    if let Some(rollout) = rollout {
        say!(cx.ui, "Creating deployment for app {}...\n", app.name);
        let guid = deploy::create_deployment(cx, app, droplet, &rollout).await?;
        say!(cx.ui, "Waiting for app to deploy...\n");
        let done = deploy::wait_deployed(cx, app, &guid, no_wait).await;
        say!(cx.ui);
        done?;
        if no_wait && rollout.strategy != deploy::Strategy::Canary {
            say!(cx.ui, "First instance restaged correctly, restaging remaining in the background");
            return Ok(());
        }
    } else {
        announce(cx, verb, &app.name)?;
        if app.is_started() {
            say!(cx.ui, "Stopping app...\n");
            act(cx, &app.guid, "stop").await?;
        }
        if let Some(droplet) = droplet {
            deploy::set_droplet(cx, &app.guid, droplet).await?;
        }
        say!(cx.ui, "Waiting for app to start...\n");
        act(cx, &app.guid, "start").await?;
        let done = deploy::wait_running(cx, app, no_wait).await;
        say!(cx.ui);
        done?;
    }
    summary::show_app(cx, &app.name, false).await
}

/// `cf restart-app-instance`
#[derive(clap::Args)]
pub struct RestartAppInstance {
    #[arg(value_name = "APP_NAME")]
    app: String,
    #[arg(value_name = "INDEX")]
    index: u32,
    /// Process to restart
    #[arg(long, default_value = "web")]
    process: String,
}

impl Command for RestartAppInstance {
    const SPEC: &'static Spec = &Spec {
        name: "restart-app-instance",
        about: "Terminate, then start, one instance of an app",
        usage: "{cf} restart-app-instance APP_NAME INDEX [--process PROCESS]",
        see_also: &["restart"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (index, process, name) =
            (cx.ui.name(self.index), cx.ui.name(&self.process), cx.ui.name(&self.app));
        let place = cx.place()?;
        say!(cx.ui, "Restarting instance {index} of process {process} of app {name} in {place}...");
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let path =
            format!("/v3/apps/{}/processes/{}/instances/{}", app.guid, self.process, self.index);
        cx.client.delete(&path).await.map_err(|error| match error.api_detail(404) {
            Some("Process not found") => {
                Error::Failed(format!("Process {} not found", self.process))
            }
            Some("Instance not found") => Error::Failed(format!(
                "Instance {} of process {} not found",
                self.index, self.process
            )),
            _ => error,
        })?;
        cx.ui.ok();
        Ok(())
    }
}
