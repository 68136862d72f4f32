//! `cupola explain APP`: why an app runs or does not, as a chain of facts from what was asked for to what happened.

mod crash;
mod facts;
mod gather;
mod verdict;

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::operator;
use crate::print::{self, row, table};
use crate::settings::DataArgs;
use crate::status::tell_not_running;
use facts::Facts;
use verdict::{Explanation, Mark};

#[derive(Args)]
pub struct ExplainArgs {
    /// The app's name, or its guid
    app: String,
    /// The org it is in; needed only where the name is not unique
    #[arg(long)]
    org: Option<String>,
    /// The space it is in
    #[arg(long)]
    space: Option<String>,
    #[command(flatten)]
    data: DataArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The app does not run as it was asked to.
const NOT_WELL: u8 = 1;

pub fn main(args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let data = args.data.resolve()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let asking = match operator::connect(&data).await {
            Ok(asking) => asking,
            Err(why) => return Ok(tell_not_running(&why, args.json)),
        };
        let wanted = gather::Wanted { app: args.app, org: args.org, space: args.space };
        let facts = gather::gather(&asking, &wanted).await?;
        let explanation = verdict::explain(&facts);
        if args.json {
            let all = json!({ "running": true, "explanation": explanation, "facts": facts });
            print::out(&format!("{all}\n"));
        } else {
            print::out(&page(&facts, &explanation));
        }
        Ok(if explanation.well { ExitCode::SUCCESS } else { NOT_WELL.into() })
    })
}

fn page(facts: &Facts, explanation: &Explanation) -> String {
    let mark = |mark: Mark| match mark {
        Mark::Fine => "ok",
        Mark::Waits => "..",
        Mark::Wrong => "!!",
        Mark::Plain => "",
    };
    let rows: Vec<_> =
        explanation.chain.iter().map(|fact| row![mark(fact.mark), fact.of, fact.text]).collect();
    let mut text = table(&rows);
    if !explanation.well && !facts.log.is_empty() {
        let _ = writeln!(text, "\nlast lines of its log:");
        for line in &facts.log {
            let _ = writeln!(text, "  [{}/{}] {}", line.source, line.instance, line.text);
        }
    }
    let space = if text.is_empty() { "" } else { "\n" };
    let _ = writeln!(text, "{space}{}", explanation.verdict);
    if let Some(next) = &explanation.next {
        let _ = writeln!(text, "> {next}");
    }
    text
}
