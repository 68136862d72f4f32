//! Starting, stopping, restarting and restaging apps.

use crate::command::{Command, Context, Needs, Spec};
use crate::commands::deploy::{self, act};
use crate::commands::rollout::{self, Rollout, RolloutFlags, Strategy, Version};
use crate::commands::summary;
use crate::error::{Error, Result};
use crate::resources::{App, Droplet, Package};
use crate::ui::say;

pub const TIMEOUTS: &[(&str, &str)] = &[
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
        let place = cx.place()?;
        if app.is_started() {
            let name = cx.ui.name(&app.name);
            say!(cx.ui, "Starting app {name} in {place}...\n");
            say!(cx.ui, "App '{}' is already started.", app.name);
            cx.ui.ok();
            return Ok(());
        }
        let how = How { verb: "Starting", place: &place, rollout: None, no_wait: false };
        match unstaged(cx, &app).await? {
            Some(package) => stage_and_start(cx, &app, &package, how).await,
            None => start(cx, &app, Version::Current, how).await,
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
        about: "Stop all instances of the app, then start them again.",
        usage: "{cf} restart APP_NAME [--strategy (canary | rolling)] [--max-in-flight COUNT] [--no-wait]\n\nThe app is down in between unless a strategy is given.\nIf the app's newest package is not staged yet, it is staged first.",
        environment: TIMEOUTS,
        see_also: &["restage", "restart-app-instance"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let rollout = self.rollout.by.rollout()?;
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let (place, no_wait) = (cx.place()?, self.rollout.no_wait);
        let how = How { verb: "Restarting", place: &place, rollout: rollout.as_ref(), no_wait };
        let unstaged = unstaged(cx, &app).await?;
        if unstaged.is_some() || rollout.is_some() {
            let name = cx.ui.name(&app.name);
            say!(cx.ui, "Restarting app {name} in {place}...\n");
        }
        match unstaged {
            Some(package) => stage_and_start(cx, &app, &package, how).await,
            None => start(cx, &app, Version::Current, how).await,
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
        about: "Stage the app's latest package into a droplet and restart the app with this new droplet and updated configuration (environment variables, service bindings, buildpack, stack, etc.).",
        usage: "{cf} restage APP_NAME [--strategy (canary | rolling)] [--max-in-flight COUNT] [--no-wait]\n\nThe app is down in between unless a strategy is given.",
        environment: TIMEOUTS,
        see_also: &["restart"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let rollout = self.rollout.by.rollout()?;
        if rollout.is_none() {
            cx.ui.warn("This action will cause app downtime.");
        }
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "\nRestaging app {name} in {place}...\n");
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let package = newest_ready(cx, &app).await?;
        let no_wait = self.rollout.no_wait;
        let how = How { verb: "Restarting", place: &place, rollout: rollout.as_ref(), no_wait };
        stage_and_start(cx, &app, &package.guid, how).await
    }
}

/// The app's packages, newest first.
pub async fn packages(cx: &Context<'_>, app: &App) -> Result<Vec<Package>> {
    let query = [("app_guids", app.guid.as_str()), ("order_by", "-created_at")];
    Ok(cx.client.list("/v3/packages", &query).await?.resources)
}

/// The newest package that can be staged.
pub async fn newest_ready(cx: &Context<'_>, app: &App) -> Result<Package> {
    let found = packages(cx, app).await?.into_iter().find(|package| package.state == "READY");
    found.ok_or_else(|| {
        let (cf, name) = (cx.cf(), &app.name);
        Error::Failed(format!(
            "App '{name}' has no eligible packages.\n\nTIP: Use '{cf} packages {name}' to list packages in your app. Use '{cf} create-package' to create one."
        ))
    })
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

/// Stages a package of the app, and runs what comes of it.
pub async fn stage_and_start(
    cx: &mut Context<'_>,
    app: &App,
    package: &str,
    how: How<'_>,
) -> Result<()> {
    say!(cx.ui, "Staging app and tracing logs...");
    let droplet = deploy::stage(cx, app, package).await?;
    say!(cx.ui);
    start(cx, app, Version::Droplet(&droplet), how).await
}

/// How an app comes up.
#[derive(Clone, Copy)]
pub struct How<'a> {
    /// `Starting`, `Restarting`: what the user is told.
    pub verb: &'a str,
    pub place: &'a str,
    pub rollout: Option<&'a Rollout>,
    pub no_wait: bool,
}

/// Brings the app up (again), on a new version when one is given, and shows what came of it.
pub async fn start(
    cx: &mut Context<'_>,
    app: &App,
    version: Version<'_>,
    how: How<'_>,
) -> Result<()> {
    if let Some(rollout) = how.rollout {
        say!(cx.ui, "Creating deployment for app {}...\n", app.name);
        let guid = rollout::create_deployment(cx, app, version, rollout).await?;
        say!(cx.ui, "Waiting for app to deploy...\n");
        let done = rollout::wait_deployed(cx, app, &guid, how.no_wait).await;
        say!(cx.ui);
        done?;
        if how.no_wait && rollout.strategy != Strategy::Canary {
            say!(cx.ui, "First instance restaged correctly, restaging remaining in the background");
            return Ok(());
        }
    } else {
        let name = cx.ui.name(&app.name);
        say!(cx.ui, "{} app {name} in {}...\n", how.verb, how.place);
        if app.is_started() {
            say!(cx.ui, "Stopping app...\n");
            act(cx, &app.guid, "stop").await?;
        }
        if let Version::Droplet(droplet) = version {
            deploy::set_droplet(cx, &app.guid, droplet).await?;
        }
        say!(cx.ui, "Waiting for app to start...\n");
        act(cx, &app.guid, "start").await?;
        let done = deploy::wait_running(cx, app, how.no_wait).await;
        say!(cx.ui);
        done?;
    }
    let summary =
        summary::load(&cx.client, cx.client.get(&format!("/v3/apps/{}", app.guid)).await?, false)
            .await?;
    let (now, cf) = (cx.ui.io.clock.now(), cx.cf());
    summary::show(&mut cx.ui, &summary, false, now, &cf);
    Ok(())
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
        about: "Stop, then start application instance without updating application environment",
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
