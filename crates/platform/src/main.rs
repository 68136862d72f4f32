//! The program: `cupola up` runs the whole platform, and called as `cf` it is its command line.

mod bench;
mod cell;
mod cluster;
mod crashed;
mod data_dir;
mod door;
mod glue;
mod join;
mod receptor;
mod settings;
mod up;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Cloud Foundry in one program.
#[derive(Parser)]
#[command(
    name = "cupola",
    version,
    about,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cupola {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole platform on this machine. Ctrl-C stops it and its containers; SIGTERM leaves them running for the next start
    Up(Box<settings::UpArgs>),
    /// A cell on a machine of its own
    Cell(join::CellArgs),
    /// Look at what runs where, and steer it: cells, LRPs, tasks, events
    Diego(receptor::DiegoArgs),
    /// The Cloud Foundry command line; the same as calling this program `cf`
    #[command(disable_help_flag = true)]
    Cf {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Measure the platform on this machine
    Bench(bench::BenchArgs),
}

/// On standard error, so that what a command prints stays its own.
fn start_logging(filter: EnvFilter) {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
}

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let called = args.next().unwrap_or_default();
    if Path::new(&called).file_name() == Some(OsStr::new("cf")) {
        return cli::main(args.collect());
    }
    let result = match Cupola::parse().command {
        Command::Cf { args } => return cli::main(args),
        Command::Up(args) => up::main(*args),
        Command::Cell(args) => join::main(args),
        Command::Diego(args) => receptor::main(args),
        Command::Bench(args) => bench::main(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cupola: {error:#}");
            ExitCode::FAILURE
        }
    }
}
