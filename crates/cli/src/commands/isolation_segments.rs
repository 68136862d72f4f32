//! Isolation segments: cells set apart for some orgs and spaces.

use serde_json::{Value, json};

use crate::command::{Command, Context, Needs, Spec};
use crate::commands::orgs::names;
use crate::error::{Error, Result};
use crate::resources::Named;
use crate::table::{self, row};
use crate::ui::say;

/// `cf isolation-segments`
#[derive(clap::Args)]
pub struct IsolationSegments {}

impl Command for IsolationSegments {
    const SPEC: &'static Spec = &Spec {
        name: "isolation-segments",
        about: "List all isolation segments",
        usage: "{cf} isolation-segments",
        see_also: &["create-isolation-segment", "enable-org-isolation"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let me = cx.me()?;
        say!(cx.ui, "Getting isolation segments as {me}...\n");
        let segments: Vec<Named> = cx.client.list("/v3/isolation_segments", &[]).await?.resources;
        let mut rows = vec![row!["name", "orgs"]];
        for segment in segments {
            let path = format!("/v3/isolation_segments/{}/organizations", segment.guid);
            let orgs: Vec<Named> = cx.client.list(&path, &[]).await?.resources;
            rows.push(row![segment.name, names(&orgs)]);
        }
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

#[derive(clap::Args)]
struct OfSegment {
    #[arg(value_name = "SEGMENT_NAME")]
    segment: String,
}

/// `cf create-isolation-segment`
#[derive(clap::Args)]
pub struct CreateIsolationSegment {
    #[command(flatten)]
    of: OfSegment,
}

impl Command for CreateIsolationSegment {
    const SPEC: &'static Spec = &Spec {
        name: "create-isolation-segment",
        about: "Create an isolation segment",
        usage: "{cf} create-isolation-segment SEGMENT_NAME",
        tip: "The isolation segment name must match the placement tag applied to the Diego cell.",
        see_also: &["enable-org-isolation", "isolation-segments"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, me) = (cx.ui.name(&self.of.segment), cx.me()?);
        say!(cx.ui, "Creating isolation segment {name} as {me}...");
        let body = json!({ "name": self.of.segment });
        match cx.client.post("/v3/isolation_segments", body).await {
            Err(error) if error.already_exists().is_some() => {
                let name = &self.of.segment;
                cx.ui.warn(&format!("Isolation segment '{name}' already exists."));
            }
            done => drop(done?),
        }
        cx.ui.ok();
        Ok(())
    }
}

/// `cf delete-isolation-segment`
#[derive(clap::Args)]
pub struct DeleteIsolationSegment {
    #[command(flatten)]
    of: OfSegment,
    /// Force deletion without confirmation
    #[arg(short = 'f')]
    force: bool,
}

impl Command for DeleteIsolationSegment {
    const SPEC: &'static Spec = &Spec {
        name: "delete-isolation-segment",
        about: "Delete an isolation segment",
        usage: "{cf} delete-isolation-segment SEGMENT_NAME",
        see_also: &["disable-org-isolation", "isolation-segments"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let question = format!("Really delete the isolation segment {}?", self.of.segment);
        if !self.force && !cx.ui.confirm(&question)? {
            say!(cx.ui, "Delete cancelled");
            return Ok(());
        }
        let (name, me) = (cx.ui.name(&self.of.segment), cx.me()?);
        say!(cx.ui, "Deleting isolation segment {name} as {me}...");
        match cx.client.isolation_segment(&self.of.segment).await {
            Err(Error::Missing(_)) => {
                let name = &self.of.segment;
                cx.ui.warn(&format!("Isolation segment {name} does not exist."));
            }
            found => cx.client.delete(&format!("/v3/isolation_segments/{}", found?.guid)).await?,
        }
        cx.ui.ok();
        Ok(())
    }
}

#[derive(clap::Args)]
struct OrgAndSegment {
    #[arg(value_name = "ORG_NAME")]
    org: String,
    #[arg(value_name = "SEGMENT_NAME")]
    segment: String,
}

impl OrgAndSegment {
    /// Segment, org and user, coloured.
    fn shown(&self, cx: &Context) -> Result<(String, String, String)> {
        Ok((cx.ui.name(&self.segment), cx.ui.name(&self.org), cx.me()?))
    }

    async fn find(&self, cx: &Context<'_>) -> Result<(Named, Named)> {
        let org = cx.client.org(&self.org).await?;
        Ok((org, cx.client.isolation_segment(&self.segment).await?))
    }
}

/// `cf enable-org-isolation`
#[derive(clap::Args)]
pub struct EnableOrgIsolation {
    #[command(flatten)]
    of: OrgAndSegment,
}

impl Command for EnableOrgIsolation {
    const SPEC: &'static Spec = &Spec {
        name: "enable-org-isolation",
        about: "Entitle an organization to an isolation segment",
        usage: "{cf} enable-org-isolation ORG_NAME SEGMENT_NAME",
        see_also: &[
            "create-isolation-segment",
            "isolation-segments",
            "set-org-default-isolation-segment",
            "set-space-isolation-segment",
        ],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (segment, org, me) = self.of.shown(cx)?;
        say!(cx.ui, "Enabling isolation segment {segment} for org {org} as {me}...");
        let (org, segment) = self.of.find(cx).await?;
        let path = format!("/v3/isolation_segments/{}/relationships/organizations", segment.guid);
        cx.client.post(&path, json!({ "data": [{ "guid": org.guid }] })).await?;
        cx.ui.ok();
        Ok(())
    }
}

/// `cf disable-org-isolation`
#[derive(clap::Args)]
pub struct DisableOrgIsolation {
    #[command(flatten)]
    of: OrgAndSegment,
}

impl Command for DisableOrgIsolation {
    const SPEC: &'static Spec = &Spec {
        name: "disable-org-isolation",
        about: "Revoke an organization's entitlement to an isolation segment",
        usage: "{cf} disable-org-isolation ORG_NAME SEGMENT_NAME",
        see_also: &["enable-org-isolation", "isolation-segments"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (segment, org, me) = self.of.shown(cx)?;
        say!(
            cx.ui,
            "Removing entitlement to isolation segment {segment} from org {org} as {me}..."
        );
        let (org, segment) = self.of.find(cx).await?;
        let path = format!(
            "/v3/isolation_segments/{}/relationships/organizations/{}",
            segment.guid, org.guid
        );
        cx.client.delete(&path).await?;
        cx.ui.ok();
        Ok(())
    }
}

/// `cf set-org-default-isolation-segment`
#[derive(clap::Args)]
pub struct SetOrgDefaultIsolationSegment {
    #[command(flatten)]
    of: OrgAndSegment,
}

impl Command for SetOrgDefaultIsolationSegment {
    const SPEC: &'static Spec = &Spec {
        name: "set-org-default-isolation-segment",
        about: "Set the default isolation segment used for apps in spaces in an org",
        usage: "{cf} set-org-default-isolation-segment ORG_NAME SEGMENT_NAME",
        see_also: &["org", "set-space-isolation-segment"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (segment, org, me) = self.of.shown(cx)?;
        say!(cx.ui, "Setting isolation segment {segment} to default on org {org} as {me}...");
        let (org, segment) = self.of.find(cx).await?;
        relate(cx, &org_default(&org.guid), Some(&segment.guid)).await?;
        cx.ui.ok();
        say!(
            cx.ui,
            "TIP: Restart applications in this organization to relocate them to this isolation segment."
        );
        Ok(())
    }
}

fn org_default(org: &str) -> String {
    format!("/v3/organizations/{org}/relationships/default_isolation_segment")
}

fn of_space(space: &str) -> String {
    format!("/v3/spaces/{space}/relationships/isolation_segment")
}

async fn relate(cx: &Context<'_>, path: &str, segment: Option<&str>) -> Result<()> {
    let data = segment.map_or(Value::Null, |guid| json!({ "guid": guid }));
    cx.client.patch(path, json!({ "data": data })).await.map(drop)
}

/// `cf reset-org-default-isolation-segment`
#[derive(clap::Args)]
pub struct ResetOrgDefaultIsolationSegment {
    #[arg(value_name = "ORG_NAME")]
    org: String,
}

impl Command for ResetOrgDefaultIsolationSegment {
    const SPEC: &'static Spec = &Spec {
        name: "reset-org-default-isolation-segment",
        about: "Reset the default isolation segment used for apps in spaces of an org",
        usage: "{cf} reset-org-default-isolation-segment ORG_NAME",
        see_also: &["org", "restart"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (org, me) = (cx.ui.name(&self.org), cx.me()?);
        say!(cx.ui, "Resetting default isolation segment of org {org} as {me}...");
        let org = cx.client.org(&self.org).await?;
        relate(cx, &org_default(&org.guid), None).await?;
        cx.ui.ok();
        say!(
            cx.ui,
            "TIP: Restart applications in spaces without assigned isolation segments to move them to the platform default."
        );
        Ok(())
    }
}

/// `cf set-space-isolation-segment`
#[derive(clap::Args)]
pub struct SetSpaceIsolationSegment {
    #[arg(value_name = "SPACE_NAME")]
    space: String,
    #[arg(value_name = "SEGMENT_NAME")]
    segment: String,
}

impl Command for SetSpaceIsolationSegment {
    const SPEC: &'static Spec = &Spec {
        name: "set-space-isolation-segment",
        about: "Assign the isolation segment for a space",
        usage: "{cf} set-space-isolation-segment SPACE_NAME SEGMENT_NAME",
        see_also: &[
            "org",
            "reset-space-isolation-segment",
            "restart",
            "set-org-default-isolation-segment",
            "space",
        ],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (space, org, me) = (cx.ui.name(&self.space), cx.ui.name(cx.org().name), cx.me()?);
        say!(cx.ui, "Updating isolation segment of space {space} in org {org} as {me}...");
        let space = cx.client.space(&self.space, &cx.org().guid).await?;
        let segment = cx.client.isolation_segment(&self.segment).await?;
        relate(cx, &of_space(&space.guid), Some(&segment.guid)).await?;
        cx.ui.ok();
        say!(
            cx.ui,
            "TIP: Restart applications in this space to relocate them to this isolation segment."
        );
        Ok(())
    }
}

/// `cf reset-space-isolation-segment`
#[derive(clap::Args)]
pub struct ResetSpaceIsolationSegment {
    #[arg(value_name = "SPACE_NAME")]
    space: String,
}

impl Command for ResetSpaceIsolationSegment {
    const SPEC: &'static Spec = &Spec {
        name: "reset-space-isolation-segment",
        about: "Reset the space's isolation segment to the org default",
        usage: "{cf} reset-space-isolation-segment SPACE_NAME",
        see_also: &["org", "restart", "space"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (space, org, me) = (cx.ui.name(&self.space), cx.ui.name(cx.org().name), cx.me()?);
        say!(
            cx.ui,
            "Resetting isolation segment assignment of space {space} in org {org} as {me}..."
        );
        let org = cx.org().guid;
        let space = cx.client.space(&self.space, &org).await?;
        relate(cx, &of_space(&space.guid), None).await?;
        let default: Value = cx.client.get(&org_default(&org)).await?;
        cx.ui.ok();
        let where_to = if default["data"]["guid"].is_string() {
            "this organization's default isolation segment"
        } else {
            "the platform default"
        };
        say!(cx.ui, "TIP: Restart applications in this space to relocate them to {where_to}.");
        Ok(())
    }
}
