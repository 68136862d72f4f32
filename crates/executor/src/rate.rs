//! The log rate limit of one container: a bucket of bytes that fills evenly.

use std::time::Duration;

use base::Timestamp;

/// How long nothing passes after the limit was exceeded.
const SILENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Rate {
    /// Bytes per second; below zero = no limit.
    limit: i64,
    left: f64,
    filled_at: Timestamp,
    silent_until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Drop,
    /// Drop, and say once that it is so.
    DropAndTell,
}

impl Rate {
    pub fn new(limit: i64, now: Timestamp) -> Rate {
        Rate { limit, left: as_f64(limit), filled_at: now, silent_until: Timestamp::ZERO }
    }

    pub fn limit(&self) -> i64 {
        self.limit
    }

    pub fn judge(&mut self, bytes: usize, now: Timestamp) -> Verdict {
        match self.limit {
            ..0 => return Verdict::Pass,
            0 => return Verdict::Drop,
            _ if now < self.silent_until => return Verdict::Drop,
            _ => {}
        }
        let most = as_f64(self.limit);
        self.left = (self.left + most * now.since(self.filled_at).as_secs_f64()).min(most);
        self.filled_at = self.filled_at.max(now);
        #[expect(clippy::cast_precision_loss, reason = "a line is small")]
        let bytes = bytes as f64;
        if bytes <= self.left {
            self.left -= bytes;
            return Verdict::Pass;
        }
        self.silent_until = now + SILENCE;
        Verdict::DropAndTell
    }
}

#[expect(clippy::cast_precision_loss, reason = "limits are far below 2^52")]
fn as_f64(limit: i64) -> f64 {
    limit as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_second_of_silence_follows_an_excess() {
        let mut rate = Rate::new(100, at(0));
        let verdicts = [(60, 0), (60, 0), (1, 500), (60, 1100), (60, 1100)]
            .map(|(bytes, ms)| rate.judge(bytes, at(ms)));
        use Verdict::*;
        assert_eq!(verdicts, [Pass, DropAndTell, Drop, Pass, DropAndTell]);
    }

    #[test]
    fn no_limit_and_nothing_at_all() {
        assert_eq!(Rate::new(-1, at(0)).judge(1 << 30, at(0)), Verdict::Pass);
        assert_eq!(Rate::new(0, at(0)).judge(1, at(0)), Verdict::Drop);
    }
}
