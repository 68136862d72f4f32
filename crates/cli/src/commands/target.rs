//! Which API, org and space commands speak to.

use serde::Deserialize;
use serde_json::Value;

use crate::command::{Command, Context, Needs, Spec};
use crate::config::{Place, SpacePlace};
use crate::error::{Result, failed};
use crate::resources::Named;
use crate::table;
use crate::ui::say;

/// `cf api`
#[derive(clap::Args)]
pub struct Api {
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// Skip verification of the API endpoint. Not recommended!
    #[arg(long)]
    skip_ssl_validation: bool,
    /// Forget the API endpoint
    #[arg(long)]
    unset: bool,
}

impl Command for Api {
    const SPEC: &'static Spec = &Spec {
        name: "api",
        about: "Set or view target api url",
        usage: "{cf} api [URL] [--skip-ssl-validation]\n{cf} api --unset",
        see_also: &["auth", "login", "target"],
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        if self.unset {
            say!(cx.ui, "Unsetting API endpoint...");
            forget(cx);
            cx.ui.ok();
            return Ok(());
        }
        let cf = cx.cf();
        if let Some(url) = self.url {
            let shown = cx.ui.name(&url);
            say!(cx.ui, "Setting API endpoint to {shown}...");
            aim(cx, &url, self.skip_ssl_validation).await?;
            if url.starts_with("http:") {
                say!(
                    cx.ui,
                    "Warning: Insecure http API endpoint detected: secure https API endpoints are recommended"
                );
            }
            cx.ui.ok();
        } else if cx.config().target.is_empty() {
            say!(cx.ui, "No API endpoint set. Use '{cf} api' to set an endpoint");
            return Ok(());
        }
        let (target, version, known) = {
            let config = cx.config();
            (config.target.clone(), config.api_version.clone(), config.user().is_some())
        };
        table::key_values(&mut cx.ui, &[("API endpoint:", target), ("API version:", version)]);
        if !known {
            say!(cx.ui, "\nNot logged in. Use '{cf} login' or '{cf} login --sso' to log in.");
        }
        Ok(())
    }
}

/// The root document: where everything else is.
#[derive(Default, Deserialize)]
struct Root {
    links: std::collections::BTreeMap<String, Option<Link>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Link {
    href: String,
    meta: Value,
}

impl Root {
    fn href(&self, name: &str) -> String {
        self.links
            .get(name)
            .and_then(Option::as_ref)
            .map(|link| link.href.clone())
            .unwrap_or_default()
    }
}

/// Targets an API: asks its root document for the other endpoints. Tokens of another API are forgotten.
pub async fn aim(cx: &mut Context<'_>, url: &str, skip_ssl_validation: bool) -> Result<()> {
    let url = if url.starts_with("http") { url.to_owned() } else { format!("https://{url}") };
    let before = cx.config().clone();
    {
        let mut config = cx.config();
        url.trim_end_matches('/').clone_into(&mut config.target);
        config.skip_ssl_validation = skip_ssl_validation;
        config.log_out();
    }
    cx.reconnect()?;
    let root: Root = match cx.client.get("/").await {
        Ok(root) => root,
        Err(error) => {
            // What worked before still does.
            *cx.config() = before;
            return Err(error);
        }
    };
    let version = root.links.get("cloud_controller_v3").and_then(Option::as_ref);
    let version =
        version.and_then(|link| link.meta["version"].as_str()).unwrap_or_default().to_owned();
    if version.is_empty() {
        *cx.config() = before;
        return failed(format!("API endpoint not found at '{url}'"));
    }
    {
        let mut config = cx.config();
        config.api_version = version;
        config.authorization_endpoint = root.href("login");
        config.uaa_endpoint = root.href("uaa");
        config.doppler_endpoint = root.href("logging");
        config.log_cache_endpoint = root.href("log_cache");
        config.network_policy_endpoint = root.href("network_policy_v1");
        config.routing_endpoint = root.href("routing");
    }
    // The other endpoints may want more of a connection than the API does.
    cx.reconnect()
}

fn forget(cx: &mut Context) {
    let mut config = cx.config();
    config.log_out();
    config.skip_ssl_validation = false;
    let config = &mut *config;
    for field in [
        &mut config.target,
        &mut config.api_version,
        &mut config.authorization_endpoint,
        &mut config.uaa_endpoint,
        &mut config.doppler_endpoint,
        &mut config.log_cache_endpoint,
        &mut config.network_policy_endpoint,
        &mut config.routing_endpoint,
    ] {
        field.clear();
    }
}

/// `cf target`
#[derive(clap::Args)]
pub struct Target {
    /// Organization
    #[arg(short = 'o')]
    org: Option<String>,
    /// Space
    #[arg(short = 's')]
    space: Option<String>,
}

impl Command for Target {
    const SPEC: &'static Spec = &Spec {
        name: "target",
        alias: "t",
        about: "Set or view the targeted org or space",
        usage: "{cf} target [-o ORG] [-s SPACE]",
        see_also: &["create-org", "create-space", "login", "orgs", "spaces"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let user = cx.user()?;
        if let Err(error) = self.set(cx).await {
            // A half-done change would send the next command to the wrong place.
            if self.org.is_some() {
                cx.config().untarget();
            } else if self.space.is_some() {
                cx.config().space = SpacePlace::default();
            }
            return Err(error);
        }
        let (cf, config) = (cx.cf(), cx.config().clone());
        let mut rows = vec![
            ("API endpoint:", config.target),
            ("API version:", config.api_version),
            ("user:", user.name),
        ];
        if !config.org.guid.is_empty() {
            rows.push(("org:", config.org.name.clone()));
        }
        if !config.space.guid.is_empty() {
            rows.push(("space:", config.space.name.clone()));
        }
        table::key_values(&mut cx.ui, &rows);
        if config.org.guid.is_empty() {
            say!(cx.ui, "No org or space targeted, use '{cf} target -o ORG -s SPACE'");
        } else if config.space.guid.is_empty() {
            say!(cx.ui, "No space targeted, use '{cf} target -s SPACE'");
        }
        Ok(())
    }
}

impl Target {
    async fn set(&self, cx: &mut Context<'_>) -> Result<()> {
        if let Some(name) = &self.org {
            let org = cx.client.org(name).await?;
            set_org(cx, &org);
            if self.space.is_none() {
                let spaces = spaces_of(cx, &org.guid).await?;
                if let [only] = spaces.as_slice() {
                    set_space(cx, only);
                }
            }
        }
        if let Some(name) = &self.space {
            cx.require(Needs::Org)?;
            let space = cx.client.space(name, &cx.org().guid).await?;
            set_space(cx, &space);
        }
        Ok(())
    }
}

pub fn set_org(cx: &Context, org: &Named) {
    let mut config = cx.config();
    config.untarget();
    config.org = Place { guid: org.guid.clone(), name: org.name.clone() };
}

pub fn set_space(cx: &Context, space: &Named) {
    cx.config().space =
        SpacePlace { guid: space.guid.clone(), name: space.name.clone(), allow_ssh: true };
}

pub async fn spaces_of(cx: &Context<'_>, org: &str) -> Result<Vec<Named>> {
    let query = [("organization_guids", org), ("order_by", "name")];
    Ok(cx.client.list("/v3/spaces", &query).await?.resources)
}
