//! Quotas: how much orgs and spaces may use. What the commands of both kinds share.

pub mod org;
pub mod space;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::client::filter_value;
use crate::command::Context;
use crate::error::{Error, Result};
use crate::size;
use crate::table::{self, row};
use crate::ui::{Ui, say};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Quota {
    guid: String,
    name: String,
    apps: Apps,
    services: Services,
    routes: Routes,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Apps {
    total_memory_in_mb: Option<u64>,
    per_process_memory_in_mb: Option<u64>,
    total_instances: Option<u64>,
    log_rate_limit_in_bytes_per_second: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Services {
    paid_services_allowed: bool,
    total_service_instances: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Routes {
    total_routes: Option<u64>,
    total_reserved_ports: Option<u64>,
}

/// What a new quota allows when nothing else is said.
const DEFAULTS: &str = "Without its flag, a new quota allows no memory (-m), no routes (-r), no route ports and no service instances (-s); all else is unlimited.";

/// The limits a quota is made with or changed to. `-1` is none.
#[derive(clap::Args)]
struct Limits {
    /// Total number of application instances. -1 represents an unlimited amount.
    #[arg(short = 'a', value_name = "N", value_parser = count, allow_hyphen_values = true)]
    instances: Option<Limit>,
    /// Maximum amount of memory a process can have (e.g. 1024M, 1G, 10G). -1 represents an unlimited amount.
    #[arg(short = 'i', value_parser = megabytes, allow_hyphen_values = true)]
    instance_memory: Option<Limit>,
    /// Total log volume per second all processes can have, in bytes (e.g. 128B, 4K, 1M). -1 represents an unlimited amount.
    #[arg(short = 'l', value_parser = bytes, allow_hyphen_values = true)]
    log_volume: Option<Limit>,
    /// Total amount of memory all processes can have (e.g. 1024M, 1G, 10G). -1 represents an unlimited amount.
    #[arg(short = 'm', value_parser = megabytes, allow_hyphen_values = true)]
    memory: Option<Limit>,
    /// Total number of routes. -1 represents an unlimited amount.
    #[arg(short = 'r', value_parser = count, allow_hyphen_values = true)]
    routes: Option<Limit>,
    /// Maximum number of routes that may be created with ports. -1 represents an unlimited amount.
    #[arg(long = "reserved-route-ports", value_parser = count, allow_hyphen_values = true)]
    ports: Option<Limit>,
    /// Total number of service instances. -1 represents an unlimited amount.
    #[arg(short = 's', value_parser = count, allow_hyphen_values = true)]
    services: Option<Limit>,
}

/// A limit as it is sent: `None` is no limit.
type Limit = Option<u64>;

fn count(text: &str) -> std::result::Result<Limit, String> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(number) if number >= 0 => Ok(u64::try_from(number).ok()),
        _ => Err("invalid integer limit (expected int >= -1)".to_owned()),
    }
}

fn megabytes(text: &str) -> std::result::Result<Limit, String> {
    match text {
        "-1" => Ok(None),
        "0" => Ok(Some(0)),
        _ => size::megabytes(text).map(Some),
    }
}

fn bytes(text: &str) -> std::result::Result<Limit, String> {
    size::log_rate(text).map(|rate| u64::try_from(rate).ok())
}

impl Limits {
    /// Pure: the parts that were given. A new quota allows nothing that was not; `paid` is left alone when `None`.
    fn body(&self, is_new: bool, paid: Option<bool>) -> Map<String, Value> {
        let zero = is_new.then_some(Some(0));
        let group = |fields: &[(&str, Option<Limit>)]| {
            let given = fields
                .iter()
                .filter_map(|(key, limit)| Some(((*key).to_owned(), json!((*limit)?))));
            given.collect::<Map<String, Value>>()
        };
        let apps = group(&[
            ("total_memory_in_mb", self.memory.or(zero)),
            ("per_process_memory_in_mb", self.instance_memory),
            ("total_instances", self.instances),
            ("log_rate_limit_in_bytes_per_second", self.log_volume),
        ]);
        let mut services = group(&[("total_service_instances", self.services.or(zero))]);
        services.extend(paid.map(|paid| ("paid_services_allowed".to_owned(), json!(paid))));
        let routes = group(&[
            ("total_routes", self.routes.or(zero)),
            ("total_reserved_ports", self.ports.or(zero)),
        ]);
        let groups = [("apps", apps), ("services", services), ("routes", routes)];
        let given = groups.into_iter().filter(|(_, group)| !group.is_empty());
        given.map(|(name, group)| (name.to_owned(), Value::Object(group))).collect()
    }
}

/// What `update-*-quota` changes beside the limits.
#[derive(clap::Args)]
struct Changes {
    #[command(flatten)]
    limits: Limits,
    /// Allow provisioning instances of paid service plans.
    #[arg(long)]
    allow_paid_service_plans: bool,
    /// Disallow provisioning instances of paid service plans.
    #[arg(long)]
    disallow_paid_service_plans: bool,
    /// New name
    #[arg(short = 'n')]
    name: Option<String>,
}

impl Changes {
    fn body(&self) -> Result<Value> {
        let paid = match (self.allow_paid_service_plans, self.disallow_paid_service_plans) {
            (true, true) => {
                return Err(Error::together(&[
                    "--allow-paid-service-plans",
                    "--disallow-paid-service-plans",
                ]));
            }
            (false, false) => None,
            (allow, _) => Some(allow),
        };
        let mut body = self.limits.body(false, paid);
        body.extend(self.name.as_ref().map(|name| ("name".to_owned(), json!(name))));
        Ok(Value::Object(body))
    }
}

/// Creates a quota; one that exists already is only worth a warning. Answers whether it is new.
async fn create(cx: &mut Context<'_>, path: &str, body: Value) -> Result<()> {
    match cx.client.post(path, body).await {
        Err(error) if error.already_exists().is_some() => cx.ui.warn(&error.to_string()),
        done => drop(done?),
    }
    cx.ui.ok();
    Ok(())
}

async fn find(cx: &Context<'_>, of: &str, query: &[(&str, &str)], name: &str) -> Result<Quota> {
    let wanted = filter_value(name);
    let mut query = query.to_vec();
    query.push(("names", &wanted));
    let title = if of == "organization" { "Organization" } else { "Space" };
    cx.client
        .only(&format!("/v3/{of}_quotas"), &query, || {
            format!("{title} quota with name '{name}' not found.")
        })
        .await
}

/// Deletes the quota found; one that is not there is only worth a warning.
async fn delete(cx: &mut Context<'_>, of: &str, found: Result<Quota>) -> Result<()> {
    match found {
        Err(Error::Missing(sentence)) => cx.ui.warn(&sentence),
        found => cx.client.delete(&format!("/v3/{of}_quotas/{}", found?.guid)).await?,
    }
    cx.ui.ok();
    Ok(())
}

fn show_all(ui: &mut Ui, quotas: &[Quota], none: &str) {
    if quotas.is_empty() {
        say!(ui, "{none}");
        return;
    }
    let mut rows = vec![row![
        "name",
        "total memory",
        "instance memory",
        "routes",
        "service instances",
        "paid service plans",
        "app instances",
        "route ports",
        "log volume per second"
    ]];
    for quota in quotas {
        let mut row = vec![quota.name.clone()];
        row.extend(shown(quota));
        rows.push(row);
    }
    table::with_header(ui, "", &rows);
}

fn show_one(ui: &mut Ui, quota: &Quota) {
    let titles = [
        "total memory:",
        "instance memory:",
        "routes:",
        "service instances:",
        "paid service plans:",
        "app instances:",
        "route ports:",
        "log volume per second:",
    ];
    let rows: Vec<(&str, String)> = titles.into_iter().zip(shown(quota)).collect();
    table::key_values(ui, &rows);
}

/// Pure: the limits in the order in which they are shown.
fn shown(quota: &Quota) -> [String; 8] {
    let number = |limit: Limit| limit.map_or_else(unlimited, |number| number.to_string());
    let memory = |limit: Limit| limit.map_or_else(unlimited, |size| amount(size << 20));
    [
        memory(quota.apps.total_memory_in_mb),
        memory(quota.apps.per_process_memory_in_mb),
        number(quota.routes.total_routes),
        number(quota.services.total_service_instances),
        if quota.services.paid_services_allowed { "allowed" } else { "disallowed" }.to_owned(),
        number(quota.apps.total_instances),
        number(quota.routes.total_reserved_ports),
        quota.apps.log_rate_limit_in_bytes_per_second.map_or_else(unlimited, amount),
    ]
}

fn unlimited() -> String {
    "unlimited".to_owned()
}

/// Nothing at all needs no unit.
fn amount(bytes: u64) -> String {
    if bytes == 0 { "0".to_owned() } else { size::show(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_quota_allows_only_what_is_said() {
        let limits = Limits {
            instances: None,
            instance_memory: Some(None),
            log_volume: None,
            memory: Some(Some(1024)),
            routes: None,
            ports: None,
            services: None,
        };
        assert_eq!(
            Value::Object(limits.body(true, Some(false))),
            json!({
                "apps": { "total_memory_in_mb": 1024, "per_process_memory_in_mb": null },
                "services": { "total_service_instances": 0, "paid_services_allowed": false },
                "routes": { "total_routes": 0, "total_reserved_ports": 0 },
            })
        );
        assert_eq!(
            Value::Object(limits.body(false, None)),
            json!({ "apps": { "total_memory_in_mb": 1024, "per_process_memory_in_mb": null } })
        );
    }

    #[test]
    fn limits_are_read_and_shown() {
        assert_eq!(count("-1"), Ok(None));
        assert_eq!(count("3"), Ok(Some(3)));
        assert!(count("-2").is_err());
        assert_eq!(megabytes("2G"), Ok(Some(2048)));
        assert_eq!(bytes("-1"), Ok(None));
        assert_eq!(shown(&Quota::default())[0], "unlimited");
        assert_eq!(amount(0), "0");
    }
}
