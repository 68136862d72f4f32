//! Measures placement at scale: simulated cells in this process, the real brain, a durable store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use base::http::Secret;
use base::{CancellationToken, Clock, TaskTracker};
use diego::action::{Action, RunAction};
use diego::cell::Resources;
use diego::desired_lrp::RunInfo;
use diego::routing::{Routers, TableUpdate};
use diego::sim::{SimCell, SimDial};
use diego::{Bbs as _, CellId, DesiredLrp};
use futures::StreamExt as _;
use serde::Serialize;

use crate::{BbsServer, Config, Deps};

/// What to place where.
#[derive(Clone, Debug)]
pub struct Placement {
    pub cells: usize,
    pub instances: u32,
    /// How many instances one LRP has.
    pub per_lrp: u32,
    pub zones: usize,
    /// Single placements timed after the mass.
    pub next: usize,
}

impl Placement {
    /// As the bar has it: four zones, a hundred instances to each LRP.
    pub fn new(cells: usize, instances: u32) -> Placement {
        Placement { cells, instances, per_lrp: 100, zones: 4, next: 300 }
    }
}

/// How it went. The names are those of the JSON report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub placement_cells: usize,
    pub placement_instances: u32,
    /// From the first desire to the last commit of RUNNING.
    pub placement_s: f64,
    /// The most memory this process ever held, simulated cells included.
    pub placement_rss_mib: u64,
    /// The fullest cell's memory less the emptiest's, by the mean.
    pub placement_imbalance_percent: f64,
    /// LRPs whose instances differ by more than one between two zones.
    pub placement_zone_violations: usize,
    pub placement_next_p50_ms: f64,
    pub placement_next_p99_ms: f64,
    /// From the loss of a tenth of the cells until all their instances run elsewhere.
    pub placement_tenth_lost_s: f64,
    pub placement_tenth_lost_instances: usize,
}

/// Nobody routes: the route table is no part of placement.
struct NoRouters;

#[async_trait]
impl Routers for NoRouters {
    async fn apply(&self, _update: TableUpdate) {}
}

/// All instances are alike: what differs between cells is then the placement's doing.
const MEMORY_MB: u64 = 128;
/// A cell has this much more than an even share, in per cent.
const SPARE: u64 = 125;
/// Cells stay present without a heartbeat: their renewal is not what is measured.
const PRESENT: Duration = Duration::from_secs(24 * 3600);
/// Desires under way at once.
const DESIRES: usize = 64;
const PATIENCE: Duration = Duration::from_secs(3600);

/// Places, counts, loses a tenth of the cells and counts again. `db` must hold no LRPs; what is written stays in it.
///
/// # Errors
/// When the store fails or is not empty, or the instances do not all run within an hour.
pub async fn placement(db: sql::Db, plan: &Placement) -> anyhow::Result<Report> {
    let floor = Floor::open(db, plan).await?;
    let result = floor.measure(plan).await;
    floor.stop.cancel();
    floor.tasks.close();
    floor.tasks.wait().await;
    result
}

struct Floor {
    brain: BbsServer,
    cells: Vec<Arc<SimCell>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Floor {
    async fn open(db: sql::Db, plan: &Placement) -> anyhow::Result<Floor> {
        let (stop, tasks, dial) =
            (CancellationToken::new(), TaskTracker::new(), SimDial::default());
        let config = Config::new(Secret::new("bench"));
        let cells = cells(plan, &dial);
        let deps = Deps {
            db,
            clock: Clock::system(),
            dial: Arc::new(dial),
            routers: Arc::new(NoRouters),
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        let brain = BbsServer::open(config, deps).await?;
        ensure!(brain.running().await? == 0, "the store holds LRPs already");
        let bbs: Arc<dyn diego::Bbs> = Arc::new(brain.clone());
        for cell in &cells {
            cell.attach(bbs.clone());
        }
        let announced = futures::stream::iter(&cells).map(|cell| cell.announce(PRESENT));
        let announced: Vec<_> = announced.buffer_unordered(256).collect().await;
        announced.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(Floor { brain, cells, stop, tasks })
    }

    async fn measure(&self, plan: &Placement) -> anyhow::Result<Report> {
        let began = Instant::now();
        let desires = (0..plan.instances.div_ceil(plan.per_lrp)).map(|number| {
            let left = plan.instances - number * plan.per_lrp;
            self.brain.desire_lrp(lrp(&format!("lrp-{number}"), left.min(plan.per_lrp)))
        });
        let mut desires = futures::stream::iter(desires).buffer_unordered(DESIRES);
        while let Some(desired) = desires.next().await {
            desired?;
        }
        drop(desires);
        self.until_running(plan.instances as usize).await?;
        let placement_s = began.elapsed().as_secs_f64();
        let (imbalance, violations) = self.spread(plan).await?;
        let next = self.next(plan).await?;
        let running = plan.instances as usize + plan.next;
        let (lost_s, lost) = self.lose_a_tenth(running).await?;
        Ok(Report {
            placement_cells: plan.cells,
            placement_instances: plan.instances,
            placement_s,
            placement_rss_mib: peak_rss_mib(),
            placement_imbalance_percent: imbalance,
            placement_zone_violations: violations,
            placement_next_p50_ms: quantile(&next, 0.5),
            placement_next_p99_ms: quantile(&next, 0.99),
            placement_tenth_lost_s: lost_s,
            placement_tenth_lost_instances: lost,
        })
    }

    async fn until_running(&self, count: usize) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut told = Instant::now();
        loop {
            let running = self.brain.running().await?;
            if running == count {
                return Ok(());
            }
            ensure!(Instant::now() < end, "only {running} of {count} instances run");
            if told.elapsed() > Duration::from_secs(5) {
                tracing::info!(running, count, "placing");
                told = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The imbalance in per cent and the number of LRPs that are spread badly over the zones.
    async fn spread(&self, plan: &Placement) -> anyhow::Result<(f64, usize)> {
        let lrps = self.brain.actual_lrps(&Default::default()).await?;
        let zone_of: HashMap<CellId, usize> =
            (0..plan.cells).map(|cell| (cell_id(cell), cell % plan.zones)).collect();
        let mut zones: HashMap<&str, Vec<u32>> = HashMap::new();
        let mut memory: HashMap<&CellId, u64> = zone_of.keys().map(|cell| (cell, 0)).collect();
        for lrp in &lrps {
            let by = lrp.instance().context("an instance without a cell")?;
            let guid = lrp.key.process_guid.as_str();
            zones.entry(guid).or_insert_with(|| vec![0; plan.zones])[zone_of[&by.cell_id]] += 1;
            *memory.entry(&by.cell_id).or_default() += MEMORY_MB;
        }
        let uneven = |counts: &&Vec<u32>| {
            counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0) > 1
        };
        let violations = zones.values().filter(uneven).count();
        let (most, least) = (memory.values().max(), memory.values().min());
        let room = capacity(plan).memory_mb;
        ensure!(most.is_none_or(|most| *most <= room), "a cell of {room} MB holds more: {most:?}");
        let mean = memory.values().sum::<u64>() as f64 / plan.cells as f64;
        let spread = most.unwrap_or(&0) - least.unwrap_or(&0);
        Ok((spread as f64 / mean * 100.0, violations))
    }

    /// Milliseconds from the desire of one more instance until it runs, sorted.
    async fn next(&self, plan: &Placement) -> anyhow::Result<Vec<f64>> {
        let mut times = Vec::with_capacity(plan.next);
        for number in 0..plan.next {
            let began = Instant::now();
            self.brain.desire_lrp(lrp(&format!("next-{number}"), 1)).await?;
            let count = plan.instances as usize + number + 1;
            while self.brain.running().await? < count {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            times.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    }

    /// Every tenth cell falls silent: seconds until all that ran there runs elsewhere, and how many those were.
    async fn lose_a_tenth(&self, running: usize) -> anyhow::Result<(f64, usize)> {
        let lost: Vec<_> = self.cells.iter().step_by(10).collect();
        let count = lost.iter().map(|cell| cell.instances().len()).sum();
        let began = Instant::now();
        for cell in &lost {
            cell.announce(Duration::ZERO).await?;
            cell.set_reachable(false);
        }
        self.brain.converge();
        // First they turn suspect, then their replacements run.
        while self.brain.running().await? == running {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.until_running(running).await?;
        Ok((began.elapsed().as_secs_f64(), count))
    }
}

fn cell_id(number: usize) -> CellId {
    format!("cell-{number:05}").into()
}

fn capacity(plan: &Placement) -> Resources {
    let share = u64::from(plan.instances).div_ceil(plan.cells as u64);
    let containers = share * SPARE / 100 + 10;
    Resources {
        memory_mb: share * MEMORY_MB * SPARE / 100 + 1024,
        disk_mb: containers * DISK_MB,
        containers,
    }
}

fn cells(plan: &Placement, dial: &SimDial) -> Vec<Arc<SimCell>> {
    let cell = |number| {
        let zone = format!("z{}", number % plan.zones);
        let cell = SimCell::new(SimCell::presence(cell_id(number).as_str(), &zone, capacity(plan)));
        dial.add(&cell);
        cell
    };
    (0..plan.cells).map(cell).collect()
}

const DISK_MB: u64 = 512;

fn lrp(guid: &str, instances: u32) -> DesiredLrp {
    let action = RunAction {
        path: "/app/server".to_owned(),
        user: "vcap".to_owned(),
        ..RunAction::default()
    };
    let run = RunInfo {
        rootfs: "preloaded:base".to_owned(),
        action: Some(Action::Run(action)),
        memory_mb: MEMORY_MB,
        disk_mb: DISK_MB,
        ports: vec![8080],
        log_guid: guid.to_owned(),
        ..RunInfo::default()
    };
    DesiredLrp {
        process_guid: guid.into(),
        domain: "bench".into(),
        instances,
        run,
        routes: Default::default(),
        annotation: String::new(),
        metric_tags: Default::default(),
        modification_tag: Default::default(),
    }
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).ceil() as usize).copied().unwrap_or(0.0)
}

/// The kernel's own high-water mark; 0 where there is none.
fn peak_rss_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_small_floor_is_filled_evenly_and_mended() {
        for db in sql::testing::databases().await {
            let plan = Placement { next: 5, ..Placement::new(20, 400) };
            let report = placement(db, &plan).await.unwrap();
            assert_eq!(report.placement_zone_violations, 0, "{report:?}");
            assert!(report.placement_imbalance_percent < 25.0, "{report:?}");
            assert!(report.placement_tenth_lost_instances > 0, "{report:?}");
        }
    }
}
