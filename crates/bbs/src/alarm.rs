//! Wakes convergence: at once, or when the next thing is due.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base::{Clock, Poke, Timestamp};

#[derive(Debug)]
pub(crate) struct Alarm {
    due: AtomicI64,
    now: Poke,
    sooner: Poke,
}

impl Default for Alarm {
    fn default() -> Alarm {
        Alarm { due: AtomicI64::new(i64::MAX), now: Poke::default(), sooner: Poke::default() }
    }
}

impl Alarm {
    pub fn now(&self) {
        self.now.poke();
    }

    pub fn no_later_than(&self, due: Timestamp) {
        if due.as_nanos() < self.due.fetch_min(due.as_nanos(), Ordering::SeqCst) {
            self.sooner.poke();
        }
    }

    /// Nothing is due until somebody says so. Called before a look at the state, so that what comes due during the look
    /// is kept.
    pub fn clear(&self) {
        self.due.store(i64::MAX, Ordering::SeqCst);
    }

    /// Completes when called, when something is due, or after `most`.
    pub async fn wait(&self, clock: &Clock, most: Duration) {
        let end = tokio::time::Instant::now() + most;
        loop {
            let due = Timestamp::from_nanos(self.due.load(Ordering::SeqCst)).since(clock.now());
            let due = (tokio::time::Instant::now() + due.min(most)).min(end);
            tokio::select! {
                () = self.now.poked() => return,
                () = tokio::time::sleep_until(due) => return,
                () = self.sooner.poked() => {}
            }
        }
    }
}
