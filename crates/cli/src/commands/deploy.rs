//! Staging, starting and waiting: what `push`, `start`, `restart`, `restage` and `scale` share.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout_at};

use crate::client::{Body, Client, Pace};
use crate::command::Context;
use crate::error::{Error, Result, failed};
use crate::logs::{self, Line, Since, Tail};
use crate::resources::{App, Build, Instance, Process, Stats};
use crate::ui::say;

const STAGING: &str = "STG";

/// Stages a package while showing what the stager says; answers the droplet's guid.
pub async fn stage(cx: &mut Context<'_>, app: &App, package: &str) -> Result<String> {
    let mut tail = Tail::start(&cx.client, &app.guid, Since::New).await;
    let made = cx.client.post("/v3/builds", json!({ "package": { "guid": package } })).await;
    let build: Build = made
        .map_err(|error| with_limits(error, &cx.cf(), &cx.org().name, &cx.space().name))?
        .json()?;
    let (limit, client) = (cx.minutes("CF_STAGING_TIMEOUT", 15), cx.client.clone());
    let built = async {
        let finished = built(&client, build.guid);
        timeout_at(Instant::now() + limit, finished).await.unwrap_or_else(|_| {
            let minutes = limit.as_secs_f64() / 60.0;
            failed(format!(
                "Error staging application {}: timed out after {minutes} minute(s)",
                app.name
            ))
        })
    };
    tokio::pin!(built);
    let mut reading = true;
    let build = loop {
        tokio::select! {
            build = &mut built => break build,
            line = tail.next(), if reading => match line {
                Some(Ok(line)) => show_staging(cx, &line),
                Some(Err(error)) => cx.ui.warn(&format!("Failed to retrieve logs from Log Cache: {error}")),
                None => reading = false,
            },
        }
    };
    for line in tail.finish().await {
        show_staging(cx, &line);
    }
    droplet_of(build?, &app.name, &cx.cf())
}

fn show_staging(cx: &mut Context, line: &Line) {
    if line.source == STAGING {
        logs::show(&mut cx.ui, line, false);
    }
}

async fn built(client: &Client, guid: String) -> Result<Build> {
    let (path, mut pace) = (format!("/v3/builds/{guid}"), Pace::default());
    loop {
        let reply = client.send(reqwest::Method::GET, &path, &[], Body::None).await?;
        let build: Build = reply.json()?;
        if build.state != "STAGING" {
            return Ok(build);
        }
        pace.wait(reply.took).await;
    }
}

/// Pure: the droplet a build made, or why there is none and what to do about it.
fn droplet_of(build: Build, app: &str, cf: &str) -> Result<String> {
    if let Some(droplet) = build.droplet.filter(|_| build.state == "STAGED") {
        return Ok(droplet.guid);
    }
    let why = build.error.unwrap_or_else(|| "the build gave no reason".to_owned());
    if why.contains("NoAppDetectedError") {
        return failed(format!(
            "Error staging application: {why}\n\nTIP: Use '{cf} buildpacks' to see a list of supported buildpacks."
        ));
    }
    failed(format!(
        "Error staging application: {why}\n\nTIP: use '{cf} logs {app} --recent' for more information"
    ))
}

pub async fn set_droplet(cx: &Context<'_>, app: &str, droplet: &str) -> Result<()> {
    let path = format!("/v3/apps/{app}/relationships/current_droplet");
    let set = cx.client.patch(&path, json!({ "data": { "guid": droplet } })).await;
    match set {
        Err(error) if error.api_detail(422).is_some() => {
            failed(format!("Unable to assign droplet: {error}"))
        }
        set => set.map(drop),
    }
}

/// `start`, `stop` or `restart`.
pub async fn act(cx: &Context<'_>, app: &str, action: &str) -> Result<()> {
    let path = format!("/v3/apps/{app}/actions/{action}");
    let done = cx.client.send(reqwest::Method::POST, &path, &[], Body::None).await;
    done.map(drop).map_err(|error| with_limits(error, &cx.cf(), &cx.org().name, &cx.space().name))
}

/// Pure: a refusal for a quota, with the way to see it.
pub fn with_limits(error: Error, cf: &str, org: &str, space: &str) -> Error {
    let told = match &error {
        Error::Failed(detail) => Some(detail.as_str()),
        error => error.api_detail(422),
    };
    let over = |detail: &&str| detail.contains("quota") || detail.contains("limit exceeded");
    match told.filter(over) {
        Some(detail) => Error::Failed(format!(
            "{detail}\n\nTIP: Use '{cf} org {org}' and '{cf} space {space}' to see which quotas apply, and '{cf} org-quota' or '{cf} space-quota' to see their limits."
        )),
        None => error,
    }
}

/// What the instances of a process amount to, for one who waits.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Stable,
    Crashed,
    Starting,
}

/// Pure: one running instance is enough, and a process without instances needs none.
fn progress(instances: &[Instance]) -> Progress {
    if instances.is_empty() || instances.iter().any(|instance| instance.state == "RUNNING") {
        Progress::Stable
    } else if instances.iter().all(|instance| instance.state == "CRASHED") {
        Progress::Crashed
    } else {
        Progress::Starting
    }
}

fn details(instances: &[Instance]) -> String {
    trouble(instances).unwrap_or_else(|| "Instances starting...".to_owned())
}

/// Pure: why an instance does not run, when one tells.
pub fn trouble(instances: &[Instance]) -> Option<String> {
    let why = instances
        .iter()
        .find_map(|instance| instance.details.as_deref().filter(|details| !details.is_empty()));
    why.map(|why| format!("Error starting instances: '{why}'"))
}

/// Waits until every process has an instance that runs; with `no_wait`, only the web process counts.
pub async fn wait_running(cx: &mut Context<'_>, app: &App, no_wait: bool) -> Result<()> {
    let limit = startup_limit(cx);
    let mut processes: Vec<Process> =
        cx.client.list(&format!("/v3/apps/{}/processes", app.guid), &[]).await?.resources;
    processes.retain(|process| !no_wait || process.kind == "web");
    wait_for(cx, app, &processes, Instant::now() + limit).await
}

pub fn startup_limit(cx: &Context) -> Duration {
    cx.minutes("CF_STARTUP_TIMEOUT", 5)
}

pub async fn wait_for(
    cx: &mut Context<'_>,
    app: &App,
    processes: &[Process],
    until: Instant,
) -> Result<()> {
    let mut said = String::new();
    for process in processes {
        let (path, mut pace) = (format!("/v3/processes/{}/stats", process.guid), Pace::default());
        loop {
            let Ok(reply) =
                timeout_at(until, cx.client.send(reqwest::Method::GET, &path, &[], Body::None))
                    .await
            else {
                return Err(Error::StartTimeout { cf: cx.cf(), app: app.name.clone() });
            };
            let reply = reply?;
            let stats: Stats = reply.json()?;
            let saying = details(&stats.resources);
            if saying != said {
                say!(cx.ui, "{saying}");
                said = saying;
            }
            match progress(&stats.resources) {
                Progress::Stable => break,
                Progress::Crashed => {
                    return Err(Error::Crashed { cf: cx.cf(), app: app.name.clone() });
                }
                Progress::Starting if Instant::now() >= until => {
                    return Err(Error::StartTimeout { cf: cx.cf(), app: app.name.clone() });
                }
                Progress::Starting => pace.wait(reply.took).await,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::resources::Named;

    fn instances(states: &[&str]) -> Vec<Instance> {
        states
            .iter()
            .map(|state| Instance { state: (*state).to_owned(), ..Instance::default() })
            .collect()
    }

    #[test]
    fn one_running_instance_is_enough() {
        assert_eq!(progress(&instances(&[])), Progress::Stable);
        assert_eq!(progress(&instances(&["CRASHED", "RUNNING"])), Progress::Stable);
        assert_eq!(progress(&instances(&["CRASHED", "STARTING"])), Progress::Starting);
        assert_eq!(progress(&instances(&["DOWN"])), Progress::Starting);
        assert_eq!(progress(&instances(&["CRASHED", "CRASHED"])), Progress::Crashed);
    }

    #[test]
    fn a_quota_in_the_way_can_be_found() {
        let refusal = |detail: &str| {
            let body = serde_json::json!({ "errors": [{ "detail": detail }] }).to_string();
            Error::Api(crate::error::ApiError::new(422, String::new(), None, body.as_bytes()))
        };
        let told = |detail| with_limits(refusal(detail), "cf", "acme", "dev").to_string();
        expect![[r#"
            memory quota_exceeded

            TIP: Use 'cf org acme' and 'cf space dev' to see which quotas apply, and 'cf org-quota' or 'cf space-quota' to see their limits."#]]
        .assert_eq(&told("memory quota_exceeded"));
        let tip = "\n\nTIP: Use 'cf org acme'";
        assert!(
            told("organization's memory limit exceeded: staging requires 9M memory").contains(tip)
        );
        assert!(told("Routes quota exceeded for space 'dev'.").contains(tip));
        assert_eq!(told("no"), "no");
    }

    #[test]
    fn a_failed_build_tells_what_to_do_next() {
        let build = |state: &str, error: Option<&str>| Build {
            state: state.to_owned(),
            error: error.map(str::to_owned),
            ..Build::default()
        };
        let error = droplet_of(
            build("FAILED", Some("BuildpackCompileFailed - exit status 1")),
            "dora",
            "cf",
        )
        .unwrap_err();
        expect![[r#"
            Error staging application: BuildpackCompileFailed - exit status 1

            TIP: use 'cf logs dora --recent' for more information"#]]
        .assert_eq(&error.to_string());
        let error = droplet_of(build("FAILED", Some("NoAppDetectedError - none")), "dora", "cf")
            .unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("TIP: Use 'cf buildpacks' to see a list of supported buildpacks.")
        );
        let staged = Build {
            droplet: Some(Named { guid: "d".to_owned(), ..Named::default() }),
            ..build("STAGED", None)
        };
        assert_eq!(droplet_of(staged, "dora", "cf").unwrap(), "d");
    }
}
