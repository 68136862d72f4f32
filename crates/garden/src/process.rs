//! A process in a container, and what comes out of it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::ProcessId;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    pub id: Option<ProcessId>,
    /// Looked up in the container's `PATH` unless it holds a slash.
    pub path: String,
    pub args: Vec<String>,
    /// Over the container's own; later wins.
    pub env: Vec<(String, String)>,
    /// The user's home when empty.
    pub dir: String,
    /// A name of the container's `/etc/passwd`, or `uid[:gid]`.
    pub user: String,
    pub nofile: Option<u64>,
}

/// A running or ended process. Dropping it neither stops the process nor loses its output.
#[derive(Debug)]
pub struct Process {
    pub id: ProcessId,
    /// Ends when the process has ended and all that was kept has been handed over. Reading slowly never blocks the
    /// process: its output is kept in a bounded file, where the oldest gives way.
    pub output: mpsc::Receiver<Output>,
    pub exit: watch::Receiver<Option<Exit>>,
}

impl Process {
    /// Waits for the end; `None` when the container was destroyed first.
    pub async fn wait(&mut self) -> Option<Exit> {
        self.exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub stream: Stream,
    pub data: Bytes,
    /// Where in the process's whole output this piece ends; what [`crate::Garden::attach`] takes.
    pub end: u64,
    /// Bytes that were lost just before this piece, because the kept file was full.
    pub lost: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    Status(i32),
    Signal(i32),
    /// Killed by the kernel for exceeding the container's memory limit; the status shells would show.
    OutOfMemory(i32),
}

impl Exit {
    /// As a shell counts: 128 + number for a signal.
    pub fn status(&self) -> i32 {
        match *self {
            Exit::Status(status) | Exit::OutOfMemory(status) => status,
            Exit::Signal(signal) => 128 + signal,
        }
    }

    pub fn success(&self) -> bool {
        *self == Exit::Status(0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessSignal {
    Terminate,
    Kill,
}
