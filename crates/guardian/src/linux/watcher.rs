//! Looks now and then which containers have written too much, where nothing else stops them. It looks closely only after
//! the file system has filled by as much as the one nearest its limit could still write.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tracing::warn;

use super::{Linux, disk};

/// The whole file system is asked at each look, which costs one system call; containers are counted after so many looks in any case: what some write others may remove.
const LOOKS: u32 = 60;

/// What is known from the last close look.
#[derive(Debug, Default)]
pub struct Watcher {
    looks: u32,
    /// Free at the last count, and how much less means that somebody may be beyond its limit.
    free: u64,
    slack: u64,
    known: HashMap<u32, u64>,
}

impl Watcher {
    /// Pure: whether to count, `limits` being every container's number and limit.
    pub fn is_due(&mut self, free: u64, limits: &[(u32, u64)]) -> bool {
        self.looks += 1;
        let new = limits.iter().any(|(index, _)| !self.known.contains_key(index));
        !limits.is_empty()
            && (new || self.looks >= LOOKS || self.free.saturating_sub(free) >= self.slack)
    }

    /// Pure: those beyond their limits, and what to remember. `used` counts one container.
    pub fn beyond(
        &mut self,
        free: u64,
        limits: &[(u32, u64)],
        used: impl Fn(u32) -> u64,
    ) -> Vec<u32> {
        self.known = limits.iter().map(|(index, _)| (*index, used(*index))).collect();
        let left = limits.iter().map(|(index, limit)| limit.saturating_sub(self.known[index]));
        (self.looks, self.free, self.slack) = (0, free, left.min().unwrap_or(u64::MAX));
        limits
            .iter()
            .filter(|(index, limit)| self.known[index] > *limit)
            .map(|(index, _)| *index)
            .collect()
    }
}

/// Looks until the garden is gone, where its disk must be watched.
pub fn begin(linux: &Arc<Linux>) {
    if !linux.disk.must_be_watched() {
        return;
    }
    // Weak, so that watching does not keep what it watches.
    let (watching, every) = (Arc::downgrade(linux), linux.config.disk_look);
    let stop = linux.containers.stop.clone();
    linux.containers.tasks.spawn(async move {
        tokio::select! {
            () = watch(watching, every) => {}
            () = stop.cancelled() => {}
        }
    });
}

/// Kills whoever is beyond its limit; its owner sees the processes end.
async fn watch(linux: Weak<Linux>, every: Duration) {
    let mut watcher = Watcher::default();
    loop {
        tokio::time::sleep(every).await;
        let Some(linux) = linux.upgrade() else { return };
        let all = linux.containers.all();
        let limits: Vec<_> = all.iter().filter_map(|one| one.disk_limit()).collect();
        let Ok(free) = disk::free(linux.disk.root()) else { continue };
        if !watcher.is_due(free, &limits) {
            continue;
        }
        let counting = linux.clone();
        let counted = tokio::task::spawn_blocking(move || {
            let beyond = watcher.beyond(free, &limits, |index| counting.disk.used(index, 0));
            (watcher, beyond)
        });
        let Ok((after, beyond)) = counted.await else { return };
        watcher = after;
        for record in
            all.iter().map(|one| one.record()).filter(|record| beyond.contains(&record.index))
        {
            warn!(handle = %record.handle, "killing a container that has written more than it may");
            if let Err(error) = linux.containers.stop(&record.handle, true).await {
                warn!(handle = %record.handle, %error, "killing a container");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_closely_only_when_somebody_may_be_beyond() {
        let mut watcher = Watcher::default();
        let limits = [(1, 100), (2, 50)];
        assert!(!watcher.is_due(1000, &[]));
        assert!(watcher.is_due(1000, &limits), "nobody has been counted");
        assert!(watcher.beyond(1000, &limits, |index| u64::from(index) * 20).is_empty());
        assert!(!watcher.is_due(995, &limits));
        assert!(watcher.is_due(990, &limits), "the second may have written its last 10");
        assert_eq!(watcher.beyond(990, &limits, |index| u64::from(index) * 30), [2]);
        assert!(watcher.is_due(990, &[(3, 10)]), "a new one");
        watcher.beyond(990, &[(3, 10)], |_| 0);
        assert_eq!(
            (1..=LOOKS).filter(|_| watcher.is_due(990, &[(3, 10)])).count(),
            1,
            "in the end in any case"
        );
    }
}
