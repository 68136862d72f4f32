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
    #[serde(default)]
    pub limits: ResourceLimits,
    /// It reads what [`crate::Garden::input`] is given; otherwise there is nothing to read.
    #[serde(default)]
    pub stdin: bool,
    /// It runs on a terminal of this size: one stream of output, and an input in any case.
    #[serde(default)]
    pub tty: Option<WindowSize>,
}

/// Of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    pub columns: u16,
    pub rows: u16,
}

/// What the kernel holds one process to, and each of its children by itself. Those not given stay as they are; no dump
/// of a process's memory is ever written unless it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimits {
    pub address_bytes: Option<u64>,
    pub core_bytes: Option<u64>,
    pub cpu_seconds: Option<u64>,
    pub data_bytes: Option<u64>,
    /// The largest file it may write.
    pub file_bytes: Option<u64>,
    pub locked_bytes: Option<u64>,
    /// Of its user, wherever they run.
    pub processes: Option<u64>,
    pub stack_bytes: Option<u64>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProcessSignal {
    Terminate,
    Kill,
    Hangup,
    Interrupt,
    Quit,
    User1,
    User2,
}

impl ProcessSignal {
    /// As the kernel numbers it.
    pub fn number(self) -> i32 {
        match self {
            ProcessSignal::Hangup => 1,
            ProcessSignal::Interrupt => 2,
            ProcessSignal::Quit => 3,
            ProcessSignal::Kill => 9,
            ProcessSignal::User1 => 10,
            ProcessSignal::User2 => 12,
            ProcessSignal::Terminate => 15,
        }
    }

    /// As `kill` names it.
    pub fn name(self) -> &'static str {
        match self {
            ProcessSignal::Hangup => "HUP",
            ProcessSignal::Interrupt => "INT",
            ProcessSignal::Quit => "QUIT",
            ProcessSignal::Kill => "KILL",
            ProcessSignal::User1 => "USR1",
            ProcessSignal::User2 => "USR2",
            ProcessSignal::Terminate => "TERM",
        }
    }
}
