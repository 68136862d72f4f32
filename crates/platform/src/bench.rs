//! `cupola bench …`: measures this very program from outside, as its users meet it, and some of its parts alone; it
//! leaves nothing behind.

mod api;
mod brain_loss;
mod cell_loss;
mod engines;
mod first_app;
mod hosts;
mod idle;
mod load;
mod platform;
mod push;
mod start;
mod trivial;

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

#[derive(Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
    /// Print only the last line: one flat JSON object
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// Empty data directory → start → push of a source app → HTTP 200
    FirstApp(Rounds),
    /// Push an app again with one file changed, until the new version answers
    Push(Rounds),
    /// An instance wanted → its first HTTP 200 through the router; then 200 instances at once
    Start {
        /// How many starts come one after the other
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: u32,
    },
    /// Cells in network namespaces of their own: one drained, one killed, one cut off
    CellLoss {
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(4..=100))]
        cells: u8,
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        instances: u32,
    },
    /// Brains in network namespaces of their own: the one that leads is killed, then frozen. Needs root
    BrainLoss {
        /// An empty database on this machine: postgres://USER:PASSWORD@HOST/NAME
        #[arg(long, env = "CUPOLA_DATABASE", value_name = "URL", hide_env_values = true)]
        database: String,
        /// How often a brain is killed, and as often frozen
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
    },
    /// Containers alone: make and start one, 200 at once, many at once; memory of one more. Needs root
    Containers {
        /// How often one is made and started
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        rounds: u16,
        /// The larger crowd
        #[arg(long, default_value_t = 700, value_parser = clap::value_parser!(u16).range(1..=1000))]
        crowd: u16,
    },
    /// The auction alone: 1,000 more instances on a large platform, and a cold start of 100,000
    Auction,
    /// The brain with a durable store and simulated cells: place many instances, one more, lose a tenth of the cells
    Placement {
        #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(10..=10_000))]
        cells: u32,
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
        instances: u32,
        /// An empty database in place of an SQLite file: postgres://USER:PASSWORD@HOST/NAME
        #[arg(long, value_name = "URL")]
        postgres: Option<String>,
    },
    /// Memory and CPU time while nothing happens, with 0 and with 50 instances
    Idle {
        /// How long to leave it alone before, and to watch it then
        #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
    },
}

#[derive(Args)]
struct Rounds {
    /// How often each thing is done; medians are reported
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

pub fn main(args: BenchArgs) -> anyhow::Result<()> {
    let report = Report { quiet: args.json };
    let mut runtime = match args.what {
        // What is measured runs in here.
        What::Containers { .. } | What::Placement { .. } => {
            tokio::runtime::Builder::new_multi_thread()
        }
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = runtime.enable_all().build()?;
    let figures = runtime.block_on(async {
        match args.what {
            What::FirstApp(Rounds { rounds }) => first_app::run(rounds, &report).await,
            What::Push(Rounds { rounds }) => push::run(rounds, &report).await,
            What::Start { rounds } => start::run(rounds, &report).await,
            What::CellLoss { cells, instances } => cell_loss::run(cells, instances, &report).await,
            What::BrainLoss { database, rounds } => {
                brain_loss::run(&database, rounds, &report).await
            }
            What::Containers { rounds, crowd } => {
                engines::containers(rounds.into(), crowd.into(), &report).await
            }
            What::Auction => engines::auction(&report),
            What::Placement { cells, instances, postgres } => {
                let cells = usize::try_from(cells)?;
                engines::placement(cells, instances, postgres.as_deref(), &report).await
            }
            What::Idle { seconds } => idle::run(Duration::from_secs(seconds), &report).await,
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

/// The smallest figure that at least `percent` of all do not exceed (nearest rank).
fn percentile(figures: &[f64], percent: usize) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    let rank = (figures.len() * percent).div_ceil(100).max(1);
    figures.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// Three digits behind the point are as fine as these figures are true.
fn rounded(figure: f64) -> Value {
    Value::from((figure * 1000.0).round() / 1000.0)
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

    #[test]
    fn percentiles() {
        let figures: Vec<f64> = (1..=200).map(f64::from).collect();
        assert!((percentile(&figures, 50) - 100.0).abs() < 1e-9);
        assert!((percentile(&figures, 99) - 198.0).abs() < 1e-9);
        assert!((percentile(&[7.0], 99) - 7.0).abs() < 1e-9);
        assert!(percentile(&[], 50).is_nan());
    }
}
