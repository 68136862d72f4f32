//! Quotas of orgs.

use serde_json::{Value, json};

use super::{Changes, Limits, Quota, create, delete, find, show_all, show_one};
use crate::command::{Command, Context, Needs, Spec};
use crate::error::Result;
use crate::ui::say;

const PATH: &str = "/v3/organization_quotas";

async fn named(cx: &Context<'_>, name: &str) -> Result<Quota> {
    find(cx, "organization", &[], name).await
}

/// `cf org-quotas`
#[derive(clap::Args)]
pub struct OrgQuotas {}

impl Command for OrgQuotas {
    const SPEC: &'static Spec = &Spec {
        name: "org-quotas",
        alias: "quotas",
        about: "List available organization quotas",
        usage: "{cf} org-quotas",
        see_also: &["org-quota"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let me = cx.me()?;
        say!(cx.ui, "Getting org quotas as {me}...\n");
        let quotas = cx.client.list(PATH, &[]).await?.resources;
        show_all(&mut cx.ui, &quotas, "No organization quotas found.");
        Ok(())
    }
}

/// `cf org-quota`
#[derive(clap::Args)]
pub struct OrgQuota {
    #[arg(value_name = "ORG_QUOTA_NAME")]
    quota: String,
}

impl Command for OrgQuota {
    const SPEC: &'static Spec = &Spec {
        name: "org-quota",
        alias: "quota",
        about: "Show organization quota",
        usage: "{cf} org-quota QUOTA",
        see_also: &["org", "org-quotas"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, me) = (cx.ui.name(&self.quota), cx.me()?);
        say!(cx.ui, "Getting org quota {name} as {me}...\n");
        let quota = named(cx, &self.quota).await?;
        show_one(&mut cx.ui, &quota);
        Ok(())
    }
}

/// `cf create-org-quota`
#[derive(clap::Args)]
pub struct CreateOrgQuota {
    #[arg(value_name = "ORG_QUOTA_NAME")]
    quota: String,
    #[command(flatten)]
    limits: Limits,
    /// Allow provisioning instances of paid service plans. (Default: disallowed).
    #[arg(long)]
    allow_paid_service_plans: bool,
}

impl Command for CreateOrgQuota {
    const SPEC: &'static Spec = &Spec {
        name: "create-org-quota",
        alias: "create-quota",
        about: "Define a new quota for an organization",
        usage: "{cf} create-org-quota ORG_QUOTA [-m TOTAL_MEMORY] [-i INSTANCE_MEMORY] [-r ROUTES] [-s SERVICE_INSTANCES] [-a APP_INSTANCES] [--allow-paid-service-plans] [--reserved-route-ports RESERVED_ROUTE_PORTS] [-l LOG_VOLUME]",
        tip: super::DEFAULTS,
        see_also: &["create-org", "org-quotas", "set-org-quota"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, me) = (cx.ui.name(&self.quota), cx.me()?);
        say!(cx.ui, "Creating org quota {name} as {me}...");
        let mut body = self.limits.body(true, Some(self.allow_paid_service_plans));
        body.insert("name".to_owned(), json!(self.quota));
        create(cx, PATH, Value::Object(body)).await
    }
}

/// `cf update-org-quota`
#[derive(clap::Args)]
pub struct UpdateOrgQuota {
    #[arg(value_name = "ORG_QUOTA_NAME")]
    quota: String,
    #[command(flatten)]
    changes: Changes,
}

impl Command for UpdateOrgQuota {
    const SPEC: &'static Spec = &Spec {
        name: "update-org-quota",
        alias: "update-quota",
        about: "Update an existing organization quota",
        usage: "{cf} update-org-quota QUOTA [-m TOTAL_MEMORY] [-i INSTANCE_MEMORY] [-n NEW_NAME] [-r ROUTES] [-s SERVICE_INSTANCES] [-a APP_INSTANCES] [--allow-paid-service-plans | --disallow-paid-service-plans] [--reserved-route-ports RESERVED_ROUTE_PORTS] [-l LOG_VOLUME]",
        see_also: &["org", "org-quota"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let body = self.changes.body()?;
        let (name, me) = (cx.ui.name(&self.quota), cx.me()?);
        say!(cx.ui, "Updating org quota {name} as {me}...");
        let quota = named(cx, &self.quota).await?;
        cx.client.patch(&format!("{PATH}/{}", quota.guid), body).await?;
        cx.ui.ok();
        Ok(())
    }
}

/// `cf delete-org-quota`
#[derive(clap::Args)]
pub struct DeleteOrgQuota {
    #[arg(value_name = "QUOTA")]
    quota: String,
    /// Force deletion without confirmation
    #[arg(long, short = 'f')]
    force: bool,
}

impl Command for DeleteOrgQuota {
    const SPEC: &'static Spec = &Spec {
        name: "delete-org-quota",
        alias: "delete-quota",
        about: "Delete an organization quota",
        usage: "{cf} delete-org-quota QUOTA [-f]",
        see_also: &["org-quotas"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let question = format!("Really delete the org quota {}?", self.quota);
        if !self.force && !cx.ui.confirm(&question)? {
            say!(cx.ui, "Organization quota '{}' has not been deleted.", self.quota);
            return Ok(());
        }
        let (name, me) = (cx.ui.name(&self.quota), cx.me()?);
        say!(cx.ui, "Deleting org quota {name} as {me}...");
        let found = named(cx, &self.quota).await;
        delete(cx, "organization", found).await
    }
}

/// `cf set-org-quota`
#[derive(clap::Args)]
pub struct SetOrgQuota {
    #[arg(value_name = "ORG")]
    org: String,
    #[arg(value_name = "QUOTA")]
    quota: String,
}

impl Command for SetOrgQuota {
    const SPEC: &'static Spec = &Spec {
        name: "set-org-quota",
        alias: "set-quota",
        about: "Assign a quota to an organization",
        usage: "{cf} set-org-quota ORG QUOTA",
        see_also: &["org-quotas", "orgs"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (quota, org, me) = (cx.ui.name(&self.quota), cx.ui.name(&self.org), cx.me()?);
        say!(cx.ui, "Setting quota {quota} to org {org} as {me}...");
        let org = cx.client.org(&self.org).await?;
        assign(cx, &self.quota, &org.guid).await?;
        cx.ui.ok();
        Ok(())
    }
}

/// Gives an org the quota of that name.
pub async fn assign(cx: &Context<'_>, quota: &str, org: &str) -> Result<()> {
    let quota = named(cx, quota).await?;
    let path = format!("{PATH}/{}/relationships/organizations", quota.guid);
    cx.client.post(&path, json!({ "data": [{ "guid": org }] })).await.map(drop)
}
