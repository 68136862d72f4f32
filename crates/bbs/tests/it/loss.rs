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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ran_on_lost_cells_is_routed_elsewhere_soon() {
    let db = sql::testing::sqlite().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config::new(Secret::new("s3cret"));
    let (clock, dial) = (Clock::system(), SimDial::default());
    let mut rig = Rig::open(db, clock, dial, Arc::default(), config, listener).await;
    let all = CancellationToken::new();
    let _stop = all.clone().drop_guard();
    let mut beats = Vec::new();
    for number in 0..CELLS {
        let cell = rig.add_cell(&format!("cell-{number}"), &format!("z{}", number % 2)).await;
        let stop = all.child_token();
        tokio::spawn(beat(cell, stop.clone()));
        beats.push(stop);
    }
    for process in 0..5 {
        rig.bbs.desire_lrp(lrp(&format!("p{process}"), 10)).await.unwrap();
    }
    let safe = |lost: &'static [&'static str]| {
        let lost: Vec<_> = lost.iter().map(|id| CellId::from(*id)).collect();
        let rig = &rig;
        move || {
            let lost = lost.clone();
            async move { elsewhere(rig, &lost).await.len() }
        }
    };
    eventually("all run", safe(&[]), |count| *count == 50).await;

    // One refuses at once, the other takes work and never answers.
    rig.cells[0].set_reachable(false);
    rig.routers.cut_off.lock().insert("cell-1".into());
    beats[0].cancel();
    beats[1].cancel();
    let lost = Instant::now();
    // Some of this is sent to them before they are missed.
    rig.bbs.desire_lrp(lrp("late", 10)).await.unwrap();
    eventually("all run elsewhere", safe(&["cell-0", "cell-1"]), |count| *count == 60).await;
    eprintln!("all instances were routed elsewhere after {:?}", lost.elapsed());
    assert!(rig.routers.gaps.lock().is_empty(), "suspects serve until their replacements do");
}
