//! Many random operations on a whole brain, then calm: everything must come to rest as desired.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use diego::actual_lrp::State;
use diego::bbs::ActualLrpFilter;
use diego::desired_lrp::DesiredLrpUpdate;
use diego::sim::{OnLrp, Script};
use diego::{Bbs as _, LrpKey, Presence};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::rig::{Rig, TTL, eventually, lrp};

const CELLS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_all_comes_to_rest_as_desired() {
    for db in sql::testing::databases().await {
        let seed = std::env::var("SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| rand::rng().random());
        eprintln!("seed {seed} (repeat with SEED={seed})");
        let rig = Rig::new(db, CELLS).await;
        let mut rng = StdRng::seed_from_u64(seed);
        rig.bbs.upsert_domain(&"apps".into(), None).await.unwrap();
        let mut desired: BTreeMap<String, u32> = BTreeMap::new();
        let mut silent: BTreeSet<usize> = BTreeSet::new();
        let mut rig = rig;
        for _ in 0..120 {
            rig = step(rig, &mut rng, &mut desired, &mut silent).await;
        }
        for place in silent {
            rig.cells[place].set_reachable(true);
        }
        for cell in &rig.cells {
            cell.set_script(Script::default());
            cell.announce(TTL).await.unwrap();
        }
        settle(&rig, &desired).await;
    }
}

async fn step(
    rig: Rig,
    rng: &mut StdRng,
    desired: &mut BTreeMap<String, u32>,
    silent: &mut BTreeSet<usize>,
) -> Rig {
    let process = format!("p{}", rng.random_range(0..4));
    let place = rng.random_range(0..CELLS);
    let guid = process.as_str().into();
    match rng.random_range(0..14) {
        0..4 => {
            let instances = rng.random_range(0..5);
            if desired.contains_key(&process) {
                let update =
                    DesiredLrpUpdate { instances: Some(instances), ..DesiredLrpUpdate::default() };
                rig.bbs.update_lrp(&guid, update).await.unwrap();
            } else {
                rig.bbs.desire_lrp(lrp(&process, instances)).await.unwrap();
            }
            desired.insert(process, instances);
        }
        4 => {
            if desired.remove(&process).is_some() {
                rig.bbs.remove_lrp(&guid).await.unwrap();
            }
        }
        5..7 => {
            let held = rig.cells[place].instances();
            if !held.is_empty() {
                let (_, guid) = &held[rng.random_range(0..held.len())];
                // Refused when the brain gave it up already.
                let _ = rig.cells[place].crash(guid, "random").await;
            }
        }
        7 => {
            let key =
                LrpKey { process_guid: guid, index: rng.random_range(0..5), domain: "apps".into() };
            // There may be none.
            let _ = rig.bbs.retire(&key).await;
        }
        8 => {
            rig.cells[place].set_reachable(false);
            silent.insert(place);
        }
        9..11 => {
            if silent.remove(&place) {
                rig.cells[place].set_reachable(true);
                rig.cells[place].announce(TTL).await.unwrap();
            }
        }
        11 => {
            let lrps = if rng.random() { OnLrp::Claim } else { OnLrp::Run };
            rig.cells[place].set_script(Script {
                lrps,
                reachable: !silent.contains(&place),
                ..Script::default()
            });
        }
        12 => {
            let quiet: Vec<_> = silent.iter().copied().collect();
            rig.advance(Duration::from_secs(rng.random_range(1..40)), &quiet).await;
        }
        _ if rng.random_range(0..4) == 0 => return rig.reopen().await,
        _ => tokio::task::yield_now().await,
    }
    rig
}

/// Lets time pass until nothing is wrong; what is wrong after long is told.
async fn settle(rig: &Rig, desired: &BTreeMap<String, u32>) {
    for _ in 0..40 {
        rig.advance(Duration::from_secs(31), &[]).await;
        // As real cells do: what the brain does not hold theirs is put right.
        for cell in &rig.cells {
            cell.reconcile().await.unwrap();
        }
        if wrong(rig, desired).await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eventually("rest", || wrong(rig, desired), |wrong| wrong.is_empty()).await;
}

async fn wrong(rig: &Rig, desired: &BTreeMap<String, u32>) -> Vec<String> {
    let mut wrong = Vec::new();
    let records = rig.bbs.actual_lrps(&ActualLrpFilter::default()).await.unwrap();
    let held: BTreeSet<_> =
        rig.cells.iter().flat_map(|cell| cell.instances()).map(|(_, guid)| guid).collect();
    let mut seen = BTreeSet::new();
    for lrp in &records {
        let wanted = desired.get(lrp.key.process_guid.as_str()).copied().unwrap_or(0);
        let right = lrp.key.index < wanted && lrp.presence == Presence::Ordinary;
        match &lrp.state {
            State::Running { by, .. } if right && held.contains(&by.instance_guid) => {
                seen.insert(by.instance_guid.clone());
                if !rig.routers.has(&by.instance_guid) {
                    wrong.push(format!("{} is not routed", lrp.key));
                }
            }
            _ => wrong.push(format!("{lrp:?}")),
        }
    }
    let want: u32 = desired.values().sum();
    if seen.len() != want as usize {
        wrong.push(format!("{} of {want} run", seen.len()));
    }
    wrong.extend(
        held.difference(&seen).map(|guid| format!("{guid} is held by a cell and nobody knows")),
    );
    if rig.routers.entries.lock().len() != seen.len() {
        wrong.push(format!("{:?} is routed", rig.routers.hosts()));
    }
    wrong
}
