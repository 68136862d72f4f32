//! `cupola bench …`: measures this very program from outside, as its users meet it, and leaves nothing behind.

mod first_app;
mod platform;
mod push;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

#[derive(Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
    /// Print only the last line: one flat JSON object
    #[arg(long, global = true)]
    json: bool,
    /// How often each thing is done; medians are reported
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

#[derive(Subcommand)]
enum What {
    /// Empty data directory → start → push of a source app → HTTP 200
    FirstApp,
    /// Push an app again with one file changed, until the new version answers
    Push,
}

pub fn main(args: BenchArgs) -> anyhow::Result<()> {
    let report = Report { quiet: args.json };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = runtime.block_on(async {
        match args.what {
            What::FirstApp => first_app::run(args.rounds, &report).await,
            What::Push => push::run(args.rounds, &report).await,
        }
    })?;
    println!("{}", Value::Object(figures));
    Ok(())
}

type Figures = Map<String, Value>;

/// What a person wants to see while it runs.
struct Report {
    quiet: bool,
}

impl Report {
    fn line(&self, text: &str) {
        if !self.quiet {
            println!("{text}");
        }
    }
}

/// The middle one; of an even number the mean of the two middle ones.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => figures[middle],
        _ => f64::midpoint(figures[middle - 1], figures[middle]),
    }
}

/// Milliseconds are as fine as these figures are true.
fn rounded(seconds: f64) -> Value {
    Value::from((seconds * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(vec![]).is_nan());
    }
}
