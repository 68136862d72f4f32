//! What an app looks like now: the block under `cf app`, and at the end of `cf push` and its kin.

use base::Timestamp;
use futures::future::{try_join, try_join_all, try_join4};
use jiff::tz::TimeZone;

use crate::client::Client;
use crate::command::Context;
use crate::error::Result;
use crate::resources::{App, Deployment, Droplet, Instance, Named, Process, Route, Stats};
use crate::size;
use crate::table::{self, row};
use crate::ui::{Ui, say};

/// All that is shown of an app.
#[derive(Debug, Default)]
pub struct Summary {
    pub app: App,
    pub routes: Vec<Route>,
    pub droplet: Droplet,
    pub processes: Vec<Shown>,
    pub deployment: Option<Deployment>,
}

#[derive(Debug, Default)]
pub struct Shown {
    pub process: Process,
    pub sidecars: Vec<Named>,
    pub instances: Vec<Instance>,
}

/// Asks for everything at once. Start commands are secrets to some, and asked for only `with_command`.
pub async fn load(client: &Client, app: App, with_command: bool) -> Result<Summary> {
    let of = |rest: &str| format!("/v3/apps/{}/{rest}", app.guid);
    let (processes, routes, droplet_path) = (of("processes"), of("routes"), of("droplets/current"));
    let active = [
        ("app_guids", app.guid.as_str()),
        ("status_values", "ACTIVE"),
        ("order_by", "-created_at"),
    ];
    let droplet = async {
        match client.get::<Droplet>(&droplet_path).await {
            Err(error) if error.is_not_found() => Ok(Droplet::default()),
            found => found,
        }
    };
    let (processes, routes, droplet, deployments) = try_join4(
        client.list::<Process>(&processes, &[]),
        client.list::<Route>(&routes, &[]),
        droplet,
        client.list::<Deployment>("/v3/deployments", &active),
    )
    .await?;
    let processes =
        processes.resources.into_iter().map(|process| look_into(client, process, with_command));
    let mut processes = try_join_all(processes).await?;
    processes.sort_by_key(|shown| (shown.process.kind != "web", shown.process.kind.clone()));
    let deployment = deployments.resources.into_iter().next();
    Ok(Summary { app, routes: routes.resources, droplet, processes, deployment })
}

async fn look_into(client: &Client, process: Process, with_command: bool) -> Result<Shown> {
    let path = format!("/v3/processes/{}", process.guid);
    let (sidecars, stats) = (format!("{path}/sidecars"), format!("{path}/stats"));
    let (sidecars, stats) =
        try_join(client.list::<Named>(&sidecars, &[]), client.get::<Stats>(&stats)).await?;
    let process = if with_command { client.get(&path).await? } else { process };
    Ok(Shown { process, sidecars: sidecars.resources, instances: stats.resources })
}

/// Loads and shows the app of that name.
pub async fn show_app(cx: &mut Context<'_>, name: &str, with_command: bool) -> Result<()> {
    let app = cx.client.app(name, &cx.space().guid).await?;
    let summary = load(&cx.client, app, with_command).await?;
    let (now, cf) = (cx.ui.io.clock.now(), cx.cf());
    show(&mut cx.ui, &summary, with_command, now, &cf);
    Ok(())
}

pub fn show(ui: &mut Ui, summary: &Summary, with_command: bool, now: Timestamp, cf: &str) {
    let Summary { app, routes, droplet, processes, deployment } = summary;
    let mut rows = vec![
        ("name:", app.name.clone()),
        ("requested state:", app.state.to_lowercase()),
        ("routes:", urls(routes)),
        ("last uploaded:", friendly_date(&droplet.created_at)),
        ("stack:", droplet.stack.clone().unwrap_or_default()),
    ];
    if app.lifecycle.kind == "docker" {
        rows.push(("docker image:", droplet.image.clone().unwrap_or_default()));
    } else {
        rows.push(("buildpacks:", String::new()));
    }
    table::key_values(ui, &rows);
    if app.lifecycle.kind != "docker" {
        show_buildpacks(ui, droplet);
    }
    for shown in processes {
        show_process(ui, shown, with_command, now);
    }
    if let Some(deployment) = deployment {
        show_deployment(ui, deployment, &app.name, cf);
    }
}

fn show_buildpacks(ui: &mut Ui, droplet: &Droplet) {
    let Some(packs) = droplet.buildpacks.as_deref().filter(|packs| !packs.is_empty()) else {
        return;
    };
    let mut rows = vec![row!["name", "version", "detect output", "buildpack name"]];
    let text = |of: &Option<String>| of.clone().unwrap_or_default();
    rows.extend(packs.iter().map(|pack| {
        vec![
            text(&pack.name),
            text(&pack.version),
            text(&pack.detect_output),
            text(&pack.buildpack_name),
        ]
    }));
    table::with_header(ui, "\t", &rows);
}

fn show_process(ui: &mut Ui, shown: &Shown, with_command: bool, now: Timestamp) {
    let Shown { process, sidecars, instances } = shown;
    say!(ui);
    let sidecars: Vec<&str> = sidecars.iter().map(|sidecar| sidecar.name.as_str()).collect();
    let mut rows = vec![
        ("type:", process.kind.clone()),
        ("sidecars:", sidecars.join(", ")),
        ("instances:", format!("{}/{}", healthy(instances), instances.len())),
        ("memory usage:", format!("{}M", process.memory_in_mb)),
    ];
    if let Some(command) =
        process.command.as_deref().filter(|command| with_command && !command.is_empty())
    {
        rows.push(("start command:", command.to_owned()));
    }
    table::key_values(ui, &rows);
    if instances.is_empty() {
        say!(ui, "There are no running instances of this process.");
        return;
    }
    let head = row![
        "",
        "state",
        "since",
        "cpu",
        "memory",
        "disk",
        "logging",
        "cpu entitlement",
        "details",
        "ready"
    ];
    let rows: Vec<Vec<String>> = std::iter::once(head)
        .chain(instances.iter().map(|instance| instance_row(instance, now)))
        .collect();
    table::with_header(ui, "", &rows);
}

fn instance_row(instance: &Instance, now: Timestamp) -> Vec<String> {
    let usage = &instance.usage;
    let since = now - std::time::Duration::from_secs(instance.uptime);
    let limit = match instance.log_rate_limit {
        Some(-1) => "unlimited".to_owned(),
        None => "0B/s".to_owned(),
        Some(limit) => format!("{}/s", size::show(u64::try_from(limit).unwrap_or(0))),
    };
    let bytes = |count: Option<u64>| size::show(count.unwrap_or(0));
    vec![
        format!("#{}", instance.index),
        instance.state.to_lowercase(),
        since.to_rfc3339(),
        format!("{:.1}%", usage.cpu.unwrap_or(0.0) * 100.0),
        format!("{} of {}", bytes(usage.mem), bytes(instance.mem_quota)),
        format!("{} of {}", bytes(usage.disk), bytes(instance.disk_quota)),
        format!("{}/s of {limit}", bytes(usage.log_rate)),
        usage.cpu_entitlement.map(|share| format!("{:.1}%", share * 100.0)).unwrap_or_default(),
        instance.details.clone().unwrap_or_default(),
        instance.routable.map_or_else(|| "-".to_owned(), |routable| routable.to_string()),
    ]
}

fn show_deployment(ui: &mut Ui, deployment: &Deployment, app: &str, cf: &str) {
    let status = &deployment.status;
    let since = status.details["last_status_change"]
        .as_str()
        .map(friendly_date)
        .filter(|date| !date.is_empty());
    match since {
        Some(since) => {
            say!(ui, "\nActive deployment with status {} (since {since})", status.reason)
        }
        None => say!(ui, "\nActive deployment with status {}.", status.reason),
    }
    let mut rows = vec![("strategy:", deployment.strategy.to_lowercase())];
    if let Some(most) = deployment
        .options
        .as_ref()
        .and_then(|options| options.max_in_flight)
        .filter(|most| *most > 0)
    {
        rows.push(("max-in-flight:", most.to_string()));
    }
    if let Some(steps) = status
        .canary
        .as_ref()
        .map(|canary| &canary["steps"])
        .filter(|steps| steps["total"].as_u64() > Some(0))
    {
        rows.push(("canary-steps:", format!("{}/{}", steps["current"], steps["total"])));
    }
    table::key_values(ui, &rows);
    if deployment.strategy == "canary" && status.reason == "PAUSED" {
        say!(
            ui,
            "\nPlease run `{cf} continue-deployment {app}` to promote the canary deployment, or `{cf} cancel-deployment {app}` to rollback to the previous version."
        );
    }
}

pub fn healthy(instances: &[Instance]) -> usize {
    instances.iter().filter(|instance| instance.state == "RUNNING").count()
}

pub fn urls(routes: &[Route]) -> String {
    routes.iter().map(|route| route.url.as_str()).collect::<Vec<_>>().join(", ")
}

/// `Sat 31 Jan 12:00:00 UTC 2026`, in this machine's time zone; nothing for what is no moment.
pub fn friendly_date(text: &str) -> String {
    let moment: Option<jiff::Timestamp> = text.parse().ok();
    moment
        .map(|moment| {
            moment.to_zoned(TimeZone::system()).strftime("%a %d %b %H:%M:%S %Z %Y").to_string()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn an_instance_is_a_row() {
        let instance: Instance = serde_json::from_str(
            r#"{"index":1,"state":"RUNNING","usage":{"cpu":0.0123,"mem":33554432,"disk":1048576,"log_rate":0},
                "mem_quota":67108864,"disk_quota":1073741824,"log_rate_limit":-1,"uptime":60,"details":null,"routable":true}"#,
        )
        .unwrap();
        let now = Timestamp::parse_rfc3339("2026-01-31T12:01:00Z").unwrap();
        expect![
            "#1|running|2026-01-31T12:00:00Z|1.2%|32M of 64M|1M of 1G|0B/s of unlimited|||true"
        ]
        .assert_eq(&instance_row(&instance, now).join("|"));
    }

    #[test]
    fn an_instance_that_is_down_tells_little() {
        let instance: Instance = serde_json::from_str(
            r#"{"index":0,"state":"DOWN","uptime":0,"details":"insufficient resources"}"#,
        )
        .unwrap();
        let now = Timestamp::parse_rfc3339("2026-01-31T12:01:00Z").unwrap();
        expect!["#0|down|2026-01-31T12:01:00Z|0.0%|0B of 0B|0B of 0B|0B/s of 0B/s||insufficient resources|-"].assert_eq(&instance_row(&instance, now).join("|"));
    }

    #[test]
    fn dates_that_are_none_are_empty() {
        assert_eq!(friendly_date(""), "");
        assert!(friendly_date("2026-01-31T12:00:00Z").ends_with("2026"));
    }
}
