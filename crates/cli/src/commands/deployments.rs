//! Deployments under way: canceled, continued, or started to go back to an earlier revision.

use reqwest::Method;

use crate::client::Body;
use crate::command::{Command, Context, Needs, Spec};
use crate::commands::lifecycle::{How, start};
use crate::commands::revisions;
use crate::commands::rollout::{self, Rollout, Strategy, StrategyFlags, Version};
use crate::commands::summary;
use crate::error::{Error, Result, failed};
use crate::resources::Deployment;
use crate::ui::say;

/// The newest deployment that is still under way.
async fn active(cx: &Context<'_>, app: &str) -> Result<Deployment> {
    let query = [("app_guids", app), ("status_values", "ACTIVE"), ("order_by", "-created_at")];
    cx.client
        .only("/v3/deployments", &query, || "No active deployment found for app.".to_owned())
        .await
}

async fn act(cx: &Context<'_>, deployment: &str, action: &str) -> Result<()> {
    let path = format!("/v3/deployments/{deployment}/actions/{action}");
    cx.client.send(Method::POST, &path, &[], Body::None).await.map(drop)
}

/// `cf cancel-deployment`
#[derive(clap::Args)]
pub struct CancelDeployment {
    #[arg(value_name = "APP_NAME")]
    app: String,
}

impl Command for CancelDeployment {
    const SPEC: &'static Spec = &Spec {
        name: "cancel-deployment",
        about: "Cancel the most recent deployment for an app. Resets the current droplet to the previous deployment's droplet.",
        usage: "{cf} cancel-deployment APP_NAME",
        examples: "{cf} cancel-deployment my-app",
        see_also: &["app", "push"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Canceling deployment for app {name} in {place}...");
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let deployment = active(cx, &app.guid).await?;
        act(cx, &deployment.guid, "cancel").await?;
        cx.ui.ok();
        let cf = cx.cf();
        say!(cx.ui, "TIP: Run '{cf} app {}' to view app status.", self.app);
        Ok(())
    }
}

/// `cf continue-deployment`
#[derive(clap::Args)]
pub struct ContinueDeployment {
    #[arg(value_name = "APP_NAME")]
    app: String,
    /// Exit when the first instance of the web process is healthy
    #[arg(long)]
    no_wait: bool,
}

impl Command for ContinueDeployment {
    const SPEC: &'static Spec = &Spec {
        name: "continue-deployment",
        about: "Continue the most recent deployment for an app.",
        usage: "{cf} continue-deployment APP_NAME [--no-wait]",
        examples: "{cf} continue-deployment my-app",
        see_also: &["app", "push"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Continuing deployment for app {name} in {place}...\n");
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let deployment = active(cx, &app.guid).await?;
        act(cx, &deployment.guid, "continue").await?;
        say!(cx.ui, "Waiting for app to deploy...\n");
        let done = rollout::wait_deployed(cx, &app, &deployment.guid, self.no_wait).await;
        say!(cx.ui);
        done?;
        summary::show_app(cx, &self.app, false).await?;
        let cf = cx.cf();
        say!(cx.ui, "\nTIP: Run '{cf} app {}' to view app status.", self.app);
        Ok(())
    }
}

/// `cf rollback`
#[derive(clap::Args)]
pub struct Rollback {
    #[arg(value_name = "APP_NAME")]
    app: String,
    /// Force rollback without confirmation
    #[arg(short = 'f')]
    force: bool,
    #[command(flatten)]
    by: StrategyFlags,
    /// Roll back to the specified revision
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    version: u64,
}

impl Command for Rollback {
    const SPEC: &'static Spec = &Spec {
        name: "rollback",
        about: "Rollback to the specified revision of an app",
        usage: "{cf} rollback APP_NAME [--version VERSION] [-f]",
        see_also: &["revision", "revisions"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let rollout = self.rollout()?;
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        if revisions::all(cx, &app.guid).await?.is_empty() {
            return failed(format!("No revisions for app {}", self.app));
        }
        let revision = revisions::find(cx, &app.guid, self.version).await?;
        let (name, version, place) = (cx.ui.name(&self.app), cx.ui.name(self.version), cx.place()?);
        if !self.force {
            say!(
                cx.ui,
                "Rolling '{name}' back to revision '{version}' will create a new revision. The new revision will use the settings from revision '{version}'."
            );
            if !cx.ui.confirm("Are you sure you want to continue?")? {
                say!(
                    cx.ui,
                    "App '{}' has not been rolled back to revision '{}'.",
                    self.app,
                    self.version
                );
                return Ok(());
            }
        }
        say!(cx.ui, "Rolling back to revision {version} for app {name} in {place}...");
        let how = How { verb: "", place: &place, rollout: Some(&rollout), no_wait: false };
        start(cx, &app, Version::Revision(&revision.guid), how).await?;
        cx.ui.ok();
        Ok(())
    }
}

impl Rollback {
    /// Going back always rolls, by default without pauses.
    fn rollout(&self) -> Result<Rollout> {
        let strategy = self.by.strategy.filter(|strategy| *strategy != Strategy::Null);
        let by =
            StrategyFlags { strategy: strategy.or(Some(Strategy::Rolling)), ..self.by.clone() };
        by.rollout()?.ok_or_else(|| Error::Usage("a rollback needs a strategy".to_owned()))
    }
}
