//! Routes and other spaces: shared with them, or handed over.

use serde_json::json;

use super::which::Address;
use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Error, Result};
use crate::ui::say;

#[derive(clap::Args)]
struct ToSpace {
    #[arg(value_name = "DOMAIN")]
    domain: String,
    #[command(flatten)]
    address: Address,
    /// The org of the destination space (Default: targeted org)
    #[arg(short = 'o')]
    org: Option<String>,
    /// The other space (Default: targeted space)
    #[arg(short = 's')]
    space: Option<String>,
}

/// Everything found, and the words for it.
struct Found {
    route: String,
    space: String,
    url: String,
    to: String,
    me: String,
}

impl ToSpace {
    /// Finds route and space; what is missing is told as the reason why the `deed` cannot be done.
    async fn find(&self, cx: &mut Context<'_>, deed: &str) -> Result<Found> {
        let found = self.look(cx).await;
        if let Err(Error::Missing(_)) = found {
            say!(cx.ui, "Can not {deed} route:");
        }
        found
    }

    async fn look(&self, cx: &Context<'_>) -> Result<Found> {
        let domain = cx.client.domain(&self.domain).await?;
        let route = self.address.existing(cx, &domain).await?.guid;
        let org = match &self.org {
            Some(name) => cx.client.org(name).await?.guid,
            None => cx.org().guid,
        };
        let name = self.space.clone().unwrap_or_else(|| cx.space().name);
        let space = cx.client.space(&name, &org).await?.guid;
        let (url, to) = (cx.ui.name(self.address.url(&self.domain)), cx.ui.name(name));
        Ok(Found { route, space, url, to, me: cx.me()? })
    }
}

/// `cf share-route`
#[derive(clap::Args)]
pub struct ShareRoute {
    #[command(flatten)]
    to: ToSpace,
}

impl Command for ShareRoute {
    const SPEC: &'static Spec = &Spec {
        name: "share-route",
        about: "Share a route in between spaces",
        usage: "Share an existing route in between two spaces:\n   {cf} share-route DOMAIN [--hostname HOSTNAME] [--path PATH] -s OTHER_SPACE [-o OTHER_ORG]",
        examples: "{cf} share-route example.com --hostname myHost --path foo -s TargetSpace -o TargetOrg # myhost.example.com/foo\n{cf} share-route example.com --hostname myHost -s TargetSpace                         # myhost.example.com",
        see_also: &["create-route", "map-route", "routes", "unmap-route"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let Found { route, space, url, to, me } = self.to.find(cx, "share").await?;
        say!(cx.ui, "Sharing route {url} to space {to} as {me}");
        let path = format!("/v3/routes/{route}/relationships/shared_spaces");
        cx.client.post(&path, json!({ "data": [{ "guid": space }] })).await?;
        cx.ui.ok();
        Ok(())
    }
}

/// `cf unshare-route`
#[derive(clap::Args)]
pub struct UnshareRoute {
    #[command(flatten)]
    to: ToSpace,
}

impl Command for UnshareRoute {
    const SPEC: &'static Spec = &Spec {
        name: "unshare-route",
        about: "Unshare an existing route from a space",
        usage: "Unshare an existing route from a space:\n   {cf} unshare-route DOMAIN [--hostname HOSTNAME] [--path PATH] -s OTHER_SPACE [-o OTHER_ORG]",
        examples: "{cf} unshare-route example.com --hostname myHost --path foo -s TargetSpace -o TargetOrg # myhost.example.com/foo\n{cf} unshare-route example.com --hostname myHost -s TargetSpace                         # myhost.example.com",
        see_also: &["delete-route", "map-route", "routes", "share-route", "unmap-route"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let Found { route, space, url, to, me } = self.to.find(cx, "unshare").await?;
        say!(cx.ui, "Unsharing route {url} from space {to} as {me}");
        let path = format!("/v3/routes/{route}/relationships/shared_spaces/{space}");
        cx.client.delete(&path).await?;
        cx.ui.ok();
        Ok(())
    }
}

/// `cf move-route`
#[derive(clap::Args)]
pub struct MoveRoute {
    #[command(flatten)]
    to: ToSpace,
}

impl Command for MoveRoute {
    const SPEC: &'static Spec = &Spec {
        name: "move-route",
        about: "Assign a route to a different space",
        usage: "Transfers the ownership of a route to a another space:\n   {cf} move-route DOMAIN [--hostname HOSTNAME] [--path PATH] -s OTHER_SPACE [-o OTHER_ORG]",
        examples: "{cf} move-route example.com --hostname myHost --path foo -s TargetSpace -o TargetOrg # myhost.example.com/foo\n{cf} move-route example.com --hostname myHost -s TargetSpace                         # myhost.example.com",
        see_also: &["create-route", "map-route", "routes", "unmap-route"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let Found { route, space, url, to, me } = self.to.find(cx, "transfer ownership of").await?;
        say!(cx.ui, "Move ownership of route {url} to space {to} as {me}");
        let path = format!("/v3/routes/{route}/relationships/space");
        cx.client.patch(&path, json!({ "data": { "guid": space } })).await?;
        cx.ui.ok();
        Ok(())
    }
}
