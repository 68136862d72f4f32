//! What the shim and the program that starts it say to each other, and the form of the output files the shim writes.

pub mod frame;
pub mod wire;

/// The control socket in a container's folder.
pub const SOCKET: &str = "ctl";
/// The folder that holds one numbered folder per process.
pub const PROCESSES: &str = "p";
/// In a process's folder: appears, whole, when the process has ended and its output is complete.
pub const EXIT: &str = "exit";
/// The newer half of a process's output.
pub const CURRENT: &str = "out";
/// The older half; replaced when the newer one is full.
pub const OLD: &str = "out.old";
