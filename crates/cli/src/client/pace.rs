//! How often to ask again: at once when the server itself held the answer, else slower and slower.

use std::time::Duration;

use base::Backoff;

/// An answer that took longer than this was held by the server until something changed.
const HELD: Duration = Duration::from_millis(200);

pub struct Pace(Backoff);

impl Default for Pace {
    fn default() -> Pace {
        Pace(Backoff::new(Duration::from_millis(100), Duration::from_secs(1)))
    }
}

impl Pace {
    /// How long to wait after an answer that took `took`.
    pub fn after(&mut self, took: Duration) -> Duration {
        if took > HELD {
            self.0.reset();
            return Duration::ZERO;
        }
        self.0.step()
    }

    pub async fn wait(&mut self, took: Duration) {
        tokio::time::sleep(self.after(took)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_answers_are_asked_again_at_once() {
        let mut pace = Pace::default();
        let quick = Duration::from_millis(5);
        let waits: Vec<u128> = [quick, quick, Duration::from_secs(2), quick]
            .map(|took| pace.after(took).as_millis())
            .into();
        assert_eq!(waits, [100, 200, 0, 100]);
    }
}
