//! Feature flags: what the platform lets people do.

use serde_json::json;

use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Error, Result};
use crate::resources::Feature;
use crate::table::{self, row};
use crate::ui::say;

fn state(enabled: bool) -> &'static str {
    if enabled { "enabled" } else { "disabled" }
}

fn unknown(error: Error, name: &str) -> Error {
    if error.is_not_found() {
        Error::Failed(format!("Feature flag '{name}' not found."))
    } else {
        error
    }
}

#[derive(clap::Args)]
struct OfFlag {
    #[arg(value_name = "FEATURE_FLAG_NAME")]
    name: String,
}

/// `cf feature-flags`
#[derive(clap::Args)]
pub struct FeatureFlags {}

impl Command for FeatureFlags {
    const SPEC: &'static Spec = &Spec {
        name: "feature-flags",
        about: "Retrieve list of feature flags with status",
        usage: "{cf} feature-flags",
        see_also: &["disable-feature-flag", "enable-feature-flag", "feature-flag"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let me = cx.me()?;
        say!(cx.ui, "Getting feature flags as {me}...\n");
        let flags: Vec<Feature> = cx.client.list("/v3/feature_flags", &[]).await?.resources;
        let mut rows = vec![row!["name", "state"]];
        rows.extend(flags.into_iter().map(|flag| row![flag.name, state(flag.enabled)]));
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

/// `cf feature-flag`
#[derive(clap::Args)]
pub struct FeatureFlag {
    #[command(flatten)]
    of: OfFlag,
}

impl Command for FeatureFlag {
    const SPEC: &'static Spec = &Spec {
        name: "feature-flag",
        about: "Retrieve an individual feature flag with status",
        usage: "{cf} feature-flag FEATURE_FLAG_NAME",
        see_also: &["disable-feature-flag", "enable-feature-flag", "feature-flags"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, me) = (cx.ui.name(&self.of.name), cx.me()?);
        say!(cx.ui, "Getting info for feature flag {name} as {me}...\n");
        let path = format!("/v3/feature_flags/{}", self.of.name);
        let flag: Feature =
            cx.client.get(&path).await.map_err(|error| unknown(error, &self.of.name))?;
        let rows = [row!["Features", "State"], row![flag.name, state(flag.enabled)]];
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

/// `cf enable-feature-flag`
#[derive(clap::Args)]
pub struct EnableFeatureFlag {
    #[command(flatten)]
    of: OfFlag,
}

impl Command for EnableFeatureFlag {
    const SPEC: &'static Spec = &Spec {
        name: "enable-feature-flag",
        about: "Allow use of a feature",
        usage: "{cf} enable-feature-flag FEATURE_FLAG_NAME",
        see_also: &["disable-feature-flag", "feature-flag", "feature-flags"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        set(cx, &self.of.name, "Enabling", true).await
    }
}

/// `cf disable-feature-flag`
#[derive(clap::Args)]
pub struct DisableFeatureFlag {
    #[command(flatten)]
    of: OfFlag,
}

impl Command for DisableFeatureFlag {
    const SPEC: &'static Spec = &Spec {
        name: "disable-feature-flag",
        about: "Prevent use of a feature",
        usage: "{cf} disable-feature-flag FEATURE_FLAG_NAME",
        see_also: &["enable-feature-flag", "feature-flag", "feature-flags"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        set(cx, &self.of.name, "Disabling", false).await
    }
}

async fn set(cx: &mut Context<'_>, name: &str, doing: &str, on: bool) -> Result<()> {
    let (shown, me) = (cx.ui.name(name), cx.me()?);
    say!(cx.ui, "{doing} feature flag {shown} as {me}...");
    let path = format!("/v3/feature_flags/{name}");
    let set = cx.client.patch(&path, json!({ "enabled": on })).await;
    set.map_err(|error| unknown(error, name))?;
    cx.ui.ok();
    Ok(())
}
