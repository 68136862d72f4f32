//! Parts measured by themselves, inside this program.

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;

use super::{Figures, Report};

pub async fn containers(starts: usize, crowd: usize, report: &Report) -> anyhow::Result<Figures> {
    let mut options = guardian::bench::Options { starts, ..Default::default() };
    options.crowds[1] = crowd;
    let folder = tempfile::Builder::new().prefix("cupola-bench-").tempdir()?;
    let found = guardian::bench::containers(folder.path(), &options).await?;
    found.lines().iter().for_each(|line| report.line(line));
    figures(&found)
}

pub async fn placement(
    cells: usize,
    instances: u32,
    postgres: Option<&str>,
    report: &Report,
) -> anyhow::Result<Figures> {
    let folder = tempfile::Builder::new().prefix("cupola-bench-").tempdir()?;
    let db = match postgres {
        Some(url) => sql::Db::open(url).await.context("--postgres")?,
        None => sql::Db::open_file(&folder.path().join("bbs.db")).await?,
    };
    report.line(&format!("{instances} instances on {cells} simulated cells"));
    let plan = bbs::bench::Placement::new(cells, instances);
    let found = bbs::bench::placement(db, &plan).await?;
    figures(&found)
}

pub fn auction(report: &Report) -> anyhow::Result<Figures> {
    report.line(
        "1,000 more instances on 1,250 cells that hold 250,000; then 100,000 on 1,000 empty cells",
    );
    figures(&auction::bench::run())
}

fn figures(report: &impl Serialize) -> anyhow::Result<Figures> {
    match serde_json::to_value(report)? {
        Value::Object(figures) => Ok(figures),
        other => anyhow::bail!("a report is an object, not {other}"),
    }
}
