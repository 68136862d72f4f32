//! The one task that changes the state. It takes everything that is queued, decides it in order, commits it as one,
//! and only then answers, tells and acts. While a commit is under way the next batch gathers.

pub(crate) mod batch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, CancellationToken, Clock};
use diego::BbsError;
use diego::bbs::{ErrorKind, Result};
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, warn};

use crate::aftermath::Aftermath;
use crate::config::Timings;
use crate::decide::{Answer, Command};
use crate::state::{Key, State};
use crate::store::{Store, StoreError};
use crate::wire::NOT_LEADING;
use batch::Batch;

/// Jobs that wait for the writer; whoever comes then waits to queue.
pub(crate) const QUEUE: usize = 4096;
/// Jobs in one commit.
const BATCH: usize = 1024;
/// Tries of one commit before its jobs are refused.
const TRIES: usize = 4;

pub(crate) struct Job {
    pub command: Command,
    /// Answered after the commit; nobody when the outcome shows in the next round anyway.
    pub reply: Option<oneshot::Sender<Result<Answer>>>,
}

pub(crate) struct Writer {
    pub state: Arc<RwLock<State>>,
    pub store: Arc<Store>,
    pub clock: Clock,
    pub timings: Arc<Timings>,
    pub aftermath: Arc<Aftermath>,
    pub stop: CancellationToken,
    /// The last batch whose fate is known; readers wait for it.
    pub settled: watch::Sender<u64>,
    /// Rows whose last commit went wrong: the store may hold them or not. Written again with the next batch.
    pub owed: BTreeSet<Key>,
}

/// Keeps the lease while the brain lives. A store that does not answer costs the lease, and it comes back with it
/// unless another brain was faster.
pub(crate) async fn keep_lease(store: Arc<Store>, timings: Timings, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(timings.lease_renew) => {}
        }
        match store.renew().await {
            Ok(()) => {}
            Err(StoreError::Superseded) => {
                error!("another brain has taken over the store; this one stops");
                return stop.cancel();
            }
            Err(error) => warn!(%error, "the lease was not renewed"),
        }
    }
}

impl Writer {
    /// Runs until `stop`; what was queued before is still done.
    pub async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let stop = self.stop.clone();
        let mut jobs = Vec::new();
        loop {
            tokio::select! {
                biased;
                count = queue.recv_many(&mut jobs, BATCH) => if count == 0 { break },
                () = stop.cancelled(), if !queue.is_closed() => {
                    queue.close();
                    continue;
                }
            }
            self.batch(jobs.drain(..)).await;
        }
        if self.store.lease().ttl().is_some()
            && let Err(error) = self.store.release().await
        {
            // The next brain waits a little longer.
            warn!(%error, "the store was not let go");
        }
    }

    async fn batch(&mut self, jobs: impl Iterator<Item = Job>) {
        let now = self.clock.now();
        let mut batch = Batch::new(now, self.timings.clone());
        let number = {
            let mut state = self.state.write();
            jobs.for_each(|job| batch.take(&mut state, job));
            state.progress.applied += u64::from(!batch.keys.is_empty());
            state.progress.applied
        };
        match self.commit(&batch.keys).await {
            Ok(()) => self.aftermath.follow(batch),
            Err(error) => self.undo(batch, &error),
        }
        self.settled.send_replace(number);
    }

    async fn commit(&mut self, keys: &BTreeSet<Key>) -> std::result::Result<(), StoreError> {
        // Nothing to write, but answers: refusals by what is known here. Without a lease that may be old, and the store
        // is asked who leads.
        if keys.is_empty() && self.store.lease().holds() {
            return Ok(());
        }
        let rows: Vec<_> = {
            let state = self.state.read();
            keys.union(&self.owed).map(|key| (key.clone(), state.row(key))).collect()
        };
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut tries = 0;
        loop {
            tries += 1;
            match self.store.commit(&rows).await {
                Ok(()) => {
                    self.owed.clear();
                    return Ok(());
                }
                Err(StoreError::Superseded) => {
                    error!("another brain has taken over the store; this one stops");
                    self.stop.cancel();
                    return Err(StoreError::Superseded);
                }
                // The same rows again do no harm when the first try went through after all.
                Err(error) if tries < TRIES => {
                    error!(%error, tries, "changes were not stored; trying again");
                    tokio::time::sleep(backoff.step()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Nothing of the batch happened.
    fn undo(&mut self, batch: Batch, error: &StoreError) {
        error!(%error, "changes were not stored and are refused");
        let mut state = self.state.write();
        for write in batch.undo.into_iter().rev() {
            state.write(write);
        }
        state.progress.undone += 1;
        drop(state);
        self.owed.extend(batch.keys);
        for (reply, _) in batch.replies {
            // Whoever asked may have gone.
            let _ = reply.send(Err(match error {
                // Surely nothing happened, and another brain may be asked.
                StoreError::Superseded => BbsError::new(ErrorKind::Unreachable, NOT_LEADING),
                StoreError::Sql(error) => {
                    BbsError::new(ErrorKind::Unknown, format!("the change was not stored: {error}"))
                }
            }));
        }
    }
}
