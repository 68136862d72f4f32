//! One route: looked at, checked for, changed.

use serde_json::{Value, json};

use super::which::{Address, Which, route_options};
use super::{by_guid, destination, options};
use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Error, Result, failed};
use crate::resources;
use crate::table::{self, row};
use crate::ui::say;

#[derive(clap::Args)]
struct OfDomain {
    #[arg(value_name = "DOMAIN")]
    domain: String,
    #[command(flatten)]
    which: Which,
}

/// `cf route`
#[derive(clap::Args)]
pub struct Route {
    #[command(flatten)]
    of: OfDomain,
}

impl Command for Route {
    const SPEC: &'static Spec = &Spec {
        name: "route",
        alias: "ro",
        about: "Display route details and mapped destinations",
        usage: "Display an HTTP route:\n   {cf} route DOMAIN [--hostname HOSTNAME] [--path PATH]\n\nDisplay a TCP route:\n   {cf} route DOMAIN --port PORT",
        examples: "{cf} route example.com                      # example.com\n{cf} route example.com -n myhost --path foo # myhost.example.com/foo\n{cf} route example.com --path foo           # example.com/foo\n{cf} route example.com --port 5000          # example.com:5000",
        see_also: &["create-route", "delete-route", "routes"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let domain = cx.client.domain(&self.of.domain).await?;
        let (url, place) = (cx.ui.name(self.of.which.url(&self.of.domain)), cx.place()?);
        say!(cx.ui, "Showing route {url} in {place}...\n");
        let route = self.of.which.existing(cx, &domain).await?;
        let rows = [
            ("domain:", domain.name),
            ("host:", route.host.clone()),
            ("port:", route.port.map(|port| port.to_string()).unwrap_or_default()),
            ("path:", route.path.clone()),
            ("protocol:", route.protocol.clone()),
            ("options:", options(&route)),
        ];
        table::key_values(&mut cx.ui, &rows);
        say!(cx.ui, "\nDestinations:");
        show_destinations(cx, &route).await
    }
}

async fn show_destinations(cx: &mut Context<'_>, route: &resources::Route) -> Result<()> {
    let guids: Vec<&str> = route.destinations.iter().map(|to| to.app.guid.as_str()).collect();
    if guids.is_empty() {
        return Ok(());
    }
    let apps = cx.client.list::<Value>("/v3/apps", &[("guids", &guids.join(","))]).await?;
    let names = by_guid(&Value::Array(apps.resources));
    let mut rows = vec![row!["app", "process", "port", "app-protocol"]];
    for to in &route.destinations {
        rows.push(vec![
            names.get(&to.app.guid).cloned().unwrap_or_default(),
            to.app.process.kind.clone(),
            to.port.map(|port| port.to_string()).unwrap_or_default(),
            to.protocol.clone().unwrap_or_default(),
        ]);
    }
    for line in table::layout(&rows, table::GAP) {
        say!(cx.ui, "\t{}", line.concat());
    }
    Ok(())
}

/// `cf check-route`
#[derive(clap::Args)]
pub struct CheckRoute {
    #[command(flatten)]
    of: OfDomain,
}

impl Command for CheckRoute {
    const SPEC: &'static Spec = &Spec {
        name: "check-route",
        about: "Perform a check to determine whether a route currently exists or not",
        usage: "Check an HTTP route:\n   {cf} check-route DOMAIN [--hostname HOSTNAME] [--path PATH]\n\nCheck a TCP route:\n   {cf} check-route DOMAIN --port PORT",
        examples: "{cf} check-route example.com                      # example.com\n{cf} check-route example.com -n myhost --path foo # myhost.example.com/foo\n{cf} check-route example.com --path foo           # example.com/foo\n{cf} check-route example.com --port 5000          # example.com:5000",
        see_also: &["create-route", "delete-route", "routes"],
        needs: Needs::Org,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        #[derive(serde::Deserialize)]
        struct Found {
            matching_route: bool,
        }
        say!(cx.ui, "Checking for route...");
        let domain = cx.client.domain(&self.of.domain).await?;
        let (which, port) = (&self.of.which, self.of.which.port().map(|port| port.to_string()));
        let path = which.address.path();
        let mut query = Vec::new();
        if !which.address.host().is_empty() {
            query.push(("host", which.address.host()));
        }
        if !path.is_empty() {
            query.push(("path", &path));
        }
        query.extend(port.as_deref().map(|port| ("port", port)));
        let at = format!("/v3/domains/{}/route_reservations", domain.guid);
        let none = crate::client::Body::None;
        let found: Found = cx.client.send(reqwest::Method::GET, &at, &query, none).await?.json()?;
        let does = if found.matching_route { "does" } else { "does not" };
        say!(cx.ui, "Route '{}' {does} exist.", which.url(&self.of.domain));
        cx.ui.ok();
        Ok(())
    }
}

/// `cf update-route`
#[derive(clap::Args)]
pub struct UpdateRoute {
    #[arg(value_name = "DOMAIN")]
    domain: String,
    #[command(flatten)]
    address: Address,
    /// Set the value of a per-route option
    #[arg(long = "option", short = 'o')]
    options: Vec<String>,
    /// Remove an option with the given name
    #[arg(long = "remove-option", short = 'r')]
    removed: Vec<String>,
}

impl Command for UpdateRoute {
    const SPEC: &'static Spec = &Spec {
        name: "update-route",
        about: "Update a route by route specific options, e.g. load balancing algorithm",
        usage: "Update an existing HTTP route:\n   {cf} update-route DOMAIN [--hostname HOSTNAME] [--path PATH] [--option OPTION=VALUE] [--remove-option OPTION]",
        examples: "{cf} update-route example.com -o loadbalancing=round-robin\n{cf} update-route example.com -o loadbalancing=hash -o hash_header=My-Hash-Header\n{cf} update-route example.com -r loadbalancing\n{cf} update-route example.com --hostname myhost --path foo -o loadbalancing=round-robin",
        see_also: &["check-route", "domains", "map-route", "routes", "unmap-route"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let domain = cx.client.domain(&self.domain).await?;
        let route = self.address.existing(cx, &domain).await?;
        if self.options.is_empty() && self.removed.is_empty() {
            return failed(format!(
                "Route option support: 'No options were specified for the update of the Route {}'",
                route.url
            ));
        }
        let mut changed = route_options(&self.options)?;
        changed.extend(self.removed.iter().map(|name| (name.clone(), Value::Null)));
        let (url, place) = (cx.ui.name(self.address.url(&self.domain)), cx.place()?);
        say!(cx.ui, "Updating route {url} for {place}...");
        let path = format!("/v3/routes/{}", route.guid);
        cx.client.patch(&path, json!({ "options": changed })).await?;
        say!(cx.ui, "Route {} has been updated", route.url);
        cx.ui.ok();
        Ok(())
    }
}

/// `cf update-destination`
#[derive(clap::Args)]
pub struct UpdateDestination {
    #[arg(value_name = "APP_NAME")]
    app: String,
    #[arg(value_name = "DOMAIN")]
    domain: String,
    #[command(flatten)]
    address: Address,
    /// New Protocol for the route destination (http1 or http2). Only applied to HTTP routes
    #[arg(long, default_value = "http1")]
    app_protocol: String,
}

impl Command for UpdateDestination {
    const SPEC: &'static Spec = &Spec {
        name: "update-destination",
        about: "Updates the destination protocol for a route",
        usage: "Edit an existing HTTP route:\n   {cf} update-destination APP_NAME DOMAIN [--hostname HOSTNAME] [--app-protocol PROTOCOL] [--path PATH]",
        examples: "{cf} update-destination my-app example.com --hostname myhost --app-protocol http2            # myhost.example.com\n{cf} update-destination my-app example.com --hostname myhost --path foo --app-protocol http2 # myhost.example.com/foo",
        see_also: &["create-route", "map-route", "routes", "unmap-route"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let domain = cx.client.domain(&self.domain).await?;
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let route = self.address.existing(cx, &domain).await.inspect_err(|error| {
            if let Error::Missing(_) = error {
                say!(cx.ui, "Route to be updated does not exist.");
            }
        })?;
        let Some(to) = destination(&route, &app.guid) else {
            say!(cx.ui, "Route's destination to be updated does not exist.");
            return failed(format!("Destination with app guid '{}' not found.", app.guid));
        };
        let new = self.app_protocol.as_str();
        if new == "tcp" {
            return failed("Destination protocol must be 'http1' or 'http2'");
        }
        let old = to.protocol.as_deref().unwrap_or_default();
        if old == new {
            say!(cx.ui, "App '{}' is already using '{new}'. Nothing has been updated", self.app);
            cx.ui.ok();
            return Ok(());
        }
        let (url, place) = (cx.ui.name(self.address.url(&self.domain)), cx.place()?);
        let (shown_old, shown_new) = (cx.ui.name(old), cx.ui.name(new));
        say!(
            cx.ui,
            "Updating destination protocol from {shown_old} to {shown_new} for route {url} in {place}..."
        );
        let path = format!("/v3/routes/{}/destinations/{}", route.guid, to.guid);
        cx.client.patch(&path, json!({ "protocol": new })).await?;
        cx.ui.ok();
        Ok(())
    }
}
