//! Lets a task begin only while this cell is certain to be the one that runs it.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use base::Backoff;
use diego::task::State as TaskRecord;
use executor::{Container, Gate};
use tracing::{debug, info};

use crate::cell::Rep;
use crate::lrp;
use crate::owner::Owner;

/// A run is granted while the container is still to be made, and a cell that was cut off since then may have lost it:
/// the brain has failed the task, and its owner may have desired another in its place. Instances of LRPs pass: of
/// those there may be one too many for a while.
pub(crate) struct Guard(pub Weak<Rep>);

#[async_trait]
impl Gate for Guard {
    async fn may_begin(&self, container: &Container) -> Result<(), String> {
        let Some(Owner::Task { guid, .. }) = Owner::of(&container.owner) else { return Ok(()) };
        match self.0.upgrade() {
            Some(rep) => rep.still_granted(container, &guid).await,
            None => Err("the cell is going".to_owned()),
        }
    }
}

impl Rep {
    async fn still_granted(
        self: Arc<Self>,
        container: &Container,
        task: &diego::TaskGuid,
    ) -> Result<(), String> {
        let (first, last) = (self.config.timings.first_retry, self.config.timings.last_retry);
        let mut backoff = Backoff::new(first, last);
        loop {
            let Some(term) = self.lease.term() else {
                info!(task.guid = %task, "a task waits until the brain hears of this cell");
                tokio::select! {
                    () = self.lease.next_term() => {}
                    // Renewed in the very moment, without a new term.
                    () = tokio::time::sleep(backoff.step()) => {}
                }
                continue;
            };
            if self.grants.lock().get(&container.guid) == Some(&term) {
                return Ok(());
            }
            match self.bbs.task(task).await.map(|record| record.state) {
                Ok(TaskRecord::Running { cell_id }) if cell_id == self.config.cell_id => {
                    self.grants.lock().insert(container.guid.clone(), term);
                }
                Ok(_) => return Err("the task was given up while its cell was away".to_owned()),
                Err(error) if lrp::is_passing(error.kind) => {
                    debug!(task.guid = %task, %error, "a task waits for the brain");
                    tokio::time::sleep(backoff.step()).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
