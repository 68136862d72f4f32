//! Cells that die or are cut off, in real time and with the heartbeats that real cells have.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::http::Secret;
use base::{CancellationToken, Clock};
use bbs::Config;
use diego::bbs::ActualLrpFilter;
use diego::sim::{SimCell, SimDial};
use diego::{Bbs as _, CellId};
use tokio::net::TcpListener;

use crate::rig::{Rig, eventually, lrp};

/// As `rep` has them.
const TTL: Duration = Duration::from_millis(1500);
const BEAT: Duration = Duration::from_millis(400);
const CELLS: usize = 10;

async fn beat(cell: Arc<SimCell>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        // A brain under load may answer late: the next beat says the same.
        let _ = cell.announce(TTL).await;
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Indices that run on none of these cells and are routed there.
async fn elsewhere(rig: &Rig, lost: &[CellId]) -> BTreeSet<String> {
    let all = rig.bbs.actual_lrps(&ActualLrpFilter::default()).await.unwrap();
    let safe = all.iter().filter(|lrp| {
        let by = lrp.instance().filter(|by| !lost.contains(&by.cell_id));
        lrp.net().is_some() && by.is_some_and(|by| rig.routers.has(&by.instance_guid))
    });
    safe.map(|lrp| lrp.key.to_string()).collect()
}

/// Ten cells in two zones, in real time.
struct Hall {
    rig: Rig,
    beats: Vec<CancellationToken>,
}

impl Drop for Hall {
    fn drop(&mut self) {
        self.beats.iter().for_each(CancellationToken::cancel);
    }
}

impl Hall {
    /// With so many instances of each of five processes, all of which run.
    async fn busy(instances: u32) -> Hall {
        let db = sql::testing::sqlite().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config::new(Secret::new("s3cret"));
        let (clock, dial) = (Clock::system(), SimDial::default());
        let rig = Rig::open(db, clock, dial, Arc::default(), config, listener).await;
        let mut hall = Hall { rig, beats: Vec::new() };
        for number in 0..CELLS {
            let zone = format!("z{}", number % 2);
            let cell = hall.rig.add_cell(&format!("cell-{number}"), &zone).await;
            let stop = CancellationToken::new();
            tokio::spawn(beat(cell, stop.clone()));
            hall.beats.push(stop);
        }
        for process in 0..5 {
            hall.rig.bbs.desire_lrp(lrp(&format!("p{process}"), instances)).await.unwrap();
        }
        hall.until_elsewhere(&[], 5 * instances as usize).await;
        hall
    }

    async fn until_elsewhere(&self, lost: &[usize], wanted: usize) {
        let lost: Vec<_> =
            lost.iter().map(|cell| CellId::from(format!("cell-{cell}").as_str())).collect();
        let count = || async { elsewhere(&self.rig, &lost).await.len() };
        eventually("all run elsewhere", count, |count| *count == wanted).await;
    }

    /// It refuses at once, or takes work and never answers.
    fn lose(&self, cell: usize, cut_off: bool) {
        if cut_off {
            self.rig.routers.cut_off.lock().insert(format!("cell-{cell}").as_str().into());
        } else {
            self.rig.cells[cell].set_reachable(false);
        }
        self.beats[cell].cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ran_on_lost_cells_is_routed_elsewhere_soon() {
    let hall = Hall::busy(10).await;
    hall.lose(0, false);
    hall.lose(1, true);
    let lost = Instant::now();
    // Some of this is sent to them before they are missed.
    hall.rig.bbs.desire_lrp(lrp("late", 10)).await.unwrap();
    hall.until_elsewhere(&[0, 1], 60).await;
    eprintln!("all instances were routed elsewhere after {:?}", lost.elapsed());
    let gaps = &hall.rig.routers.gaps;
    assert!(gaps.lock().is_empty(), "suspects serve until their replacements do");
}

/// Half of the cells, all in one zone: the other one takes what it has room for, and loses nothing of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ran_in_a_lost_zone_is_routed_in_the_other_one() {
    let hall = Hall::busy(9).await;
    let kept: BTreeSet<_> = instances_on(&hall.rig, |cell| cell % 2 == 0).await;
    let lost = [1, 3, 5, 7, 9];
    lost.into_iter().for_each(|cell| hall.lose(cell, cell % 4 == 1));
    hall.until_elsewhere(&lost, 45).await;
    assert!(hall.rig.routers.gaps.lock().is_empty());
    let now = instances_on(&hall.rig, |cell| cell % 2 == 0).await;
    assert!(kept.is_subset(&now), "who was not lost runs on: {kept:?} {now:?}");
    for cell in (0..CELLS).step_by(2) {
        let here = instances_on(&hall.rig, |one| one == cell).await.len();
        assert!((8..=10).contains(&here), "45 instances over five cells: {here} on cell-{cell}");
    }
}

async fn instances_on(rig: &Rig, wanted: impl Fn(usize) -> bool) -> BTreeSet<String> {
    let all = rig.bbs.actual_lrps(&ActualLrpFilter::default()).await.unwrap();
    let by = all.iter().filter_map(|lrp| lrp.instance());
    let number = |cell: &CellId| cell.as_str().rsplit('-').next().unwrap().parse().unwrap();
    let here = by.filter(|by| wanted(number(&by.cell_id)));
    here.map(|by| by.instance_guid.to_string()).collect()
}
