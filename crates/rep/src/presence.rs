//! That this cell is there: announced again and again, apart from everything else the cell does, and known here as a
//! lease, so that the cell knows by itself when others may have taken over.

use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, CancellationToken};
use diego::{Bbs, CellPresence};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::cell::Rep;
use crate::config::Timings;

/// Announcements under way: a connection that hangs must not hold up the next.
const UNDER_WAY: usize = 4;

/// What the brain has granted by hearing of this cell. It counts from the moment an announcement was *sent*, so it
/// ends here no later than there.
pub(crate) struct Lease {
    inner: Mutex<Inner>,
    /// The number of the current term, for whoever waits for it.
    terms: watch::Sender<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Inner {
    /// Since the host was booted; zero before the first.
    until: Duration,
    /// Counts times of uninterrupted presence. What was granted in an earlier one may be somebody else's by now.
    term: u64,
}

impl Default for Lease {
    fn default() -> Lease {
        Lease { inner: Mutex::default(), terms: watch::Sender::new(0) }
    }
}

impl Lease {
    /// The brain has heard what was sent at `sent`; it holds for `span`. `true` when a new term begins.
    pub fn renew(&self, sent: Duration, span: Duration) -> bool {
        let mut inner = self.inner.lock();
        let fresh = sent >= inner.until;
        inner.until = inner.until.max(sent + span);
        inner.term += u64::from(fresh);
        let term = inner.term;
        drop(inner);
        if fresh {
            self.terms.send_replace(term);
        }
        fresh
    }

    /// The current term; `None` when the brain may count this cell as lost.
    pub fn term(&self) -> Option<u64> {
        self.term_at(since_boot())
    }

    /// Completes once there is no current term.
    pub async fn lapsed(&self) {
        while let Some((_, left)) = self.current_at(since_boot()) {
            tokio::time::sleep(left).await;
        }
    }

    fn term_at(&self, now: Duration) -> Option<u64> {
        self.current_at(now).map(|(term, _)| term)
    }

    /// The term and what is left of it.
    fn current_at(&self, now: Duration) -> Option<(u64, Duration)> {
        let Inner { until, term } = *self.inner.lock();
        (now < until).then(|| (term, until - now))
    }

    /// Waits for the next term.
    pub async fn next_term(&self) {
        let mut terms = self.terms.subscribe();
        // The sender lives as long as this lease.
        let _ = terms.changed().await;
    }
}

/// By a clock that goes on while the host sleeps, and that nobody sets.
fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

impl Rep {
    /// Whether the brain is certain to count this cell as there.
    pub fn is_present(&self) -> bool {
        self.lease.term().is_some()
    }

    /// Announces the cell until `stop`.
    pub(crate) async fn keep_announced(self: Arc<Self>, stop: CancellationToken) {
        let Some(heart) = self.heart.clone() else {
            return self.clone().beat(self.bbs.clone(), stop).await;
        };
        // A thread of its own: whatever keeps the other threads busy, the cell does not count as lost for it.
        let (me, done) = (self.clone(), CancellationToken::new());
        let (until, finished) = (stop.clone(), done.clone().drop_guard());
        let thread = std::thread::Builder::new().name("cell-presence".to_owned());
        let begun = thread.spawn(move || {
            let _finished = finished;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(me.beat(heart, until)),
                Err(error) => warn!(%error, "the cell cannot announce itself"),
            }
        });
        match begun {
            Ok(_) => done.cancelled().await,
            Err(error) => {
                warn!(%error, "the cell announces itself beside everything else");
                self.clone().beat(self.bbs.clone(), stop).await;
            }
        }
    }

    async fn beat(self: Arc<Self>, bbs: Arc<dyn Bbs>, stop: CancellationToken) {
        let timings = &self.config.timings;
        let mut backoff = Backoff::new(timings.first_retry, timings.announce);
        let (mut under_way, mut last) = (FuturesUnordered::new(), None);
        let mut next = Instant::now();
        let mut missed = 0_u32;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.farewell.cancelled() => return,
                () = self.announce.poked() => next = Instant::now(),
                () = tokio::time::sleep_until(next) => {
                    let presence = self.presence();
                    if last.as_ref() != Some(&presence) {
                        // What was true before must not be heard after what is true now.
                        under_way.clear();
                    }
                    if under_way.len() < UNDER_WAY {
                        under_way.push(announcement(bbs.clone(), presence.clone(), timings.presence_ttl));
                    }
                    last = Some(presence);
                    next = Instant::now() + timings.announce;
                }
                Some((sent, heard)) = under_way.next() => match heard {
                    Ok(()) => {
                        backoff.reset();
                        missed = 0;
                        if self.lease.renew(sent, lease_span(timings)) {
                            self.arrived();
                        }
                    }
                    Err(error) => {
                        missed += 1;
                        let (cell, kind) = (&self.config.cell_id, missed);
                        if missed == 1 {
                            warn!(cell.id = %cell, %error, "the brain did not hear that this cell lives");
                        } else {
                            debug!(cell.id = %cell, %error, missed = kind, "the brain did not hear that this cell lives");
                        }
                        next = next.min(Instant::now() + backoff.step());
                    }
                },
            }
        }
    }

    /// The cell is there, for the first time or again: whatever happened meanwhile is found out.
    fn arrived(self: &Arc<Self>) {
        info!(cell.id = %self.config.cell_id, "the brain knows that this cell is there");
        self.returned.poke();
    }
}

/// Somewhat less than the brain grants: what is begun at the very end needs a moment, too.
fn lease_span(timings: &Timings) -> Duration {
    timings.presence_ttl - timings.presence_ttl / 8
}

async fn announcement(
    bbs: Arc<dyn Bbs>,
    presence: CellPresence,
    ttl: Duration,
) -> (Duration, Result<(), String>) {
    let sent = since_boot();
    // Later than that it has no worth.
    let heard = match tokio::time::timeout(ttl, bbs.announce(&presence, ttl)).await {
        Ok(heard) => heard.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    };
    (sent, heard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lease_that_lapsed_begins_a_new_term() {
        let lease = Lease::default();
        let (began, span) = (Duration::from_secs(100), Duration::from_millis(1300));
        let at = |ms| began + Duration::from_millis(ms);
        assert_eq!(lease.term_at(at(0)), None);
        assert!(lease.renew(at(0), span));
        assert_eq!(lease.term_at(at(1200)), Some(1));
        // The answer came late, but what it answers was sent in time.
        assert_eq!(lease.term_at(at(1400)), None);
        assert!(!lease.renew(at(1200), span));
        assert_eq!(lease.term_at(at(1400)), Some(1));
        assert_eq!(lease.term_at(at(2500)), None);
        let next = lease.next_term();
        tokio::pin!(next);
        assert!(futures::poll!(&mut next).is_pending());
        assert!(lease.renew(at(2500), span));
        next.await;
        assert_eq!(lease.term_at(at(2500)), Some(2));
        // An old answer that comes last takes nothing away.
        assert!(!lease.renew(at(1200), span));
        assert_eq!(lease.term_at(at(3700)), Some(2));
    }
}
