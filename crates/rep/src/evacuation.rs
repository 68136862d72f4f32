//! Hands the cell's instances over to others: each stays until its replacement serves.

use std::sync::Arc;

use base::{Backoff, CancellationToken};
use diego::{Event, LrpKey};
use futures::StreamExt as _;
use tracing::{info, warn};

use crate::cell::{Mode, Rep};
use crate::owner::Owner;

impl Rep {
    /// Takes no more work from here on and hands over what it has; [`Rep::evacuated`] tells the end.
    pub fn evacuate(&self) {
        if !matches!(self.mode(), Mode::Closing { .. }) {
            self.enter(Mode::Evacuating);
        }
    }

    /// Returns when no container is left. What found no other place in time is stopped.
    pub async fn evacuated(self: &Arc<Self>) {
        let late =
            tokio::time::timeout(self.config.timings.evacuation, self.until_empty()).await.is_err();
        if late {
            warn!(cell.id = %self.config.cell_id, left = self.executor.list().len(), "evacuation took too long");
        }
        self.clear().await;
        info!(cell.id = %self.config.cell_id, "nothing is left on this cell");
    }

    /// While evacuating, looks at every container again when the brain's records of it change, and now and then.
    pub(crate) async fn watch_evacuation(self: Arc<Self>, stop: CancellationToken) {
        let mut mode = self.mode.subscribe();
        let evacuation = async {
            if mode.wait_for(|mode| *mode == Mode::Evacuating).await.is_ok() {
                // The first look waits for nothing.
                tokio::join!(self.look_by_the_clock(), self.look_at_events());
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = evacuation => {}
        }
    }

    async fn look_by_the_clock(self: &Arc<Self>) {
        loop {
            self.poke_all();
            tokio::time::sleep(self.config.timings.evacuating).await;
        }
    }

    /// A stream that ends is opened again; without any there is still the clock.
    async fn look_at_events(self: &Arc<Self>) {
        let timings = &self.config.timings;
        let mut backoff = Backoff::new(timings.first_retry, timings.last_retry);
        loop {
            match self.bbs.events().await {
                Ok(mut events) => {
                    backoff.reset();
                    // What changed before the stream began is not in it.
                    self.poke_all();
                    while let Some(event) = events.next().await {
                        self.look_again(&event);
                    }
                }
                Err(error) => {
                    warn!(cell.id = %self.config.cell_id, %error, "evacuation goes by the clock for now");
                }
            }
            tokio::time::sleep(backoff.step()).await;
        }
    }

    fn look_again(self: &Arc<Self>, event: &Event) {
        let Some(changed) = subject(event) else { return };
        for container in self.executor.list() {
            if matches!(Owner::of(&container.owner), Some(Owner::Lrp { key, .. }) if key == *changed)
            {
                self.poke(&container.guid);
            }
        }
    }
}

/// Whose place may have been taken.
fn subject(event: &Event) -> Option<&LrpKey> {
    match event {
        Event::ActualLrpChanged { after: actual_lrp, .. }
        | Event::ActualLrpCreated { actual_lrp }
        | Event::ActualLrpRemoved { actual_lrp } => Some(&actual_lrp.key),
        _ => None,
    }
}
