//! Domains.

use serde_json::json;

use crate::command::{Command, Context, Needs, Spec};
use crate::error::Result;
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
    #[arg(value_name = "ORG")]
    org: String,
    #[arg(value_name = "DOMAIN")]
    domain: String,
}

impl Command for CreatePrivateDomain {
    const SPEC: &'static Spec = &Spec {
        name: "create-private-domain",
        alias: "create-domain",
        about: "Create a private domain for an org",
        usage: "{cf} create-private-domain ORG DOMAIN",
        see_also: &["create-shared-domain", "domains"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (domain, org_name, user) =
            (cx.ui.name(&self.domain), cx.ui.name(&self.org), cx.ui.name(cx.user()?.name));
        say!(cx.ui, "Creating private domain {domain} for org {org_name} as {user}...");
        let org = cx.client.org(&self.org).await?;
        let body = json!({ "name": self.domain, "relationships": { "organization": { "data": { "guid": org.guid } } } });
        create(cx, body, &self.domain, "private domain").await
    }
}

/// `cf create-shared-domain`
#[derive(clap::Args)]
pub struct CreateSharedDomain {
    #[arg(value_name = "DOMAIN")]
    domain: String,
    /// Apps talk to each other on it, and nobody else
    #[arg(long)]
    internal: bool,
}

impl Command for CreateSharedDomain {
    const SPEC: &'static Spec = &Spec {
        name: "create-shared-domain",
        about: "Create a domain that all orgs can use (admin-only)",
        usage: "{cf} create-shared-domain DOMAIN [--internal]",
        see_also: &["create-private-domain", "domains"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (domain, user) = (cx.ui.name(&self.domain), cx.ui.name(cx.user()?.name));
        say!(cx.ui, "Creating shared domain {domain} as {user}...");
        create(
            cx,
            json!({ "name": self.domain, "internal": self.internal }),
            &self.domain,
            "shared domain",
        )
        .await
    }
}

async fn create(
    cx: &mut Context<'_>,
    body: serde_json::Value,
    name: &str,
    kind: &str,
) -> Result<()> {
    cx.client.post("/v3/domains", body).await?;
    cx.ui.ok();
    let cf = cx.cf();
    say!(cx.ui, "TIP: Domain '{name}' is a {kind}. Run '{cf} domains' to view available domains.");
    Ok(())
}
