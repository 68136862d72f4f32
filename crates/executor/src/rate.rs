//! The log rate limits of one container: buckets of bytes and of lines that fill evenly.

use std::time::Duration;

use base::Timestamp;

/// How long nothing passes after a limit was exceeded.
const SILENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Rate {
    /// Bytes per second; below zero = no limit.
    limit: i64,
    bytes: Bucket,
    /// 0 = no limit.
    lines_limit: u64,
    lines: Bucket,
    silent_until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Drop,
    /// Drop, and say once that it is so.
    DropAndTell(Excess),
}

/// Which limit it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    Bytes(i64),
    Lines(u64),
}

/// Holds a second's worth.
#[derive(Debug)]
struct Bucket {
    most: f64,
    left: f64,
    filled_at: Timestamp,
}

impl Bucket {
    fn full(most: f64, now: Timestamp) -> Bucket {
        Bucket { most, left: most, filled_at: now }
    }

    fn holds(&mut self, wanted: f64, now: Timestamp) -> bool {
        let more = self.most * now.since(self.filled_at).as_secs_f64();
        self.left = (self.left + more).min(self.most);
        self.filled_at = self.filled_at.max(now);
        wanted <= self.left
    }
}

impl Rate {
    #[expect(clippy::cast_precision_loss, reason = "limits are far below 2^52")]
    pub fn new(limit: i64, lines_limit: u64, now: Timestamp) -> Rate {
        Rate {
            limit,
            bytes: Bucket::full(limit as f64, now),
            lines_limit,
            lines: Bucket::full(lines_limit as f64, now),
            silent_until: Timestamp::ZERO,
        }
    }

    pub fn limit(&self) -> i64 {
        self.limit
    }

    pub fn judge(&mut self, bytes: usize, now: Timestamp) -> Verdict {
        if self.limit == 0 || now < self.silent_until {
            return Verdict::Drop;
        }
        #[expect(clippy::cast_precision_loss, reason = "a line is small")]
        let bytes = bytes as f64;
        let excess = if self.limit > 0 && !self.bytes.holds(bytes, now) {
            Excess::Bytes(self.limit)
        } else if self.lines_limit > 0 && !self.lines.holds(1.0, now) {
            Excess::Lines(self.lines_limit)
        } else {
            self.bytes.left -= bytes;
            self.lines.left -= 1.0;
            return Verdict::Pass;
        };
        self.silent_until = now + SILENCE;
        Verdict::DropAndTell(excess)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_second_of_silence_follows_an_excess() {
        let mut rate = Rate::new(100, 0, at(0));
        let verdicts = [(60, 0), (60, 0), (1, 500), (60, 1100), (60, 1100)]
            .map(|(bytes, ms)| rate.judge(bytes, at(ms)));
        use Verdict::*;
        let told = DropAndTell(Excess::Bytes(100));
        assert_eq!(verdicts, [Pass, told, Drop, Pass, told]);
    }

    #[test]
    fn lines_are_counted_as_well() {
        let mut rate = Rate::new(-1, 2, at(0));
        let verdicts = [0, 0, 0, 500, 1100, 1100].map(|ms| rate.judge(1 << 20, at(ms)));
        use Verdict::*;
        assert_eq!(verdicts, [Pass, Pass, DropAndTell(Excess::Lines(2)), Drop, Pass, Pass]);
    }

    #[test]
    fn no_limit_and_nothing_at_all() {
        assert_eq!(Rate::new(-1, 0, at(0)).judge(1 << 30, at(0)), Verdict::Pass);
        assert_eq!(Rate::new(0, 0, at(0)).judge(1, at(0)), Verdict::Drop);
    }
}
