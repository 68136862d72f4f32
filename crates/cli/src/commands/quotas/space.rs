//! Quotas of spaces, which belong to the targeted org.

use serde_json::{Value, json};

use super::{Changes, Limits, Quota, create, delete, find, show_all, show_one};
use crate::command::{Command, Context, Needs, Spec};
use crate::error::Result;
use crate::ui::say;

const PATH: &str = "/v3/space_quotas";

async fn named(cx: &Context<'_>, name: &str, org: &str) -> Result<Quota> {
    find(cx, "space", &[("organization_guids", org)], name).await
}

/// The targeted org and the user, coloured.
fn org_and_me(cx: &Context) -> Result<(String, String)> {
    Ok((cx.ui.name(cx.org().name), cx.me()?))
}

/// `cf space-quotas`
#[derive(clap::Args)]
pub struct SpaceQuotas {}

impl Command for SpaceQuotas {
    const SPEC: &'static Spec = &Spec {
        name: "space-quotas",
        about: "List available space quotas",
        usage: "{cf} space-quotas",
        see_also: &["set-space-quota", "space-quota"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (org, me) = org_and_me(cx)?;
        say!(cx.ui, "Getting space quotas for org {org} as {me}...\n");
        let query = [("organization_guids", cx.org().guid)];
        let query = query.each_ref().map(|(name, value)| (*name, value.as_str()));
        let quotas = cx.client.list(PATH, &query).await?.resources;
        show_all(&mut cx.ui, &quotas, "No space quotas found.");
        Ok(())
    }
}

/// `cf space-quota`
#[derive(clap::Args)]
pub struct SpaceQuota {
    #[arg(value_name = "SPACE_QUOTA_NAME")]
    quota: String,
}

impl Command for SpaceQuota {
    const SPEC: &'static Spec = &Spec {
        name: "space-quota",
        about: "Show space quota info",
        usage: "{cf} space-quota QUOTA",
        see_also: &["space", "space-quotas"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, (org, me)) = (cx.ui.name(&self.quota), org_and_me(cx)?);
        say!(cx.ui, "Getting space quota {name} for org {org} as {me}...\n");
        let quota = named(cx, &self.quota, &cx.org().guid).await?;
        show_one(&mut cx.ui, &quota);
        Ok(())
    }
}

/// `cf create-space-quota`
#[derive(clap::Args)]
pub struct CreateSpaceQuota {
    #[arg(value_name = "SPACE_QUOTA_NAME")]
    quota: String,
    #[command(flatten)]
    limits: Limits,
    /// Allow provisioning instances of paid service plans. (Default: disallowed).
    #[arg(long)]
    allow_paid_service_plans: bool,
}

impl Command for CreateSpaceQuota {
    const SPEC: &'static Spec = &Spec {
        name: "create-space-quota",
        about: "Define a new quota for a space",
        usage: "{cf} create-space-quota QUOTA [-m TOTAL_MEMORY] [-i INSTANCE_MEMORY] [-r ROUTES] [-s SERVICE_INSTANCES] [-a APP_INSTANCES] [--allow-paid-service-plans] [--reserved-route-ports RESERVED_ROUTE_PORTS] [-l LOG_VOLUME]",
        tip: super::DEFAULTS,
        see_also: &["create-space", "set-space-quota", "space-quotas"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, (org, me)) = (cx.ui.name(&self.quota), org_and_me(cx)?);
        say!(cx.ui, "Creating space quota {name} for org {org} as {me}...");
        let mut body = self.limits.body(true, Some(self.allow_paid_service_plans));
        body.insert("name".to_owned(), json!(self.quota));
        let org = json!({ "organization": { "data": { "guid": cx.org().guid } } });
        body.insert("relationships".to_owned(), org);
        create(cx, PATH, Value::Object(body)).await
    }
}

/// `cf update-space-quota`
#[derive(clap::Args)]
pub struct UpdateSpaceQuota {
    #[arg(value_name = "SPACE_QUOTA_NAME")]
    quota: String,
    #[command(flatten)]
    changes: Changes,
}

impl Command for UpdateSpaceQuota {
    const SPEC: &'static Spec = &Spec {
        name: "update-space-quota",
        about: "Update an existing space quota",
        usage: "{cf} update-space-quota QUOTA [-m TOTAL_MEMORY] [-i INSTANCE_MEMORY] [-n NEW_NAME] [-r ROUTES] [-s SERVICE_INSTANCES] [-a APP_INSTANCES] [--allow-paid-service-plans | --disallow-paid-service-plans] [--reserved-route-ports RESERVED_ROUTE_PORTS] [-l LOG_VOLUME]",
        see_also: &["space", "space-quota", "space-quotas"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let body = self.changes.body()?;
        let (name, (org, me)) = (cx.ui.name(&self.quota), org_and_me(cx)?);
        say!(cx.ui, "Updating space quota {name} for org {org} as {me}...");
        let quota = named(cx, &self.quota, &cx.org().guid).await?;
        cx.client.patch(&format!("{PATH}/{}", quota.guid), body).await?;
        cx.ui.ok();
        Ok(())
    }
}

/// `cf delete-space-quota`
#[derive(clap::Args)]
pub struct DeleteSpaceQuota {
    #[arg(value_name = "QUOTA")]
    quota: String,
    /// Force deletion without confirmation
    #[arg(long, short = 'f')]
    force: bool,
}

impl Command for DeleteSpaceQuota {
    const SPEC: &'static Spec = &Spec {
        name: "delete-space-quota",
        about: "Delete a space quota",
        usage: "{cf} delete-space-quota QUOTA [-f]",
        see_also: &["space-quotas"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let question =
            format!("Really delete the space quota {} in org {}?", self.quota, cx.org().name);
        if !self.force && !cx.ui.confirm(&question)? {
            say!(cx.ui, "Space quota '{}' has not been deleted.", self.quota);
            return Ok(());
        }
        let (name, (org, me)) = (cx.ui.name(&self.quota), org_and_me(cx)?);
        say!(cx.ui, "Deleting space quota {name} for org {org} as {me}...");
        let found = named(cx, &self.quota, &cx.org().guid).await;
        delete(cx, "space", found).await
    }
}

#[derive(clap::Args)]
struct SpaceAndQuota {
    #[arg(value_name = "SPACE_NAME")]
    space: String,
    #[arg(value_name = "SPACE_QUOTA")]
    quota: String,
}

/// `cf set-space-quota`
#[derive(clap::Args)]
pub struct SetSpaceQuota {
    #[command(flatten)]
    of: SpaceAndQuota,
}

impl Command for SetSpaceQuota {
    const SPEC: &'static Spec = &Spec {
        name: "set-space-quota",
        about: "Assign a quota to a space",
        usage: "{cf} set-space-quota SPACE QUOTA",
        see_also: &["space", "space-quotas", "spaces"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (quota, space, me) = (cx.ui.name(&self.of.quota), cx.ui.name(&self.of.space), cx.me()?);
        say!(cx.ui, "Setting space quota {quota} to space {space} as {me}...");
        let org = cx.org().guid;
        let space = cx.client.space(&self.of.space, &org).await?;
        assign(cx, &self.of.quota, &space.guid, &org).await?;
        cx.ui.ok();
        Ok(())
    }
}

/// Gives a space the quota of that name, of its org.
pub async fn assign(cx: &Context<'_>, quota: &str, space: &str, org: &str) -> Result<()> {
    let quota = named(cx, quota, org).await?;
    let path = format!("{PATH}/{}/relationships/spaces", quota.guid);
    cx.client.post(&path, json!({ "data": [{ "guid": space }] })).await.map(drop)
}

/// `cf unset-space-quota`
#[derive(clap::Args)]
pub struct UnsetSpaceQuota {
    #[command(flatten)]
    of: SpaceAndQuota,
}

impl Command for UnsetSpaceQuota {
    const SPEC: &'static Spec = &Spec {
        name: "unset-space-quota",
        about: "Unassign a quota from a space",
        usage: "{cf} unset-space-quota SPACE SPACE_QUOTA",
        see_also: &["space"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (quota, space, me) = (cx.ui.name(&self.of.quota), cx.ui.name(&self.of.space), cx.me()?);
        say!(cx.ui, "Unassigning space quota {quota} from space {space} as {me}...");
        let org = cx.org().guid;
        let space = cx.client.space(&self.of.space, &org).await?;
        let quota = named(cx, &self.of.quota, &org).await?;
        let path = format!("{PATH}/{}/relationships/spaces/{}", quota.guid, space.guid);
        cx.client.delete(&path).await?;
        cx.ui.ok();
        Ok(())
    }
}
