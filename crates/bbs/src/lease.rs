//! Whether this brain may still speak for the store: brains that share one hold a lease in it, one at a time.
//!
//! The holder counts a number in the store on, with every commit and now and then besides. It trusts its lease for one
//! time to live from before it sent the last count that went through. A brain that stands by takes over when the count
//! has stood still for a whole time to live since it saw it: so the two never speak at once, whatever their clocks say,
//! as long as these run equally fast. What a former holder still writes is refused by the store: see `store`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base::CancellationToken;

/// How often somebody without a lease looks whether it is back.
const LOOK: Duration = Duration::from_millis(20);
/// The part of its time to live that the holder trusts in: clocks drift.
const TRUST: (u32, u32) = (9, 10);

#[derive(Debug)]
pub struct Lease {
    origin: Instant,
    ttl: Option<Duration>,
    /// Nanoseconds after `origin`.
    until: AtomicU64,
}

impl Lease {
    /// There is no other brain: held until the store says otherwise.
    pub fn sole() -> Lease {
        Lease { origin: Instant::now(), ttl: None, until: AtomicU64::new(u64::MAX) }
    }

    /// Held for one `ttl` from `since`, when the count was sent that won it.
    pub fn since(since: Instant, ttl: Duration) -> Lease {
        let lease = Lease { origin: since, ttl: Some(ttl), until: AtomicU64::new(0) };
        lease.extend(since);
        lease
    }

    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    pub fn holds(&self) -> bool {
        self.holds_at(Instant::now())
    }

    pub fn holds_at(&self, now: Instant) -> bool {
        nanos(now.saturating_duration_since(self.origin)) < self.until.load(Ordering::SeqCst)
    }

    /// A count that was sent at `sent` went through.
    pub fn extend(&self, sent: Instant) {
        let Some(ttl) = self.ttl else { return };
        let until = sent.saturating_duration_since(self.origin) + ttl * TRUST.0 / TRUST.1;
        self.until.fetch_max(nanos(until), Ordering::SeqCst);
    }

    /// Completes while the lease is held, or when all ends.
    pub(crate) async fn held(&self, stop: &CancellationToken) {
        while !self.holds() && !stop.is_cancelled() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// How a brain that stands by sees the holder's count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub fence: i64,
    pub beat: i64,
    /// The holder has gone of its own accord.
    pub released: bool,
}

/// Watches the count stand still.
#[derive(Debug)]
pub struct Watch {
    ttl: Duration,
    last: Option<(Count, Instant)>,
}

impl Watch {
    pub fn new(ttl: Duration) -> Watch {
        Watch { ttl, last: None }
    }

    /// Whether the lease may be taken, now that `count` was read.
    pub fn is_free(&mut self, count: Count, now: Instant) -> bool {
        match self.last {
            _ if count.released => true,
            Some((last, since)) if last == count => {
                now.saturating_duration_since(since) >= self.ttl
            }
            _ => {
                self.last = Some((count, now));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TTL: Duration = Duration::from_millis(1500);

    #[test]
    fn a_lease_runs_out_unless_extended() {
        let start = Instant::now();
        let lease = Lease::since(start, TTL);
        assert!(lease.holds_at(start + Duration::from_millis(1300)));
        assert!(!lease.holds_at(start + TTL));
        lease.extend(start + Duration::from_secs(1));
        assert!(lease.holds_at(start + TTL));
        lease.extend(start);
        assert!(lease.holds_at(start + TTL), "a late answer takes nothing away");
        assert!(Lease::sole().holds_at(start + Duration::from_secs(1_000_000)));
    }

    #[test]
    fn what_was_released_is_free_at_once() {
        let count = Count { fence: 1, beat: 1, released: true };
        assert!(Watch::new(TTL).is_free(count, Instant::now()));
    }

    proptest! {
        /// The holder counts on at these moments, each count is seen after some delay, then the holder freezes.
        #[test]
        fn two_never_hold_at_once(beats in prop::collection::vec((1_u64..900, 0_u64..300), 1..30), look in 1_u64..300) {
            let start = Instant::now();
            let at = |millis| start + Duration::from_millis(millis);
            let lease = Lease::since(start, TTL);
            let mut seen = vec![(0, 0)];
            let mut time = 0;
            for (number, (wait, delay)) in (1..).zip(beats) {
                time += wait;
                lease.extend(at(time));
                seen.push((time + delay, number));
            }
            seen.sort();
            let mut watch = Watch::new(TTL);
            let mut now = 0;
            loop {
                now += look;
                let beat = seen.iter().filter(|(when, _)| *when <= now).map(|(_, beat)| *beat).max().unwrap_or(0);
                if watch.is_free(Count { fence: 1, beat, released: false }, at(now)) {
                    break;
                }
            }
            let last = seen.iter().filter(|(when, _)| *when <= now).map(|(_, beat)| *beat).max();
            if last == seen.iter().map(|(_, beat)| *beat).max() {
                prop_assert!(!lease.holds_at(at(now)), "taken at {now} ms");
            }
        }
    }
}
