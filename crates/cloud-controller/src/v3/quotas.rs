//! What organization and space quotas have in common: their message and most of their document.

use serde_json::{Value, json};

use crate::db::quotas::{Level, Limits, Quota};
use crate::message::{Change, Fields};

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

/// All but relationships and links, which differ.
pub fn present(quota: &Quota) -> Value {
    let limits = &quota.limits;
    json!({
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
    })
}
