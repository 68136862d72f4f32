//! What CI runs, in order: `cargo xtask ci`; and the tests of containers under another kernel: `cargo xtask vm`.

mod licences;
mod postgres;
mod vm;

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, bail};

fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        Some("ci") => ci(),
        Some("licences") => licences::check(),
        Some("vm") => vm::run(&std::env::args().skip(2).collect::<Vec<_>>()),
        _ => Err(anyhow::anyhow!(
            "usage: cargo xtask ci | licences | vm [--kvm] [--cgroups-one] [tests]"
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn ci() -> anyhow::Result<()> {
    step("formatting", || cargo(&["fmt", "--all", "--check"], &[]))?;
    step("licences", licences::check)?;
    step("clippy", || {
        cargo(
            &["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"],
            &[],
        )
    })?;
    step("docs", || {
        cargo(
            &["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"],
            &[("RUSTDOCFLAGS", "--deny warnings")],
        )
    })?;
    let server = postgres::Server::start().context("starting PostgreSQL for the tests")?;
    step("tests", || {
        cargo(&["test", "--workspace", "--no-fail-fast"], &[("CUPOLA_TEST_POSTGRES", server.url())])
    })
}

fn step(name: &str, run: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let start = Instant::now();
    println!("==> {name}");
    run().with_context(|| name.to_owned())?;
    println!("==> {name}: {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn cargo(args: &[&str], env: &[(&str, &str)]) -> anyhow::Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo).args(args).envs(env.iter().copied()).status()?;
    if !status.success() {
        bail!("cargo {} ended with {status}", args.join(" "));
    }
    Ok(())
}
