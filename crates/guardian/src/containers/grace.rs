//! Containers that nobody uses any more, each after its own grace time.

use std::time::Duration;

use base::CancellationToken;
use garden::Handle;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::Containers;

/// When a container was last used, and by how many it is now.
pub struct Use(Mutex<State>);

struct State {
    holders: usize,
    last: Instant,
}

impl Use {
    pub fn begin() -> Use {
        Use(Mutex::new(State { holders: 0, last: Instant::now() }))
    }

    pub fn touch(&self) {
        self.0.lock().last = Instant::now();
    }

    pub fn begin_hold(&self) {
        self.0.lock().holders += 1;
    }

    pub fn end_hold(&self) {
        let mut state = self.0.lock();
        state.holders -= 1;
        state.last = Instant::now();
    }

    /// Of one that is held: when it could end at the soonest.
    pub fn until(&self, grace: Duration, now: Instant) -> Instant {
        let state = self.0.lock();
        (if state.holders > 0 { now } else { state.last }) + grace
    }
}

impl Containers {
    /// Destroys each container whose time has come, until stopped.
    pub async fn keep_time<F: Future<Output = ()> + Send>(
        &self,
        destroy: impl Fn(Handle) -> F + Send + Sync,
    ) {
        let stop: &CancellationToken = &self.stop;
        while !stop.is_cancelled() {
            let now = Instant::now();
            let mut next = None;
            for container in self.all() {
                match container.stays(now) {
                    Some(until) if until <= now => destroy(container.record().handle).await,
                    Some(until) => next = Some(next.map_or(until, |next: Instant| next.min(until))),
                    None => {}
                }
            }
            let sleeping = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleeping => {}
                () = self.grace.poked() => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_it_keeps_it() {
        let grace = Duration::from_secs(10);
        let used = Use::begin();
        let begin = Instant::now();
        assert!(used.until(grace, begin) <= begin + grace);
        used.begin_hold();
        let later = begin + Duration::from_secs(60);
        assert_eq!(used.until(grace, later), later + grace);
        used.end_hold();
        assert!(used.until(grace, later) < later);
    }
}
