//! Making routes and mapping apps to them, whoever asks: the API or a manifest.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sql::Connection;

use crate::Cc;
use crate::actions::{apps as app_actions, route_ports};
use crate::auth::Caller;
use crate::db::apps::{self, App};
use crate::db::domains::{self, Domain};
use crate::db::routes::{self, Destination, NewDestination, NewRoute, Route};
use crate::db::spaces::Space;
use crate::db::{organizations, quotas};
use crate::errors::{ApiError, ApiResult, when_taken};
use crate::v3::common;

const MOST_DESTINATIONS: usize = 100;

/// The port of an app that was built by buildpacks, when none is named.
const DEFAULT_PORT: i64 = 8080;

/// What a new route is called.
#[derive(Clone, Debug, Default)]
pub struct Address {
    pub host: String,
    pub path: String,
    /// `None` = one by chance, for TCP; 0 = none.
    pub port: Option<i64>,
}

/// Pure: what is wrong with an address under a domain.
pub fn problem(address: &Address, domain: &Domain) -> Option<String> {
    let Address { host, path, port } = address;
    let said = |text: &str| Some(text.to_owned());
    if domain.is_tcp() {
        return match port {
            _ if !host.is_empty() => said("Hosts are not supported for TCP routes."),
            _ if !path.is_empty() => said("Paths are not supported for TCP routes."),
            Some(0) => said("Routes with protocol 'tcp' must specify a port."),
            None | Some(_) => None,
        };
    }
    if port.is_some_and(|port| port != 0) {
        return said("Routes with protocol 'http' do not support ports.");
    }
    if domain.internal {
        if host == "*" {
            return said("Wildcard hosts are not supported for internal domains.");
        }
        if !path.is_empty() {
            return said("Paths are not supported for internal domains.");
        }
    }
    if host.is_empty() && domain.is_shared() {
        return said("Missing host. Routes in shared domains must have a host defined.");
    }
    if host.len() + 1 + domain.name.len() > 253 {
        return said("Host combined with domain name must be no more than 253 characters.");
    }
    None
}

/// What somebody who wants an address that exists is told.
pub fn taken(address: &Address, domain: &Domain) -> ApiError {
    let name = &domain.name;
    let detail = match (address.host.as_str(), address.path.as_str(), address.port.unwrap_or(0)) {
        (_, _, port) if port != 0 => {
            format!("Route already exists with port '{port}' for domain '{name}'.")
        }
        ("", "", _) => format!("Route already exists for domain '{name}'."),
        ("", path, _) => format!("Route already exists with path '{path}' for domain '{name}'."),
        (host, "", _) => format!("Route already exists with host '{host}' for domain '{name}'."),
        (host, path, _) => format!(
            "Route already exists with host '{host}' and path '{path}' for domain '{name}'."
        ),
    };
    ApiError::unprocessable(detail)
}

/// Who asks, and whether a manifest does.
#[derive(Clone, Copy)]
pub struct By<'a> {
    pub cc: &'a Cc,
    pub caller: &'a Caller,
    pub manifest: bool,
}

/// Makes a route in a space. `request` is what the audit event shows.
pub async fn create(
    by: By<'_>,
    tx: &mut Connection,
    space: &Space,
    domain: &Domain,
    address: &Address,
    options: Value,
    request: Value,
) -> ApiResult<Route> {
    let org = &space.org_guid;
    if !domains::usable_by(tx, domain, org).await? {
        let org = organizations::find(tx, org).await?.map(|org| org.name).unwrap_or_default();
        let detail = format!(
            "Invalid domain. Domain '{}' is not available in organization '{org}'.",
            domain.name
        );
        return Err(ApiError::unprocessable(detail));
    }
    if let Some(problem) = problem(address, domain) {
        return Err(ApiError::unprocessable(problem));
    }
    let whole = format!("{}.{}", address.host, domain.name);
    if !address.host.is_empty() && domains::is_name_taken(tx, &whole).await? {
        return Err(ApiError::unprocessable(format!("Route conflicts with domain '{whole}'.")));
    }
    if by.cc.config.reserved_names.contains(&whole) {
        return Err(ApiError::unprocessable("Route conflicts with a reserved system route."));
    }
    let port = route_ports::choose(tx, domain, address).await?;
    if routes::find_by_address(tx, &domain.guid, &address.host, &address.path, port)
        .await?
        .is_some()
    {
        return Err(taken(address, domain));
    }
    check_same_host(tx, space, domain, address).await?;
    quotas::check_route(tx, &space.guid, port != 0).await?;
    let new = NewRoute {
        host: address.host.clone(),
        path: address.path.clone(),
        port,
        domain_guid: domain.guid.clone(),
        space_guid: space.guid.clone(),
        options,
    };
    let made = routes::insert(tx, by.cc.now(), &new).await;
    let guid = made.map_err(|cause| when_taken(cause, taken(address, domain)))?;
    let target = (guid.as_str(), "route", address.host.as_str());
    let data = marked(by, json!({ "request": request }));
    common::audit(
        tx,
        by.cc,
        by.caller,
        "audit.route.create",
        target,
        (Some(&space.guid), None),
        data,
    )
    .await?;
    routes::find(tx, &guid).await?.ok_or_else(|| ApiError::not_found("Route"))
}

/// On shared domains a host belongs to one space with all its paths: else apps could read each other's cookies.
async fn check_same_host(
    tx: &mut Connection,
    space: &Space,
    domain: &Domain,
    address: &Address,
) -> ApiResult<()> {
    let open = domain.is_tcp() || !domain.is_shared();
    if !open && routes::host_is_elsewhere(tx, &domain.guid, &address.host, &space.guid).await? {
        return Err(taken(&Address { path: String::new(), ..address.clone() }, domain));
    }
    Ok(())
}

fn marked(by: By<'_>, mut data: Value) -> Value {
    if by.manifest {
        data["manifest_triggered"] = true.into();
    }
    data
}

/// A destination somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub app_guid: String,
    pub process_type: String,
    pub port: Option<i64>,
    pub weight: Option<i64>,
    pub protocol: Option<String>,
}

/// Adds destinations to those there are.
pub async fn add(
    by: By<'_>,
    tx: &mut Connection,
    route: &Route,
    wanted: &[Wanted],
) -> ApiResult<()> {
    let (new, apps) = resolve(tx, route, wanted).await?;
    let present = routes::destinations_of(tx, &route.guid).await?;
    if present.iter().any(|old| old.weight.is_some()) {
        let detail = "Destinations cannot be inserted when there are weighted destinations already configured.";
        return Err(ApiError::unprocessable(detail));
    }
    if present.len() + new.len() > MOST_DESTINATIONS {
        return Err(ApiError::unprocessable("Routes can be mapped to at most 100 destinations."));
    }
    for new in &new {
        match present.iter().find(|old| same_place(old, new)) {
            None => insert(by, tx, route, new, &apps).await?,
            Some(old) if old.protocol == new.protocol => {}
            Some(old) => {
                return Err(ApiError::unprocessable(format!(
                    "Cannot add destination with protocol: {}. Destination already exists for route: {}, app: {}, process: {}, and protocol: {}.",
                    new.protocol,
                    route.url(),
                    new.app_guid,
                    new.process_type,
                    old.protocol
                )));
            }
        }
    }
    Ok(())
}

/// Makes the destinations be exactly these; those that stay keep their guids.
pub async fn replace(
    by: By<'_>,
    tx: &mut Connection,
    route: &Route,
    wanted: &[Wanted],
) -> ApiResult<()> {
    let (new, apps) = resolve(tx, route, wanted).await?;
    let present = routes::destinations_of(tx, &route.guid).await?;
    let same = |old: &Destination, new: &NewDestination| {
        same_place(old, new) && old.protocol == new.protocol && old.weight == new.weight
    };
    for old in present.iter().filter(|old| !new.iter().any(|new| same(old, new))) {
        remove(by, tx, route, old).await?;
    }
    for new in new.iter().filter(|new| !present.iter().any(|old| same(old, new))) {
        insert(by, tx, route, new, &apps).await?;
    }
    Ok(())
}

fn same_place(old: &Destination, new: &NewDestination) -> bool {
    (&old.app_guid, &old.process_type, old.port) == (&new.app_guid, &new.process_type, new.port)
}

/// Fills in ports and protocols, and checks that the apps may stand behind this route.
async fn resolve(
    tx: &mut Connection,
    route: &Route,
    wanted: &[Wanted],
) -> ApiResult<(Vec<NewDestination>, Vec<App>)> {
    let mut found: Vec<App> = Vec::new();
    let mut missing = Vec::new();
    for guid in wanted.iter().map(|wanted| wanted.app_guid.as_str()).collect::<BTreeSet<_>>() {
        match apps::find(tx, guid).await? {
            Some(app) => found.push(app),
            None => missing.push(guid),
        }
    }
    if !missing.is_empty() {
        let detail = format!("App(s) with guid(s) \"{}\" do not exist.", missing.join("\", \""));
        return Err(ApiError::unprocessable(detail));
    }
    let shared = routes::shared_spaces(tx, &route.guid).await?;
    if found
        .iter()
        .any(|app| app.space_guid != route.space_guid && !shared.contains(&app.space_guid))
    {
        let detail =
            "Routes destinations must be in either the route's space or the route's shared spaces";
        return Err(ApiError::unprocessable(detail));
    }
    let new: Vec<NewDestination> =
        wanted.iter().map(|wanted| filled(wanted, route, &found)).collect();
    if new.iter().enumerate().any(|(at, one)| new[..at].contains(one)) {
        return Err(ApiError::unprocessable("Destinations cannot contain duplicate entries"));
    }
    if let Some(wrong) = new.iter().find(|one| (one.protocol == "tcp") != route.tcp) {
        let (spoken, valid) = if route.tcp { ("tcp", "tcp") } else { ("http", "http1, http2") };
        return Err(ApiError::unprocessable(format!(
            "Cannot use '{}' protocol for {spoken} routes; valid options are: [{valid}].",
            wrong.protocol
        )));
    }
    Ok((new, found))
}

fn filled(wanted: &Wanted, route: &Route, apps: &[App]) -> NewDestination {
    let image = apps.iter().any(|app| app.guid == wanted.app_guid && app.lifecycle == "docker");
    let default = if route.tcp { "tcp" } else { "http1" };
    NewDestination {
        app_guid: wanted.app_guid.clone(),
        process_type: wanted.process_type.clone(),
        // An image says itself where it listens.
        port: wanted.port.unwrap_or(if image { 0 } else { DEFAULT_PORT }),
        protocol: wanted.protocol.clone().unwrap_or_else(|| default.to_owned()),
        weight: wanted.weight,
    }
}

async fn insert(
    by: By<'_>,
    tx: &mut Connection,
    route: &Route,
    new: &NewDestination,
    apps: &[App],
) -> ApiResult<()> {
    let guid = routes::map(tx, by.cc.now(), &route.guid, new).await?;
    let Some(app) = apps.iter().find(|app| app.guid == new.app_guid) else { return Ok(()) };
    let data = json!({
        "route_guid": route.guid,
        "app_port": (new.port != 0).then_some(new.port),
        "destination_guid": guid,
        "route_mapping_guid": guid,
        "process_type": new.process_type,
        "weight": new.weight,
        "protocol": new.protocol,
    });
    Ok(app_actions::audit(by.cc, tx, by.caller, "audit.app.map-route", app, marked(by, data))
        .await?)
}

/// Takes one destination away.
pub async fn remove(
    by: By<'_>,
    tx: &mut Connection,
    route: &Route,
    old: &Destination,
) -> ApiResult<()> {
    routes::unmap(tx, old).await?;
    let Some(app) = apps::find(tx, &old.app_guid).await? else { return Ok(()) };
    let data = json!({
        "route_guid": route.guid,
        "app_port": (old.port != 0).then_some(old.port),
        "destination_guid": old.guid,
        "route_mapping_guid": old.guid,
        "process_type": old.process_type,
        "weight": old.weight,
        "protocol": old.protocol,
    });
    Ok(app_actions::audit(by.cc, tx, by.caller, "audit.app.unmap-route", &app, marked(by, data))
        .await?)
}

/// Deletes a route, noting who did.
pub async fn delete(by: By<'_>, tx: &mut Connection, route: &Route) -> ApiResult<()> {
    let target = (route.guid.as_str(), "route", route.host.as_str());
    let data = marked(by, json!({ "request": { "recursive": true } }));
    let place = (Some(route.space_guid.as_str()), None);
    common::audit(tx, by.cc, by.caller, "audit.route.delete-request", target, place, data).await?;
    Ok(routes::delete(tx, &route.guid).await?)
}

#[cfg(test)]
mod tests {
    use base::Timestamp;

    use super::*;

    fn domain(org: Option<&str>, internal: bool, group: Option<&str>) -> Domain {
        Domain {
            guid: "d".to_owned(),
            name: "apps.test".to_owned(),
            org_guid: org.map(str::to_owned),
            internal,
            router_group_guid: group.map(str::to_owned),
            tcp: group.is_some(),
            enforce_route_policies: false,
            route_policies_scope: None,
            created_at: Timestamp::ZERO,
            updated_at: Timestamp::ZERO,
        }
    }

    fn address(host: &str, path: &str, port: Option<i64>) -> Address {
        Address { host: host.to_owned(), path: path.to_owned(), port }
    }

    #[test]
    fn addresses_fit_their_domains() {
        let shared = domain(None, false, None);
        assert_eq!(problem(&address("a", "/x", None), &shared), None);
        assert!(problem(&address("", "", None), &shared).unwrap().starts_with("Missing host"));
        assert_eq!(problem(&address("", "", None), &domain(Some("o"), false, None)), None);
        assert!(
            problem(&address("a", "", Some(80)), &shared).unwrap().contains("do not support ports")
        );
        assert!(
            problem(&address("*", "", None), &domain(None, true, None))
                .unwrap()
                .starts_with("Wildcard")
        );
        let tcp = domain(None, false, Some("g"));
        assert_eq!(problem(&address("", "", Some(1024)), &tcp), None);
        assert_eq!(problem(&address("", "", None), &tcp), None);
        assert!(problem(&address("", "", Some(0)), &tcp).unwrap().contains("must specify a port"));
        assert!(problem(&address("a", "", Some(1024)), &tcp).unwrap().starts_with("Hosts"));
    }

    #[test]
    fn the_texts_name_what_is_taken() {
        let domain = domain(None, false, None);
        let text = |host, path| taken(&address(host, path, None), &domain).to_string();
        assert_eq!(text("a", ""), "Route already exists with host 'a' for domain 'apps.test'.");
        assert_eq!(
            text("a", "/b"),
            "Route already exists with host 'a' and path '/b' for domain 'apps.test'."
        );
        assert_eq!(text("", ""), "Route already exists for domain 'apps.test'.");
    }
}
