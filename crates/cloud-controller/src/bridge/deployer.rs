//! Carries deployments out: woken by what changes at Diego, it looks, asks [`super::rollout`] for the next steps, and
//! takes them.

use std::collections::HashMap;
use std::time::Duration;

use diego::ActualLrp;
use diego::actual_lrp::State;
use envelope::LogType;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::rollout::{self, Action, Phase, Side, View, Which};
use crate::Cc;
use crate::actions::deployments as actions;
use crate::db::apps::{self, App};
use crate::db::deployments::{self, CANCELING, Deployment, PAUSED, PREPAUSED};
use crate::db::processes::Process;

const EVERY: Duration = Duration::from_secs(30);
/// Diego restarts at once after the first crashes; from here on it waits longer and longer.
const TOO_MANY_CRASHES: u32 = 3;
/// Steps that follow from each other without anything happening at Diego are few.
const STEPS: usize = 16;

/// What is under way.
struct Watch {
    /// Deployments by the guids of their processes.
    deployments: HashMap<String, String>,
    /// When all are looked at again, whatever happens.
    wake: Instant,
}

/// What is left of a deployment after the steps that could be taken.
#[derive(Default)]
struct Ahead {
    /// The processes to watch; none when it has ended.
    processes: Vec<String>,
    /// How long it rests before its next step.
    rest: Option<Duration>,
}

/// Runs until the Cloud Controller stops.
pub async fn follow(cc: Cc) {
    let mut changes = cc.changes.listen();
    loop {
        let mut watch = all(&cc).await;
        loop {
            tokio::select! {
                () = cc.stop.cancelled() => return,
                () = cc.rollouts.poked() => break,
                () = sleep_until(watch.wake) => break,
                heard = changes.recv() => match heard {
                    Ok(process) => {
                        let Some(deployment) = watch.deployments.get(&*process).cloned() else { continue };
                        if !forward(&cc, &deployment, &mut watch).await {
                            watch.deployments.retain(|_, own| *own != deployment);
                        }
                    }
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }
}

/// Takes what steps there are of every deployment.
async fn all(cc: &Cc) -> Watch {
    let mut watch = Watch { deployments: HashMap::new(), wake: Instant::now() + EVERY };
    let active = async { deployments::active(&mut *cc.db.read().await?).await };
    match active.await {
        Ok(active) => {
            for deployment in active {
                forward(cc, &deployment, &mut watch).await;
            }
        }
        Err(error) => warn!(error = %error, "deployments are looked at later"),
    }
    watch
}

/// Takes what steps there are; `false` when the deployment has ended.
async fn forward(cc: &Cc, guid: &str, watch: &mut Watch) -> bool {
    match steps(cc, guid).await {
        Ok(Ahead { processes, rest }) => {
            let goes_on = !processes.is_empty();
            let own = processes.into_iter().map(|process| (process, guid.to_owned()));
            watch.deployments.extend(own);
            if let Some(rest) = rest {
                watch.wake = watch.wake.min(Instant::now() + rest);
            }
            goes_on
        }
        Err(error) => {
            warn!(deployment.guid = guid, error = %format!("{error:#}"), "a deployment goes on later");
            true
        }
    }
}

async fn steps(cc: &Cc, guid: &str) -> anyhow::Result<Ahead> {
    for _ in 0..STEPS {
        let Some(look) = look(cc, &mut *cc.db.read().await?, guid).await? else {
            return Ok(Ahead::default());
        };
        if !cc.mirror.is_loaded() || rollout::step(&look.view).is_empty() {
            return Ok(look.ahead(cc));
        }
        let mut tx = cc.db.begin().await?;
        deployments::lock_app(&mut tx, &look.app.guid).await?;
        // Looked at again under the lock: somebody may have canceled or superseded it.
        let Some(look) = self::look(cc, &mut tx, guid).await? else { return Ok(Ahead::default()) };
        let actions = rollout::step(&look.view);
        for action in actions.iter().copied() {
            act(cc, &mut tx, &look, action)
                .await
                .map_err(|error| anyhow::anyhow!("{action:?}: {error}"))?;
        }
        let names = apps::names(&mut tx, &look.app.guid).await?;
        tx.commit().await?;
        cc.nsync.poke();
        cc.changes.tell(guid);
        if actions.contains(&Action::Cancel) {
            let line = format!(
                "Deployment with guid {guid} is canceled: {}. The version before goes on serving: correct the app and \
                 push again.",
                look.why_hopeless(cc)
            );
            cc.app_log(&names, "API", LogType::Err, &line);
        }
    }
    let last = look(cc, &mut *cc.db.read().await?, guid).await?;
    Ok(last.map(|look| look.ahead(cc)).unwrap_or_default())
}

struct Look {
    deployment: Deployment,
    app: App,
    new: Option<Process>,
    old: Vec<Process>,
    view: View,
}

impl Look {
    fn ahead(&self, cc: &Cc) -> Ahead {
        let processes = self.new.iter().chain(&self.old).map(|process| process.guid.clone());
        let rest = self.view.rests.then(|| rest(cc, &self.deployment));
        Ahead { processes: processes.collect(), rest }
    }

    /// What the new instances crash of.
    fn why_hopeless(&self, cc: &Cc) -> String {
        let lrps = self.new.iter().flat_map(|process| cc.mirror.instances(&process.lrp_guid()));
        let reason = lrps.filter(|lrp| given_up(lrp)).map(|lrp| lrp.crash_reason.clone()).next();
        let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!("the new instances crash{reason}")
    }
}

/// Diego only tries it now and then.
fn given_up(lrp: &ActualLrp) -> bool {
    lrp.state == State::Crashed && lrp.crash_count >= TOO_MANY_CRASHES
}

/// What is left of the time between two steps.
fn rest(cc: &Cc, deployment: &Deployment) -> Duration {
    cc.config.timings.deployment_step.saturating_sub(cc.now().since(deployment.stepped_at))
}

/// `None` when it has ended or is gone.
async fn look(
    cc: &Cc,
    connection: &mut sql::Connection,
    guid: &str,
) -> anyhow::Result<Option<Look>> {
    let found = deployments::find(connection, guid).await?.filter(Deployment::is_active);
    let Some(deployment) = found else { return Ok(None) };
    let Some(app) = apps::find(connection, &deployment.app_guid).await? else { return Ok(None) };
    let (new, old): (Vec<Process>, Vec<Process>) = actions::webs(connection, &app.guid)
        .await?
        .into_iter()
        .partition(|process| Some(&process.guid) == deployment.web_process_guid.as_ref());
    let new = new.into_iter().next();
    let sides: Vec<Side> = old.iter().map(|process| side(cc, process)).collect();
    let phase = match (deployment.state.as_str(), &new) {
        (CANCELING, _) | (_, None) => Phase::Canceling,
        (PAUSED, _) => Phase::Paused,
        (PREPAUSED, _) => Phase::Deploying { pause_at: Some(deployment.pause_at()) },
        _ => Phase::Deploying { pause_at: None },
    };
    let wanted = match phase {
        _ if !app.is_started() => 0,
        Phase::Canceling => deployment.original_web_instances,
        _ => deployment.wanted(),
    };
    let view = View {
        phase,
        rests: !rest(cc, &deployment).is_zero(),
        wanted,
        max_in_flight: deployment.max_in_flight().max(1),
        new: new.as_ref().map(|process| side(cc, process)).unwrap_or_default(),
        back_to: sides.iter().rposition(|side| !side.routable.is_empty()).unwrap_or(0),
        old: sides,
    };
    Ok(Some(Look { deployment, app, new, old, view }))
}

fn side(cc: &Cc, process: &Process) -> Side {
    let lrps = cc.mirror.instances(&process.lrp_guid());
    let wanted = lrps.iter().filter(|lrp| i64::from(lrp.key.index) < process.instances);
    let mut side = Side { instances: process.instances, ..Side::default() };
    for lrp in wanted {
        match &lrp.state {
            State::Running { routable: true, .. } => {
                side.routable.insert(lrp.key.index.into());
            }
            _ => side.hopeless |= given_up(lrp),
        }
    }
    side
}

async fn act(
    cc: &Cc,
    tx: &mut sql::Connection,
    look: &Look,
    action: Action,
) -> crate::errors::ApiResult<()> {
    let Look { deployment, app, new, old, view } = look;
    match action {
        Action::Scale(which, instances) => {
            let process = match which {
                Which::New => new.as_ref(),
                Which::Old(at) => old.get(at),
            };
            if let Some(process) = process {
                actions::resize(cc, tx, process, instances).await?;
            }
            if which == Which::New {
                let set = vec![("last_healthy_at", cc.now().into())];
                crate::db::update(tx, "deployments", &deployment.guid, set).await?;
            }
            Ok(())
        }
        Action::Pause => Ok(deployments::advance(tx, cc.now(), &deployment.guid, PAUSED).await?),
        Action::Cancel => {
            let set = vec![("error", look.why_hopeless(cc).into())];
            crate::db::update(tx, "deployments", &deployment.guid, set).await?;
            Ok(deployments::advance(tx, cc.now(), &deployment.guid, CANCELING).await?)
        }
        Action::Deployed => actions::finish_deployed(cc, tx, deployment, app).await,
        Action::Canceled => {
            let back = old.get(view.back_to).map(|process| process.guid.as_str());
            actions::finish_canceled(cc, tx, deployment, app, back).await
        }
    }
}
