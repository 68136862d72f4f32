//! `cf copy-source`: one app's newest package for another app.

use serde_json::json;

use crate::command::{Command, Context, Needs, Spec};
use crate::commands::lifecycle::{How, TIMEOUTS, newest_ready, stage_and_start};
use crate::commands::push::source;
use crate::commands::rollout::{RolloutFlags, Strategy};
use crate::error::{Error, Result};
use crate::resources::Package;
use crate::ui::say;

/// `cf copy-source`
#[derive(clap::Args)]
pub struct CopySource {
    #[arg(value_name = "SOURCE_APP")]
    source: String,
    #[arg(value_name = "DESTINATION_APP")]
    destination: String,
    #[command(flatten)]
    rollout: RolloutFlags,
    /// Do not restage the destination application
    #[arg(long)]
    no_restart: bool,
    /// Org that contains the destination application
    #[arg(long, short = 'o')]
    organization: Option<String>,
    /// Space that contains the destination application
    #[arg(long, short = 's')]
    space: Option<String>,
}

impl Command for CopySource {
    const SPEC: &'static Spec = &Spec {
        name: "copy-source",
        about: "Copies the source code of an application to another existing application and restages that application",
        usage: "{cf} copy-source SOURCE_APP DESTINATION_APP [-s TARGET_SPACE [-o TARGET_ORG]] [--no-restart] [--strategy STRATEGY] [--no-wait]",
        environment: TIMEOUTS,
        see_also: &["apps", "push", "restage", "restart", "target"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        self.check()?;
        let rollout = self.rollout.by.rollout()?;
        let (mut org, mut space) = (cx.org(), cx.space());
        let shown = |cx: &Context, name: &Option<String>, targeted: &str| {
            cx.ui.name(name.as_deref().unwrap_or(targeted))
        };
        let place = format!(
            "org {} / space {} as {}",
            shown(cx, &self.organization, &org.name),
            shown(cx, &self.space, &space.name),
            cx.me()?
        );
        let (from, to) = (cx.ui.name(&self.source), cx.ui.name(&self.destination));
        say!(cx.ui, "Copying source from app {from} to target app {to} in {place}...\n");
        if let Some(name) = &self.organization {
            org.guid = cx.client.org(name).await?.guid;
        }
        if let Some(name) = &self.space {
            space.guid = cx.client.space(name, &org.guid).await?.guid;
        }
        let source = cx.client.app(&self.source, &cx.space().guid).await?;
        let target = cx.client.app(&self.destination, &space.guid).await?;
        let package = newest_ready(cx, &source).await?;
        let body = json!({ "relationships": { "app": { "data": { "guid": target.guid } } } });
        let path = format!("/v3/packages?source_guid={}", package.guid);
        let copy: Package = cx.client.post(&path, body).await?.json()?;
        let package = source::ready(cx, copy).await?;
        if self.no_restart {
            cx.ui.ok();
            return Ok(());
        }
        say!(cx.ui, "Staging app {to} in {place}...\n");
        let no_wait = self.rollout.no_wait;
        let how = How { verb: "Restarting", place: &place, rollout: rollout.as_ref(), no_wait };
        stage_and_start(cx, &target, &package, how).await
    }
}

impl CopySource {
    fn check(&self) -> Result<()> {
        let rolls = self.rollout.by.strategy.is_some_and(|strategy| strategy != Strategy::Null);
        match () {
            () if self.organization.is_some() && self.space.is_none() => {
                Err(Error::apart("--organization, -o", "--space, -s"))
            }
            () if self.no_restart && rolls => Err(Error::together(&["--no-restart", "--strategy"])),
            () if self.no_restart && self.rollout.no_wait => {
                Err(Error::together(&["--no-restart", "--no-wait"]))
            }
            () => Ok(()),
        }
    }
}
