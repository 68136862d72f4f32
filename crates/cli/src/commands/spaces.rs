//! Spaces.

use serde_json::{Value, json};

use crate::command::{Command, Context, Needs, Spec};
use crate::commands::orgs::names;
use crate::commands::quotas;
use crate::commands::roles;
use crate::config::SpacePlace;
use crate::error::{Error, Result};
use crate::resources::{Named, Rule, SecurityGroup};
use crate::table::{self, row};
use crate::ui::say;

/// `cf spaces`
#[derive(clap::Args)]
pub struct Spaces {
    /// Selector to filter spaces by labels
    #[arg(long)]
    labels: Option<String>,
}

impl Command for Spaces {
    const SPEC: &'static Spec = &Spec {
        name: "spaces",
        about: "List all spaces in an org",
        usage: "{cf} spaces [--labels SELECTOR]",
        see_also: &["create-space", "set-space-role", "space", "space-users"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let org = cx.org();
        let (name, user) = (cx.ui.name(&org.name), cx.ui.name(cx.user()?.name));
        say!(cx.ui, "Getting spaces in org {name} as {user}...\n");
        let mut query = vec![("organization_guids", org.guid.as_str()), ("order_by", "name")];
        query.extend(self.labels.as_deref().map(|labels| ("label_selector", labels)));
        let spaces: Vec<Named> = cx.client.list("/v3/spaces", &query).await?.resources;
        if spaces.is_empty() {
            say!(cx.ui, "No spaces found.");
            return Ok(());
        }
        let rows: Vec<Vec<String>> = std::iter::once(row!["name"])
            .chain(spaces.into_iter().map(|space| vec![space.name]))
            .collect();
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

/// `cf space`
#[derive(clap::Args)]
pub struct Space {
    #[arg(value_name = "SPACE")]
    space: String,
    /// Retrieve and display the given space's guid. All other output for the space is suppressed.
    #[arg(long)]
    guid: bool,
    /// Retrieve the rules for all the security groups associated with the space.
    #[arg(long)]
    security_group_rules: bool,
}

impl Command for Space {
    const SPEC: &'static Spec = &Spec {
        name: "space",
        about: "Show space info",
        usage: "{cf} space SPACE [--guid] [--security-group-rules]",
        see_also: &["space-users", "spaces"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let org = cx.org();
        if self.guid {
            let space = cx.client.space(&self.space, &org.guid).await?;
            say!(cx.ui, "{}", space.guid);
            return Ok(());
        }
        let (name, org_name, user) =
            (cx.ui.name(&self.space), cx.ui.name(&org.name), cx.ui.name(cx.user()?.name));
        say!(cx.ui, "Getting info for space {name} in org {org_name} as {user}...\n");
        let space = cx.client.space(&self.space, &org.guid).await?;
        let of_space = [("space_guids", space.guid.as_str()), ("order_by", "name")];
        let apps = cx.client.list::<Named>("/v3/apps", &of_space).await?.resources;
        let services = optional(cx, "/v3/service_instances", &of_space).await?;
        let quota = match space.related("quota") {
            Some(guid) => cx.client.get::<Named>(&format!("/v3/space_quotas/{guid}")).await?.name,
            None => String::new(),
        };
        let segment = segment(cx, &space.guid).await?;
        let running = groups(cx, &space.guid, "running").await?;
        let staging = groups(cx, &space.guid, "staging").await?;
        let group_names = |groups: &[SecurityGroup]| {
            groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let rows = [
            ("name:", space.name.clone()),
            ("org:", org.name),
            ("apps:", names(&apps)),
            ("services:", services),
            ("isolation segment:", segment),
            ("quota:", quota),
            ("running security groups:", group_names(&running)),
            ("staging security groups:", group_names(&staging)),
        ];
        table::key_values(&mut cx.ui, &rows);
        if self.security_group_rules {
            show_rules(cx, &running, &staging);
        }
        Ok(())
    }
}

/// The security groups of a space in a phase; smaller APIs may have none.
async fn groups(cx: &Context<'_>, space: &str, phase: &str) -> Result<Vec<SecurityGroup>> {
    match cx.client.list(&format!("/v3/spaces/{space}/{phase}_security_groups"), &[]).await {
        Ok(list) => Ok(list.resources),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn show_rules(cx: &mut Context, running: &[SecurityGroup], staging: &[SecurityGroup]) {
    say!(cx.ui);
    let of = |groups: &[SecurityGroup], phase: &str| {
        let rules =
            groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
        let row = |(group, rule): (&SecurityGroup, &Rule)| {
            let text = |of: &Option<String>| of.clone().unwrap_or_default();
            row![
                group.name,
                rule.destination,
                text(&rule.ports),
                rule.protocol,
                phase,
                text(&rule.description)
            ]
        };
        rules.map(row).collect::<Vec<_>>()
    };
    let mut rows = of(running, "running");
    rows.extend(of(staging, "staging"));
    if rows.is_empty() {
        say!(cx.ui, "No security group rules found.");
        return;
    }
    rows.sort_by(|a, b| a[0].cmp(&b[0]));
    let head = ["security group", "destination", "ports", "protocol", "lifecycle", "description"];
    rows.insert(0, head.map(str::to_owned).to_vec());
    table::with_header(&mut cx.ui, "", &rows);
}

/// Names of a kind of resource that smaller APIs may not have.
async fn optional(cx: &Context<'_>, path: &str, query: &[(&str, &str)]) -> Result<String> {
    match cx.client.list::<Named>(path, query).await {
        Ok(list) => Ok(names(&list.resources)),
        Err(error) if error.is_not_found() => Ok(String::new()),
        Err(error) => Err(error),
    }
}

async fn segment(cx: &Context<'_>, space: &str) -> Result<String> {
    let found: Value =
        match cx.client.get(&format!("/v3/spaces/{space}/relationships/isolation_segment")).await {
            Err(error) if error.is_not_found() => return Ok(String::new()),
            found => found?,
        };
    match found["data"]["guid"].as_str() {
        Some(guid) => {
            Ok(cx.client.get::<Named>(&format!("/v3/isolation_segments/{guid}")).await?.name)
        }
        None => Ok(String::new()),
    }
}

/// `cf create-space`
#[derive(clap::Args)]
pub struct CreateSpace {
    #[arg(value_name = "SPACE")]
    space: String,
    /// Organization
    #[arg(short = 'o')]
    org: Option<String>,
    /// Quota to assign to the new space
    #[arg(long, short = 'q')]
    quota: Option<String>,
}

impl Command for CreateSpace {
    const SPEC: &'static Spec = &Spec {
        name: "create-space",
        alias: "csp",
        about: "Create a space",
        usage: "{cf} create-space SPACE [-o ORG] [-q QUOTA]",
        see_also: &["set-space-role", "spaces", "target"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let org = org_of(cx, self.org.as_deref()).await?;
        let user = cx.user()?;
        let (space_name, org_name, user_name) =
            (cx.ui.name(&self.space), cx.ui.name(&org.name), cx.ui.name(&user.name));
        say!(cx.ui, "Creating space {space_name} in org {org_name} as {user_name}...");
        let body = json!({ "name": self.space, "relationships": { "organization": { "data": { "guid": org.guid } } } });
        let space: Named = match cx.client.post("/v3/spaces", body).await {
            Err(error) if error.already_exists().is_some() => {
                say!(cx.ui, "Space '{}' already exists.", self.space);
                cx.ui.ok();
                return Ok(());
            }
            created => created?.json()?,
        };
        cx.ui.ok();
        if let Some(quota) = &self.quota {
            let shown = cx.ui.name(quota);
            say!(cx.ui, "Setting space quota {shown} to space {space_name} as {user_name}...");
            quotas::space::assign(cx, quota, &space.guid, &org.guid).await?;
            cx.ui.ok();
        }
        for (shown, role) in
            [("SpaceManager", "space_manager"), ("SpaceDeveloper", "space_developer")]
        {
            let shown = cx.ui.name(shown);
            say!(
                cx.ui,
                "Assigning role {shown} to user {user_name} in org {org_name} / space {space_name} as {user_name}..."
            );
            roles::give_in_space(
                cx,
                role,
                &space.guid,
                &org.guid,
                &roles::Who::Guid(user.guid.clone()),
            )
            .await?;
            cx.ui.ok();
        }
        let cf = cx.cf();
        say!(
            cx.ui,
            "TIP: Use '{cf} target -o \"{}\" -s \"{}\"' to target new space",
            org.name,
            self.space
        );
        Ok(())
    }
}

/// The named org, else the targeted one.
pub async fn org_of(cx: &Context<'_>, name: Option<&str>) -> Result<Named> {
    match name {
        Some(name) => cx.client.org(name).await,
        None => {
            cx.require(Needs::Org)?;
            let org = cx.org();
            Ok(Named { guid: org.guid, name: org.name, ..Named::default() })
        }
    }
}

/// `cf delete-space`
#[derive(clap::Args)]
pub struct DeleteSpace {
    #[arg(value_name = "SPACE")]
    space: String,
    /// Do not ask first
    #[arg(short = 'f')]
    force: bool,
    /// The org the space is in, if not the targeted one
    #[arg(short = 'o')]
    org: Option<String>,
}

impl Command for DeleteSpace {
    const SPEC: &'static Spec = &Spec {
        name: "delete-space",
        about: "Delete a space",
        usage: "{cf} delete-space SPACE [-o ORG] [-f]",
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        if self.org.is_none() {
            cx.require(Needs::Org)?;
        }
        if !self.force {
            say!(
                cx.ui,
                "This action impacts all resources scoped to this space, including apps, service instances, and space-scoped service brokers."
            );
            if !cx.ui.confirm(&format!("Really delete the space {}?", self.space))? {
                say!(cx.ui, "'{}' has not been deleted.", self.space);
                return Ok(());
            }
        }
        let org_name = self.org.clone().unwrap_or_else(|| cx.org().name);
        let (space, org, user) =
            (cx.ui.name(&self.space), cx.ui.name(&org_name), cx.ui.name(cx.user()?.name));
        say!(cx.ui, "Deleting space {space} in org {org} as {user}...");
        let org = org_of(cx, self.org.as_deref()).await?;
        match cx.client.space(&self.space, &org.guid).await {
            Err(Error::Missing(_)) => {
                cx.ui.warn(&format!("Space '{}' does not exist.", self.space))
            }
            space => cx.client.delete(&format!("/v3/spaces/{}", space?.guid)).await?,
        }
        cx.ui.ok();
        if cx.org().name == org_name && cx.space().name == self.space {
            cx.config().space = SpacePlace::default();
            let cf = cx.cf();
            say!(cx.ui, "TIP: No space targeted, use '{cf} target -s' to target a space.");
        }
        Ok(())
    }
}

/// `cf rename-space`
#[derive(clap::Args)]
pub struct RenameSpace {
    #[arg(value_name = "SPACE")]
    space: String,
    #[arg(value_name = "NEW_SPACE_NAME")]
    new: String,
}

impl Command for RenameSpace {
    const SPEC: &'static Spec = &Spec {
        name: "rename-space",
        about: "Rename a space",
        usage: "{cf} rename-space SPACE NEW_SPACE_NAME",
        see_also: &["space", "spaces", "space-users", "target"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (old, new, user) =
            (cx.ui.name(&self.space), cx.ui.name(&self.new), cx.ui.name(cx.user()?.name));
        say!(cx.ui, "Renaming space {old} to {new} as {user}...");
        let space = cx.client.space(&self.space, &cx.org().guid).await?;
        cx.client.patch(&format!("/v3/spaces/{}", space.guid), json!({ "name": self.new })).await?;
        if cx.space().guid == space.guid {
            cx.config().space.name.clone_from(&self.new);
        }
        cx.ui.ok();
        Ok(())
    }
}
