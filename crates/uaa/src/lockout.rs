//! When failed logins lock an account: so many in a row within a span lock it for that span.

use base::Timestamp;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub failures: i64,
    pub span: Duration,
}

/// What an account remembers of its failed logins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lockout {
    pub failures: i64,
    pub since: Timestamp,
    pub until: Timestamp,
}

impl Lockout {
    pub(crate) fn is_locked(&self, now: Timestamp) -> bool {
        now < self.until
    }

    /// The account after one more failure. A locked account does not get more locked.
    pub(crate) fn after_failure(self, policy: Policy, now: Timestamp) -> Lockout {
        if self.is_locked(now) {
            return self;
        }
        let stale = self.failures == 0
            || now.since(self.since) >= policy.span
            || self.until > Timestamp::ZERO;
        let (failures, since) = if stale { (1, now) } else { (self.failures + 1, self.since) };
        let until = if failures >= policy.failures { now + policy.span } else { Timestamp::ZERO };
        Lockout { failures, since, until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: Policy = Policy { failures: 5, span: Duration::from_secs(300) };

    fn replay(gaps: &[i64]) -> (Lockout, Timestamp) {
        let mut now = Timestamp::from_secs(1_000);
        let mut lockout = Lockout::default();
        for gap in gaps {
            now = now + Duration::from_secs(u64::try_from(*gap).unwrap());
            lockout = lockout.after_failure(POLICY, now);
        }
        (lockout, now)
    }

    #[test]
    fn five_quick_failures_lock_for_five_minutes() {
        let (lockout, now) = replay(&[0, 1, 1, 1]);
        assert!(!lockout.is_locked(now));
        let (lockout, now) = replay(&[0, 1, 1, 1, 1]);
        assert!(lockout.is_locked(now));
        assert!(lockout.is_locked(now + Duration::from_secs(299)));
        assert!(!lockout.is_locked(now + Duration::from_secs(300)));
    }

    #[test]
    fn after_a_lock_the_count_starts_over() {
        let (lockout, now) = replay(&[0, 1, 1, 1, 1, 300]);
        assert!(!lockout.is_locked(now), "{lockout:?}");
        assert_eq!(lockout.failures, 1);
    }

    proptest! {
        #[test]
        fn slow_failures_never_lock(gaps in proptest::collection::vec(76_i64..10_000, 0..50)) {
            let (lockout, now) = replay(&gaps);
            prop_assert!(!lockout.is_locked(now));
        }
    }
}
