//! The one loop for everything that keeps two things in step.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::Backoff;

/// The wait after the first failure; it doubles up to the loop's own rhythm.
const AFTER_A_FAILURE: Duration = Duration::from_millis(500);
/// How long a round may go on when all stops: it may be waiting for somebody who is not there any more.
const LAST_ROUND: Duration = Duration::from_secs(2);

/// Wakes a [`Reconcile`] loop. Pokes that arrive during a round make one more round, however many they are.
#[derive(Clone, Debug, Default)]
pub struct Poke(Arc<Notify>);

impl Poke {
    pub fn poke(&self) {
        self.0.notify_one();
    }

    /// Completes at the next poke, or at once when one is waiting.
    pub async fn poked(&self) {
        self.0.notified().await;
    }
}

/// A named loop with its rhythm, its wake-up and its end.
#[derive(Clone, Debug)]
pub struct Reconcile {
    pub name: &'static str,
    pub every: Duration,
    pub poke: Poke,
    pub stop: CancellationToken,
}

impl Reconcile {
    /// Runs `round` when poked and at least every `every`; sooner after a failure, which may be over in a moment. A poke
    /// carries no data: the round must find all it needs in stored state, so a lost poke or a restart costs time, never
    /// correctness. A round that is under way at the end has two seconds left.
    pub async fn drive(self, mut round: impl AsyncFnMut() -> anyhow::Result<()>) {
        let mut failures = Backoff::new(AFTER_A_FAILURE.min(self.every), self.every);
        loop {
            let made = tokio::select! {
                made = round() => made,
                () = self.is_overdue() => return,
            };
            let wait = match made {
                Ok(()) => {
                    failures.reset();
                    self.every
                }
                Err(error) => {
                    warn!(name = self.name, error = %format!("{error:#}"), "round failed");
                    failures.step()
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.poke.0.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn is_overdue(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(LAST_ROUND).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_failed_round_is_made_again_soon() {
        let (stop, rounds) = (CancellationToken::new(), Arc::new(AtomicU32::new(0)));
        let (seen, end) = (rounds.clone(), stop.clone());
        let every = Duration::from_secs(3600);
        let lane = Reconcile { name: "test", every, poke: Poke::default(), stop };
        let drive = lane.drive(async move || {
            if seen.fetch_add(1, Ordering::SeqCst) == 1 {
                end.cancel();
            }
            anyhow::bail!("not yet")
        });
        drive.await;
        assert_eq!(rounds.load(Ordering::SeqCst), 2, "without waiting for an hour");
    }

    #[tokio::test]
    async fn a_round_that_waits_for_nobody_ends_with_the_loop() {
        let (every, stop) = (Duration::from_secs(3600), CancellationToken::new());
        let lane = Reconcile { name: "test", every, poke: Poke::default(), stop: stop.clone() };
        let task = tokio::spawn(lane.drive(std::future::pending));
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_poke_makes_a_round_and_stop_ends_the_loop() {
        let (poke, stop, rounds) =
            (Poke::default(), CancellationToken::new(), Arc::new(AtomicU32::new(0)));
        let seen = rounds.clone();
        let done = Poke::default();
        let tell = done.clone();
        let every = Duration::from_secs(3600);
        let lane = Reconcile { name: "test", every, poke: poke.clone(), stop: stop.clone() };
        let task = tokio::spawn(lane.drive(async move || {
            seen.fetch_add(1, Ordering::SeqCst);
            tell.poke();
            Ok(())
        }));
        done.poked().await;
        poke.poke();
        done.poked().await;
        stop.cancel();
        task.await.unwrap();
        assert_eq!(rounds.load(Ordering::SeqCst), 2);
    }
}
