//! Security groups that hold everywhere: for all running apps, or for all staging.

use serde_json::json;

use super::{OfGroup, TIP, tip};
use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Error, Result};
use crate::resources::SecurityGroup;
use crate::table::{self, row};
use crate::ui::say;

/// Lists the groups that hold everywhere in a phase.
async fn list(cx: &mut Context<'_>, phase: &str) -> Result<()> {
    let me = cx.me()?;
    say!(cx.ui, "Getting global {phase} security groups as {me}...\n");
    let filter = format!("globally_enabled_{phase}");
    let query = [(filter.as_str(), "true")];
    let groups: Vec<SecurityGroup> = cx.client.list("/v3/security_groups", &query).await?.resources;
    if groups.is_empty() {
        say!(cx.ui, "No global {phase} security groups found.");
        return Ok(());
    }
    let mut rows = vec![row!["name"]];
    rows.extend(groups.into_iter().map(|group| vec![group.name]));
    table::with_header(&mut cx.ui, "", &rows);
    Ok(())
}

async fn bind(cx: &mut Context<'_>, name: &str, phase: &str) -> Result<()> {
    let (shown, me) = (cx.ui.name(name), cx.me()?);
    say!(cx.ui, "Binding security group {shown} to {phase} as {me}...");
    set(cx, name, phase, true).await?;
    cx.ui.ok();
    tip(cx);
    Ok(())
}

async fn unbind(cx: &mut Context<'_>, name: &str, phase: &str) -> Result<()> {
    let (shown, me) = (cx.ui.name(name), cx.me()?);
    say!(cx.ui, "Unbinding security group {shown} from defaults for {phase} as {me}...");
    match set(cx, name, phase, false).await {
        Err(Error::Missing(sentence)) => {
            cx.ui.warn(&sentence);
            cx.ui.ok();
            return Ok(());
        }
        done => done?,
    }
    cx.ui.ok();
    tip(cx);
    Ok(())
}

async fn set(cx: &Context<'_>, name: &str, phase: &str, on: bool) -> Result<()> {
    let group = cx.client.security_group(name).await?;
    let body = json!({ "globally_enabled": { phase: on } });
    cx.client.patch(&format!("/v3/security_groups/{}", group.guid), body).await.map(drop)
}

/// `cf running-security-groups`
#[derive(clap::Args)]
pub struct RunningSecurityGroups {}

impl Command for RunningSecurityGroups {
    const SPEC: &'static Spec = &Spec {
        name: "running-security-groups",
        about: "List security groups globally configured for running applications",
        usage: "{cf} running-security-groups",
        see_also: &[
            "bind-running-security-group",
            "security-group",
            "unbind-running-security-group",
        ],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        list(cx, "running").await
    }
}

/// `cf staging-security-groups`
#[derive(clap::Args)]
pub struct StagingSecurityGroups {}

impl Command for StagingSecurityGroups {
    const SPEC: &'static Spec = &Spec {
        name: "staging-security-groups",
        about: "List security groups globally configured for staging applications",
        usage: "{cf} staging-security-groups",
        see_also: &[
            "bind-staging-security-group",
            "security-group",
            "unbind-staging-security-group",
        ],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        list(cx, "staging").await
    }
}

/// `cf bind-running-security-group`
#[derive(clap::Args)]
pub struct BindRunningSecurityGroup {
    #[command(flatten)]
    of: OfGroup,
}

impl Command for BindRunningSecurityGroup {
    const SPEC: &'static Spec = &Spec {
        name: "bind-running-security-group",
        about: "Bind a security group to the list of security groups to be used for running applications",
        usage: "{cf} bind-running-security-group SECURITY_GROUP",
        tip: TIP,
        see_also: &[
            "apps",
            "bind-security-group",
            "bind-staging-security-group",
            "restart",
            "running-security-groups",
            "security-groups",
        ],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        bind(cx, &self.of.group, "running").await
    }
}

/// `cf bind-staging-security-group`
#[derive(clap::Args)]
pub struct BindStagingSecurityGroup {
    #[command(flatten)]
    of: OfGroup,
}

impl Command for BindStagingSecurityGroup {
    const SPEC: &'static Spec = &Spec {
        name: "bind-staging-security-group",
        about: "Bind a security group to the list of security groups to be used for staging applications globally",
        usage: "{cf} bind-staging-security-group SECURITY_GROUP",
        tip: TIP,
        see_also: &[
            "apps",
            "bind-running-security-group",
            "bind-security-group",
            "restart",
            "security-groups",
            "staging-security-groups",
        ],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        bind(cx, &self.of.group, "staging").await
    }
}

/// `cf unbind-running-security-group`
#[derive(clap::Args)]
pub struct UnbindRunningSecurityGroup {
    #[command(flatten)]
    of: OfGroup,
}

impl Command for UnbindRunningSecurityGroup {
    const SPEC: &'static Spec = &Spec {
        name: "unbind-running-security-group",
        about: "Unbind a security group from the set of security groups for running applications globally",
        usage: "{cf} unbind-running-security-group SECURITY_GROUP",
        tip: TIP,
        see_also: &["apps", "restart", "running-security-groups", "security-groups"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        unbind(cx, &self.of.group, "running").await
    }
}

/// `cf unbind-staging-security-group`
#[derive(clap::Args)]
pub struct UnbindStagingSecurityGroup {
    #[command(flatten)]
    of: OfGroup,
}

impl Command for UnbindStagingSecurityGroup {
    const SPEC: &'static Spec = &Spec {
        name: "unbind-staging-security-group",
        about: "Unbind a security group from the set of security groups for staging applications globally",
        usage: "{cf} unbind-staging-security-group SECURITY_GROUP",
        tip: TIP,
        see_also: &["apps", "restart", "security-groups", "staging-security-groups"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        unbind(cx, &self.of.group, "staging").await
    }
}
