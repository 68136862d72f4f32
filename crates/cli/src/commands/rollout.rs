//! Deployments: how a new version of an app takes over from the old one without downtime.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::client::{Body, Pace};
use crate::command::Context;
use crate::commands::deploy::{startup_limit, trouble, wait_for, with_limits};
use crate::error::{Error, Result, failed};
use crate::resources::{App, Deployment, Event, Process, Stats};
use crate::ui::say;

/// How a new version replaces the old one without downtime.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    pub strategy: Strategy,
    pub max_in_flight: Option<u64>,
    /// Percentages of instances, for canaries.
    pub steps: Vec<u64>,
    /// The scale the new version gets, when it differs.
    pub scale: Vec<(&'static str, Value)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    Rolling,
    Canary,
    /// As if no strategy were given.
    Null,
}

fn strategy(text: &str) -> std::result::Result<Strategy, String> {
    match text.to_lowercase().as_str() {
        "rolling" => Ok(Strategy::Rolling),
        "canary" => Ok(Strategy::Canary),
        "null" | "" => Ok(Strategy::Null),
        _ => Err("STRATEGY must be \"canary\", \"rolling\" or not set".to_owned()),
    }
}

/// How a command is to roll.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct StrategyFlags {
    /// Deployment strategy can be canary, rolling or null.
    #[arg(long, value_parser = strategy)]
    pub strategy: Option<Strategy>,
    /// Defines the maximum number of instances that will be actively being started. Only applies when --strategy flag is specified.
    #[arg(long, allow_hyphen_values = true)]
    pub max_in_flight: Option<i64>,
    /// An array of percentage steps to deploy when using deployment strategy canary. (e.g. 20,40,60)
    #[arg(long)]
    pub instance_steps: Option<String>,
}

/// The flags of every command that can roll and be waited for.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RolloutFlags {
    #[command(flatten)]
    pub by: StrategyFlags,
    /// Exit when the first instance of the web process is healthy
    #[arg(long)]
    pub no_wait: bool,
}

impl StrategyFlags {
    /// Pure: the rollout asked for, or how the flags contradict each other.
    pub fn rollout(&self) -> Result<Option<Rollout>> {
        let strategy = self.strategy.filter(|strategy| *strategy != Strategy::Null);
        let Some(strategy) = strategy else {
            let wrong = [
                ("--max-in-flight", "--strategy", self.max_in_flight.is_some()),
                ("--instance-steps", "--strategy=canary", self.instance_steps.is_some()),
            ];
            return match wrong.iter().find(|(.., given)| *given) {
                Some((flag, needs, _)) => Err(Error::apart(flag, needs)),
                None => Ok(None),
            };
        };
        if self.max_in_flight.is_some_and(|most| most < 1) {
            return Err(Error::Usage(
                "--max-in-flight must be greater than or equal to 1".to_owned(),
            ));
        }
        let steps = match (&self.instance_steps, strategy) {
            (None, _) => Vec::new(),
            (Some(_), Strategy::Rolling | Strategy::Null) => {
                return Err(Error::apart("--instance-steps", "--strategy=canary"));
            }
            (Some(text), Strategy::Canary) => {
                let steps: std::result::Result<Vec<u64>, _> =
                    text.split(',').map(|step| step.trim().parse()).collect();
                steps.map_err(|_| {
                    Error::Usage("Value for --instance-steps must be list of weights".to_owned())
                })?
            }
        };
        let max_in_flight = self.max_in_flight.and_then(|most| u64::try_from(most).ok());
        Ok(Some(Rollout { strategy, max_in_flight, steps, scale: Vec::new() }))
    }
}

/// What a deployment brings up.
#[derive(Clone, Copy, Debug)]
pub enum Version<'a> {
    /// The app's droplet as it is, which restarts the app.
    Current,
    Droplet(&'a str),
    Revision(&'a str),
}

/// Creates the deployment that rolls a version out; answers its guid.
pub async fn create_deployment(
    cx: &Context<'_>,
    app: &App,
    version: Version<'_>,
    rollout: &Rollout,
) -> Result<String> {
    let body = deployment_body(&app.guid, version, rollout);
    let made = cx.client.post("/v3/deployments", body).await;
    let made =
        made.map_err(|error| with_limits(error, &cx.cf(), &cx.org().name, &cx.space().name))?;
    Ok(made.json::<Deployment>()?.guid)
}

/// Pure: only what was asked for is sent, so that older servers take it too.
fn deployment_body(app: &str, version: Version<'_>, rollout: &Rollout) -> Value {
    let strategy = if rollout.strategy == Strategy::Canary { "canary" } else { "rolling" };
    let mut body =
        json!({ "strategy": strategy, "relationships": { "app": { "data": { "guid": app } } } });
    match version {
        Version::Current => {}
        Version::Droplet(guid) => body["droplet"] = json!({ "guid": guid }),
        Version::Revision(guid) => body["revision"] = json!({ "guid": guid }),
    }
    if let Some(most) = rollout.max_in_flight {
        body["options"]["max_in_flight"] = json!(most);
    }
    if !rollout.steps.is_empty() {
        let steps: Vec<Value> =
            rollout.steps.iter().map(|weight| json!({ "instance_weight": weight })).collect();
        body["options"]["canary"]["steps"] = json!(steps);
    }
    for (key, value) in &rollout.scale {
        body["options"][*key] = value.clone();
    }
    body
}

/// Waits until a deployment is through (a canary: until it pauses), or with `no_wait` until one new instance runs.
pub async fn wait_deployed(
    cx: &mut Context<'_>,
    app: &App,
    guid: &str,
    no_wait: bool,
) -> Result<()> {
    let until = Instant::now() + startup_limit(cx);
    let waited = timeout_at(until, deployed(cx, app, guid, no_wait, until)).await;
    let late = match waited {
        Ok(Err(error @ Error::StartTimeout { .. })) => error,
        Ok(done) => return done,
        Err(_) => Error::StartTimeout { cf: cx.cf(), app: app.name.clone() },
    };
    cx.client
        .send(Method::POST, &format!("/v3/deployments/{guid}/actions/cancel"), &[], Body::None)
        .await?;
    Err(late)
}

async fn deployed(
    cx: &mut Context<'_>,
    app: &App,
    guid: &str,
    no_wait: bool,
    until: Instant,
) -> Result<()> {
    let (path, mut pace) = (format!("/v3/deployments/{guid}"), Pace::default());
    let mut said = String::new();
    loop {
        let reply = cx.client.send(Method::GET, &path, &[], Body::None).await?;
        let deployment: Deployment = reply.json()?;
        match (deployment.status.value.as_str(), deployment.status.reason.as_str()) {
            ("FINALIZED", "CANCELED") => {
                if said.is_empty()
                    && let Some(why) = reason(cx, app, &deployment).await
                {
                    say!(cx.ui, "Error starting instances: '{why}'");
                }
                return failed(format!(
                    "Deployment has been canceled\n\nTIP: use '{} logs {} --recent' for more information",
                    cx.cf(),
                    app.name
                ));
            }
            ("FINALIZED", "SUPERSEDED") => return failed("Deployment has been superseded"),
            ("FINALIZED", _) => break,
            ("ACTIVE", "PAUSED") if deployment.strategy == "canary" => break,
            _ if no_wait && !deployment.new_processes.is_empty() => {
                return wait_for(cx, app, &deployment.new_processes, until).await;
            }
            _ => {
                tell_trouble(cx, &deployment.new_processes, &mut said).await;
                pace.wait(reply.took).await;
            }
        }
    }
    let processes: Vec<Process> =
        cx.client.list(&format!("/v3/apps/{}/processes", app.guid), &[]).await?.resources;
    wait_for(cx, app, &processes, until).await
}

/// Why a deployment was canceled: the last crash since it began tells more than the deployment itself. Not to know
/// is no error.
async fn reason(cx: &Context<'_>, app: &App, deployment: &Deployment) -> Option<String> {
    let own = || deployment.status.details["error"].as_str().map(str::to_owned);
    last_crash(cx, app, &deployment.created_at).await.or_else(own)
}

/// How an instance of the app ended last, unless that was before `since`.
async fn last_crash(cx: &Context<'_>, app: &App, since: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Page {
        resources: Vec<Event>,
    }
    let query = [
        ("target_guids", app.guid.as_str()),
        ("types", "audit.app.process.crash"),
        ("order_by", "-created_at"),
        ("per_page", "1"),
    ];
    let reply = cx.client.send(Method::GET, "/v3/audit_events", &query, Body::None).await.ok()?;
    let crash = reply.json::<Page>().ok()?.resources.into_iter().next()?;
    let when = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let is_new = when(&crash.created_at)? >= when(since)?;
    crash.data["exit_description"].as_str().filter(|_| is_new).map(str::to_owned)
}

/// Says why new instances do not come up, while the old ones still serve. A process may be gone before it is asked for.
async fn tell_trouble(cx: &mut Context<'_>, processes: &[Process], said: &mut String) {
    for process in processes {
        let path = format!("/v3/processes/{}/stats", process.guid);
        let Ok(stats) = cx.client.get::<Stats>(&path).await else { continue };
        if let Some(trouble) = trouble(&stats.resources).filter(|trouble| trouble != said) {
            say!(cx.ui, "{trouble}");
            *said = trouble;
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn flags_of_a_rollout_belong_together() {
        let flags = |strategy, max_in_flight, steps: Option<&str>| StrategyFlags {
            strategy,
            max_in_flight,
            instance_steps: steps.map(str::to_owned),
        };
        assert_eq!(flags(None, None, None).rollout().unwrap(), None);
        assert_eq!(flags(Some(Strategy::Null), None, None).rollout().unwrap(), None);
        assert!(flags(None, Some(1), None).rollout().is_err());
        assert!(flags(Some(Strategy::Rolling), Some(0), None).rollout().is_err());
        assert!(flags(Some(Strategy::Rolling), None, Some("20")).rollout().is_err());
        assert!(flags(Some(Strategy::Canary), None, Some("20,x")).rollout().is_err());
        let canary =
            flags(Some(Strategy::Canary), Some(2), Some("20,40")).rollout().unwrap().unwrap();
        expect![[r#"{"droplet":{"guid":"d"},"options":{"canary":{"steps":[{"instance_weight":20},{"instance_weight":40}]},"max_in_flight":2},"relationships":{"app":{"data":{"guid":"a"}}},"strategy":"canary"}"#]]
            .assert_eq(&deployment_body("a", Version::Droplet("d"), &canary).to_string());
    }
}
