//! Who may do what in orgs and spaces: given, and taken.

mod holders;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use self::holders::User;
pub use self::holders::{OrgUsers, SpaceUsers};
use crate::client::Body;
use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Error, Result, failed};
use crate::ui::say;

/// A role as people call it, and as the API does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Role {
    name: &'static str,
    kind: &'static str,
}

const ORG_ROLES: [Role; 3] = [
    Role { name: "OrgManager", kind: "organization_manager" },
    Role { name: "BillingManager", kind: "organization_billing_manager" },
    Role { name: "OrgAuditor", kind: "organization_auditor" },
];
const SPACE_ROLES: [Role; 4] = [
    Role { name: "SpaceManager", kind: "space_manager" },
    Role { name: "SpaceDeveloper", kind: "space_developer" },
    Role { name: "SpaceAuditor", kind: "space_auditor" },
    Role { name: "SpaceSupporter", kind: "space_supporter" },
];

fn org_role(text: &str) -> std::result::Result<Role, String> {
    role(text, &ORG_ROLES, "and")
}

fn space_role(text: &str) -> std::result::Result<Role, String> {
    role(text, &SPACE_ROLES, "or")
}

/// Pure: a role by its name, in any case. The last two of a list are joined by `and` or `or`, as is usual for it.
fn role(text: &str, known: &[Role], join: &str) -> std::result::Result<Role, String> {
    let found = known.iter().find(|role| role.name.eq_ignore_ascii_case(text)).copied();
    found.ok_or_else(|| {
        let names: Vec<String> = known.iter().map(|role| format!("\"{}\"", role.name)).collect();
        let (last, rest) = names.split_last().expect("there are roles");
        format!("ROLE must be {} {join} {last}", rest.join(", "))
    })
}

/// The one a role is given to.
pub enum Who {
    Guid(String),
    Name { name: String, origin: Option<String> },
}

impl Who {
    fn new(name: &str, is_client: bool, origin: Option<&str>) -> Who {
        if is_client {
            Who::Guid(name.to_owned())
        } else {
            Who::Name { name: name.to_owned(), origin: origin.map(str::to_owned) }
        }
    }

    fn data(&self) -> Value {
        match self {
            Who::Guid(guid) => json!({ "guid": guid }),
            Who::Name { name, origin: None } => json!({ "username": name }),
            Who::Name { name, origin: Some(origin) } => {
                json!({ "username": name, "origin": origin })
            }
        }
    }
}

/// Gives a role, and tells whether it was there already.
async fn give(cx: &Context<'_>, role: &str, scope: &str, guid: &str, who: &Who) -> Result<bool> {
    let body = json!({
        "type": role,
        "relationships": { "user": { "data": who.data() }, scope: { "data": { "guid": guid } } },
    });
    match cx.client.post("/v3/roles", body).await {
        Ok(_) => Ok(false),
        Err(error)
            if error.api_detail(422).is_some_and(|detail| detail.contains("already has")) =>
        {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// A role in a space needs its holder to belong to the org; who may not say so may still give the role.
pub async fn give_in_space(
    cx: &Context<'_>,
    role: &str,
    space: &str,
    org: &str,
    who: &Who,
) -> Result<bool> {
    match give(cx, "organization_user", "organization", org, who).await {
        Ok(_) => {}
        Err(error) if error.api_detail(403).is_some() => {}
        Err(error) => return Err(error),
    }
    give(cx, role, "space", space, who).await
}

async fn take(
    cx: &Context<'_>,
    role: &str,
    filter: &str,
    guid: &str,
    name: &str,
    is_client: bool,
    origin: Option<&str>,
) -> Result<()> {
    #[derive(Deserialize)]
    struct Guid {
        guid: String,
    }
    let user = if is_client {
        cx.client.get::<Guid>(&format!("/v3/users/{name}")).await?.guid
    } else {
        let mut query = vec![("usernames", name)];
        query.extend(origin.map(|origin| ("origins", origin)));
        let users = cx.client.list::<User>("/v3/users", &query).await?.resources;
        match users.as_slice() {
            [] => return failed(no_user(name, origin)),
            [one] => one.guid.clone(),
            many => {
                let mut origins: Vec<&str> =
                    many.iter().map(|user| user.origin.as_deref().unwrap_or_default()).collect();
                origins.sort_unstable();
                return failed(format!(
                    "Ambiguous user. User with username '{name}' exists in the following origins: {}. Specify an origin to disambiguate.",
                    origins.join(", ")
                ));
            }
        }
    };
    let query = [("types", role), (filter, guid), ("user_guids", user.as_str())];
    for role in cx.client.list::<Guid>("/v3/roles", &query).await?.resources {
        cx.client.delete(&format!("/v3/roles/{}", role.guid)).await?;
    }
    Ok(())
}

fn no_user(name: &str, origin: Option<&str>) -> String {
    match origin {
        Some(origin) => format!("User '{name}' with origin '{origin}' does not exist."),
        None => format!("User '{name}' does not exist."),
    }
}

#[derive(clap::Args)]
struct Kind {
    /// USERNAME is the client-id of a (non-user) service account
    #[arg(long)]
    client: bool,
    /// Indicates the identity provider to be used for authentication
    #[arg(long)]
    origin: Option<String>,
}

#[derive(clap::Args)]
struct InOrg {
    #[arg(value_name = "USERNAME")]
    user: String,
    #[arg(value_name = "ORG")]
    org: String,
    #[arg(value_name = "ROLE", value_parser = org_role)]
    role: Role,
    #[command(flatten)]
    kind: Kind,
}

#[derive(clap::Args)]
struct InSpace {
    #[arg(value_name = "USERNAME")]
    user: String,
    #[arg(value_name = "ORG")]
    org: String,
    #[arg(value_name = "SPACE")]
    space: String,
    #[arg(value_name = "ROLE", value_parser = space_role)]
    role: Role,
    #[command(flatten)]
    kind: Kind,
}

/// A role that somebody is to have, or to lose.
struct Change {
    user: String,
    role: Role,
    org: String,
    space: Option<String>,
    kind: Kind,
}

impl From<InOrg> for Change {
    fn from(InOrg { user, org, role, kind }: InOrg) -> Change {
        Change { user, role, org, space: None, kind }
    }
}

impl From<InSpace> for Change {
    fn from(InSpace { user, org, space, role, kind }: InSpace) -> Change {
        Change { user, role, org, space: Some(space), kind }
    }
}

impl Change {
    fn check(&self) -> Result<()> {
        if self.kind.client && self.kind.origin.is_some() {
            return Err(Error::together(&["--client", "--origin"]));
        }
        Ok(())
    }

    /// `org acme / space dev`, with the names as `show` has them.
    fn place(&self, show: impl Fn(&str) -> String) -> String {
        match &self.space {
            None => format!("org {}", show(&self.org)),
            Some(space) => format!("org {} / space {}", show(&self.org), show(space)),
        }
    }

    fn announce(&self, cx: &mut Context, doing: &str, to: &str) -> Result<()> {
        let (role, user, me) = (cx.ui.name(self.role.name), cx.ui.name(&self.user), cx.me()?);
        let place = self.place(|name| cx.ui.name(name));
        say!(cx.ui, "{doing} role {role} {to} user {user} in {place} as {me}...");
        Ok(())
    }

    async fn give(self, cx: &mut Context<'_>) -> Result<()> {
        self.check()?;
        self.announce(cx, "Assigning", "to")?;
        let org = cx.client.org(&self.org).await?.guid;
        let who = Who::new(&self.user, self.kind.client, self.kind.origin.as_deref());
        let had_it = match &self.space {
            None => give(cx, self.role.kind, "organization", &org, &who).await?,
            Some(space) => {
                let space = cx.client.space(space, &org).await?.guid;
                give_in_space(cx, self.role.kind, &space, &org, &who).await?
            }
        };
        if had_it {
            let place = self.place(|name| format!("'{name}'"));
            let (user, role) = (&self.user, self.role.name);
            cx.ui.warn(&format!("User '{user}' already has role '{role}' in {place}."));
        }
        cx.ui.ok();
        Ok(())
    }

    async fn take(self, cx: &mut Context<'_>) -> Result<()> {
        self.check()?;
        self.announce(cx, "Removing", "from")?;
        let org = cx.client.org(&self.org).await?.guid;
        let (filter, guid) = match &self.space {
            None => ("organization_guids", org),
            Some(space) => ("space_guids", cx.client.space(space, &org).await?.guid),
        };
        let origin = self.kind.origin.as_deref();
        take(cx, self.role.kind, filter, &guid, &self.user, self.kind.client, origin).await?;
        cx.ui.ok();
        Ok(())
    }
}

/// `cf set-org-role`
#[derive(clap::Args)]
pub struct SetOrgRole {
    #[command(flatten)]
    of: InOrg,
}

impl Command for SetOrgRole {
    const SPEC: &'static Spec = &Spec {
        name: "set-org-role",
        about: "Assign an org role to a user",
        usage: "{cf} set-org-role USERNAME ORG ROLE\n{cf} set-org-role USERNAME ORG ROLE [--client]\n{cf} set-org-role USERNAME ORG ROLE [--origin ORIGIN]",
        roles: "OrgManager - manages users and the org itself\nBillingManager - manages billing\nOrgAuditor - sees the org and its reports",
        see_also: &["org-users", "set-space-role"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        Change::from(self.of).give(cx).await
    }
}

/// `cf unset-org-role`
#[derive(clap::Args)]
pub struct UnsetOrgRole {
    #[command(flatten)]
    of: InOrg,
}

impl Command for UnsetOrgRole {
    const SPEC: &'static Spec = &Spec {
        name: "unset-org-role",
        about: "Remove an org role from a user",
        usage: "{cf} unset-org-role USERNAME ORG ROLE\n{cf} unset-org-role USERNAME ORG ROLE [--client]\n{cf} unset-org-role USERNAME ORG ROLE [--origin ORIGIN]",
        roles: "OrgManager\nBillingManager\nOrgAuditor",
        see_also: &["org-users", "set-org-role"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        Change::from(self.of).take(cx).await
    }
}

/// `cf set-space-role`
#[derive(clap::Args)]
pub struct SetSpaceRole {
    #[command(flatten)]
    of: InSpace,
}

impl Command for SetSpaceRole {
    const SPEC: &'static Spec = &Spec {
        name: "set-space-role",
        about: "Assign a space role to a user",
        usage: "{cf} set-space-role USERNAME ORG SPACE ROLE\n{cf} set-space-role USERNAME ORG SPACE ROLE [--client]\n{cf} set-space-role USERNAME ORG SPACE ROLE [--origin ORIGIN]",
        roles: "SpaceManager - manages users and features of the space\nSpaceDeveloper - manages apps and services, sees logs\nSpaceAuditor - sees apps, logs and settings\nSpaceSupporter - keeps apps running, without changing them",
        see_also: &["space-users", "unset-space-role"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        Change::from(self.of).give(cx).await
    }
}

/// `cf unset-space-role`
#[derive(clap::Args)]
pub struct UnsetSpaceRole {
    #[command(flatten)]
    of: InSpace,
}

impl Command for UnsetSpaceRole {
    const SPEC: &'static Spec = &Spec {
        name: "unset-space-role",
        about: "Remove a space role from a user",
        usage: "{cf} unset-space-role USERNAME ORG SPACE ROLE\n{cf} unset-space-role USERNAME ORG SPACE ROLE [--client]\n{cf} unset-space-role USERNAME ORG SPACE ROLE [--origin ORIGIN]",
        roles: "SpaceManager\nSpaceDeveloper\nSpaceAuditor\nSpaceSupporter",
        see_also: &["set-space-role", "space-users"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        Change::from(self.of).take(cx).await
    }
}

/// Tells the Cloud Controller of a user that the UAA has made.
pub async fn register(cx: &Context<'_>, guid: &str) -> Result<()> {
    cx.client
        .send(Method::POST, "/v3/users", &[], Body::Json(json!({ "guid": guid })))
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_known_in_any_case() {
        assert_eq!(org_role("orgmanager").unwrap().kind, "organization_manager");
        assert_eq!(space_role("SpaceDeveloper").unwrap().name, "SpaceDeveloper");
        assert_eq!(
            org_role("Boss").unwrap_err(),
            "ROLE must be \"OrgManager\", \"BillingManager\" and \"OrgAuditor\""
        );
    }
}
