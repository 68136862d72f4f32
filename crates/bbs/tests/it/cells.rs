//! Cells that come, go and come back.

use std::time::Duration;

use diego::actual_lrp::State;
use diego::desired_lrp::DesiredLrpUpdate;
use diego::sim::{OnLrp, Script};
use diego::{Bbs as _, CellId};

use crate::rig::{Rig, TTL, eventually, lrp};

async fn lose(rig: &Rig, place: usize) {
    rig.cells[place].set_reachable(false);
    rig.advance(TTL + Duration::from_secs(1), &[place]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_cell_makes_suspects_and_replacements() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 2).await;
        rig.bbs.desire_lrp(lrp("web", 2)).await.unwrap();
        rig.running("web", 2).await;
        let (lost, _) = rig.instance(&rig.records("web").await, 0);
        let place = rig.cells.iter().position(|cell| std::sync::Arc::ptr_eq(cell, &lost)).unwrap();
        lose(&rig, place).await;
        let other = CellId::from(format!("cell-{}", 1 - place).as_str());
        let moved = |records: &Vec<diego::ActualLrp>| {
            records.len() == 2
                && records
                    .iter()
                    .all(|lrp| lrp.net().is_some() && lrp.instance().unwrap().cell_id == other)
        };
        eventually("both on the other cell", || rig.records("web"), moved).await;
        assert!(
            !rig.routers.gaps.lock().contains("web.example.com"),
            "a suspect serves until its replacement does"
        );
        assert_eq!(rig.bbs.cells().await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspect_whose_cell_is_back_takes_its_place_again() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 1).await;
        rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
        rig.running("web", 1).await;
        let before = rig.records("web").await.remove(0);
        lose(&rig, 0).await;
        eventually(
            "suspect and replacement",
            || rig.show("web"),
            |shown| shown.contains("suspect"),
        )
        .await;
        let refused = |records: &Vec<diego::ActualLrp>| {
            records.iter().any(|lrp| matches!(&lrp.state, State::Unclaimed { placement_error } if !placement_error.is_empty()))
        };
        eventually("no place for the replacement", || rig.records("web"), refused).await;
        rig.shows("web", "0 UNCLAIMED, 0 RUNNING cell-0 suspect").await;
        rig.routed(&["web.example.com 0"]).await;

        rig.cells[0].set_reachable(true);
        rig.cells[0].announce(TTL).await.unwrap();
        rig.shows("web", "0 RUNNING cell-0").await;
        assert_eq!(rig.records("web").await[0].instance(), before.instance());
        assert!(rig.routers.gaps.lock().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_removed_while_its_cell_was_away_does_not_come_back() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 1).await;
        rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
        rig.running("web", 1).await;
        let record = rig.records("web").await.remove(0);
        lose(&rig, 0).await;
        rig.shows("web", "0 UNCLAIMED, 0 RUNNING cell-0 suspect").await;
        rig.bbs.remove_lrp(&"web".into()).await.unwrap();
        rig.shows("web", "").await;
        rig.routed(&[]).await;

        rig.cells[0].set_reachable(true);
        rig.cells[0].announce(TTL).await.unwrap();
        // Whoever speaks first, the brain or the cell: the container ends and no record comes back.
        rig.cells[0].reconcile().await.unwrap();
        eventually("stopped", || async { rig.cells[0].instances().len() }, |count| *count == 0)
            .await;
        rig.shows("web", "").await;
        let by = record.instance().unwrap();
        let forgotten = || async { rig.bbs.remove(&record.key, by).await };
        eventually("forgotten", forgotten, |removed| {
            removed.as_ref().is_err_and(|error| error.is_not_found())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_that_says_goodbye_is_missed_at_once() {
    let rig = Rig::new(sql::testing::sqlite().await, 2).await;
    rig.bbs.desire_lrp(lrp("web", 2)).await.unwrap();
    rig.running("web", 2).await;
    rig.cells[0].set_reachable(false);
    rig.bbs.retract(&"cell-0".into()).await.unwrap();
    let moved =
        |shown: &String| !shown.contains("cell-0") && shown.matches("RUNNING cell-1").count() == 2;
    eventually("both on cell-1", || rig.show("web"), moved).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_for_a_cell_that_just_died_goes_elsewhere() {
    let rig = Rig::new(sql::testing::sqlite().await, 2).await;
    // Present, but nobody answers.
    rig.cells[0].set_reachable(false);
    rig.bbs.desire_lrp(lrp("web", 3)).await.unwrap();
    rig.running("web", 3).await;
    assert_eq!(rig.cells[1].instances().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_handed_back_is_placed_elsewhere() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    rig.cells[0].set_script(Script { hands_back: true, ..Script::default() });
    rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
    let failed = |records: &Vec<diego::ActualLrp>| matches!(&records[0].state, State::Unclaimed { placement_error } if placement_error.contains("handed the instance back"));
    eventually("refused", || rig.records("web"), failed).await;
    assert_eq!(rig.cells[0].performed(), 3, "tried again at once, but not for ever");
    rig.cells[0].set_script(Script::default());
    rig.advance(Duration::from_secs(31), &[]).await;
    rig.running("web", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_instance_on_a_dying_cell_is_forgotten_with_it() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
    rig.running("web", 1).await;
    rig.cells[0].set_reachable(false);
    let none = DesiredLrpUpdate { instances: Some(0), ..DesiredLrpUpdate::default() };
    rig.bbs.update_lrp(&"web".into(), none).await.unwrap();
    rig.routed(&[]).await;
    rig.shows("web", "0 RUNNING cell-0").await;
    rig.advance(TTL + Duration::from_secs(1), &[0]).await;
    rig.shows("web", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_never_healthy_stays_claimed_and_unrouted() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    rig.cells[0].set_script(Script { lrps: OnLrp::Claim, ..Script::default() });
    rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
    rig.shows("web", "0 CLAIMED cell-0").await;
    rig.advance(Duration::from_secs(120), &[]).await;
    rig.shows("web", "0 CLAIMED cell-0").await;
    assert!(rig.routers.hosts().is_empty());
    rig.bbs.remove_lrp(&"web".into()).await.unwrap();
    rig.shows("web", "").await;
}
