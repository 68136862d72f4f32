//! The `cf` command line: a client of the public API (v3, UAA, log-cache), talking as Cloud Foundry's own CLI does.
//!
//! It knows nothing of the platform's insides; any Cloud Foundry that speaks v3 will do. Sentences shown to
//! people are the well-known ones, so that scripts and habits keep working.

pub mod table;

mod bits;
mod client;
mod command;
mod commands;
mod config;
mod error;
mod help;
mod logs;
mod manifest;
mod resources;
mod size;
mod ui;

use std::ffi::OsString;
use std::process::ExitCode;

pub use ui::{Io, Terminal};

/// Runs one command on the process's own streams. `args` come without the program's name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("starting the asynchronous runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut io = Io::system();
    let code = runtime.block_on(run(args, &mut io));
    // A read of standard input that never ends must not hold the exit back.
    runtime.shutdown_background();
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Runs one command on the given streams, environment and directory; answers the exit code.
pub async fn run(args: Vec<OsString>, io: &mut Io) -> i32 {
    command::dispatch(args, io).await
}
