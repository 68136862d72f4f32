//! One at a time per key: whoever comes second waits, and finds what the first one left.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

#[derive(Default)]
pub(crate) struct Flights(Mutex<HashMap<String, Weak<Turn<()>>>>);

impl Flights {
    /// Waits for the turn of `key`, and has it while the guard is held.
    pub async fn turn(&self, key: &str) -> OwnedMutexGuard<()> {
        self.of(key).lock_owned().await
    }

    /// All who want `key` at the same time share one lock; it goes with the last of them.
    fn of(&self, key: &str) -> Arc<Turn<()>> {
        let mut flights = self.0.lock();
        flights.retain(|_, flight| flight.strong_count() > 0);
        if let Some(flight) = flights.get(key).and_then(Weak::upgrade) {
            return flight;
        }
        let flight = Arc::default();
        flights.insert(key.to_owned(), Arc::downgrade(&flight));
        flight
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn turns_are_taken_per_key() {
        let flights = Flights::default();
        let first = flights.turn("a").await;
        assert!(flights.turn("a").now_or_never().is_none());
        assert!(flights.turn("b").now_or_never().is_some());
        drop(first);
        assert!(flights.turn("a").now_or_never().is_some());
        assert_eq!(flights.0.lock().len(), 1);
    }
}
