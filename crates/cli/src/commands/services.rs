//! Service instances of a space.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Body, List};
use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Error, Result};
use crate::resources::{Binding, LastOperation, Named, ServiceInstance, related};
use crate::table::{self, row};
use crate::ui::say;

/// What is asked for along with instances, to name their plans, offerings and brokers.
const FIELDS: [(&str, &str); 3] = [
    ("fields[service_plan]", "guid,name,relationships.service_offering"),
    ("fields[service_plan.service_offering]", "guid,name,relationships.service_broker"),
    ("fields[service_plan.service_offering.service_broker]", "guid,name"),
];

/// Names of what a managed instance is an instance of.
#[derive(Default)]
struct Origin {
    offering: String,
    plan: String,
    broker: String,
}

/// Pure: follows an instance to its plan, offering and broker.
fn origin(instance: &ServiceInstance, included: &Value) -> Origin {
    if instance.kind == "user-provided" {
        return Origin { offering: "user-provided".to_owned(), ..Origin::default() };
    }
    let find = |kind: &str, guid: Option<&str>| {
        let all: Vec<Named> = serde_json::from_value(included[kind].clone()).unwrap_or_default();
        all.into_iter().find(|item| Some(item.guid.as_str()) == guid).unwrap_or_default()
    };
    let plan = find("service_plans", related(&instance.relationships, "service_plan"));
    let offering = find("service_offerings", plan.related("service_offering"));
    let broker = find("service_brokers", offering.related("service_broker"));
    Origin { offering: offering.name, plan: plan.name, broker: broker.name }
}

fn operation(last: Option<&LastOperation>) -> String {
    last.map(|last| format!("{} {}", last.kind, last.state)).unwrap_or_default()
}

/// Bindings of instances to apps, with the apps' names.
async fn bound(
    cx: &Context<'_>,
    instances: &str,
) -> Result<(Vec<Binding>, BTreeMap<String, String>)> {
    let query = [("service_instance_guids", instances), ("type", "app"), ("include", "app")];
    let list: List<Binding> = cx.client.list("/v3/service_credential_bindings", &query).await?;
    let apps: Vec<Named> =
        serde_json::from_value(list.included["apps"].clone()).unwrap_or_default();
    let names = apps.into_iter().map(|app| (app.guid, app.name)).collect();
    Ok((list.resources, names))
}

fn app_name(binding: &Binding, names: &BTreeMap<String, String>) -> String {
    let guid = related(&binding.relationships, "app").unwrap_or_default();
    names.get(guid).cloned().unwrap_or_default()
}

/// `cf services`
#[derive(clap::Args)]
pub struct Services {
    /// Do not retrieve bound apps information.
    #[arg(long)]
    no_apps: bool,
}

impl Command for Services {
    const SPEC: &'static Spec = &Spec {
        name: "services",
        alias: "s",
        about: "List all service instances in the target space",
        usage: "{cf} services",
        see_also: &[],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let place = cx.place()?;
        say!(cx.ui, "Getting service instances in {place}...\n");
        let space = cx.space().guid;
        let mut query = vec![("space_guids", space.as_str()), ("order_by", "name")];
        query.extend(FIELDS);
        let list = cx.client.list::<ServiceInstance>("/v3/service_instances", &query).await?;
        if list.resources.is_empty() {
            say!(cx.ui, "No service instances found.");
            return Ok(());
        }
        let apps =
            if self.no_apps { BTreeMap::new() } else { apps_of(cx, &list.resources).await? };
        let mut rows = vec![row!["name", "offering", "plan"]];
        rows[0].extend((!self.no_apps).then(|| "bound apps".to_owned()));
        rows[0].extend(row!["last operation", "broker", "upgrade available"]);
        for instance in &list.resources {
            let from = origin(instance, &list.included);
            let upgrade = match instance.upgrade_available {
                Some(true) => "yes",
                Some(false) if instance.kind != "user-provided" => "no",
                _ => "",
            };
            let mut row = row![instance.name, from.offering, from.plan];
            row.extend(
                (!self.no_apps).then(|| apps.get(&instance.guid).cloned().unwrap_or_default()),
            );
            row.extend(row![operation(instance.last_operation.as_ref()), from.broker, upgrade]);
            rows.push(row);
        }
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

/// Names of the apps bound to each instance.
async fn apps_of(
    cx: &Context<'_>,
    instances: &[ServiceInstance],
) -> Result<BTreeMap<String, String>> {
    let mut by_instance: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let guids: Vec<&str> = instances.iter().map(|instance| instance.guid.as_str()).collect();
    // Addresses have a length that proxies cut off.
    for guids in guids.chunks(100) {
        let (bindings, names) = bound(cx, &guids.join(",")).await?;
        for binding in bindings {
            let instance = related(&binding.relationships, "service_instance").unwrap_or_default();
            by_instance.entry(instance.to_owned()).or_default().push(app_name(&binding, &names));
        }
    }
    let joined = |mut apps: Vec<String>| {
        apps.sort();
        apps.dedup();
        apps.join(", ")
    };
    Ok(by_instance.into_iter().map(|(guid, apps)| (guid, joined(apps))).collect())
}

/// `cf service`
#[derive(clap::Args)]
pub struct Service {
    #[arg(value_name = "SERVICE_INSTANCE")]
    name: String,
    /// Retrieve and display the given service instances's guid. All other output is suppressed.
    #[arg(long)]
    guid: bool,
    /// Retrieve and display the given service instances's parameters. All other output is suppressed.
    #[arg(long)]
    params: bool,
}

impl Command for Service {
    const SPEC: &'static Spec = &Spec {
        name: "service",
        about: "Show service instance info",
        usage: "{cf} service SERVICE_INSTANCE",
        see_also: &["bind-service", "rename-service"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let space = cx.space().guid;
        if self.guid || self.params {
            let instance = cx.client.service_instance(&self.name, &space).await?;
            if self.guid {
                say!(cx.ui, "{}", instance.guid);
                return Ok(());
            }
            let path = format!("/v3/service_instances/{}/parameters", instance.guid);
            let parameters: Value = cx.client.get(&path).await?;
            say!(cx.ui, "{parameters:#}");
            return Ok(());
        }
        let (name, place) = (cx.ui.name(&self.name), cx.place()?);
        say!(cx.ui, "Showing info of service {name} in {place}...\n");
        let mut query = vec![("names", self.name.as_str()), ("space_guids", &space)];
        query.extend(FIELDS);
        let list = cx.client.list::<ServiceInstance>("/v3/service_instances", &query).await?;
        let Some(instance) = list.resources.first() else {
            return Err(Error::Missing(format!("Service instance '{}' not found", self.name)));
        };
        show_properties(cx, instance, &origin(instance, &list.included));
        show_operation(cx, instance);
        show_bindings(cx, &instance.guid).await
    }
}

fn show_properties(cx: &mut Context, instance: &ServiceInstance, from: &Origin) {
    let text = |of: &Option<String>| of.clone().unwrap_or_default();
    let mut rows = vec![
        ("name:", instance.name.clone()),
        ("guid:", instance.guid.clone()),
        ("type:", instance.kind.clone()),
    ];
    let tags = ("tags:", instance.tags.join(", "));
    if instance.kind == "user-provided" {
        rows.push(tags);
        rows.push(("route service url:", text(&instance.route_service_url)));
        rows.push(("syslog drain url:", text(&instance.syslog_drain_url)));
    } else {
        rows.push(("broker:", from.broker.clone()));
        rows.push(("offering:", from.offering.clone()));
        rows.push(("plan:", from.plan.clone()));
        rows.push(tags);
        rows.push(("dashboard url:", text(&instance.dashboard_url)));
    }
    table::key_values(&mut cx.ui, &rows);
    say!(cx.ui);
}

fn show_operation(cx: &mut Context, instance: &ServiceInstance) {
    say!(cx.ui, "Showing status of last operation:");
    let Some(last) = &instance.last_operation else {
        say!(cx.ui, "   There is no last operation available for this service instance.\n");
        return;
    };
    let rows = [
        row!["   status:", operation(Some(last))],
        row!["   message:", last.description.clone().unwrap_or_default()],
        row!["   started:", last.created_at],
        row!["   updated:", last.updated_at],
    ];
    for line in table::layout(&rows, table::GAP) {
        say!(cx.ui, "{}", line.concat());
    }
    say!(cx.ui);
}

async fn show_bindings(cx: &mut Context<'_>, instance: &str) -> Result<()> {
    let (mut bindings, names) = bound(cx, instance).await?;
    say!(cx.ui, "Showing bound apps:");
    if bindings.is_empty() {
        say!(cx.ui, "   There are no bound apps for this service instance.\n");
        return Ok(());
    }
    // The newest binding of an app first.
    bindings.sort_by(|a, b| b.created_at.cmp(&a.created_at));
    bindings.sort_by_key(|binding| app_name(binding, &names));
    let mut rows = vec![row!["name", "binding name", "status", "message", "guid", "created_at"]];
    for binding in bindings {
        let message = binding.last_operation.as_ref().and_then(|last| last.description.clone());
        rows.push(row![
            app_name(&binding, &names),
            binding.name.clone().unwrap_or_default(),
            operation(binding.last_operation.as_ref()),
            message.unwrap_or_default(),
            binding.guid,
            binding.created_at
        ]);
    }
    table::with_header(&mut cx.ui, "   ", &rows);
    say!(cx.ui);
    Ok(())
}

/// `cf delete-service`
#[derive(clap::Args)]
pub struct DeleteService {
    #[arg(value_name = "SERVICE_INSTANCE")]
    name: String,
    /// Force deletion without confirmation
    #[arg(long, short = 'f')]
    force: bool,
    /// Wait for the operation to complete
    #[arg(long, short = 'w')]
    wait: bool,
}

impl Command for DeleteService {
    const SPEC: &'static Spec = &Spec {
        name: "delete-service",
        alias: "ds",
        about: "Delete a service instance",
        usage: "{cf} delete-service SERVICE_INSTANCE [-f] [-w]",
        see_also: &["services", "unbind-service"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        if !self.force {
            say!(
                cx.ui,
                "This action impacts all resources scoped to this service instance, including service bindings, service keys and route bindings."
            );
            say!(
                cx.ui,
                "This will remove the service instance from any spaces where it has been shared."
            );
            let question = format!("Really delete the service instance {}?", self.name);
            if !cx.ui.confirm(&question)? {
                say!(cx.ui, "Delete cancelled");
                return Ok(());
            }
        }
        let (name, place) = (cx.ui.name(&self.name), cx.place()?);
        say!(cx.ui, "Deleting service instance {name} in {place}...\n");
        let found = cx.client.service_instance(&self.name, &cx.space().guid).await;
        let instance = match found {
            Err(Error::Missing(_)) => {
                say!(cx.ui, "Service instance {} did not exist.", self.name);
                cx.ui.ok();
                return Ok(());
            }
            found => found?,
        };
        let path = format!("/v3/service_instances/{}", instance.guid);
        let reply = cx.client.send(Method::DELETE, &path, &[], Body::None).await?;
        if cx.client.settle(&reply, self.wait).await? {
            say!(cx.ui, "Service instance {name} deleted.");
        } else {
            let cf = cx.cf();
            say!(
                cx.ui,
                "Delete in progress. Use '{cf} services' or '{cf} service {}' to check operation status.",
                self.name
            );
        }
        cx.ui.ok();
        Ok(())
    }
}

/// `cf rename-service`
#[derive(clap::Args)]
pub struct RenameService {
    #[arg(value_name = "SERVICE_INSTANCE")]
    name: String,
    #[arg(value_name = "NEW_SERVICE_INSTANCE")]
    new: String,
}

impl Command for RenameService {
    const SPEC: &'static Spec = &Spec {
        name: "rename-service",
        about: "Rename a service instance",
        usage: "{cf} rename-service SERVICE_INSTANCE NEW_SERVICE_INSTANCE",
        see_also: &["services"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (old, new, place) = (cx.ui.name(&self.name), cx.ui.name(&self.new), cx.place()?);
        say!(cx.ui, "Renaming service {old} to {new} in {place}...");
        let found = cx.client.service_instance(self.name.trim(), &cx.space().guid).await;
        if let Err(Error::Missing(_)) = found {
            let cf = cx.cf();
            say!(cx.ui, "TIP: Use '{cf} services' to view all services in this org and space.");
        }
        let path = format!("/v3/service_instances/{}", found?.guid);
        let reply = cx.client.patch(&path, json!({ "name": self.new.trim() })).await?;
        cx.client.finish(&reply).await?;
        cx.ui.ok();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_leads_to_its_broker() {
        let of = |kind: &str, guid: &str| json!({ kind: { "data": { "guid": guid } } });
        let included = json!({
            "service_plans": [{ "guid": "p", "name": "small", "relationships": of("service_offering", "o") }],
            "service_offerings": [{ "guid": "o", "name": "db", "relationships": of("service_broker", "b") }],
            "service_brokers": [{ "guid": "b", "name": "acme" }],
        });
        let instance = serde_json::from_value(
            json!({ "type": "managed", "relationships": of("service_plan", "p") }),
        );
        let from = origin(&instance.unwrap(), &included);
        assert_eq!([from.offering, from.plan, from.broker], ["db", "small", "acme"]);
    }
}
