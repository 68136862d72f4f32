//! When a crashed instance starts again: at once the first times, then after growing waits, at last never.

use std::time::Duration;

/// Crashes below this count restart at once.
pub const IMMEDIATE: u32 = 3;
/// From this count on nothing restarts.
pub const GIVE_UP: u32 = 200;
/// Whoever ran longer than this counts its crashes from one again.
pub const STABLE: Duration = Duration::from_secs(5 * 60);

const FIRST_WAIT: Duration = Duration::from_secs(30);
const MOST_DOUBLINGS: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    AtOnce,
    /// This long after the crash.
    After(Duration),
    Never,
}

/// The crash count after one more crash. `ran` says how long the instance had been running, `None` when it never was.
pub fn count(before: u32, ran: Option<Duration>) -> u32 {
    if ran.is_some_and(|ran| ran > STABLE) { 1 } else { before.saturating_add(1) }
}

/// What becomes of an instance with so many crashes.
pub fn restart(count: u32) -> Restart {
    match count {
        0..IMMEDIATE => Restart::AtOnce,
        IMMEDIATE..GIVE_UP => {
            Restart::After(FIRST_WAIT * 2_u32.pow((count - IMMEDIATE).min(MOST_DOUBLINGS)))
        }
        GIVE_UP.. => Restart::Never,
    }
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
            let after = count(before, ran.map(Duration::from_secs));
            prop_assert_eq!(after, if ran.is_some_and(|ran| ran > 300) { 1 } else { before + 1 });
        }
    }
}
