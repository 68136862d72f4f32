//! The program: `cupola up` runs the whole platform, and called as `cf` it is its command line.

mod backup;
mod bench;
mod cell;
mod cluster;
mod crashed;
mod data_dir;
mod doctor;
mod door;
mod explain;
mod glue;
mod ground;
mod join;
mod machine;
mod operator;
mod print;
mod receptor;
mod roles;
mod server;
mod settings;
mod status;
mod storage;
mod tcp;
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
    /// Run some of the platform's roles on this machine, with others elsewhere: on one PostgreSQL, as its first machine or as one that joins
    Server(Box<server::ServerArgs>),
    /// A cell on a machine of its own
    Cell(join::CellArgs),
    /// Look at what runs where, and steer it: cells, LRPs, tasks, events
    Diego(receptor::DiegoArgs),
    /// Show what runs on a data directory and what is wrong with it; ends with 0 when all is well, 1 on problems, 2 when nothing runs
    Status(status::StatusArgs),
    /// Look whether this machine can run a platform, and say what to do where it cannot
    Doctor(Box<doctor::DoctorArgs>),
    /// Tell why an app runs or does not run, from what was asked for to what happened
    Explain(explain::ExplainArgs),
    /// Copy what a data directory holds into one file, also while the platform runs
    Backup(backup::BackupArgs),
    /// Make a data directory from a backup
    Restore(backup::RestoreArgs),
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
    guardian::memory::give_back_large_blocks();
    let mut args = std::env::args_os();
    let called = args.next().unwrap_or_default();
    if Path::new(&called).file_name() == Some(OsStr::new("cf")) {
        return cli::main(args.collect());
    }
    let result = match Cupola::parse().command {
        Command::Cf { args } => return cli::main(args),
        Command::Up(args) => up::main(*args),
        Command::Server(args) => server::main(*args),
        Command::Cell(args) => join::main(args),
        Command::Diego(args) => receptor::main(args),
        Command::Bench(args) => bench::main(args),
        Command::Status(args) => return ended(status::main(args)),
        Command::Doctor(args) => return ended(doctor::main(*args)),
        Command::Explain(args) => return ended(explain::main(args)),
        Command::Backup(args) => backup::main(args),
        Command::Restore(args) => backup::restore(args),
    };
    ended(result.map(|()| ExitCode::SUCCESS))
}

fn ended(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("cupola: {error:#}");
        ExitCode::FAILURE
    })
}
