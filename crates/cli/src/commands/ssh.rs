//! Whether people may open a shell in an app's containers.

use serde::Deserialize;
use serde_json::json;

use crate::command::{Command, Context, Needs, Spec};
use crate::error::Result;
use crate::resources::Feature;
use crate::ui::say;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Enabled {
    enabled: bool,
    reason: String,
}

#[derive(clap::Args)]
struct OfApp {
    #[arg(value_name = "APP_NAME")]
    app: String,
}

#[derive(clap::Args)]
struct OfSpace {
    #[arg(value_name = "SPACE_NAME")]
    space: String,
}

/// `Enabling`, `enabled` and their opposites.
fn words(on: bool) -> (&'static str, &'static str) {
    if on { ("Enabling", "enabled") } else { ("Disabling", "disabled") }
}

/// `cf enable-ssh`
#[derive(clap::Args)]
pub struct EnableSsh {
    #[command(flatten)]
    of: OfApp,
}

impl Command for EnableSsh {
    const SPEC: &'static Spec = &Spec {
        name: "enable-ssh",
        about: "Enable ssh for the application",
        usage: "{cf} enable-ssh APP_NAME",
        see_also: &["allow-space-ssh", "space-ssh-allowed", "ssh-enabled"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (app, was) = set_app(cx, &self.of.app, true).await?;
        let now: Enabled = cx.client.get(&format!("/v3/apps/{app}/ssh_enabled")).await?;
        cx.ui.ok();
        match (now.enabled, was) {
            (false, _) => {
                say!(cx.ui, "TIP: Ensure ssh is also enabled on the space and global level.");
            }
            (true, false) => {
                say!(cx.ui, "TIP: An app restart is required for the change to take effect.");
            }
            (true, true) => {
                say!(cx.ui, "TIP: An app restart may be required for the change to take effect.");
            }
        }
        Ok(())
    }
}

/// `cf disable-ssh`
#[derive(clap::Args)]
pub struct DisableSsh {
    #[command(flatten)]
    of: OfApp,
}

impl Command for DisableSsh {
    const SPEC: &'static Spec = &Spec {
        name: "disable-ssh",
        about: "Disable ssh for the application",
        usage: "{cf} disable-ssh APP_NAME",
        see_also: &["disallow-space-ssh", "space-ssh-allowed", "ssh-enabled"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        set_app(cx, &self.of.app, false).await?;
        cx.ui.ok();
        Ok(())
    }
}

/// Turns the app's feature on or off; answers the app, and what was before.
async fn set_app(cx: &mut Context<'_>, name: &str, on: bool) -> Result<(String, bool)> {
    let (doing, done) = words(on);
    let (shown, me) = (cx.ui.name(name), cx.me()?);
    say!(cx.ui, "{doing} ssh support for app {shown} as {me}...");
    let app = cx.client.app(name, &cx.space().guid).await?;
    let path = format!("/v3/apps/{}/features/ssh", app.guid);
    let before: Feature = cx.client.get(&path).await?;
    if before.enabled == on {
        say!(cx.ui, "ssh support for app '{shown}' is already {done}.");
    }
    cx.client.patch(&path, json!({ "enabled": on })).await?;
    Ok((app.guid, before.enabled))
}

/// `cf ssh-enabled`
#[derive(clap::Args)]
pub struct SshEnabled {
    #[command(flatten)]
    of: OfApp,
}

impl Command for SshEnabled {
    const SPEC: &'static Spec = &Spec {
        name: "ssh-enabled",
        about: "Reports whether SSH is enabled on an application container instance",
        usage: "{cf} ssh-enabled APP_NAME",
        see_also: &["enable-ssh", "space-ssh-allowed"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let app = cx.client.app(&self.of.app, &cx.space().guid).await?;
        let now: Enabled = cx.client.get(&format!("/v3/apps/{}/ssh_enabled", app.guid)).await?;
        let (name, (_, is)) = (cx.ui.name(&self.of.app), words(now.enabled));
        say!(cx.ui, "ssh support is {is} for app '{name}'.");
        if !now.enabled {
            say!(cx.ui, "{}", now.reason);
        }
        Ok(())
    }
}

/// `cf allow-space-ssh`
#[derive(clap::Args)]
pub struct AllowSpaceSsh {
    #[command(flatten)]
    of: OfSpace,
}

impl Command for AllowSpaceSsh {
    const SPEC: &'static Spec = &Spec {
        name: "allow-space-ssh",
        about: "Allow SSH access for the space",
        usage: "{cf} allow-space-ssh SPACE_NAME",
        see_also: &["enable-ssh", "space-ssh-allowed", "ssh-enabled"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        set_space(cx, &self.of.space, true).await
    }
}

/// `cf disallow-space-ssh`
#[derive(clap::Args)]
pub struct DisallowSpaceSsh {
    #[command(flatten)]
    of: OfSpace,
}

impl Command for DisallowSpaceSsh {
    const SPEC: &'static Spec = &Spec {
        name: "disallow-space-ssh",
        about: "Disallow SSH access for the space",
        usage: "{cf} disallow-space-ssh SPACE_NAME",
        see_also: &["disable-ssh", "space-ssh-allowed", "ssh-enabled"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        set_space(cx, &self.of.space, false).await
    }
}

async fn set_space(cx: &mut Context<'_>, name: &str, on: bool) -> Result<()> {
    let (doing, done) = words(on);
    let (shown, me) = (cx.ui.name(name), cx.me()?);
    say!(cx.ui, "{doing} ssh support for space {shown} as {me}...");
    let space = cx.client.space(name, &cx.org().guid).await?;
    let path = format!("/v3/spaces/{}/features/ssh", space.guid);
    let before: Feature = cx.client.get(&path).await?;
    if before.enabled == on {
        say!(cx.ui, "ssh support for space '{name}' is already {done}.");
    } else {
        cx.client.patch(&path, json!({ "enabled": on })).await?;
    }
    cx.ui.ok();
    Ok(())
}

/// `cf space-ssh-allowed`
#[derive(clap::Args)]
pub struct SpaceSshAllowed {
    #[command(flatten)]
    of: OfSpace,
}

impl Command for SpaceSshAllowed {
    const SPEC: &'static Spec = &Spec {
        name: "space-ssh-allowed",
        about: "Reports whether SSH is allowed in a space",
        usage: "{cf} space-ssh-allowed SPACE_NAME",
        see_also: &["allow-space-ssh", "ssh-enabled"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let space = cx.client.space(&self.of.space, &cx.org().guid).await?;
        let now: Feature =
            cx.client.get(&format!("/v3/spaces/{}/features/ssh", space.guid)).await?;
        say!(cx.ui, "ssh support is {} in space '{}'.", words(now.enabled).1, self.of.space);
        Ok(())
    }
}
