//! How long an auction takes, nothing else around it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use diego::cell::{LrpHeld, LrpStart, Resources};
use diego::desired_lrp::RunInfo;
use diego::sim::SimCell;
use diego::{CellState, DesiredLrp, LrpKey, Work};
use serde::Serialize;

use crate::{Floor, Outcome, Weights, place};

const ZONES: usize = 3;
const MEMORY_MB: [u64; 4] = [64, 128, 256, 512];

/// Seconds, each of one run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Report {
    /// 1,000 more instances on 1,250 cells that hold 250,000; the cells' states are read anew.
    pub auction_warm_s: f64,
    /// The same on a [`Floor`] that knows the cells already.
    pub auction_warm_kept_s: f64,
    /// 100,000 instances on 1,000 empty cells.
    pub auction_cold_s: f64,
    /// (max − min) / mean of the memory in use after the cold start.
    pub auction_cold_imbalance_percent: f64,
}

/// Runs all of it; takes a few seconds and some 200 MiB.
pub fn run() -> Report {
    let weights = Weights::default();
    let held = full_cells();
    let (warm, auction_warm_s) = timed(|| place(&held, work(1000, "more"), &weights));
    assert_eq!(count(&warm), 1000, "all instances of the warm auction have a place");

    let mut floor = Floor::new(&weights);
    held.iter().for_each(|cell| floor.update_cell(cell));
    let batch = work(1000, "more");
    let (kept, auction_warm_kept_s) = timed(|| floor.place(batch));
    assert_eq!(warm, kept, "a floor that is kept chooses alike");

    let empty: Vec<_> = (0..1000).map(|number| cell(number, Vec::new())).collect();
    let batch = work(100_000, "cold");
    let (cold, auction_cold_s) = timed(|| place(&empty, batch, &weights));
    assert_eq!(count(&cold), 100_000, "all instances of the cold auction have a place");
    let auction_cold_imbalance_percent = imbalance(&cold, empty.len());
    Report { auction_warm_s, auction_warm_kept_s, auction_cold_s, auction_cold_imbalance_percent }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed().as_secs_f64())
}

fn count(outcome: &Outcome) -> usize {
    outcome.placed.values().map(|work| work.lrps.len()).sum()
}

fn imbalance(outcome: &Outcome, cells: usize) -> f64 {
    let memory = |work: &Work| work.lrps.iter().map(|lrp| lrp.desired.run.memory_mb).sum::<u64>();
    let used: Vec<u64> = outcome.placed.values().map(memory).collect();
    let most = used.iter().max().copied().unwrap_or(0);
    let least = if used.len() < cells { 0 } else { used.iter().min().copied().unwrap_or(0) };
    (most - least) as f64 * cells as f64 / used.iter().sum::<u64>().max(1) as f64 * 100.0
}

/// Processes of 1 to 50 instances, until there are so many.
fn work(instances: u32, name: &str) -> Work {
    let (mut lrps, mut process) = (Vec::new(), 0_u32);
    while lrps.len() < instances as usize {
        let left = instances as usize - lrps.len();
        let size = [1, 2, 3, 50][process as usize % 4].min(left);
        let desired = Arc::new(lrp(&format!("{name}-{process}"), process));
        lrps.extend((0..).take(size).map(|index| LrpStart { index, desired: desired.clone() }));
        process += 1;
    }
    Work { lrps, tasks: Vec::new() }
}

fn lrp(process: &str, number: u32) -> DesiredLrp {
    DesiredLrp {
        process_guid: process.into(),
        domain: "bench".into(),
        instances: 50,
        run: RunInfo {
            rootfs: "preloaded:base".to_owned(),
            memory_mb: memory_mb(number),
            disk_mb: 256,
            ..RunInfo::default()
        },
        routes: BTreeMap::new(),
        annotation: String::new(),
        metric_tags: BTreeMap::new(),
        modification_tag: Default::default(),
    }
}

fn memory_mb(process: u32) -> u64 {
    MEMORY_MB[(process / 4) as usize % MEMORY_MB.len()]
}

/// 1,250 cells with 200 instances each.
fn full_cells() -> Vec<CellState> {
    let mut held: Vec<Vec<LrpHeld>> = vec![Vec::new(); 1250];
    for number in 0..250_000_u32 {
        // 10,000 processes of 25, one after the other round the cells.
        let process = number / 25;
        let key = LrpKey {
            process_guid: format!("held-{process}").into(),
            index: number % 25,
            domain: "bench".into(),
        };
        let resources = Resources { memory_mb: memory_mb(process), disk_mb: 256, containers: 1 };
        let instance_guid = format!("instance-{number}").into();
        held[number as usize % 1250].push(LrpHeld { key, instance_guid, resources });
    }
    held.into_iter().enumerate().map(|(number, lrps)| cell(number, lrps)).collect()
}

fn cell(number: usize, lrps: Vec<LrpHeld>) -> CellState {
    let capacity = Resources { memory_mb: 64 * 1024, disk_mb: 500_000, containers: 250 };
    let presence =
        SimCell::presence(&format!("cell-{number:05}"), &format!("z{}", number % ZONES), capacity);
    let mut available = capacity;
    for lrp in &lrps {
        available.memory_mb -= lrp.resources.memory_mb;
        available.disk_mb -= lrp.resources.disk_mb;
        available.containers -= 1;
    }
    CellState { presence, available, lrps, tasks: Vec::new(), starting: 0, layers: Vec::new() }
}
