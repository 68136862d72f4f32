//! Long running processes from desire to end.

use std::time::Duration;

use diego::bbs::ErrorKind;
use diego::desired_lrp::DesiredLrpUpdate;
use diego::sim::{OnLrp, Script};
use diego::{Bbs as _, LrpKey, actual_lrp::State};

use crate::rig::{Rig, eventually, lrp};

fn instances(count: u32) -> DesiredLrpUpdate {
    DesiredLrpUpdate { instances: Some(count), ..DesiredLrpUpdate::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_desire_to_routes_to_nothing() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 2).await;
        rig.bbs.desire_lrp(lrp("web", 3)).await.unwrap();
        rig.running("web", 3).await;
        rig.routed(&["web.example.com 0", "web.example.com 1", "web.example.com 2"]).await;
        let spread: Vec<_> = rig.cells.iter().map(|cell| cell.instances().len()).collect();
        assert!(spread == [1, 2] || spread == [2, 1], "{spread:?}");

        let again = rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap_err();
        assert_eq!(again.kind, ErrorKind::ResourceExists);
        rig.bbs.remove_lrp(&"web".into()).await.unwrap();
        rig.shows("web", "").await;
        rig.routed(&[]).await;
        assert!(rig.cells.iter().all(|cell| cell.instances().is_empty()));
        assert!(rig.bbs.remove_lrp(&"web".into()).await.unwrap_err().is_not_found());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_up_and_down() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 2).await;
        rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
        rig.running("web", 1).await;
        rig.bbs.update_lrp(&"web".into(), instances(5)).await.unwrap();
        rig.running("web", 5).await;
        rig.bbs.update_lrp(&"web".into(), instances(2)).await.unwrap();
        rig.running("web", 2).await;
        let mut indices: Vec<_> =
            rig.records("web").await.iter().map(|lrp| lrp.key.index).collect();
        indices.sort_unstable();
        assert_eq!(indices, [0, 1]);
        rig.routed(&["web.example.com 0", "web.example.com 1"]).await;
        assert!(!rig.routers.gaps.lock().contains("web.example.com"));
        // Down and up at once: what is on its way out is replaced once it is gone.
        rig.bbs.update_lrp(&"web".into(), instances(0)).await.unwrap();
        rig.bbs.update_lrp(&"web".into(), instances(4)).await.unwrap();
        rig.running("web", 4).await;
        let held: usize = rig.cells.iter().map(|cell| cell.instances().len()).sum();
        eventually("as many containers as instances", || async { held }, |held| *held == 4).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_says_why_and_starts_when_a_cell_comes() {
    for db in sql::testing::databases().await {
        let mut rig = Rig::new(db, 1).await;
        let mut big = lrp("big", 2);
        big.run.memory_mb = 600;
        rig.bbs.desire_lrp(big).await.unwrap();
        let error = || async {
            let records = rig.records("big").await;
            let error = records.iter().find_map(|lrp| match &lrp.state {
                State::Unclaimed { placement_error } => Some(placement_error.clone()),
                _ => None,
            });
            error.unwrap_or_default()
        };
        let want = "insufficient resources: memory: 1 of 1 cell lacks memory: needed 600 MB, most free 400 MB";
        eventually(want, error, |error| error == want).await;
        rig.clock.advance(Duration::from_secs(1));
        rig.add_cell("cell-1", "z1").await;
        rig.running("big", 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_restart_at_once_then_wait_then_rest() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 1).await;
        rig.cells[0].set_script(Script {
            lrps: OnLrp::Crash("APP/PROC/WEB: Exited with status 1".to_owned()),
            ..Script::default()
        });
        rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
        rig.shows("web", "0 CRASHED").await;
        let record = rig.records("web").await.remove(0);
        assert_eq!(
            (record.crash_count, record.crash_reason.as_str()),
            (3, "APP/PROC/WEB: Exited with status 1")
        );

        rig.advance(Duration::from_secs(25), &[]).await;
        rig.shows("web", "0 CRASHED").await;
        assert_eq!(rig.records("web").await[0].crash_count, 3);
        rig.advance(Duration::from_secs(10), &[]).await;
        eventually("a fourth crash", || rig.records("web"), |records| records[0].crash_count == 4)
            .await;
        rig.shows("web", "0 CRASHED").await;

        rig.cells[0].set_script(Script::default());
        rig.advance(Duration::from_secs(60), &[]).await;
        rig.shows("web", "0 RUNNING cell-0").await;
        // Stable for more than five minutes: the count starts over.
        rig.advance(Duration::from_secs(301), &[]).await;
        let (cell, guid) = rig.instance(&rig.records("web").await, 0);
        cell.crash(&guid, "Exited with status 2").await.unwrap();
        rig.running("web", 1).await;
        eventually("a first crash", || rig.records("web"), |records| records[0].crash_count == 1)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_long_a_crashed_instance_waits_is_a_setting() {
    let mut rig = Rig::new(sql::testing::sqlite().await, 1).await;
    rig.config.timings.crash_at_once = 0;
    rig.config.timings.crash_first_wait = Duration::from_secs(600);
    rig.config.timings.crash_give_up = 2;
    let rig = rig.reopen().await;
    let why = "APP/PROC/WEB: Exited with status 1".to_owned();
    rig.cells[0].set_script(Script { lrps: OnLrp::Crash(why), ..Script::default() });
    rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
    rig.shows("web", "0 CRASHED").await;
    assert_eq!(rig.records("web").await[0].crash_count, 1);
    rig.advance(Duration::from_secs(590), &[]).await;
    rig.shows("web", "0 CRASHED").await;
    assert_eq!(rig.records("web").await[0].crash_count, 1);
    rig.advance(Duration::from_secs(11), &[]).await;
    eventually("the second and last", || rig.records("web"), |now| now[0].crash_count == 2).await;
    rig.advance(Duration::from_secs(3600), &[]).await;
    rig.shows("web", "0 CRASHED").await;
    assert_eq!(rig.records("web").await[0].crash_count, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_one_index_starts_another_in_its_place() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 1).await;
        rig.bbs.desire_lrp(lrp("web", 2)).await.unwrap();
        rig.running("web", 2).await;
        let (_, old) = rig.instance(&rig.records("web").await, 1);
        let key = LrpKey { process_guid: "web".into(), index: 1, domain: "apps".into() };
        rig.bbs.retire(&key).await.unwrap();
        let replaced = |records: &Vec<diego::ActualLrp>| {
            records.len() == 2
                && records
                    .iter()
                    .all(|lrp| lrp.net().is_some() && lrp.instance().unwrap().instance_guid != old)
        };
        eventually("a new instance", || rig.records("web"), replaced).await;
        let nobody = LrpKey { index: 7, ..key };
        assert!(rig.bbs.retire(&nobody).await.unwrap_err().is_not_found());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_domain_removes_nothing_and_a_fresh_one_does() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 1).await;
        // A container that nobody desires, as after the loss of a database.
        let key = LrpKey { process_guid: "stray".into(), index: 0, domain: "apps".into() };
        let by =
            diego::InstanceKey { instance_guid: "stray-instance".into(), cell_id: "cell-0".into() };
        let net = diego::NetInfo {
            address: [127, 0, 0, 1].into(),
            instance_address: [10, 0, 0, 9].into(),
            ports: Vec::new(),
        };
        rig.bbs.start(&key, &by, &net, true).await.unwrap();
        rig.advance(Duration::from_secs(300), &[]).await;
        rig.bbs.upsert_domain(&"other".into(), None).await.unwrap();
        rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
        rig.running("web", 1).await;
        rig.shows("stray", "0 RUNNING cell-0").await;

        rig.bbs.upsert_domain(&"apps".into(), Some(Duration::from_secs(120))).await.unwrap();
        assert_eq!(rig.bbs.domains().await.unwrap(), ["apps".into(), "other".into()]);
        // The cell does not know the container; as a real one, it reports so.
        let gone = || async {
            // Refused until the brain has asked for the end.
            let _ = rig.bbs.remove(&key, &by).await;
            rig.show("stray").await
        };
        eventually("removed", gone, |shown| shown.is_empty()).await;
        rig.advance(Duration::from_secs(121), &[]).await;
        eventually(
            "one domain is stale",
            || rig.bbs.domains(),
            |domains| domains.as_ref().unwrap().len() == 1,
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_refused_with_the_fields_named() {
    let rig = Rig::new(sql::testing::sqlite().await, 0).await;
    let mut wrong = lrp("a b", 1);
    wrong.run.rootfs = String::new();
    let error = rig.bbs.desire_lrp(wrong).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert_eq!(error.message, "Invalid field: process_guid, Invalid field: rootfs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_cell_loses_its_start_to_another_after_half_a_minute() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    rig.cells[0].set_script(Script { lrps: OnLrp::Ignore, ..Script::default() });
    rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
    eventually("work is given", || async { rig.cells[0].performed() }, |count| *count == 1).await;
    rig.cells[0].set_script(Script::default());
    rig.advance(Duration::from_secs(31), &[]).await;
    rig.running("web", 1).await;
    assert_eq!(rig.cells[0].performed(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_tags_reach_running_instances_and_those_that_come_up() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 2).await;
        rig.bbs.desire_lrp(lrp("web", 2)).await.unwrap();
        rig.running("web", 2).await;
        // One is being made with the old tags, on a cell that is cut off when the new ones come.
        rig.cells[1].set_reachable(false);
        let renamed = |name: &str| DesiredLrpUpdate {
            metric_tags: Some([("app_name".to_owned(), name.to_owned())].into()),
            ..DesiredLrpUpdate::default()
        };
        rig.bbs.update_lrp(&"web".into(), renamed("first")).await.unwrap();
        rig.bbs.update_lrp(&"web".into(), renamed("second")).await.unwrap();
        let named = |place: usize| {
            let cell = rig.cells[place].clone();
            move || {
                let cell = cell.clone();
                async move {
                    let all = cell.instances();
                    all.iter()
                        .map(|(_, guid)| cell.tags(guid).unwrap()["app_name"].clone())
                        .collect::<Vec<_>>()
                }
            }
        };
        eventually("renamed", named(0), |names| names == &["second"]).await;
        assert_eq!(named(1)().await, ["web"]);
        let rig_reopened = rig.reopen().await;
        let rig = &rig_reopened;
        rig.cells[1].set_reachable(true);
        rig.advance(std::time::Duration::from_secs(31), &[]).await;
        let cell = rig.cells[1].clone();
        let names = || async {
            let all = cell.instances();
            all.iter()
                .map(|(_, guid)| cell.tags(guid).unwrap()["app_name"].clone())
                .collect::<Vec<_>>()
        };
        eventually("told after a restart and the cell's return", names, |names| {
            names == &["second"]
        })
        .await;
    }
}
