//! Routes: what leads to which app.

mod ownership;
mod show;
pub mod which;

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub use self::ownership::{MoveRoute, ShareRoute, UnshareRoute};
pub use self::show::{CheckRoute, Route as ShowRoute, UpdateDestination, UpdateRoute};
use self::which::Which;
use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Result, failed};
use crate::resources::{Destination, Named, Route, related};
use crate::table::{self, row};
use crate::ui::say;

/// `cf routes`
#[derive(clap::Args)]
pub struct Routes {
    /// List the routes of all spaces of the org
    #[arg(long)]
    org_level: bool,
    /// Selector to filter routes by labels
    #[arg(long)]
    labels: Option<String>,
}

impl Command for Routes {
    const SPEC: &'static Spec = &Spec {
        name: "routes",
        alias: "r",
        about: "List all routes in the current space or the current organization",
        usage: "{cf} routes [--org-level] [--labels SELECTOR]",
        see_also: &["create-route", "domains", "map-route", "unmap-route"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (org, space) = (cx.org(), cx.space());
        let filter = if self.org_level {
            let (name, user) = (cx.ui.name(&org.name), cx.ui.name(cx.user()?.name));
            say!(cx.ui, "Getting routes for org {name} as {user}...\n");
            ("organization_guids", org.guid.as_str())
        } else {
            let place = cx.place()?;
            say!(cx.ui, "Getting routes for {place}...\n");
            ("space_guids", space.guid.as_str())
        };
        let mut query = vec![filter];
        query.extend(self.labels.as_deref().map(|labels| ("label_selector", labels)));
        query.push(("include", "domain,space"));
        let list = cx.client.list::<Route>("/v3/routes", &query).await?;
        if list.resources.is_empty() {
            say!(cx.ui, "No routes found.");
            return Ok(());
        }
        let (domains, spaces) =
            (by_guid(&list.included["domains"]), by_guid(&list.included["spaces"]));
        let apps = cx.client.list::<Named>("/v3/apps", &[filter]).await?.resources;
        let apps: BTreeMap<String, String> =
            apps.into_iter().map(|app| (app.guid, app.name)).collect();
        let services = services(cx, &list.resources).await?;
        let mut rows = vec![row![
            "space",
            "host",
            "domain",
            "port",
            "path",
            "protocol",
            "app-protocol",
            "app-port",
            "apps",
            "service instance",
            "options"
        ]];
        rows.extend(
            list.resources
                .iter()
                .map(|route| route_row(route, &domains, &spaces, &apps, &services)),
        );
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

fn by_guid(items: &Value) -> BTreeMap<String, String> {
    let items: Vec<Named> = serde_json::from_value(items.clone()).unwrap_or_default();
    items.into_iter().map(|item| (item.guid, item.name)).collect()
}

/// Names of the services bound to routes; an API without route services answers 404.
async fn services(cx: &Context<'_>, routes: &[Route]) -> Result<BTreeMap<String, String>> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Binding {
        relationships: BTreeMap<String, crate::resources::Related>,
    }
    let guids: Vec<&str> = routes.iter().map(|route| route.guid.as_str()).collect();
    let mut names = BTreeMap::new();
    // Addresses have a length that proxies cut off.
    for guids in guids.chunks(100) {
        let query = [("include", "service_instance"), ("route_guids", &guids.join(","))];
        let list = match cx.client.list::<Binding>("/v3/service_route_bindings", &query).await {
            Err(error) if error.is_not_found() => return Ok(names),
            list => list?,
        };
        let instances = by_guid(&list.included["service_instances"]);
        for binding in list.resources {
            let of = |name: &str| related(&binding.relationships, name).map(str::to_owned);
            if let (Some(route), Some(name)) =
                (of("route"), of("service_instance").and_then(|guid| instances.get(&guid)))
            {
                names.insert(route, name.clone());
            }
        }
    }
    Ok(names)
}

type Names = BTreeMap<String, String>;

/// Pure: one line of `cf routes`.
fn route_row(
    route: &Route,
    domains: &Names,
    spaces: &Names,
    apps: &Names,
    services: &Names,
) -> Vec<String> {
    let name = |names: &Names, of: &str| {
        related(&route.relationships, of)
            .and_then(|guid| names.get(guid))
            .cloned()
            .unwrap_or_default()
    };
    let unique = |texts: Vec<String>| {
        let mut seen: Vec<String> = Vec::new();
        for text in texts.into_iter().filter(|text| !text.is_empty()) {
            if !seen.contains(&text) {
                seen.push(text);
            }
        }
        seen.join(", ")
    };
    let of_each = |text: &dyn Fn(&Destination) -> String| {
        unique(route.destinations.iter().map(text).collect())
    };
    vec![
        name(spaces, "space"),
        route.host.clone(),
        name(domains, "domain"),
        route.port.map(|port| port.to_string()).unwrap_or_default(),
        route.path.clone(),
        route.protocol.clone(),
        of_each(&|to| to.protocol.clone().unwrap_or_default()),
        of_each(&|to| to.port.map(|port| port.to_string()).unwrap_or_default()),
        of_each(&|to| apps.get(&to.app.guid).cloned().unwrap_or_default()),
        services.get(&route.guid).cloned().unwrap_or_default(),
        options(route),
    ]
}

/// Pure: what is set of a route's options, as `key=value`.
fn options(route: &Route) -> String {
    let set = route.options.iter().flatten().filter(|(_, value)| !value.is_null());
    let set = set.map(|(key, value)| {
        format!("{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    });
    set.collect::<Vec<_>>().join(", ")
}

/// `cf create-route`
#[derive(clap::Args)]
pub struct CreateRoute {
    #[arg(value_name = "DOMAIN")]
    domain: String,
    #[command(flatten)]
    which: Which,
    /// Set the value of a per-route option
    #[arg(long = "option", short = 'o')]
    options: Vec<String>,
}

impl Command for CreateRoute {
    const SPEC: &'static Spec = &Spec {
        name: "create-route",
        about: "Create a route for later use",
        usage: "Create an HTTP route:\n   {cf} create-route DOMAIN [--hostname HOSTNAME] [--path PATH] [--option OPTION=VALUE]\n\nCreate a TCP route:\n   {cf} create-route DOMAIN [--port PORT] [--option OPTION=VALUE]",
        examples: "{cf} create-route example.com                             # example.com\n{cf} create-route example.com --hostname myapp            # myapp.example.com\n{cf} create-route example.com --hostname myapp --path foo # myapp.example.com/foo\n{cf} create-route example.com --port 5000                 # example.com:5000",
        see_also: &["domains", "map-route", "routes", "unmap-route"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (url, place) = (cx.ui.name(self.which.url(&self.domain)), cx.place()?);
        say!(cx.ui, "Creating route {url} for {place}...");
        let domain = cx.client.domain(&self.domain).await?;
        match self.which.create(cx, &domain, &self.options).await {
            Err(error) if error.already_exists().is_some() => {
                cx.ui.warn(&error.to_string());
            }
            route => {
                let route = route?;
                say!(cx.ui, "Route {} has been created.", route.url);
            }
        }
        cx.ui.ok();
        Ok(())
    }
}

/// `cf map-route`
#[derive(clap::Args)]
pub struct MapRoute {
    #[arg(value_name = "APP_NAME")]
    app: String,
    #[arg(value_name = "DOMAIN")]
    domain: String,
    #[command(flatten)]
    which: Which,
    /// Protocol the app speaks on this route: http1 (default) or http2
    #[arg(long, alias = "destination-protocol")]
    app_protocol: Option<String>,
    /// Port the app listens on for this route (default: 8080)
    #[arg(long)]
    app_port: Option<u16>,
    /// Set the value of a per-route option
    #[arg(long = "option", short = 'o')]
    options: Vec<String>,
}

impl Command for MapRoute {
    const SPEC: &'static Spec = &Spec {
        name: "map-route",
        about: "Map a route to an app",
        usage: "Map an HTTP route:\n   {cf} map-route APP_NAME DOMAIN [--hostname HOSTNAME] [--path PATH] [--app-protocol PROTOCOL] [--app-port PORT] [--option OPTION=VALUE]\n\nMap a TCP route:\n   {cf} map-route APP_NAME DOMAIN [--port PORT] [--option OPTION=VALUE]",
        examples: "{cf} map-route my-app example.com                              # example.com\n{cf} map-route my-app example.com --hostname myhost            # myhost.example.com\n{cf} map-route my-app example.com --hostname myhost --path foo # myhost.example.com/foo\n{cf} map-route my-app example.com --port 5000                  # example.com:5000",
        see_also: &["create-route", "routes", "unmap-route"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let domain = cx.client.domain(&self.domain).await?;
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        let route = match self.which.find(cx, &domain).await? {
            Some(_) if !self.options.is_empty() => {
                return failed(
                    "Route option support: 'Route specific options can only be specified for nonexistent routes.'",
                );
            }
            Some(route) => route,
            None => {
                let url = cx.ui.name(self.which.url(&self.domain));
                say!(cx.ui, "Creating route {url} for {place}...");
                let route = self.which.create(cx, &domain, &self.options).await?;
                cx.ui.ok();
                route
            }
        };
        let url = cx.ui.name(&route.url);
        match &self.app_protocol {
            Some(protocol) => {
                let protocol = cx.ui.name(protocol);
                say!(
                    cx.ui,
                    "Mapping route {url} to app {name} with protocol {protocol} in {place}..."
                );
            }
            None => say!(cx.ui, "Mapping route {url} to app {name} in {place}..."),
        }
        if destination(&route, &app.guid).is_some() {
            say!(
                cx.ui,
                "App '{}' is already mapped to route '{}'. Nothing has been updated.",
                self.app,
                route.url
            );
            cx.ui.ok();
            return Ok(());
        }
        let mut to = json!({ "app": { "guid": app.guid } });
        if let Some(protocol) = &self.app_protocol {
            to["protocol"] = json!(protocol);
        }
        if let Some(port) = self.app_port {
            to["port"] = json!(port);
        }
        let path = format!("/v3/routes/{}/destinations", route.guid);
        cx.client.post(&path, json!({ "destinations": [to] })).await?;
        cx.ui.ok();
        Ok(())
    }
}

/// The destination of a route that is an app's web process.
fn destination<'a>(route: &'a Route, app: &str) -> Option<&'a Destination> {
    let is_web = |to: &&Destination| {
        to.app.guid == app && matches!(to.app.process.kind.as_str(), "web" | "")
    };
    route.destinations.iter().find(is_web)
}

/// `cf unmap-route`
#[derive(clap::Args)]
pub struct UnmapRoute {
    #[arg(value_name = "APP_NAME")]
    app: String,
    #[arg(value_name = "DOMAIN")]
    domain: String,
    #[command(flatten)]
    which: Which,
}

impl Command for UnmapRoute {
    const SPEC: &'static Spec = &Spec {
        name: "unmap-route",
        about: "Remove a route from an app",
        usage: "Unmap an HTTP route:\n   {cf} unmap-route APP_NAME DOMAIN [--hostname HOSTNAME] [--path PATH]\n\nUnmap a TCP route:\n   {cf} unmap-route APP_NAME DOMAIN --port PORT",
        see_also: &["delete-route", "map-route", "routes"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let domain = cx.client.domain(&self.domain).await?;
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let Some(route) = self.which.find(cx, &domain).await? else {
            return failed(self.which.missing(&self.domain));
        };
        let (url, name, place) =
            (cx.ui.name(self.which.url(&self.domain)), cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Removing route {url} from app {name} in {place}...");
        match destination(&route, &app.guid) {
            None => say!(cx.ui, "Route to be unmapped is not currently mapped to the application."),
            Some(to) => {
                cx.client
                    .delete(&format!("/v3/routes/{}/destinations/{}", route.guid, to.guid))
                    .await?
            }
        }
        cx.ui.ok();
        Ok(())
    }
}

/// `cf delete-route`
#[derive(clap::Args)]
pub struct DeleteRoute {
    #[arg(value_name = "DOMAIN")]
    domain: String,
    #[command(flatten)]
    which: Which,
    /// Do not ask first
    #[arg(short = 'f')]
    force: bool,
}

impl Command for DeleteRoute {
    const SPEC: &'static Spec = &Spec {
        name: "delete-route",
        about: "Delete a route",
        usage: "Delete an HTTP route:\n   {cf} delete-route DOMAIN [--hostname HOSTNAME] [--path PATH] [-f]\n\nDelete a TCP route:\n   {cf} delete-route DOMAIN --port PORT [-f]",
        see_also: &["delete-orphaned-routes", "routes", "unmap-route"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let url = self.which.url(&self.domain);
        say!(cx.ui, "This action impacts all apps using this route.");
        say!(cx.ui, "Deleting this route will make apps unreachable via this route.");
        if !self.force && !cx.ui.confirm(&format!("Really delete the route {url}?"))? {
            say!(cx.ui, "'{url}' has not been deleted.");
            return Ok(());
        }
        let shown = cx.ui.name(&url);
        say!(cx.ui, "Deleting route {shown}...");
        let domain = cx.client.domain(&self.domain).await?;
        match self.which.find(cx, &domain).await? {
            None => say!(cx.ui, "Unable to delete. {}", self.which.missing(&self.domain)),
            Some(route) => cx.client.delete(&format!("/v3/routes/{}", route.guid)).await?,
        }
        cx.ui.ok();
        Ok(())
    }
}

/// `cf delete-orphaned-routes`
#[derive(clap::Args)]
pub struct DeleteOrphanedRoutes {
    /// Do not ask first
    #[arg(short = 'f')]
    force: bool,
}

impl Command for DeleteOrphanedRoutes {
    const SPEC: &'static Spec = &Spec {
        name: "delete-orphaned-routes",
        about: "Delete all orphaned routes in the currently targeted space (i.e. those that are not mapped to an app or service instance)",
        usage: "{cf} delete-orphaned-routes [-f]",
        see_also: &["delete-route", "routes"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        if !self.force && !cx.ui.confirm("Really delete orphaned routes?")? {
            say!(cx.ui, "Routes have not been deleted.");
            return Ok(());
        }
        let user = cx.ui.name(cx.user()?.name);
        say!(cx.ui, "Deleting orphaned routes as {user}...");
        cx.client.delete(&format!("/v3/spaces/{}/routes?unmapped=true", cx.space().guid)).await?;
        cx.ui.ok();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_route_is_a_row() {
        let route: Route = serde_json::from_value(json!({
            "guid": "r", "host": "app", "path": "/v2", "port": null, "protocol": "http", "url": "app.example.com/v2",
            "destinations": [
                { "guid": "1", "app": { "guid": "a", "process": { "type": "web" } }, "port": 8080, "protocol": "http1" },
                { "guid": "2", "app": { "guid": "b", "process": { "type": "web" } }, "port": 8080, "protocol": "http1" },
            ],
            "options": { "loadbalancing": "round-robin" },
            "relationships": { "space": { "data": { "guid": "s" } }, "domain": { "data": { "guid": "d" } } },
        }))
        .unwrap();
        let names = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Names>()
        };
        let row = route_row(
            &route,
            &names(&[("d", "example.com")]),
            &names(&[("s", "dev")]),
            &names(&[("a", "one"), ("b", "two")]),
            &names(&[]),
        );
        expect!["dev|app|example.com||/v2|http|http1|8080|one, two||loadbalancing=round-robin"]
            .assert_eq(&row.join("|"));
    }
}
