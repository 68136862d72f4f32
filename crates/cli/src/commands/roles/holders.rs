//! Who holds which role: `cf org-users` and `cf space-users`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::command::{Command, Context, Needs, Spec};
use crate::error::Result;
use crate::resources::Related;
use crate::ui::say;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct User {
    pub(super) guid: String,
    presentation_name: Option<String>,
    pub(super) origin: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Held {
    #[serde(rename = "type")]
    kind: String,
    relationships: BTreeMap<String, Related>,
}

/// Holders of roles, by role, in the order of their names.
async fn holders(
    cx: &Context<'_>,
    filter: &str,
    guid: &str,
) -> Result<BTreeMap<String, Vec<User>>> {
    let list = cx.client.list::<Held>("/v3/roles", &[("include", "user"), (filter, guid)]).await?;
    let users: Vec<User> =
        serde_json::from_value(list.included["users"].clone()).unwrap_or_default();
    let mut holders: BTreeMap<String, Vec<User>> = BTreeMap::new();
    for role in list.resources {
        let user = crate::resources::related(&role.relationships, "user");
        if let Some(user) = users.iter().find(|known| Some(known.guid.as_str()) == user) {
            holders.entry(role.kind).or_default().push(user.clone());
        }
    }
    for users in holders.values_mut() {
        users.sort_by(|a, b| {
            (&a.presentation_name, &a.origin).cmp(&(&b.presentation_name, &b.origin))
        });
    }
    Ok(holders)
}

fn show_group(cx: &mut Context, title: &str, users: &[User]) {
    let head = cx.ui.bold(title);
    say!(cx.ui, "{head}");
    if users.is_empty() {
        say!(cx.ui, "  No {title} found");
    }
    for user in users {
        // A service account comes from no identity provider.
        let origin = user.origin.as_deref().unwrap_or("client");
        say!(cx.ui, "  {} ({origin})", user.presentation_name.as_deref().unwrap_or(&user.guid));
    }
    say!(cx.ui);
}

/// `cf org-users`
#[derive(clap::Args)]
pub struct OrgUsers {
    #[arg(value_name = "ORG")]
    org: String,
    /// All users with any role in the org
    #[arg(long, short = 'a')]
    all_users: bool,
}

impl Command for OrgUsers {
    const SPEC: &'static Spec = &Spec {
        name: "org-users",
        about: "Show org users by role",
        usage: "{cf} org-users ORG",
        see_also: &["orgs", "set-org-role"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (org, me) = (cx.ui.name(&self.org), cx.ui.name(cx.user()?.name));
        say!(cx.ui, "Getting users in org {org} as {me}...\n");
        let org = cx.client.org(&self.org).await?;
        let holders = holders(cx, "organization_guids", &org.guid).await?;
        let of = |kind: &str| holders.get(kind).cloned().unwrap_or_default();
        if self.all_users {
            let mut users: Vec<User> = holders.values().flatten().cloned().collect();
            users.sort_by(|a, b| {
                (&a.presentation_name, &a.guid).cmp(&(&b.presentation_name, &b.guid))
            });
            users.dedup_by(|a, b| a.guid == b.guid);
            show_group(cx, "ORG USERS", &users);
            return Ok(());
        }
        show_group(cx, "ORG MANAGER", &of("organization_manager"));
        show_group(cx, "BILLING MANAGER", &of("organization_billing_manager"));
        show_group(cx, "ORG AUDITOR", &of("organization_auditor"));
        Ok(())
    }
}

/// `cf space-users`
#[derive(clap::Args)]
pub struct SpaceUsers {
    #[arg(value_name = "ORG")]
    org: String,
    #[arg(value_name = "SPACE")]
    space: String,
}

impl Command for SpaceUsers {
    const SPEC: &'static Spec = &Spec {
        name: "space-users",
        about: "Show space users by role",
        usage: "{cf} space-users ORG SPACE",
        see_also: &["org-users", "orgs", "set-space-role", "spaces", "unset-space-role"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (org, space, me) =
            (cx.ui.name(&self.org), cx.ui.name(&self.space), cx.ui.name(cx.user()?.name));
        say!(cx.ui, "Getting users in org {org} / space {space} as {me}...\n");
        let org = cx.client.org(&self.org).await?;
        let space = cx.client.space(&self.space, &org.guid).await?;
        let holders = holders(cx, "space_guids", &space.guid).await?;
        for (title, kind) in [
            ("SPACE MANAGER", "space_manager"),
            ("SPACE DEVELOPER", "space_developer"),
            ("SPACE SUPPORTER", "space_supporter"),
            ("SPACE AUDITOR", "space_auditor"),
        ] {
            show_group(cx, title, &holders.get(kind).cloned().unwrap_or_default());
        }
        Ok(())
    }
}
