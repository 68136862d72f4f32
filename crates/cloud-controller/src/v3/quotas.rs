//! What organization and space quotas have in common: their message, their document, and how they are changed, put on
//! something, and deleted.

use std::collections::BTreeMap;

use axum::response::Response;
use serde_json::{Value, json};
use sql::{Connection, Tx};

use super::common;
use crate::auth::Caller;
use crate::db;
use crate::db::quotas::{self, Level, Limits, Quota};
use crate::errors::{ApiError, ApiResult, when_taken};
use crate::message::{Body, Change, Fields};
use crate::query::Listing;
use crate::urls::Urls;
use crate::{Cc, respond};

/// As errors name it.
pub fn what(level: Level) -> &'static str {
    match level {
        Level::Organization => "Organization quota",
        Level::Space => "Space quota",
    }
}

pub fn taken(level: Level, name: &str) -> ApiError {
    let spoken = match level {
        Level::Organization => "Organization Quota",
        Level::Space => "Space Quota",
    };
    ApiError::unprocessable(format!("{spoken} '{name}' already exists."))
}

pub async fn expect(connection: &mut Connection, level: Level, guid: &str) -> ApiResult<Quota> {
    quotas::find(connection, level, guid).await?.ok_or_else(|| ApiError::not_found(what(level)))
}

/// The answer to a list.
pub async fn page(
    connection: &mut Connection,
    level: Level,
    caller: &Caller,
    urls: &Urls,
    listing: &Listing,
) -> ApiResult<Response> {
    let (table, columns) = (level.table(), format!("{}.*", level.table()));
    let page = listing.fetch(connection, &columns, table).await?;
    let found = page.items.iter().map(|row| level.read(row)).collect::<db::Result<Vec<_>>>()?;
    let resources = present_all(connection, level, caller, urls, &found).await?;
    Ok(respond::ok(listing.present(urls, page.total, resources, BTreeMap::new())))
}

/// Changes name and limits; `before` was found, and the caller may.
pub async fn update(
    cc: &Cc,
    mut tx: Tx,
    level: Level,
    caller: &Caller,
    urls: &Urls,
    before: Quota,
    body: &Body,
) -> ApiResult<Response> {
    let mut fields = body.fields();
    let (name, limits) = read(&mut fields, level, &before.limits, false);
    fields.finish()?;
    check_ports(&mut tx, &limits, before.org_guid.as_deref()).await?;
    let (guid, name) = (before.guid, name.unwrap_or(before.name));
    if limits.log_rate.is_some() && before.limits.log_rate.is_none() {
        let all = quotas::members(&mut tx, level, &guid).await?;
        refuse_unlimited_logs(&mut tx, level, &limits, &all).await?;
    }
    let updated = quotas::update(&mut tx, cc.now(), level, &guid, &name, &limits).await;
    updated.map_err(|cause| when_taken(cause, taken(level, &name)))?;
    let document = document(&mut tx, level, caller, urls, &guid).await?;
    tx.commit().await?;
    Ok(respond::ok(document))
}

/// Deletes what nothing is under any more; the caller may.
pub async fn delete(
    cc: &Cc,
    mut tx: Tx,
    level: Level,
    urls: &Urls,
    guid: &str,
) -> ApiResult<Response> {
    if quotas::is_in_use(&mut tx, level, guid).await? {
        return Err(ApiError::unprocessable(match level {
            Level::Organization => {
                "This quota is applied to one or more organizations. Apply different quotas to those organizations before deleting."
            }
            Level::Space => {
                "This quota is applied to one or more spaces. Remove this quota from all spaces before deleting."
            }
        }));
    }
    quotas::delete(&mut tx, level, guid).await?;
    let (operation, kind) = match level {
        Level::Organization => ("organization_quota.delete", "organization_quota"),
        Level::Space => ("space_quota.delete", "space_quota"),
    };
    let job = common::done_job(&mut tx, cc.now(), operation, (kind, guid)).await?;
    tx.commit().await?;
    Ok(respond::job(urls, &job))
}

/// Whether a quota may have as many reserved ports: not more than routes, nor, for a space's, than its organization's.
///
/// # Errors
/// 422 in Cloud Foundry's words.
pub async fn check_ports(tx: &mut Connection, limits: &Limits, org: Option<&str>) -> ApiResult<()> {
    let Some(org) = org else {
        return match ports_fit(limits, None) {
            true => Ok(()),
            false => Err(ApiError::unprocessable(format!(
                "{PORTS}, and must be less than or equal to total routes."
            ))),
        };
    };
    let above = quotas::of_organization(tx, org).await?;
    match ports_fit(limits, above.as_ref()) {
        true => Ok(()),
        false => Err(ApiError::unprocessable(format!(
            "{PORTS}, must be less than or equal to total routes, and must be less than or equal to total reserved ports for the organization quota."
        ))),
    }
}

const PORTS: &str = "Total reserved ports must be -1, 0, or a positive integer";

/// Pure: no limit of ports is more than any limit, except where there is no limit above it.
fn ports_fit(limits: &Limits, above: Option<&Limits>) -> bool {
    let Some(ports) = limits.reserved_ports else { return true };
    let within = |most: Option<i64>| most.is_none_or(|most| ports <= most);
    within(limits.routes) && within(above.and_then(|above| above.reserved_ports))
}

/// Puts organizations or spaces under a quota.
pub async fn put(
    tx: &mut Connection,
    level: Level,
    guid: &str,
    limits: &Limits,
    wanted: &[String],
) -> ApiResult<()> {
    refuse_unlimited_logs(tx, level, limits, wanted).await?;
    for member in wanted {
        quotas::apply(tx, level, member, Some(guid)).await?;
    }
    Ok(())
}

async fn refuse_unlimited_logs(
    tx: &mut Connection,
    level: Level,
    limits: &Limits,
    members: &[String],
) -> ApiResult<()> {
    if limits.log_rate.is_none()
        || quotas::with_unlimited_logs(tx, level, members).await?.is_empty()
    {
        return Ok(());
    }
    let spoken = if level == Level::Space { "space" } else { "org" };
    Err(ApiError::unprocessable(format!(
        "Current usage exceeds new quota values. The {spoken}(s) being assigned this quota contain apps running with an \
         unlimited log rate limit."
    )))
}

pub async fn document(
    connection: &mut Connection,
    level: Level,
    caller: &Caller,
    urls: &Urls,
    guid: &str,
) -> ApiResult<Value> {
    let quota = expect(connection, level, guid).await?;
    Ok(present_all(connection, level, caller, urls, &[quota]).await?.remove(0))
}

async fn present_all(
    connection: &mut Connection,
    level: Level,
    caller: &Caller,
    urls: &Urls,
    found: &[Quota],
) -> ApiResult<Vec<Value>> {
    let guids: Vec<String> = found.iter().map(|quota| quota.guid.clone()).collect();
    let members = quotas::visible_members(connection, level, caller, &guids).await?;
    let none = Vec::new();
    let show =
        |quota: &Quota| present(level, quota, members.get(&quota.guid).unwrap_or(&none), urls);
    Ok(found.iter().map(show).collect())
}

const MOST: i64 = i32::MAX as i64;

/// Reads name and limits over what was there before.
pub fn read(
    fields: &mut Fields<'_>,
    level: Level,
    before: &Limits,
    creating: bool,
) -> (Option<String>, Limits) {
    let name =
        if creating || fields.has("name") { Some(fields.required_text("name")) } else { None };
    if name.as_ref().is_some_and(|name| name.chars().count() > 250) {
        fields.error("Name is too long (maximum is 250 characters)");
    }
    let mut limits = before.clone();
    let set = |change: Change<i64>, limit: &mut Option<i64>| *limit = change.over(*limit);
    fields.inside("apps", |apps| {
        set(apps.change_int("total_memory_in_mb", 0..=MOST), &mut limits.memory_mb);
        set(apps.change_int("per_process_memory_in_mb", 0..=MOST), &mut limits.process_memory_mb);
        set(
            apps.change_int("log_rate_limit_in_bytes_per_second", 0..=i64::MAX),
            &mut limits.log_rate,
        );
        set(apps.change_int("total_instances", 0..=MOST), &mut limits.instances);
        set(apps.change_int("per_app_tasks", 0..=MOST), &mut limits.app_tasks);
    });
    fields.inside("services", |services| {
        if let Some(paid) = services.flag("paid_services_allowed") {
            limits.paid_services = paid;
        }
        set(
            services.change_int("total_service_instances", 0..=MOST),
            &mut limits.service_instances,
        );
        set(services.change_int("total_service_keys", 0..=MOST), &mut limits.service_keys);
    });
    fields.inside("routes", |routes| {
        set(routes.change_int("total_routes", 0..=MOST), &mut limits.routes);
        set(routes.change_int("total_reserved_ports", 0..=MOST), &mut limits.reserved_ports);
    });
    if level == Level::Organization {
        fields.inside("domains", |domains| {
            set(domains.change_int("total_domains", 0..=MOST), &mut limits.domains)
        });
    }
    (name, limits)
}

fn present(level: Level, quota: &Quota, members: &[String], urls: &Urls) -> Value {
    let limits = &quota.limits;
    let mut document = json!({
        "guid": quota.guid,
        "created_at": quota.created_at.to_rfc3339(),
        "updated_at": quota.updated_at.to_rfc3339(),
        "name": quota.name,
        "apps": {
            "total_memory_in_mb": limits.memory_mb,
            "per_process_memory_in_mb": limits.process_memory_mb,
            "total_instances": limits.instances,
            "per_app_tasks": limits.app_tasks,
            "log_rate_limit_in_bytes_per_second": limits.log_rate,
        },
        "services": {
            "paid_services_allowed": limits.paid_services,
            "total_service_instances": limits.service_instances,
            "total_service_keys": limits.service_keys,
        },
        "routes": { "total_routes": limits.routes, "total_reserved_ports": limits.reserved_ports },
        "links": { "self": urls.link(&format!("{}/{}", level.table(), quota.guid)) },
    });
    document["relationships"][level.members()] = common::to_many(members);
    if level == Level::Organization {
        document["domains"] = json!({ "total_domains": limits.domains });
    }
    if let Some(org) = &quota.org_guid {
        document["relationships"]["organization"] = common::to_one(Some(org));
        document["links"]["organization"] = urls.link(&format!("organizations/{org}"));
    }
    document
}
