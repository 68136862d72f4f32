//! A brain that ends at any moment loses nothing that it acknowledged.

use std::time::Duration;

use diego::Bbs as _;
use diego::bbs::ActualLrpFilter;
use diego::sim::{OnLrp, OnTask, Script};
use diego::{TaskDefinition, bbs::TaskFilter};
use futures::StreamExt as _;

use crate::rig::{Rig, TTL, eventually, lrp, run_info};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_again() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 2).await;
        rig.cells[1].set_script(Script { tasks: OnTask::Run, ..Script::default() });
        rig.cells[0].set_script(Script { tasks: OnTask::Run, ..Script::default() });
        rig.bbs.upsert_domain(&"apps".into(), None).await.unwrap();
        rig.bbs.desire_lrp(lrp("web", 3)).await.unwrap();
        let task = TaskDefinition { run: run_info(10), ..TaskDefinition::default() };
        rig.bbs.desire_task(&"t".into(), &"apps".into(), task).await.unwrap();
        rig.running("web", 3).await;
        let running = |tasks: &diego::bbs::Result<Vec<diego::Task>>| {
            tasks.as_ref().unwrap()[0].state.name() == "RUNNING"
        };
        eventually(
            "the task runs",
            || async { rig.bbs.tasks(&TaskFilter::default()).await },
            running,
        )
        .await;
        let all = async |rig: &Rig| {
            let desired = rig.bbs.desired_lrps(None).await.unwrap();
            let actual = rig.bbs.actual_lrps(&ActualLrpFilter::default()).await.unwrap();
            let tasks = rig.bbs.tasks(&TaskFilter::default()).await.unwrap();
            (
                desired,
                actual,
                tasks,
                rig.bbs.domains().await.unwrap(),
                rig.bbs.cells().await.unwrap(),
            )
        };
        let before = all(&rig).await;
        let rig = rig.reopen().await;
        assert_eq!(all(&rig).await, before);
        rig.routed(&["web.example.com 0", "web.example.com 1", "web.example.com 2"]).await;
        assert!(
            rig.routers.gaps.lock().is_empty(),
            "a restart of the brain is no event for requests"
        );

        // The cells it knew have one time to live to come back.
        rig.clock.advance(TTL + Duration::from_secs(1));
        rig.server.converge();
        eventually("suspects", || rig.show("web"), |shown| shown.matches("suspect").count() == 3)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_under_way_goes_on() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    rig.cells[0].set_script(Script {
        lrps: OnLrp::Ignore,
        tasks: OnTask::Ignore,
        ..Script::default()
    });
    rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
    let task = TaskDefinition { run: run_info(10), ..TaskDefinition::default() };
    rig.bbs.desire_task(&"t".into(), &"apps".into(), task).await.unwrap();
    eventually("given", || async { rig.cells[0].performed() }, |count| *count == 2).await;
    rig.cells[0].set_script(Script::default());
    let rig = rig.reopen().await;
    rig.running("web", 1).await;
    let done = |task: &diego::bbs::Result<diego::Task>| task.as_ref().unwrap().outcome().is_some();
    eventually("the task is done", || async { rig.bbs.task(&"t".into()).await }, done).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_removal_is_carried_out_by_the_next_brain() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 1).await;
        rig.bbs.desire_lrp(lrp("web", 2)).await.unwrap();
        rig.running("web", 2).await;
        rig.cells[0].set_reachable(false);
        rig.bbs.remove_lrp(&"web".into()).await.unwrap();
        rig.routed(&[]).await;
        let rig = rig.reopen().await;
        rig.cells[0].set_reachable(true);
        rig.advance(Duration::from_secs(31), &[]).await;
        rig.shows("web", "").await;
        assert!(rig.cells[0].instances().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_brain_that_was_replaced_stops() {
    for db in sql::testing::databases().await {
        let old = Rig::new(db.clone(), 0).await;
        let new = Rig::new(db, 0).await;
        assert!(old.bbs.desire_lrp(lrp("web", 1)).await.is_err());
        old.server.stopped().await;
        new.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
        assert!(old.bbs.desire_lrp(lrp("other", 1)).await.is_err());
        assert_eq!(new.bbs.desired_lrps(None).await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_cannot_be_stored_did_not_happen() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 1).await;
        let run = async |text: &'static str| {
            let mut tx = rig.db.begin().await.unwrap();
            sqlx::query(text).execute(&mut *tx).await.unwrap();
            tx.commit().await.unwrap();
        };
        run("ALTER TABLE bbs_desired_lrps RENAME TO elsewhere").await;
        let mut events = rig.bbs.events().await.unwrap();
        let error = rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap_err();
        assert!(error.message.starts_with("the change was not stored"), "{error}");
        assert!(
            rig.bbs.desired_lrps(None).await.unwrap().is_empty()
                && rig.records("web").await.is_empty()
        );
        assert_eq!(rig.cells[0].performed(), 0, "nothing follows from it either");

        run("ALTER TABLE elsewhere RENAME TO bbs_desired_lrps").await;
        rig.bbs.desire_lrp(lrp("web", 2)).await.unwrap();
        rig.running("web", 2).await;
        let first = events.next().await.unwrap();
        assert!(
            matches!(&first, diego::Event::DesiredLrpCreated { desired_lrp } if desired_lrp.instances == 2),
            "{first:?}"
        );
        let rig = rig.reopen().await;
        rig.running("web", 2).await;
    }
}
