//! Security groups: where apps may connect to.

mod defaults;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

pub use self::defaults::{
    BindRunningSecurityGroup, BindStagingSecurityGroup, RunningSecurityGroups,
    StagingSecurityGroups, UnbindRunningSecurityGroup, UnbindStagingSecurityGroup,
};
use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Error, Result, failed};
use crate::resources::{Named, SecurityGroup as Group};
use crate::table::{self, row};
use crate::ui::say;

/// When changes reach apps.
const TIP: &str = "If Dynamic ASG's are enabled, changes will automatically apply for running and staging applications. Otherwise, changes will require an app restart (for running) or restage (for staging) to apply to existing applications.";

const RULES: &str = "The file holds a JSON array of rules, for example:\n[\n  {\n    \"protocol\": \"tcp\",\n    \"destination\": \"10.0.11.0/24\",\n    \"ports\": \"80,443\",\n    \"description\": \"Allow http and https traffic from ZoneA\"\n  }\n]";

fn tip(cx: &mut Context) {
    say!(cx.ui, "TIP: {TIP}");
}

/// Stands for every org and every space.
const EVERYWHERE: &str = "<all>";

/// A space a group is bound to.
struct Bound {
    org: String,
    space: String,
    lifecycle: &'static str,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Space {
    guid: String,
    name: String,
    relationships: BTreeMap<String, crate::resources::Related>,
}

/// Names of spaces and of their orgs, for all the groups.
async fn places(cx: &Context<'_>, groups: &[Group]) -> Result<BTreeMap<String, (String, String)>> {
    let mut guids: Vec<&str> = groups.iter().flat_map(bound_guids).map(|(guid, _)| guid).collect();
    guids.sort_unstable();
    guids.dedup();
    let mut places = BTreeMap::new();
    // Addresses have a length that proxies cut off.
    for guids in guids.chunks(100) {
        let query = [("guids", guids.join(",")), ("include", "organization".to_owned())];
        let query = query.each_ref().map(|(name, value)| (*name, value.as_str()));
        let list = cx.client.list::<Space>("/v3/spaces", &query).await?;
        let orgs: Vec<Named> =
            serde_json::from_value(list.included["organizations"].clone()).unwrap_or_default();
        for space in list.resources {
            let org = crate::resources::related(&space.relationships, "organization");
            let org = orgs.iter().find(|known| Some(known.guid.as_str()) == org);
            let org = org.map(|org| org.name.clone()).unwrap_or_default();
            places.insert(space.guid, (org, space.name));
        }
    }
    Ok(places)
}

fn bound_guids(group: &Group) -> impl Iterator<Item = (&str, &'static str)> {
    let running =
        group.relationships.running_spaces.data.iter().map(|s| (s.guid.as_str(), "running"));
    let staging =
        group.relationships.staging_spaces.data.iter().map(|s| (s.guid.as_str(), "staging"));
    running.chain(staging)
}

/// Pure: where a group holds; everywhere has no org and no space.
fn bound(group: &Group, places: &BTreeMap<String, (String, String)>) -> Vec<Bound> {
    let everywhere =
        |lifecycle| Bound { org: EVERYWHERE.to_owned(), space: EVERYWHERE.to_owned(), lifecycle };
    let mut all = Vec::new();
    all.extend(group.globally_enabled.staging.then(|| everywhere("staging")));
    all.extend(group.globally_enabled.running.then(|| everywhere("running")));
    all.extend(bound_guids(group).filter_map(|(guid, lifecycle)| {
        let (org, space) = places.get(guid)?.clone();
        Some(Bound { org, space, lifecycle })
    }));
    all
}

#[derive(clap::Args)]
struct OfGroup {
    #[arg(value_name = "SECURITY_GROUP")]
    group: String,
}

/// `cf security-group`
#[derive(clap::Args)]
pub struct SecurityGroup {
    #[command(flatten)]
    of: OfGroup,
}

impl Command for SecurityGroup {
    const SPEC: &'static Spec = &Spec {
        name: "security-group",
        about: "Show a single security group",
        usage: "{cf} security-group SECURITY_GROUP",
        see_also: &[
            "bind-running-security-group",
            "bind-security-group",
            "bind-staging-security-group",
        ],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, me) = (cx.ui.name(&self.of.group), cx.me()?);
        say!(cx.ui, "Getting info for security group {name} as {me}...\n");
        let group = cx.client.security_group(&self.of.group).await?;
        let places = places(cx, std::slice::from_ref(&group)).await?;
        table::key_values(&mut cx.ui, &[("name:", group.name.clone()), ("rules:", String::new())]);
        let rules = serde_json::to_string_pretty(&group.rules);
        say!(cx.ui, "{}\n\n", rules.expect("rules read from JSON can be written as JSON"));
        // What holds everywhere is bound to no space in particular.
        let bound: Vec<Bound> =
            bound(&group, &places).into_iter().filter(|at| at.space != EVERYWHERE).collect();
        if bound.is_empty() {
            say!(cx.ui, "No spaces assigned");
            return Ok(());
        }
        let mut rows = vec![row!["organization", "space"]];
        rows.extend(bound.into_iter().map(|at| row![at.org, at.space]));
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

/// `cf security-groups`
#[derive(clap::Args)]
pub struct SecurityGroups {}

impl Command for SecurityGroups {
    const SPEC: &'static Spec = &Spec {
        name: "security-groups",
        about: "List all security groups",
        usage: "{cf} security-groups",
        see_also: &[
            "bind-running-security-group",
            "bind-security-group",
            "bind-staging-security-group",
            "security-group",
        ],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let me = cx.me()?;
        say!(cx.ui, "Getting security groups as {me}...\n");
        let groups = cx.client.list::<Group>("/v3/security_groups", &[]).await?.resources;
        if groups.is_empty() {
            say!(cx.ui, "No security groups found.");
            return Ok(());
        }
        let places = places(cx, &groups).await?;
        let mut rows = vec![row!["name", "organization", "space", "lifecycle"]];
        for group in &groups {
            let bound = bound(group, &places);
            if bound.is_empty() {
                rows.push(row![group.name, "", "", ""]);
            }
            rows.extend(
                bound.into_iter().map(|at| row![group.name, at.org, at.space, at.lifecycle]),
            );
        }
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

#[derive(clap::Args)]
struct WithRules {
    #[arg(value_name = "SECURITY_GROUP")]
    group: String,
    #[arg(value_name = "PATH_TO_JSON_RULES_FILE")]
    rules: String,
}

impl WithRules {
    /// The rules in the file.
    fn rules(&self, cx: &Context) -> Result<Value> {
        let path = cx.ui.io.dir.join(&self.rules);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(_) if !path.exists() => {
                return Err(Error::Usage(format!(
                    "The specified path '{}' does not exist.",
                    self.rules
                )));
            }
            Err(error) => return failed(format!("{}: {error}", path.display())),
        };
        match serde_json::from_slice(&text) {
            Ok(Value::Array(rules)) => Ok(Value::Array(rules)),
            _ => failed(format!(
                "Incorrect json format: {}\n\nValid json file example:\n[\n  {{\n    \"protocol\": \"tcp\",\n    \"destination\": \"10.244.1.18\",\n    \"ports\": \"3306\"\n  }}\n]",
                path.display()
            )),
        }
    }
}

/// `cf create-security-group`
#[derive(clap::Args)]
pub struct CreateSecurityGroup {
    #[command(flatten)]
    of: WithRules,
}

impl Command for CreateSecurityGroup {
    const SPEC: &'static Spec = &Spec {
        name: "create-security-group",
        about: "Create a security group",
        usage: "{cf} create-security-group SECURITY_GROUP PATH_TO_JSON_RULES_FILE",
        tip: RULES,
        see_also: &[
            "bind-running-security-group",
            "bind-security-group",
            "bind-staging-security-group",
            "security-groups",
        ],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, me, rules) = (cx.ui.name(&self.of.group), cx.me()?, self.of.rules(cx)?);
        say!(cx.ui, "Creating security group {name} as {me}...\n");
        let body = json!({ "name": self.of.group, "rules": rules });
        match cx.client.post("/v3/security_groups", body).await {
            Err(error) if error.already_exists().is_some() => cx.ui.warn(&error.to_string()),
            done => drop(done?),
        }
        cx.ui.ok();
        Ok(())
    }
}

/// `cf update-security-group`
#[derive(clap::Args)]
pub struct UpdateSecurityGroup {
    #[command(flatten)]
    of: WithRules,
}

impl Command for UpdateSecurityGroup {
    const SPEC: &'static Spec = &Spec {
        name: "update-security-group",
        about: "Update a security group",
        usage: "{cf} update-security-group SECURITY_GROUP PATH_TO_JSON_RULES_FILE",
        tip: RULES,
        see_also: &["restage", "security-groups"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, me, rules) = (cx.ui.name(&self.of.group), cx.me()?, self.of.rules(cx)?);
        say!(cx.ui, "Updating security group {name} as {me}...\n");
        let group = cx.client.security_group(&self.of.group).await?;
        let body = json!({ "rules": rules });
        cx.client.patch(&format!("/v3/security_groups/{}", group.guid), body).await?;
        cx.ui.ok();
        say!(cx.ui);
        tip(cx);
        Ok(())
    }
}

/// `cf delete-security-group`
#[derive(clap::Args)]
pub struct DeleteSecurityGroup {
    #[command(flatten)]
    of: OfGroup,
    /// Force deletion without confirmation
    #[arg(long, short = 'f')]
    force: bool,
}

impl Command for DeleteSecurityGroup {
    const SPEC: &'static Spec = &Spec {
        name: "delete-security-group",
        about: "Deletes a security group",
        usage: "{cf} delete-security-group SECURITY_GROUP [-f]",
        tip: TIP,
        see_also: &["security-groups"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let question = format!("Really delete the security group {}?", self.of.group);
        if !self.force && !cx.ui.confirm(&question)? {
            say!(cx.ui, "Security group '{}' has not been deleted.", self.of.group);
            return Ok(());
        }
        let (name, me) = (cx.ui.name(&self.of.group), cx.me()?);
        say!(cx.ui, "Deleting security group {name} as {me}...");
        match cx.client.security_group(&self.of.group).await {
            Err(Error::Missing(_)) => {
                cx.ui.warn(&format!("Security group '{}' does not exist.", self.of.group));
            }
            group => cx.client.delete(&format!("/v3/security_groups/{}", group?.guid)).await?,
        }
        cx.ui.ok();
        say!(cx.ui);
        tip(cx);
        Ok(())
    }
}

/// `cf bind-security-group`
#[derive(clap::Args)]
pub struct BindSecurityGroup {
    #[arg(value_name = "SECURITY_GROUP")]
    group: String,
    #[arg(value_name = "ORG")]
    org: String,
    /// Lifecycle phase the group applies to.
    #[arg(long, default_value = "running", value_parser = ["running", "staging"])]
    lifecycle: String,
    /// Space to bind the security group to. (Default: all existing spaces in org)
    #[arg(long)]
    space: Option<String>,
}

impl Command for BindSecurityGroup {
    const SPEC: &'static Spec = &Spec {
        name: "bind-security-group",
        about: "Bind a security group to a particular space, or all existing spaces of an org",
        usage: "{cf} bind-security-group SECURITY_GROUP ORG [--lifecycle (running | staging)] [--space SPACE]",
        tip: TIP,
        see_also: &[
            "apps",
            "bind-running-security-group",
            "bind-staging-security-group",
            "restart",
            "security-groups",
        ],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, org_name, me) = (cx.ui.name(&self.group), cx.ui.name(&self.org), cx.me()?);
        let phase = cx.ui.name(&self.lifecycle);
        let assigning = format!("Assigning {phase} security group {name} to");
        match &self.space {
            None => say!(cx.ui, "{assigning} all spaces in org {org_name} as {me}...\n"),
            Some(space) => {
                let space = cx.ui.name(space);
                say!(cx.ui, "{assigning} space {space} in org {org_name} as {me}...");
            }
        }
        let group = cx.client.security_group(&self.group).await?;
        let org = cx.client.org(&self.org).await?;
        let spaces = match &self.space {
            Some(space) => vec![cx.client.space(space, &org.guid).await?],
            None => crate::commands::target::spaces_of(cx, &org.guid).await?,
        };
        if spaces.is_empty() {
            say!(cx.ui, "No spaces in org {}.", org.name);
        } else {
            if self.space.is_none() {
                let plural = if spaces.len() == 1 { "space" } else { "spaces" };
                let names = cx.ui.name(crate::commands::orgs::names(&spaces));
                say!(cx.ui, "{assigning} {plural} {names} in org {org_name} as {me}...");
            }
            let data: Vec<Value> =
                spaces.iter().map(|space| json!({ "guid": space.guid })).collect();
            let path = relation(&group.guid, &self.lifecycle);
            cx.client.post(&path, json!({ "data": data })).await?;
        }
        cx.ui.ok();
        tip(cx);
        Ok(())
    }
}

fn relation(group: &str, lifecycle: &str) -> String {
    format!("/v3/security_groups/{group}/relationships/{lifecycle}_spaces")
}

/// `cf unbind-security-group`
#[derive(clap::Args)]
pub struct UnbindSecurityGroup {
    #[arg(value_name = "SECURITY_GROUP")]
    group: String,
    #[arg(value_name = "ORG")]
    org: String,
    #[arg(value_name = "SPACE")]
    space: String,
    /// Lifecycle phase the group applies to
    #[arg(long, default_value = "running", value_parser = ["running", "staging"])]
    lifecycle: String,
}

impl Command for UnbindSecurityGroup {
    const SPEC: &'static Spec = &Spec {
        name: "unbind-security-group",
        about: "Unbind a security group from a space",
        usage: "{cf} unbind-security-group SECURITY_GROUP ORG SPACE [--lifecycle (running | staging)]",
        tip: TIP,
        see_also: &["apps", "restart", "security-groups"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (phase, name) = (cx.ui.name(&self.lifecycle), cx.ui.name(&self.group));
        let (org, space, me) = (cx.ui.name(&self.org), cx.ui.name(&self.space), cx.me()?);
        say!(
            cx.ui,
            "Unbinding {phase} security group {name} from org {org} / space {space} as {me}..."
        );
        let group = cx.client.security_group(&self.group).await?;
        let org = cx.client.org(&self.org).await?;
        let space = cx.client.space(&self.space, &org.guid).await?;
        let path = format!("{}/{}", relation(&group.guid, &self.lifecycle), space.guid);
        match cx.client.delete(&path).await {
            Err(error)
                if error.api_detail(422).is_some_and(|detail| {
                    detail.contains("Ensure the space is bound to this security group")
                }) =>
            {
                cx.ui.warn(&format!(
                    "Security group {} not bound to space {} for lifecycle phase '{}'.",
                    self.group, self.space, self.lifecycle
                ));
            }
            done => done?,
        }
        cx.ui.ok();
        tip(cx);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_holds_where_it_is_bound() {
        let group = serde_json::from_value(json!({
            "name": "dns", "globally_enabled": { "running": true, "staging": false },
            "relationships": { "running_spaces": { "data": [] }, "staging_spaces": { "data": [{ "guid": "s" }] } },
        }));
        let places = BTreeMap::from([("s".to_owned(), ("acme".to_owned(), "dev".to_owned()))]);
        let at: Vec<String> = bound(&group.unwrap(), &places)
            .iter()
            .map(|at| format!("{} {} {}", at.org, at.space, at.lifecycle))
            .collect();
        assert_eq!(at, ["<all> <all> running", "acme dev staging"]);
    }
}
