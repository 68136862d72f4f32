//! Room for the descriptors that many containers need: the usual limit of a program is far below what one host can hold.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// A keeper is known by two and watched by a third; its process's output is read by a fourth, and there may be another process.
const EACH: u64 = 6;
/// What the rest of the program needs.
const OTHERS: u64 = 4096;

/// Raises this program's limit as far as it must and may.
pub fn make_room(containers: u32) {
    let now = getrlimit(Resource::Nofile);
    let wanted = u64::from(containers) * EACH + OTHERS;
    let Some(raised) = raised(&now, wanted) else { return };
    let (current, maximum) = (Some(raised), now.maximum);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current, maximum }) {
        warn!(%error, "raising the limit on open files");
    }
    if raised < wanted {
        warn!(
            limit = raised,
            wanted,
            "containers may run out of open files: raise the hard limit (LimitNOFILE= of the service, or ulimit -Hn)"
        );
    }
}

/// Pure: the new soft limit; `None` when today's will do.
fn raised(now: &Rlimit, wanted: u64) -> Option<u64> {
    let enough = now.current.is_none_or(|current| current >= wanted);
    (!enough).then(|| now.maximum.map_or(wanted, |most| wanted.min(most)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_rises_no_further_than_it_must_and_may() {
        let limit = |current, maximum| Rlimit { current, maximum };
        assert_eq!(raised(&limit(Some(1024), Some(4096)), 2000), Some(2000));
        assert_eq!(raised(&limit(Some(1024), Some(4096)), 9000), Some(4096));
        assert_eq!(raised(&limit(Some(1024), None), 9000), Some(9000));
        assert_eq!(raised(&limit(Some(9000), Some(9000)), 9000), None);
        assert_eq!(raised(&limit(None, None), 9000), None);
    }
}
