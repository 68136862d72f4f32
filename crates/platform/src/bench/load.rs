//! Requests to an app while something happens to the platform.

use std::time::Duration;

use reqwest::StatusCode;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::platform::Platform;
use super::trivial::APP;

/// Asks the app, one request after the other, until it is ended or dropped.
pub struct Load {
    stop: DropGuard,
    /// `(requests, lost)`.
    task: JoinHandle<(u64, u64)>,
}

impl Load {
    pub fn start(platform: &Platform) -> Load {
        let (stop, ask) = (CancellationToken::new(), platform.request(APP));
        let until = stop.clone();
        let task = tokio::spawn(async move {
            let (mut requests, mut lost) = (0, 0);
            while !until.is_cancelled() {
                let answer = ask.try_clone().expect("it has no body").send().await;
                requests += 1;
                lost += u64::from(!answer.is_ok_and(|answer| answer.status() == StatusCode::OK));
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (requests, lost)
        });
        Load { stop: stop.drop_guard(), task }
    }

    /// `(requests, lost)`.
    pub async fn end(self) -> anyhow::Result<(u64, u64)> {
        drop(self.stop);
        Ok(self.task.await?)
    }
}
