//! What happens in a container, from the first step to the end: setup, then the action with its sidecars, watched.

use std::time::Duration;

use base::CancellationToken;
use diego::desired_lrp::CheckDefinition;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::container::ContainerRequest;
use crate::failure::Failure;
use crate::health::{self, Examination, HEALTH};
use crate::logger::Logger;
use crate::progress::Entry;
use crate::scene::Scene;
use crate::steps::{End, Kind, Outcome, Place, codependent, perform};

/// What a recipe says while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Running { routable: bool },
    Routable(bool),
}

/// What an earlier life of this program found out about the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Before {
    pub healthy: bool,
    pub routable: bool,
}

/// `stop` ends it gracefully.
pub(crate) async fn run(
    scene: &Scene,
    request: &ContainerRequest,
    stop: &CancellationToken,
    before: Before,
    say: &(dyn Fn(Said) + Send + Sync),
) -> Outcome {
    if let Some(setup) = &request.setup {
        perform(scene, Place::new("setup", &scene.log, stop, Kind::Once), setup).await?;
    }
    let cancel = stop.child_token();
    let action = Place::new("action", &scene.log, &cancel, Kind::Main);
    let mut parts = vec![perform(scene, action, &request.action)];
    for (nth, sidecar) in request.sidecars.iter().enumerate() {
        let place = Place::new(&format!("sidecar.{nth}"), &scene.log, &cancel, Kind::Once);
        parts.push(perform(scene, place, &sidecar.action));
    }
    // With a monitor, an action that ends well has left a daemon behind.
    let daemon = request.monitor.is_some() && request.sidecars.is_empty();
    let parts = codependent(parts, &cancel, if daemon { End::Alone } else { End::Together });
    let watch = until(&cancel, watch(scene, request, &cancel, before, say));
    let end = if daemon { End::Alone } else { End::Together };
    codependent(vec![parts.boxed(), watch], &cancel, end).await
}

fn until<'a>(
    cancel: &CancellationToken,
    watch: impl Future<Output = Failure> + Send + 'a,
) -> BoxFuture<'a, Outcome> {
    let cancel = cancel.clone();
    async move {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Failure::Cancelled),
            failure = watch => Err(failure),
        }
    }
    .boxed()
}

/// Ends only with what is wrong.
async fn watch(
    scene: &Scene,
    request: &ContainerRequest,
    cancel: &CancellationToken,
    before: Before,
    say: &(dyn Fn(Said) + Send + Sync),
) -> Failure {
    let none = CheckDefinition::default();
    let definition = request.checks.as_ref().unwrap_or(&none);
    let health = health_log(scene, definition);
    let examination = examination(scene, request, cancel);
    if !before.healthy {
        let limit = left(scene, Duration::from_millis(request.start_timeout_ms));
        match &examination {
            Some(examination) => {
                if let Err(failure) = health::healthy(scene, examination, limit, &health).await {
                    return failure;
                }
            }
            None => scene.started.cancelled().await,
        }
        say(Said::Running { routable: definition.readiness_checks.is_empty() });
    }
    let live = async {
        match &examination {
            Some(examination) => health::unhealthy(scene, examination, &health).await,
            None => std::future::pending().await,
        }
    };
    if definition.readiness_checks.is_empty() {
        return live.await;
    }
    let ready = async {
        let tell = |routable| say(Said::Routable(routable));
        health::readiness(scene, &definition.readiness_checks, &health, before.routable, tell).await
    };
    tokio::select! {
        failure = live => failure,
        failure = ready => failure,
    }
}

/// What is left of the time to become healthy; it began in whichever life. Zero stays zero: for ever.
fn left(scene: &Scene, limit: Duration) -> Duration {
    let now = scene.clock.now();
    let began = scene.journal.progress().began.get(HEALTH).copied();
    if began.is_none() {
        scene.journal.note(Entry::Began { step: HEALTH.to_owned(), at: now });
    }
    match limit {
        Duration::ZERO => limit,
        _ => limit.saturating_sub(now.since(began.unwrap_or(now))).max(Duration::from_millis(1)),
    }
}

fn health_log(scene: &Scene, definition: &CheckDefinition) -> Logger {
    let source = if definition.log_source.is_empty() { HEALTH } else { &definition.log_source };
    scene.log.from(source)
}

fn examination<'a>(
    scene: &Scene,
    request: &'a ContainerRequest,
    cancel: &CancellationToken,
) -> Option<Examination<'a>> {
    match (&request.checks, &request.monitor) {
        (Some(definition), _) if !definition.checks.is_empty() => {
            Some(Examination::Checks(&definition.checks))
        }
        (_, Some(monitor)) => {
            let place = Place::new("monitor", &scene.log, cancel, Kind::Once);
            Some(Examination::Monitor(monitor, place))
        }
        _ => None,
    }
}
