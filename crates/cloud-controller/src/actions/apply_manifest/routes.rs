//! The routes of a manifest: found or made, then mapped.

use serde_json::json;
use sql::Connection;

use crate::Cc;
use crate::actions::routes::{self as actions, Address, By, Wanted};
use crate::auth::Caller;
use crate::db::apps::App;
use crate::db::processes::WEB;
use crate::db::routes::Route;
use crate::db::spaces::Space;
use crate::db::{self, domains, feature_flags, routes};
use crate::errors::{ApiError, ApiResult, Kind};
use crate::manifest::{ManifestRoute, Routes, random_route};
use crate::v3::routes as api;

/// Makes and maps what the manifest says of routes.
pub async fn set(
    cc: &Cc,
    tx: &mut Connection,
    caller: &Caller,
    space: &Space,
    app: &App,
    wanted: &Routes,
) -> ApiResult<()> {
    let by = By { cc, caller, manifest: true };
    let present = routes::of_app(tx, &app.guid).await?;
    let made_up = match wanted {
        Routes::Keep => return Ok(()),
        Routes::None => return unmap_all(by, tx, app, &present).await,
        Routes::These(these) => return map_all(by, tx, space, app, these).await,
        Routes::Random | Routes::Default if !present.is_empty() => return Ok(()),
        Routes::Random => format!("{}-{}", app.name, random_route::name(&mut rand::rng())),
        Routes::Default => {
            check_host(&app.name)?;
            app.name.clone()
        }
    };
    let domain = domains::default_of(tx, &space.org_guid).await?;
    let domain = domain.ok_or_else(|| ApiError::unprocessable("No default domains available"))?;
    let text = format!("{made_up}.{}", domain.name);
    let route = ManifestRoute::parse(&text);
    let route = route.ok_or_else(|| {
        ApiError::unprocessable(format!("The route '{text}' is not a properly formed URL"))
    })?;
    map_all(by, tx, space, app, &[route]).await
}

fn check_host(name: &str) -> ApiResult<()> {
    let why = if name.len() > 63 {
        "Host cannot exceed 63 characters"
    } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        "Host must be either \"*\" or contain only alphanumeric characters, \"_\", or \"-\""
    } else {
        return Ok(());
    };
    Err(ApiError::unprocessable(format!("Failed to create default route from app name: {why}")))
}

async fn unmap_all(by: By<'_>, tx: &mut Connection, app: &App, present: &[Route]) -> ApiResult<()> {
    for route in present {
        for destination in routes::destinations_of(tx, &route.guid).await? {
            if destination.app_guid == app.guid {
                actions::remove(by, tx, route, &destination).await?;
            }
        }
    }
    Ok(())
}

/// All routes are found or made before the first is mapped.
async fn map_all(
    by: By<'_>,
    tx: &mut Connection,
    space: &Space,
    app: &App,
    wanted: &[ManifestRoute],
) -> ApiResult<()> {
    let mut found = Vec::new();
    for one in wanted {
        let route = find_or_create(by, tx, space, one)
            .await
            .map_err(|error| about_route(&one.text, error))?;
        found.push((route, one));
    }
    for (route, one) in found {
        map(by, tx, app, &route, one.protocol.as_deref())
            .await
            .map_err(|error| about_route(&one.text, error))?;
    }
    Ok(())
}

fn about_route(text: &str, error: ApiError) -> ApiError {
    let told = |(kind, detail): (Kind, String)| match kind {
        Kind::UnprocessableEntity
            if !detail.starts_with("No domains exist")
                && !detail.starts_with("Routes cannot be mapped") =>
        {
            (kind, format!("For route '{text}': {detail}"))
        }
        _ => (kind, detail),
    };
    ApiError(error.0.into_iter().map(told).collect())
}

async fn find_or_create(
    by: By<'_>,
    tx: &mut Connection,
    space: &Space,
    wanted: &ManifestRoute,
) -> ApiResult<Route> {
    for (host, domain) in wanted.candidates() {
        let Some(domain) = domains::find_by_name(tx, &domain).await? else { continue };
        if let Some(problem) = api::path_problem(&wanted.path) {
            return Err(ApiError::unprocessable(format!("Path {problem}")));
        }
        let port = wanted.port.unwrap_or(0);
        if let Some(route) =
            routes::find_by_address(tx, &domain.guid, &host, &wanted.path, port).await?
        {
            let shared = routes::shared_spaces(tx, &route.guid).await?;
            if route.space_guid != space.guid && !shared.contains(&space.guid) {
                let detail = "Routes cannot be mapped to destinations in different spaces";
                return Err(ApiError::unprocessable(detail));
            }
            if !wanted.options.is_empty() {
                let after = api::read_options(tx, &route.options, &wanted.options).await?;
                let set = vec![("options", (&after).into())];
                db::change(tx, by.cc.now(), "routes", &route.guid, set).await?;
                routes::apps_changed(tx, &route.guid).await?;
            }
            return Ok(route);
        }
        feature_flags::require(tx, by.caller, "route_creation").await?;
        if host == "*" && domain.is_shared() && !by.caller.is_admin() {
            return Err(ApiError::forbidden());
        }
        let options = api::read_options(tx, &json!({}), &wanted.options).await?;
        // A manifest that names no port does not ask for just any.
        let address = Address { host, path: wanted.path.clone(), port: Some(port) };
        let request = json!({
            "host": address.host,
            "path": address.path,
            "port": wanted.port,
            "relationships": {
                "space": { "data": { "guid": space.guid } },
                "domain": { "data": { "guid": domain.guid } },
            },
        });
        return actions::create(by, tx, space, &domain, &address, options, request).await;
    }
    Err(ApiError::unprocessable(format!("No domains exist for route {}", wanted.text)))
}

async fn map(
    by: By<'_>,
    tx: &mut Connection,
    app: &App,
    route: &Route,
    protocol: Option<&str>,
) -> ApiResult<()> {
    let present = routes::destinations_of(tx, &route.guid).await?;
    let wanted = Wanted {
        app_guid: app.guid.clone(),
        process_type: WEB.to_owned(),
        port: None,
        weight: None,
        protocol: protocol.map(str::to_owned),
    };
    match present.iter().find(|destination| destination.app_guid == app.guid) {
        None => actions::add(by, tx, route, &[wanted]).await,
        Some(old) if protocol.is_some_and(|protocol| protocol != old.protocol) => {
            actions::remove(by, tx, route, old).await?;
            actions::add(by, tx, route, &[wanted]).await
        }
        Some(_) => Ok(()),
    }
}
