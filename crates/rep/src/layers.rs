//! Tells the brain which image layers lie here, so that instances which stand on them like to come.

use std::sync::Arc;

use base::{Backoff, CancellationToken};
use tracing::debug;

use crate::cell::Rep;

impl Rep {
    /// Whenever the cell holds other layers than before, and when the brain knows the cell anew. Between two tellings
    /// passes at least the time between two announcements; what changes meanwhile is told together.
    pub(crate) async fn keep_layers_told(self: Arc<Self>, stop: CancellationToken) {
        let mut changed = self.executor.layers_changed();
        let timings = &self.config.timings;
        let mut backoff = Backoff::new(timings.first_retry, timings.last_retry);
        let mut told = Vec::new();
        // At its first sight of the cell, the brain asks for all there is.
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.farewell.cancelled() => return,
                () = self.lease.next_term() => told.clear(),
                // The sender lives as long as the executor.
                _ = changed.changed() => {}
            }
            loop {
                changed.mark_unchanged();
                let layers = self.executor.layers();
                if layers == told {
                    break;
                }
                let hold = self.bbs.hold_layers(&self.config.cell_id, &layers);
                let wait = match hold.await {
                    Ok(()) => {
                        told = layers;
                        backoff.reset();
                        timings.announce
                    }
                    Err(error) => {
                        debug!(cell.id = %self.config.cell_id, %error, "the brain did not hear which layers are here");
                        backoff.step()
                    }
                };
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.farewell.cancelled() => return,
                    () = tokio::time::sleep(wait) => {}
                }
            }
        }
    }
}
