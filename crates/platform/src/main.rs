//! The program: `cupola up` runs the whole platform, and called as `cf` it is its command line.

mod bench;
mod data_dir;
mod door;
mod glue;
mod settings;
mod up;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// The Cloud Foundry command line; the same as calling this program `cf`
    #[command(disable_help_flag = true)]
    Cf {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Measure the platform on this machine
    Bench(bench::BenchArgs),
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
