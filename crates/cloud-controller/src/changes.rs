//! Wakes requests that wait for something to change, so that nobody has to poll.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};
use tokio::time::{Instant, timeout_at};

use crate::errors::ApiResult;

/// Guids of what changed, told after the commit. A reader that is too slow just looks again.
#[derive(Clone, Debug)]
pub struct Changes(Sender<Arc<str>>);

impl Default for Changes {
    fn default() -> Changes {
        Changes(Sender::new(1024))
    }
}

impl Changes {
    pub fn tell(&self, guid: &str) {
        // Nobody listening is no error.
        let _ = self.0.send(guid.into());
    }

    /// Everything that is told from now on; a reader that is too slow is told so.
    pub fn listen(&self) -> Receiver<Arc<str>> {
        self.0.subscribe()
    }

    /// Answers `read` as soon as it is `done`, or as it stands after `at_most`. Looks again only when `guid` changed.
    pub async fn hold<T, F: Future<Output = ApiResult<T>>>(
        &self,
        guid: &str,
        at_most: Duration,
        mut read: impl FnMut() -> F,
        done: impl Fn(&T) -> bool,
    ) -> ApiResult<T> {
        let deadline = Instant::now() + at_most;
        let mut changes = self.0.subscribe();
        loop {
            let value = read().await?;
            if done(&value) || timeout_at(deadline, changed(&mut changes, guid)).await.is_err() {
                return Ok(value);
            }
        }
    }
}

async fn changed(changes: &mut Receiver<Arc<str>>, guid: &str) {
    loop {
        match changes.recv().await {
            Ok(other) if *other != *guid => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            // The process is stopping; let the deadline end the wait.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
