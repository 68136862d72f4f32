//! Asks the public API for what was asked for, the BBS for what became of it, and the router for who gets there.

use anyhow::bail;
use base::{Clock, Timestamp};
use diego::bbs::ActualLrpFilter;
use diego::{Bbs as _, Presence, ProcessGuid};
use serde_json::Value;

use super::facts::*;
use crate::operator::{Asking, Line};

/// Lines of the log that are shown.
const LINES: usize = 8;
/// Lines asked for; those of the router and the API are left out.
const ASKED: usize = 60;
/// Apps with a name like the one asked for.
const CANDIDATES: usize = 3;
/// A name is like another from here on (Jaro-Winkler, 0 to 1).
const LIKE: f64 = 0.85;

pub struct Wanted {
    pub app: String,
    pub org: Option<String>,
    pub space: Option<String>,
}

pub async fn gather(asking: &Asking, wanted: &Wanted) -> anyhow::Result<Facts> {
    let mut facts =
        Facts { now: Clock::system().now(), name: wanted.app.clone(), ..Facts::default() };
    let Some(app) = find(asking, wanted, &mut facts).await? else { return Ok(facts) };
    facts.name = text(&app, "/name");
    let guid = text(&app, "/guid");
    place(asking, &app, &mut facts).await?;
    bits(asking, &guid, &mut facts).await?;
    processes(asking, &guid, &mut facts).await?;
    routes(asking, &guid, &mut facts).await?;
    if facts.app.as_ref().is_some_and(|app| !app.started) {
        quotas(asking, &app, &mut facts).await?;
    }
    deployment(asking, &guid, &mut facts).await?;
    facts.cells = asking.bbs.cells().await?.len();
    facts.log = log(asking, &facts, &guid).await?;
    Ok(facts)
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64)
}

fn moment(value: &Value, pointer: &str) -> Timestamp {
    Timestamp::parse_rfc3339(&text(value, pointer)).unwrap_or_default()
}

/// For the value of a query parameter.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape =
        |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    // A comma separates values; in a name it is written twice over.
    text.replace(',', "%2C").bytes().map(escape).collect()
}

/// The app; without exactly one, `facts` tell which there are.
async fn find(
    asking: &Asking,
    wanted: &Wanted,
    facts: &mut Facts,
) -> anyhow::Result<Option<Value>> {
    if is_guid(&wanted.app)
        && let Some(app) = asking.find(&format!("/v3/apps/{}", wanted.app)).await?
    {
        return Ok(Some(app));
    }
    let mut query = format!("/v3/apps?per_page=100&names={}", escaped(&wanted.app));
    if let Some(org) = &wanted.org {
        let orgs = asking.list(&format!("/v3/organizations?names={}", escaped(org))).await?;
        let Some(org_guid) = orgs.first().map(|org| text(org, "/guid")) else {
            bail!("there is no org named {org}; cf orgs lists them");
        };
        query += &format!("&organization_guids={org_guid}");
    }
    if let Some(space) = &wanted.space {
        let spaces =
            asking.list(&format!("/v3/spaces?per_page=100&names={}", escaped(space))).await?;
        if spaces.is_empty() {
            bail!("there is no space named {space}; cf spaces lists those of an org");
        }
        let guids: Vec<String> = spaces.iter().map(|space| text(space, "/guid")).collect();
        query += &format!("&space_guids={}", guids.join(","));
    }
    let mut apps = asking.list(&query).await?;
    match apps.len() {
        0 => {
            facts.candidates = alike(asking, &wanted.app).await?;
            Ok(None)
        }
        1 => Ok(apps.pop()),
        _ => {
            for app in &apps {
                let (org, space, _) = places(asking, app).await?;
                facts.candidates.push(format!("{org}/{space}/{}", wanted.app));
            }
            facts.candidates.sort();
            Ok(None)
        }
    }
}

fn is_guid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Of the first few thousand apps.
async fn alike(asking: &Asking, name: &str) -> anyhow::Result<Vec<String>> {
    let apps = asking.list("/v3/apps?per_page=5000").await?;
    let mut scored: Vec<(f64, String)> = apps
        .iter()
        .map(|app| text(app, "/name"))
        .map(|known| (strsim::jaro_winkler(name, &known), known))
        .filter(|(score, _)| *score >= LIKE)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    Ok(scored.into_iter().take(CANDIDATES).map(|(_, name)| name).collect())
}

/// Names of org and space, and the org.
async fn places(asking: &Asking, app: &Value) -> anyhow::Result<(String, String, Value)> {
    let guid = text(app, "/relationships/space/data/guid");
    let space = asking.get(&format!("/v3/spaces/{guid}")).await?;
    let guid = text(&space, "/relationships/organization/data/guid");
    let org = asking.get(&format!("/v3/organizations/{guid}")).await?;
    Ok((text(&org, "/name"), text(&space, "/name"), org))
}

async fn place(asking: &Asking, app: &Value, facts: &mut Facts) -> anyhow::Result<()> {
    let (org_name, space, org) = places(asking, app).await?;
    facts.app = Some(App {
        guid: text(app, "/guid"),
        org: org_name,
        space,
        started: text(app, "/state") == "STARTED",
        org_suspended: org["suspended"].as_bool().unwrap_or(false),
    });
    Ok(())
}

async fn bits(asking: &Asking, guid: &str, facts: &mut Facts) -> anyhow::Result<()> {
    let newest = "per_page=1&order_by=-created_at";
    let packages = asking.list(&format!("/v3/packages?app_guids={guid}&{newest}")).await?;
    facts.package = packages.first().map(|package| Package {
        state: text(package, "/state"),
        at: moment(package, "/updated_at"),
        error: Some(text(package, "/data/error")).filter(|error| !error.is_empty()),
    });
    let builds = asking.list(&format!("/v3/builds?app_guids={guid}&{newest}")).await?;
    if let Some(build) = builds.first() {
        facts.build = Some(Build {
            state: text(build, "/state"),
            at: moment(build, "/created_at"),
            error: Some(text(build, "/error")).filter(|error| !error.is_empty()),
            waits_for: waits_for(asking, &text(build, "/guid")).await,
        });
    }
    let droplet = asking.find(&format!("/v3/apps/{guid}/droplets/current")).await?;
    facts.droplet = droplet.map(|droplet| moment(&droplet, "/created_at"));
    Ok(())
}

/// What keeps the build's task from a cell; the task goes by the build's name.
async fn waits_for(asking: &Asking, build: &str) -> Option<String> {
    let task = asking.bbs.task(&build.into()).await.ok()?;
    let pending = task.state == diego::task::State::Pending;
    pending.then_some(task.rejection_reason)
}

async fn processes(asking: &Asking, app: &str, facts: &mut Facts) -> anyhow::Result<()> {
    for value in asking.list(&format!("/v3/apps/{app}/processes?per_page=100")).await? {
        let lrp_guid = format!("{}-{}", text(&value, "/guid"), text(&value, "/version"));
        let guid: ProcessGuid = lrp_guid.as_str().into();
        let desired = match asking.bbs.desired_lrp(&guid).await {
            Ok(desired) => Some(desired.instances),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        let filter =
            ActualLrpFilter { process_guids: Some(vec![guid]), ..ActualLrpFilter::default() };
        let actual = asking.bbs.actual_lrps(&filter).await?.into_iter();
        let mut actual: Vec<Instance> = actual
            .filter(|lrp| lrp.presence == Presence::Ordinary)
            .map(|lrp| Instance {
                index: lrp.key.index,
                state: lrp.state,
                since: lrp.since,
                crash_count: lrp.crash_count,
                crash_reason: lrp.crash_reason,
            })
            .collect();
        actual.sort_by_key(|instance| instance.index);
        // Lists hide commands.
        let value = asking.get(&format!("/v3/processes/{}", text(&value, "/guid"))).await?;
        facts.processes.push(process(&value, lrp_guid, desired, actual));
    }
    // The one that serves comes first.
    facts.processes.sort_by_key(|process| (process.kind != "web", process.kind.clone()));
    Ok(())
}

fn process(
    value: &Value,
    lrp_guid: String,
    desired: Option<u32>,
    actual: Vec<Instance>,
) -> Process {
    let small = |pointer| number(value, pointer).and_then(|number| u32::try_from(number).ok());
    Process {
        kind: text(value, "/type"),
        lrp_guid,
        command: Some(text(value, "/command")).filter(|command| !command.is_empty()),
        instances: small("/instances").unwrap_or(0),
        memory_mb: number(value, "/memory_in_mb").unwrap_or(0),
        health: Health {
            kind: text(value, "/health_check/type"),
            endpoint: Some(text(value, "/health_check/data/endpoint"))
                .filter(|endpoint| !endpoint.is_empty()),
            timeout_s: number(value, "/health_check/data/timeout"),
            readiness: text(value, "/readiness_health_check/type"),
        },
        desired,
        actual,
    }
}

async fn routes(asking: &Asking, app: &str, facts: &mut Facts) -> anyhow::Result<()> {
    let own: Vec<String> = facts.processes.iter().map(|one| one.lrp_guid.clone()).collect();
    for route in asking.list(&format!("/v3/apps/{app}/routes?per_page=100")).await? {
        let url = text(&route, "/url");
        let behind = asking.endpoints(&url).await?;
        for destination in destinations(&route).filter(|one| text(one, "/app/guid") == app) {
            facts.routes.push(Route {
                url: url.clone(),
                process: text(destination, "/app/process/type"),
                port: number(destination, "/port")
                    .and_then(|port| port.try_into().ok())
                    .unwrap_or(0),
                endpoints: behind.iter().filter(|one| own.contains(&one.process_guid)).count(),
            });
        }
    }
    if facts.routes.is_empty() {
        facts.taken_route = taken(asking, &facts.name, app).await?;
    }
    Ok(())
}

fn destinations(route: &Value) -> impl Iterator<Item = &Value> {
    route["destinations"].as_array().into_iter().flatten()
}

/// Who has the route by the app's own name, if not the app.
async fn taken(asking: &Asking, name: &str, app: &str) -> anyhow::Result<Option<TakenRoute>> {
    let routes = asking.list(&format!("/v3/routes?per_page=10&hosts={}", escaped(name))).await?;
    let leads = |route: &Value| destinations(route).any(|one| text(one, "/app/guid") == app);
    let Some(route) = routes.iter().find(|route| !leads(route)) else { return Ok(None) };
    let mut by = Vec::new();
    for destination in destinations(route) {
        let path = format!("/v3/apps/{}", text(destination, "/app/guid"));
        by.extend(asking.find(&path).await?.map(|app| text(&app, "/name")));
    }
    let (org, space, _) = places(asking, route).await?;
    Ok(Some(TakenRoute { url: text(route, "/url"), by, space: format!("{org}/{space}") }))
}

/// What a start would need, and what org and space have left.
async fn quotas(asking: &Asking, app: &Value, facts: &mut Facts) -> anyhow::Result<()> {
    let space_guid = text(app, "/relationships/space/data/guid");
    let space = asking.get(&format!("/v3/spaces/{space_guid}")).await?;
    let org_guid = text(&space, "/relationships/organization/data/guid");
    let org = asking.get(&format!("/v3/organizations/{org_guid}")).await?;
    let needed: (u64, u64) = facts.processes.iter().fold((0, 0), |(memory, count), process| {
        let instances = u64::from(process.instances);
        (memory + process.memory_mb * instances, count + instances)
    });
    let places = [
        (format!("org {}", text(&org, "/name")), "organization", &org),
        (format!("space {}", text(&space, "/name")), "space", &space),
    ];
    for (of, kind, place) in places {
        let quota_guid = text(place, "/relationships/quota/data/guid");
        if quota_guid.is_empty() {
            continue;
        }
        let quota = asking.find(&format!("/v3/{kind}_quotas/{quota_guid}")).await?;
        let guid = text(place, "/guid");
        let usage = asking.get(&format!("/v3/{kind}s/{guid}/usage_summary")).await?;
        let Some(quota) = quota else { continue };
        let kinds = [
            ("MB of memory", "/apps/total_memory_in_mb", "memory_in_mb", needed.0),
            ("instances", "/apps/total_instances", "started_instances", needed.1),
        ];
        for (what, limit, used, needed) in kinds {
            // No limit is null.
            let Some(limit) = number(&quota, limit) else { continue };
            let used = number(&usage, &format!("/usage_summary/{used}")).unwrap_or(0);
            let (of, name) = (of.clone(), text(&quota, "/name"));
            facts.quotas.push(Quota { of, name, what, limit, used, needed });
        }
    }
    Ok(())
}

async fn deployment(asking: &Asking, app: &str, facts: &mut Facts) -> anyhow::Result<()> {
    let query = format!("/v3/deployments?app_guids={app}&status_values=ACTIVE&per_page=1");
    facts.deployment = asking.list(&query).await?.first().map(|one| Deployment {
        strategy: text(one, "/strategy"),
        status: text(one, "/status/reason"),
        since: moment(one, "/created_at"),
    });
    Ok(())
}

/// What the app said, or its staging, where that is what went wrong.
async fn log(asking: &Asking, facts: &Facts, app: &str) -> anyhow::Result<Vec<Line>> {
    let failed = facts.build.as_ref().is_some_and(|build| build.state != "STAGED");
    let source = if failed { "STG" } else { "APP" };
    let lines = asking.lines(app, ASKED).await?.into_iter();
    let mut lines: Vec<Line> = lines
        .filter(|line| line.source.starts_with(source) || line.source == "HEALTH")
        .filter(|line| !line.text.starts_with("Cell "))
        .collect();
    lines.drain(..lines.len().saturating_sub(LINES));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("my app&x"), "my%20app%26x");
        assert_eq!(escaped("plain-1.0_~"), "plain-1.0_~");
    }
}
