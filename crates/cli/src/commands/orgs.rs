//! Orgs.

use serde_json::{Value, json};

use crate::command::{Command, Context, Needs, Spec};
use crate::commands::quotas;
use crate::commands::target::spaces_of;
use crate::error::{Error, Result};
use crate::resources::Named;
use crate::table::{self, row};
use crate::ui::say;

/// `cf orgs`
#[derive(clap::Args)]
pub struct Orgs {
    /// Selector to filter orgs by labels
    #[arg(long)]
    labels: Option<String>,
}

impl Command for Orgs {
    const SPEC: &'static Spec = &Spec {
        name: "orgs",
        alias: "o",
        about: "List all orgs",
        usage: "{cf} orgs [--labels SELECTOR]",
        see_also: &["create-org", "org", "org-users", "set-org-role"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let user = cx.ui.name(cx.user()?.name);
        say!(cx.ui, "Getting orgs as {user}...\n");
        let mut query = vec![("order_by", "name")];
        query.extend(self.labels.as_deref().map(|labels| ("label_selector", labels)));
        let orgs: Vec<Named> = cx.client.list("/v3/organizations", &query).await?.resources;
        if orgs.is_empty() {
            say!(cx.ui, "No orgs found.");
            return Ok(());
        }
        let rows: Vec<Vec<String>> = std::iter::once(row!["name"])
            .chain(orgs.into_iter().map(|org| vec![org.name]))
            .collect();
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

/// `cf org`
#[derive(clap::Args)]
pub struct Org {
    #[arg(value_name = "ORG")]
    org: String,
    /// Retrieve and display the given org's guid. All other output for the org is suppressed.
    #[arg(long)]
    guid: bool,
}

impl Command for Org {
    const SPEC: &'static Spec = &Spec {
        name: "org",
        about: "Show org info",
        usage: "{cf} org ORG [--guid]",
        see_also: &["org-users", "orgs"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        if self.guid {
            let org = cx.client.org(&self.org).await?;
            say!(cx.ui, "{}", org.guid);
            return Ok(());
        }
        let (name, user) = (cx.ui.name(&self.org), cx.ui.name(cx.user()?.name));
        say!(cx.ui, "Getting info for org {name} as {user}...\n");
        let org = cx.client.org(&self.org).await?;
        let domains = cx
            .client
            .list::<Named>(&format!("/v3/organizations/{}/domains", org.guid), &[])
            .await?
            .resources;
        let spaces = spaces_of(cx, &org.guid).await?;
        let quota = match org.related("quota") {
            Some(guid) => {
                cx.client.get::<Named>(&format!("/v3/organization_quotas/{guid}")).await?.name
            }
            None => String::new(),
        };
        let segments = segments(cx, &org.guid).await?;
        let rows = [
            ("name:", org.name),
            ("domains:", names(&domains)),
            ("quota:", quota),
            ("spaces:", names(&spaces)),
            ("isolation segments:", segments),
        ];
        table::key_values(&mut cx.ui, &rows);
        Ok(())
    }
}

/// The isolation segments an org may use; an API that has none of them answers 404.
async fn segments(cx: &Context<'_>, org: &str) -> Result<String> {
    let segments = match cx
        .client
        .list::<Named>("/v3/isolation_segments", &[("organization_guids", org)])
        .await
    {
        Ok(list) => list.resources,
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return Err(error),
    };
    if segments.is_empty() {
        return Ok(String::new());
    }
    let default: Value = cx
        .client
        .get(&format!("/v3/organizations/{org}/relationships/default_isolation_segment"))
        .await?;
    let mut texts: Vec<String> = segments
        .into_iter()
        .map(|segment| {
            if default["data"]["guid"] == segment.guid.as_str() {
                format!("{} (default)", segment.name)
            } else {
                segment.name
            }
        })
        .collect();
    texts.sort();
    Ok(texts.join(", "))
}

pub fn names(of: &[Named]) -> String {
    of.iter().map(|named| named.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// `cf create-org`
#[derive(clap::Args)]
pub struct CreateOrg {
    #[arg(value_name = "ORG")]
    org: String,
    /// Quota to assign to the new org
    #[arg(long, short = 'q')]
    quota: Option<String>,
}

impl Command for CreateOrg {
    const SPEC: &'static Spec = &Spec {
        name: "create-org",
        alias: "co",
        about: "Create an org",
        usage: "{cf} create-org ORG [-q ORG_QUOTA]",
        see_also: &["create-space", "orgs", "set-org-role"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, user) = (cx.ui.name(&self.org), cx.ui.name(cx.user()?.name));
        say!(cx.ui, "Creating org {name} as {user}...");
        let created = cx.client.post("/v3/organizations", json!({ "name": self.org })).await;
        let org: Named = match created {
            Err(error) if error.already_exists().is_some() => {
                say!(cx.ui, "{error}");
                cx.ui.ok();
                return Ok(());
            }
            created => created?.json()?,
        };
        cx.ui.ok();
        if let Some(quota) = &self.quota {
            let shown = cx.ui.name(quota);
            say!(cx.ui, "Setting org quota {shown} to org {name} as {user}...");
            quotas::org::assign(cx, quota, &org.guid).await?;
            cx.ui.ok();
        }
        let cf = cx.cf();
        say!(cx.ui, "TIP: Use '{cf} target -o \"{}\"' to target new org", self.org);
        Ok(())
    }
}

/// `cf delete-org`
#[derive(clap::Args)]
pub struct DeleteOrg {
    #[arg(value_name = "ORG")]
    org: String,
    /// Do not ask first
    #[arg(short = 'f')]
    force: bool,
}

impl Command for DeleteOrg {
    const SPEC: &'static Spec = &Spec {
        name: "delete-org",
        about: "Delete an org",
        usage: "{cf} delete-org ORG [-f]",
        see_also: &["create-org", "orgs", "set-org-role"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let question = format!(
            "Really delete the org {}, including its spaces, apps, service instances, routes, private domains and space-scoped service brokers?",
            self.org
        );
        if !self.force && !cx.ui.confirm(&question)? {
            say!(cx.ui, "Organization '{}' has not been deleted.", self.org);
            return Ok(());
        }
        let (name, user) = (cx.ui.name(&self.org), cx.ui.name(cx.user()?.name));
        say!(cx.ui, "Deleting org {name} as {user}...");
        match cx.client.org(&self.org).await {
            Err(Error::Missing(_)) => cx.ui.warn(&format!("Org '{}' does not exist.", self.org)),
            org => cx.client.delete(&format!("/v3/organizations/{}", org?.guid)).await?,
        }
        cx.ui.ok();
        if cx.org().name == self.org {
            let cf = cx.cf();
            say!(
                cx.ui,
                "TIP: No org or space targeted, use '{cf} target -o ORG -s SPACE' to target an org and space."
            );
            cx.config().untarget();
        }
        Ok(())
    }
}

/// `cf rename-org`
#[derive(clap::Args)]
pub struct RenameOrg {
    #[arg(value_name = "ORG")]
    org: String,
    #[arg(value_name = "NEW_ORG_NAME")]
    new: String,
}

impl Command for RenameOrg {
    const SPEC: &'static Spec = &Spec {
        name: "rename-org",
        about: "Rename an org",
        usage: "{cf} rename-org ORG NEW_ORG_NAME",
        see_also: &["orgs", "set-org-role"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (old, new, user) =
            (cx.ui.name(&self.org), cx.ui.name(&self.new), cx.ui.name(cx.user()?.name));
        say!(cx.ui, "Renaming org {old} to {new} as {user}...");
        let org = cx.client.org(&self.org).await?;
        cx.client
            .patch(&format!("/v3/organizations/{}", org.guid), json!({ "name": self.new }))
            .await?;
        if cx.org().guid == org.guid {
            cx.config().org.name.clone_from(&self.new);
        }
        cx.ui.ok();
        Ok(())
    }
}
