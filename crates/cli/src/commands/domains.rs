//! Domains.

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::client::Body;
use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Error, Result, failed};
use crate::resources::Domain;
use crate::table::{self, row};
use crate::ui::say;

/// `cf domains`
#[derive(clap::Args)]
pub struct Domains {
    /// Selector to filter domains by labels
    #[arg(long)]
    labels: Option<String>,
}

impl Command for Domains {
    const SPEC: &'static Spec = &Spec {
        name: "domains",
        about: "List domains in the target org",
        usage: "{cf} domains [--labels SELECTOR]",
        see_also: &["create-private-domain", "create-route", "create-shared-domain", "routes"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let org = cx.org();
        let (name, user) = (cx.ui.name(&org.name), cx.ui.name(cx.user()?.name));
        say!(cx.ui, "Getting domains in org {name} as {user}...\n");
        let query: Vec<(&str, &str)> =
            self.labels.as_deref().map(|labels| ("label_selector", labels)).into_iter().collect();
        let path = format!("/v3/organizations/{}/domains", org.guid);
        let mut domains: Vec<Domain> = cx.client.list(&path, &query).await?.resources;
        if domains.is_empty() {
            say!(cx.ui, "No domains found.");
            return Ok(());
        }
        domains.sort_by_key(|domain| domain.name.to_lowercase());
        let mut rows = vec![row!["name", "availability", "internal", "protocols"]];
        for domain in domains {
            let availability = if domain.is_shared() { "shared" } else { "private" };
            let internal = if domain.internal { "true" } else { "" };
            rows.push(row![
                domain.name,
                availability,
                internal,
                domain.supported_protocols.join(",")
            ]);
        }
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

/// `cf create-private-domain`
#[derive(clap::Args)]
pub struct CreatePrivateDomain {
    #[command(flatten)]
    of: OrgDomain,
}

#[derive(clap::Args)]
struct OrgDomain {
    #[arg(value_name = "ORG")]
    org: String,
    #[arg(value_name = "DOMAIN")]
    domain: String,
}

impl OrgDomain {
    /// Domain, org and user, coloured.
    fn shown(&self, cx: &Context) -> Result<(String, String, String)> {
        Ok((cx.ui.name(&self.domain), cx.ui.name(&self.org), cx.me()?))
    }
}

impl Command for CreatePrivateDomain {
    const SPEC: &'static Spec = &Spec {
        name: "create-private-domain",
        alias: "create-domain",
        about: "Create a private domain for a specific org",
        usage: "{cf} create-private-domain ORG DOMAIN",
        see_also: &["create-shared-domain", "domains", "share-private-domain"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (domain, org, me) = self.of.shown(cx)?;
        say!(cx.ui, "Creating private domain {domain} for org {org} as {me}...");
        let org = cx.client.org(&self.of.org).await?;
        let body = json!({ "name": self.of.domain, "relationships": { "organization": { "data": { "guid": org.guid } } } });
        let in_use = format!("The domain name \"{}\" is already in use", self.of.domain);
        match cx.client.post("/v3/domains", body).await {
            Err(error) if error.api_detail(422) == Some(&in_use) => {
                cx.ui.warn(&in_use);
                cx.ui.ok();
                return Ok(());
            }
            done => drop(done?),
        }
        cx.ui.ok();
        let cf = cx.cf();
        say!(
            cx.ui,
            "TIP: Domain '{}' is a private domain. Run '{cf} share-private-domain' to share this domain with a different org.",
            self.of.domain
        );
        Ok(())
    }
}

/// `cf create-shared-domain`
#[derive(clap::Args)]
pub struct CreateSharedDomain {
    #[arg(value_name = "DOMAIN")]
    domain: String,
    /// Routes for this domain will use routers in the specified router group
    #[arg(long)]
    router_group: Option<String>,
    /// Applications that use internal routes communicate directly on the container network
    #[arg(long)]
    internal: bool,
}

impl Command for CreateSharedDomain {
    const SPEC: &'static Spec = &Spec {
        name: "create-shared-domain",
        about: "Create a domain that can be used by all orgs (admin-only)",
        usage: "{cf} create-shared-domain DOMAIN [--router-group ROUTER_GROUP_NAME | --internal]",
        see_also: &["create-private-domain", "domains"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        if self.internal && self.router_group.is_some() {
            return Err(Error::together(&["--router-group", "--internal"]));
        }
        let (domain, me) = (cx.ui.name(&self.domain), cx.me()?);
        say!(cx.ui, "Creating shared domain {domain} as {me}...");
        let mut body = json!({ "name": self.domain, "internal": self.internal });
        if let Some(name) = &self.router_group {
            body["router_group"] = json!({ "guid": router_group(cx, name).await? });
        }
        cx.client.post("/v3/domains", body).await?;
        cx.ui.ok();
        let cf = cx.cf();
        say!(
            cx.ui,
            "TIP: Domain '{}' is shared with all orgs. Run '{cf} domains' to view available domains.",
            self.domain
        );
        Ok(())
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RouterGroup {
    guid: String,
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

/// The router groups of the routing API, which says where it is in the root document.
async fn router_groups(cx: &Context<'_>, query: &[(&str, &str)]) -> Result<Vec<RouterGroup>> {
    let endpoint = cx.config().routing_endpoint.clone();
    if endpoint.is_empty() {
        return failed(
            "This command requires the Routing API. Your targeted endpoint reports it is not enabled.",
        );
    }
    let path = format!("{}/v1/router_groups", endpoint.trim_end_matches('/'));
    match cx.client.send(Method::GET, &path, query, Body::None).await {
        Err(Error::Api(refusal)) if refusal.status == 401 => {
            let said = refusal.message();
            Err(said.map_or(Error::Api(refusal), Error::Failed))
        }
        answer => answer?.json(),
    }
}

async fn router_group(cx: &Context<'_>, name: &str) -> Result<String> {
    let missing = || Error::Failed(format!("Router group '{name}' not found."));
    match router_groups(cx, &[("name", name)]).await {
        Err(error) if error.is_not_found() => Err(missing()),
        groups => groups?.into_iter().next().map(|group| group.guid).ok_or_else(missing),
    }
}

/// `cf router-groups`
#[derive(clap::Args)]
pub struct RouterGroups {}

impl Command for RouterGroups {
    const SPEC: &'static Spec = &Spec {
        name: "router-groups",
        about: "List router groups",
        usage: "{cf} router-groups",
        see_also: &["create-domain", "domains"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let me = cx.me()?;
        say!(cx.ui, "Getting router groups as {me}...\n");
        let groups = router_groups(cx, &[]).await?;
        if groups.is_empty() {
            say!(cx.ui, "No router groups found.");
            return Ok(());
        }
        let mut rows = vec![row!["name", "type"]];
        rows.extend(groups.into_iter().map(|group| row![group.name, group.kind]));
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

/// `cf delete-private-domain`
#[derive(clap::Args)]
pub struct DeletePrivateDomain {
    #[arg(value_name = "DOMAIN")]
    domain: String,
    /// Force deletion without confirmation
    #[arg(short = 'f')]
    force: bool,
}

impl Command for DeletePrivateDomain {
    const SPEC: &'static Spec = &Spec {
        name: "delete-private-domain",
        alias: "delete-domain",
        about: "Delete a private domain",
        usage: "{cf} delete-private-domain DOMAIN [-f]",
        see_also: &["delete-shared-domain", "domains", "unshare-private-domain"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, me) = (cx.ui.name(&self.domain), cx.me()?);
        say!(cx.ui, "Deleting private domain {name} as {me}...");
        let Some(domain) = known(cx, &self.domain).await? else { return Ok(()) };
        if domain.is_shared() {
            return failed(format!(
                "Domain '{}' is a shared domain, not a private domain.",
                self.domain
            ));
        }
        say!(
            cx.ui,
            "Deleting the private domain will remove associated routes which will make apps with this domain unreachable."
        );
        let question = format!("Really delete the private domain {}?", self.domain);
        if !self.force && !cx.ui.confirm(&question)? {
            say!(cx.ui, "'{}' has not been deleted.", self.domain);
            return Ok(());
        }
        say!(cx.ui, "Deleting private domain {name} as {me}...");
        cx.client.delete(&format!("/v3/domains/{}", domain.guid)).await?;
        cx.ui.ok();
        let cf = cx.cf();
        say!(cx.ui, "TIP: Run '{cf} domains' to view available domains.");
        Ok(())
    }
}

/// The domain to delete; one that is gone already is only worth a warning.
async fn known(cx: &mut Context<'_>, name: &str) -> Result<Option<Domain>> {
    match cx.client.domain(name).await {
        Err(Error::Missing(_)) => {
            cx.ui.warn(&format!("Domain '{name}' does not exist."));
            cx.ui.ok();
            Ok(None)
        }
        found => found.map(Some),
    }
}

/// `cf delete-shared-domain`
#[derive(clap::Args)]
pub struct DeleteSharedDomain {
    #[arg(value_name = "DOMAIN")]
    domain: String,
    /// Force deletion without confirmation
    #[arg(short = 'f')]
    force: bool,
}

impl Command for DeleteSharedDomain {
    const SPEC: &'static Spec = &Spec {
        name: "delete-shared-domain",
        about: "Delete a shared domain",
        usage: "{cf} delete-shared-domain DOMAIN [-f]",
        see_also: &["delete-private-domain", "domains"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        say!(cx.ui, "This action impacts all orgs using this domain.");
        say!(
            cx.ui,
            "Deleting the domain will remove associated routes which will make apps with this domain, in any org, unreachable."
        );
        let question = format!("Really delete the shared domain {}?", self.domain);
        if !self.force && !cx.ui.confirm(&question)? {
            say!(cx.ui, "'{}' has not been deleted.", self.domain);
            return Ok(());
        }
        let (name, me) = (cx.ui.name(&self.domain), cx.me()?);
        say!(cx.ui, "Deleting domain {name} as {me}...");
        let Some(domain) = known(cx, &self.domain).await? else { return Ok(()) };
        if !domain.is_shared() {
            return failed(format!(
                "Domain '{}' is a private domain, not a shared domain.",
                self.domain
            ));
        }
        cx.client.delete(&format!("/v3/domains/{}", domain.guid)).await?;
        cx.ui.ok();
        Ok(())
    }
}

/// `cf share-private-domain`
#[derive(clap::Args)]
pub struct SharePrivateDomain {
    #[command(flatten)]
    of: OrgDomain,
}

impl Command for SharePrivateDomain {
    const SPEC: &'static Spec = &Spec {
        name: "share-private-domain",
        about: "Share a private domain with a specific org",
        usage: "{cf} share-private-domain ORG DOMAIN",
        see_also: &["create-private-domain", "domains", "unshare-private-domain"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (domain, org, me) = self.of.shown(cx)?;
        say!(cx.ui, "Sharing domain {domain} with org {org} as {me}...");
        let org = cx.client.org(&self.of.org).await?;
        let domain = cx.client.domain(&self.of.domain).await?;
        let path = format!("/v3/domains/{}/relationships/shared_organizations", domain.guid);
        cx.client.post(&path, json!({ "data": [{ "guid": org.guid }] })).await?;
        cx.ui.ok();
        Ok(())
    }
}

/// `cf unshare-private-domain`
#[derive(clap::Args)]
pub struct UnsharePrivateDomain {
    #[command(flatten)]
    of: OrgDomain,
}

impl Command for UnsharePrivateDomain {
    const SPEC: &'static Spec = &Spec {
        name: "unshare-private-domain",
        about: "Unshare a private domain with a specific org",
        usage: "{cf} unshare-private-domain ORG DOMAIN",
        see_also: &["delete-private-domain", "domains"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (domain, org, me) = self.of.shown(cx)?;
        say!(cx.ui, "Warning: org {org} will no longer be able to access private domain {domain}");
        if !cx.ui.confirm(&format!("Really unshare private domain {domain}?"))? {
            say!(cx.ui, "Domain {domain} has not been unshared from organization {org}");
            return Ok(());
        }
        say!(cx.ui, "Unsharing domain {domain} from org {org} as {me}...");
        let org = cx.client.org(&self.of.org).await?;
        let domain = cx.client.domain(&self.of.domain).await?;
        let path =
            format!("/v3/domains/{}/relationships/shared_organizations/{}", domain.guid, org.guid);
        cx.client.delete(&path).await?;
        cx.ui.ok();
        Ok(())
    }
}
