//! Finds out when a container is healthy, ready, and no longer either.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use diego::Action;
use diego::desired_lrp::Check;
use futures::FutureExt;
use futures::future::{join_all, select_all};
use garden::Stream;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::failure::Failure;
use crate::logger::Logger;
use crate::scene::Scene;
use crate::steps::{Kind, Place, perform};
use crate::text;

/// The source type of what checks say, unless the check definition names another.
pub(crate) const HEALTH: &str = "HEALTH";

/// Ways to ask a container how it is.
pub(crate) enum Examination<'a> {
    Checks(&'a [Check]),
    Monitor(&'a Action, Place),
}

/// One thing to ask.
#[derive(Clone, Copy)]
enum Question<'a> {
    Check(&'a Check),
    Monitor(&'a Action, &'a Place),
}

impl Examination<'_> {
    fn questions(&self) -> Vec<Question<'_>> {
        match self {
            Examination::Checks(checks) => checks.iter().map(Question::Check).collect(),
            Examination::Monitor(action, place) => vec![Question::Monitor(action, place)],
        }
    }

    /// Ends when every answer was good once.
    async fn pass(&self, scene: &Scene, attempts: &Attempts) {
        join_all(self.questions().into_iter().map(|question| question.until_good(scene, attempts)))
            .await;
    }

    /// Ends with the first answer that is not good.
    async fn fail(&self, scene: &Scene) -> String {
        let questions =
            self.questions().into_iter().map(|question| question.until_bad(scene).boxed());
        select_all(questions).await.0
    }
}

#[derive(Default)]
struct Attempts {
    count: AtomicU32,
    last: Mutex<String>,
}

impl Question<'_> {
    async fn ask(&self, scene: &Scene) -> Result<(), String> {
        match self {
            Question::Check(check) => scene.prober.probe(check, &scene.net).await,
            Question::Monitor(action, place) => monitor(scene, place, action).await,
        }
    }

    /// Asks at growing intervals, checks at once: a refused connection costs next to nothing, and whoever waits for the
    /// process waits for this.
    async fn until_good(self, scene: &Scene, attempts: &Attempts) {
        let timings = &scene.timings;
        let (first, most) = match self {
            Question::Check(_) => (timings.first_check, timings.unhealthy_check),
            Question::Monitor(..) => (timings.first_monitor, timings.unhealthy_monitor),
        };
        let began = Instant::now();
        if let Question::Monitor(..) = self {
            // A monitor is a process too: not before there is something to ask.
            let _ = timeout(first, scene.started.cancelled()).await;
        }
        while let Err(text) = self.ask(scene).await {
            attempts.count.fetch_add(1, Ordering::Relaxed);
            *attempts.last.lock() = text;
            sleep(next_wait(began.elapsed(), first, most)).await;
        }
    }

    async fn until_bad(self, scene: &Scene) -> String {
        let every = match self {
            Question::Check(check) => interval(check).unwrap_or(scene.timings.healthy_check),
            Question::Monitor(..) => scene.timings.healthy_check,
        };
        loop {
            sleep(every).await;
            if let Err(text) = self.ask(scene).await {
                return text;
            }
        }
    }
}

/// A tenth of the wait so far: whoever was slow to come up is found out at most that much later.
fn next_wait(so_far: Duration, first: Duration, most: Duration) -> Duration {
    (so_far / 10).clamp(first.min(most), most)
}

async fn monitor(scene: &Scene, place: &Place, action: &Action) -> Result<(), String> {
    let said = Arc::new(Mutex::new(Vec::new()));
    let place = Place {
        kind: Kind::Probe(said.clone()),
        cancel: place.cancel.child_token(),
        ..place.clone()
    };
    let result = perform(scene, place, action).await;
    let said = String::from_utf8_lossy(&said.lock()).trim().to_owned();
    match result {
        Ok(()) => Ok(()),
        Err(_) if !said.is_empty() => Err(said),
        Err(failure) => Err(format!("Failed to invoke process: {failure}")),
    }
}

fn interval(check: &Check) -> Option<Duration> {
    let (Check::Tcp { interval_ms, .. } | Check::Http { interval_ms, .. }) = check;
    (*interval_ms > 0).then(|| Duration::from_millis(*interval_ms))
}

/// Waits until the container is healthy, for no longer than `limit` (zero = for ever).
pub(crate) async fn healthy(
    scene: &Scene,
    examination: &Examination<'_>,
    limit: Duration,
    health: &Logger,
) -> Result<(), Failure> {
    scene.log.say(Stream::Stdout, "Starting health monitoring of container");
    let (began, tried) = (scene.clock.now(), Attempts::default());
    let never = limit.is_zero();
    let passed = tokio::select! {
        () = examination.pass(scene, &tried) => true,
        () = sleep(limit), if !never => false,
    };
    if passed {
        scene.log.say(Stream::Stdout, "Container became healthy");
        return Ok(());
    }
    let (attempts, last) = (tried.count.into_inner(), tried.last.into_inner());
    let last = if last.is_empty() { "no answer".to_owned() } else { last };
    let why = match examination {
        Examination::Checks(_) => {
            let limit = text::span(limit);
            format!(
                "Timed out after {limit} ({attempts} attempts) waiting for startup check to succeed: {last}"
            )
        }
        Examination::Monitor(..) => last,
    };
    let took = text::span(scene.clock.now().since(began));
    health.say(Stream::Stderr, &why);
    scene
        .log
        .say(Stream::Stderr, format!("Failed after {took}: startup health check never passed."));
    Err(Failure::Told(format!("Instance never healthy after {took}: {why}")))
}

/// Ends when the container is healthy no more.
pub(crate) async fn unhealthy(
    scene: &Scene,
    examination: &Examination<'_>,
    health: &Logger,
) -> Failure {
    let why = match examination {
        Examination::Checks(_) => {
            format!("Liveness check unsuccessful: {}", examination.fail(scene).await)
        }
        Examination::Monitor(..) => examination.fail(scene).await,
    };
    health.say(Stream::Stderr, &why);
    scene.log.say(Stream::Stderr, "Container became unhealthy");
    Failure::Told(format!("Instance became unhealthy: {why}"))
}

/// Tells by turns that the container is ready and that it is not. Never ends.
pub(crate) async fn readiness(
    scene: &Scene,
    checks: &[Check],
    health: &Logger,
    mut ready: bool,
    tell: impl Fn(bool),
) -> Failure {
    let examination = Examination::Checks(checks);
    health.say(Stream::Stdout, "Starting readiness health monitoring of container");
    loop {
        if ready {
            examination.fail(scene).await;
            health.say(
                Stream::Stdout,
                "Container failed the readiness health check. Container marked not ready and removed from route pool.",
            );
        } else {
            examination.pass(scene, &Attempts::default()).await;
            health.say(
                Stream::Stdout,
                "Container passed the readiness health check. Container marked ready and added to route pool.",
            );
        }
        ready = !ready;
        tell(ready);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_with_the_time_already_spent() {
        let ms = Duration::from_millis;
        let wait = |so_far| next_wait(ms(so_far), ms(5), ms(500)).as_millis();
        assert_eq!([0, 49, 300, 2000, 60_000].map(wait), [5, 5, 30, 200, 500]);
        assert_eq!(next_wait(ms(0), ms(5), ms(1)), ms(1));
    }
}
