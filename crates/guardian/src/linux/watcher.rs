//! Looks now and then which containers have written too much, where nothing else stops them. It looks closely only after
//! the file system has filled by as much as the one nearest its limit could still write.

use std::collections::HashMap;

/// Asked of the whole file system this often, which costs one system call.
pub const EVERY: std::time::Duration = std::time::Duration::from_secs(5);
/// Containers are counted after so many looks in any case: what some write others may remove.
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
