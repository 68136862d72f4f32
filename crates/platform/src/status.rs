//! `cupola status`: what runs on a data directory, how it fares, and what is wrong with it.

mod facts;
mod gather;
mod page;

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::operator::{self, NotRunning};
use crate::print;
use crate::settings::DataArgs;

pub use gather::disk;

#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Problems were found.
const PROBLEMS: u8 = 1;
/// There is no platform to ask.
const NOT_RUNNING: u8 = 2;

pub fn main(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let data = args.data.resolve()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match operator::connect(&data).await {
            Ok(asking) => {
                let facts = gather::gather(&asking, &data).await;
                let problems = facts::problems(&facts);
                if args.json {
                    println!(
                        "{}",
                        json!({ "running": true, "facts": facts, "problems": problems })
                    );
                } else {
                    print::out(&page::page(&facts, &problems));
                }
                Ok(if problems.is_empty() { ExitCode::SUCCESS } else { PROBLEMS.into() })
            }
            Err(why) => Ok(tell_not_running(&why, args.json)),
        }
    })
}

/// The same for every command that asks a running platform.
pub fn tell_not_running(why: &NotRunning, json: bool) -> ExitCode {
    if json {
        print::out(&format!("{}\n", json!({ "running": false, "why": why.to_string() })));
    } else {
        print::out(&format!("{why}\n"));
    }
    NOT_RUNNING.into()
}
