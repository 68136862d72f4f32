//! Cells on machines of their own: one is drained, one is killed, one is cut off and comes back. How long until every
//! instance answers elsewhere, and is a request lost by the drain?

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use diego::actual_lrp::State;
use diego::bbs::ActualLrpFilter;
use diego::{ActualLrp, Bbs as _, CellId};
use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::json;

use super::hosts::{Hosts, Programs, signal};
use super::load::Load;
use super::platform::{PATIENCE, Platform, at_work, keepers, tail};
use super::trivial::{self, APP};
use super::{Figures, Report, percentile, rounded};
use crate::data_dir;

/// Cells that are given up in turn.
const DRAINED: u8 = 0;
const KILLED: u8 = 1;
const CUT_OFF: u8 = 2;

pub async fn run(cells: u8, instances: u32, report: &Report) -> anyhow::Result<Figures> {
    ensure!(cells > 3, "one cell is drained, one killed, one cut off: at least four are needed");
    let hosts = Hosts::new(cells).await?;
    let listen = format!("{}:0", hosts.home());
    // The platform's own cell is there for staging; a share of the instances comes along.
    let platform = Platform::start_with(&["--cells-listen", &listen]).await?;
    let programs = Programs::new(platform.folder(), "cell-");
    let mut bench = Bench { cells: programs, hosts, platform, report };
    let result = bench.measure(cells, instances).await;
    let ended = bench.end().await;
    let figures = result?;
    ended?;
    Ok(figures)
}

/// Dropped in this order: what the cells keep lies on their hosts and in the platform's folder.
struct Bench<'a> {
    cells: Programs,
    hosts: Hosts,
    platform: Platform,
    report: &'a Report,
}

impl Bench<'_> {
    async fn measure(&mut self, cells: u8, instances: u32) -> anyhow::Result<Figures> {
        let bbs = self.platform.bbs()?;
        for index in 0..cells {
            self.join(index)?;
        }
        let begun = Instant::now();
        while bbs.cells().await?.len() < usize::from(cells) + 1 {
            self.patient(begun, "not all cells have joined")?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.report.line(&format!(
            "{cells} cells on machines of their own joined in {:.1} s",
            begun.elapsed().as_secs_f64()
        ));
        let app = trivial::push(&self.platform).await?;
        let path = format!("/v3/apps/{app}/processes/web/actions/scale");
        let begun = Instant::now();
        let api = self.platform.api().await?;
        api.post(&path, &json!({ "instances": instances })).await?;
        self.platform.running(&app, instances as usize).await?;
        self.report.line(&format!(
            "{instances} instances run after {:.1} s",
            begun.elapsed().as_secs_f64()
        ));

        let (requests, lost) = self.drain(DRAINED).await?;
        self.report
            .line(&format!("one cell drained: {lost} of {requests} requests lost meanwhile"));

        let indexes = self.on(KILLED).await?;
        let begun = Instant::now();
        self.kill(KILLED).await?;
        let mut back = self.elsewhere(&indexes, KILLED, begun).await?;
        self.tell("one cell killed", &back);

        let indexes = self.on(CUT_OFF).await?;
        let begun = Instant::now();
        self.hosts.unplug(CUT_OFF).await?;
        let cut_off = self.elsewhere(&indexes, CUT_OFF, begun).await?;
        self.tell("one cell cut off", &cut_off);
        back.extend(cut_off);
        for index in 0..instances {
            self.answers(&app, index).await?;
        }

        let begun = Instant::now();
        self.hosts.plug_in(CUT_OFF).await?;
        self.reconciled(CUT_OFF, instances as usize).await?;
        self.report.line(&format!(
            "the cut-off cell is back, its surplus gone, after {:.1} s",
            begun.elapsed().as_secs_f64()
        ));
        Ok(Figures::from_iter([
            ("cell_loss_p50_s".to_owned(), rounded(percentile(&back, 50))),
            ("cell_loss_p99_s".to_owned(), rounded(percentile(&back, 99))),
            ("cell_drain_requests".to_owned(), requests.into()),
            ("cell_drain_lost".to_owned(), lost.into()),
            ("cells".to_owned(), cells.into()),
            ("instances".to_owned(), instances.into()),
        ]))
    }

    fn tell(&self, what: &str, seconds: &[f64]) {
        let (p50, p99) = (percentile(seconds, 50), percentile(seconds, 99));
        self.report.line(&format!(
            "{what}: its {} instances run elsewhere after p50 {p50:.2} s, p99 {p99:.2} s",
            seconds.len()
        ));
    }

    fn join(&mut self, index: u8) -> anyhow::Result<()> {
        let (data, name) = (self.cells.data(index), cell(index).to_string());
        let token = data_dir::join_token(&self.platform.data())?;
        let args = [
            "cell",
            "join",
            "--token",
            &token,
            "--data",
            &data.display().to_string(),
            "--name",
            &name,
            "--zone",
            if index.is_multiple_of(2) { "even" } else { "odd" },
        ];
        self.cells.start(&self.hosts, index, &args)
    }

    /// The indexes of the instances on a cell.
    async fn on(&self, index: u8) -> anyhow::Result<BTreeSet<u32>> {
        let all = self.actual().await?;
        let here = all.iter().filter(|lrp| runs_on(lrp).is_some_and(|at| *at == cell(index)));
        let indexes: BTreeSet<_> = here.map(|lrp| lrp.key.index).collect();
        ensure!(!indexes.is_empty(), "nothing runs on {}", cell(index));
        Ok(indexes)
    }

    async fn actual(&self) -> anyhow::Result<Vec<ActualLrp>> {
        Ok(self.platform.bbs()?.actual_lrps(&ActualLrpFilter::default()).await?)
    }

    /// Kills the cell's program and everything it kept, as a machine does that loses its power.
    async fn kill(&mut self, index: u8) -> anyhow::Result<()> {
        let mut child = self.cells.take(index)?;
        child.kill().await?;
        for pid in keepers(&self.cells.data(index)) {
            signal(pid, Signal::KILL)?;
        }
        Ok(())
    }

    /// Ends a cell by SIGTERM while requests go to its instances: `(requests, lost)`.
    async fn drain(&mut self, index: u8) -> anyhow::Result<(u64, u64)> {
        let mut child = self.cells.take(index)?;
        let load = Load::start(&self.platform);
        signal(child.id().context("the cell runs")?, Signal::TERM)?;
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        let status = ended.context("the cell does not end")??;
        ensure!(status.success(), "the cell ended with {status}: {}", tail(&self.cells.log(index)));
        load.end().await
    }

    /// Seconds since `begun` until each of these instances ran on another cell.
    async fn elsewhere(
        &self,
        indexes: &BTreeSet<u32>,
        lost: u8,
        begun: Instant,
    ) -> anyhow::Result<Vec<f64>> {
        let (mut left, mut seconds) = (indexes.clone(), Vec::new());
        while !left.is_empty() {
            self.patient(begun, &format!("instances {left:?} of {} are lost", cell(lost)))?;
            tokio::time::sleep(Duration::from_millis(10)).await;
            let all = self.actual().await?;
            let now = begun.elapsed().as_secs_f64();
            for lrp in &all {
                if runs_on(lrp).is_some_and(|at| *at != cell(lost)) && left.remove(&lrp.key.index) {
                    seconds.push(now);
                }
            }
        }
        Ok(seconds)
    }

    /// The router leads to this very instance.
    async fn answers(&self, app: &str, index: u32) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let instance = format!("{app}:{index}");
            let answer = self.platform.request(APP).header("x-cf-app-instance", instance).send();
            if answer.await?.status() == StatusCode::OK {
                return Ok(());
            }
            self.patient(begun, &format!("instance {index} does not answer"))?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Every instance there is once, and the cell holds no container that the brain does not know of.
    async fn reconciled(&self, index: u8, instances: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let all = self.actual().await?;
            let here = all
                .iter()
                .filter(|lrp| lrp.instance().is_some_and(|key| key.cell_id == cell(index)));
            let (known, held) = (here.count(), at_work(&self.cells.data(index)));
            if all.len() == instances && known == held {
                return Ok(());
            }
            self.patient(
                begun,
                &format!("{} holds {held} containers, {known} are known", cell(index)),
            )?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn patient(&self, since: Instant, what: &str) -> anyhow::Result<()> {
        ensure!(
            since.elapsed() < PATIENCE,
            "{what} after {PATIENCE:?}; the first cell says: {}",
            tail(&self.cells.log(KILLED))
        );
        Ok(())
    }

    /// Everything goes, also what was killed: its next life removes what it left.
    async fn end(mut self) -> anyhow::Result<()> {
        let mut result = self.hosts.plug_in(CUT_OFF).await;
        if !self.cells.runs(KILLED) && self.cells.data(KILLED).exists() {
            // It says of the life that was killed that it is at work.
            let _ = std::fs::remove_file(self.cells.data(KILLED).join(data_dir::CELL_AT_WORK));
            result = result.and(self.join(KILLED));
            let begun = Instant::now();
            while !ready(&self.cells.data(KILLED)) && begun.elapsed() < PATIENCE {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let result = result.and(self.cells.end().await);
        drop(self.cells);
        result.and(self.platform.stop().await)
    }
}

fn cell(index: u8) -> CellId {
    format!("host-{index}").into()
}

/// Where it serves, if it does and nobody doubts it.
fn runs_on(lrp: &ActualLrp) -> Option<&CellId> {
    let ordinary = lrp.presence == diego::actual_lrp::Presence::Ordinary;
    match &lrp.state {
        State::Running { by, .. } if ordinary => Some(&by.cell_id),
        _ => None,
    }
}

fn ready(data: &Path) -> bool {
    data.join(data_dir::CELL_AT_WORK).exists()
}
