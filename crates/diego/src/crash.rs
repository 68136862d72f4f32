//! When a crashed instance starts again: at once the first times, then after growing waits, at last never.

use std::time::Duration;

/// When a crashed instance starts again. The default is Diego's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// So many crashes in a row restart at once.
    pub at_once: u32,
    /// From this count on nothing restarts.
    pub give_up: u32,
    /// After the first crash that does not restart at once; each further one waits twice as long.
    pub first_wait: Duration,
    /// No wait grows beyond this.
    pub last_wait: Duration,
    /// Whoever ran longer than this counts its crashes from one again.
    pub stable: Duration,
}

impl Default for Rule {
    fn default() -> Rule {
        Rule {
            at_once: 2,
            give_up: 200,
            first_wait: Duration::from_secs(30),
            last_wait: Duration::from_secs(16 * 60),
            stable: Duration::from_secs(5 * 60),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    AtOnce,
    /// This long after the crash.
    After(Duration),
    Never,
}

impl Rule {
    /// The crash count after one more crash. `ran` says how long the instance had been running, `None` when it never was.
    pub fn count(&self, before: u32, ran: Option<Duration>) -> u32 {
        if ran.is_some_and(|ran| ran > self.stable) { 1 } else { before.saturating_add(1) }
    }

    /// What becomes of an instance with so many crashes.
    pub fn restart(&self, count: u32) -> Restart {
        if count >= self.give_up {
            return Restart::Never;
        }
        let Some(doublings) = count.checked_sub(self.at_once.saturating_add(1)) else {
            return Restart::AtOnce;
        };
        let times = 2_u32.saturating_pow(doublings);
        Restart::After(self.first_wait.saturating_mul(times).min(self.last_wait))
    }
}

/// What becomes of an instance with so many crashes by Diego's rule.
pub fn restart(count: u32) -> Restart {
    Rule::default().restart(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_to_sixteen_minutes() {
        let waits: Vec<_> = (1..=9).map(restart).collect();
        let after = |seconds| Restart::After(Duration::from_secs(seconds));
        use Restart::AtOnce;
        assert_eq!(
            waits,
            [
                AtOnce,
                AtOnce,
                after(30),
                after(60),
                after(120),
                after(240),
                after(480),
                after(960),
                after(960)
            ]
        );
        assert_eq!((restart(199), restart(200)), (after(960), Restart::Never));
    }

    #[test]
    fn every_number_of_it_can_be_another() {
        let millis = Duration::from_millis;
        let rule = Rule {
            at_once: 0,
            give_up: 4,
            first_wait: millis(7),
            last_wait: millis(20),
            stable: millis(50),
        };
        let waits: Vec<_> = (1..=4).map(|count| rule.restart(count)).collect();
        let after = |wait| Restart::After(millis(wait));
        assert_eq!(waits, [after(7), after(14), after(20), Restart::Never]);
        assert_eq!((rule.count(3, Some(millis(51))), rule.count(3, Some(millis(50)))), (1, 4));
        let patient = Rule { give_up: u32::MAX, ..rule };
        assert_eq!(patient.restart(u32::MAX - 1), after(20));
    }

    proptest! {
        #[test]
        fn more_crashes_never_restart_sooner(low in 0_u32..300, more in 0_u32..300) {
            let wait = |count| match restart(count) {
                Restart::AtOnce => Duration::ZERO,
                Restart::After(wait) => wait,
                Restart::Never => Duration::MAX,
            };
            prop_assert!(wait(low) <= wait(low + more));
        }

        #[test]
        fn only_a_stable_run_forgives(before in 0_u32..300, ran in proptest::option::of(0_u64..1000)) {
            let after = Rule::default().count(before, ran.map(Duration::from_secs));
            prop_assert_eq!(after, if ran.is_some_and(|ran| ran > 300) { 1 } else { before + 1 });
        }
    }
}
