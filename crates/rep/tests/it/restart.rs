use std::time::Duration;

use diego::actual_lrp::State;
use diego::{Bbs, TaskDefinition};
use garden::Garden;

use crate::support::{Brain, Cell, PATIENCE, SERVER, run};

#[tokio::test]
async fn a_restart_of_the_platform_is_no_event_for_its_instances() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let guid = brain.desire("web", 2, SERVER).await;
    let before = brain.until_running(&guid, 2).await;
    let left = cell.leave().await;
    let cell = Cell::back(&brain, left).await;
    assert_eq!(cell.count(), 2);
    cell.rep.compare().await.unwrap();
    assert_eq!(brain.lrps(&guid).await, before);
    assert_eq!(cell.garden.creations.lock().len(), 2);
    brain.bbs.remove_lrp(&guid).await.unwrap();
    cell.until_empty().await;
}

#[tokio::test]
async fn what_ended_meanwhile_is_told() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let guid = brain.desire("web", 1, "while [ ! -e go ]; do sleep 0.01; done; exit 3").await;
    let lrps = brain.until_running(&guid, 1).await;
    let definition = TaskDefinition {
        run: run("while [ ! -e go ]; do sleep 0.01; done; printf done > result"),
        result_file: "/result".into(),
        ..TaskDefinition::default()
    };
    brain.bbs.desire_task(&"t".into(), &"test".into(), definition).await.unwrap();
    let mut changes = cell.executor.subscribe();
    while cell
        .executor
        .list()
        .iter()
        .filter(|one| matches!(one.state, executor::State::Running { .. }))
        .count()
        < 2
    {
        changes.recv().await.unwrap();
    }
    let left = cell.leave().await;
    let handle = garden::Handle::from(lrps[0].instance().unwrap().instance_guid.as_str());
    for handle in [&handle, &"t".into()] {
        std::fs::write(left.1.path(handle, "go"), "").unwrap();
        let id = left.1.info(handle).await.unwrap().processes[0].clone();
        left.1.attach(handle, &id, 0).await.unwrap().wait().await.unwrap();
    }
    let _cell = Cell::back(&brain, left).await;
    assert_eq!(brain.until_completed(&"t".into()).await.result, "done");
    let lrps = brain.until(&guid, |lrps| lrps.iter().any(|lrp| lrp.crash_count > 0)).await;
    assert_eq!(lrps[0].crash_reason, "APP/PROC/WEB: Exited with status 3");
}

#[tokio::test]
async fn records_without_containers_are_settled() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let guid = brain.desire("web", 1, "sleep 600").await;
    let before = brain.until_running(&guid, 1).await;
    let (id, _, _) = cell.leave().await;
    // The cell comes again with nothing, as after the loss of its disk.
    let empty = (
        id,
        crate::garden_on_host::HostGarden::new(),
        std::sync::Arc::new(tempfile::tempdir().unwrap()),
    );
    let _cell = Cell::back(&brain, empty).await;
    brain.until(&guid, |lrps| lrps.iter().all(|lrp| lrp.instance() != before[0].instance())).await;
    brain.bbs.converge();
    brain.until_running(&guid, 1).await;
}

#[tokio::test]
async fn clearing_stops_everything_and_forgets_nothing() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let guid = brain.desire("web", 2, "sleep 600").await;
    brain.until_running(&guid, 2).await;
    cell.rep.clear().await;
    assert!(cell.garden.containers().await.unwrap().is_empty());
    let said = cell.link.announced.lock().len();
    assert!(brain.bbs.cells().await.unwrap().is_empty());
    let other = Cell::new(&brain, "cell-2").await;
    brain.bbs.converge();
    let lrps = brain.until_running(&guid, 2).await;
    assert!(
        lrps.iter()
            .all(|lrp| matches!(&lrp.state, State::Running { by, .. } if by.cell_id == other.id))
    );
    assert_eq!(cell.link.announced.lock().len(), said, "it said goodbye");
}

#[tokio::test]
async fn a_brain_that_counts_the_cell_as_lost_is_not_waited_for() {
    let brain = Brain::new().await;
    let patient = |config: &mut rep::Config| {
        config.timings.announce = Duration::from_millis(100);
        config.timings.presence_ttl = Duration::from_millis(800);
        config.timings.closing = Duration::from_secs(3600);
    };
    let cell = Cell::with(&brain, "cell-1", patient).await;
    let guid = brain.desire("web", 2, "sleep 600").await;
    brain.until_running(&guid, 2).await;
    cell.link.cut(true);
    tokio::time::timeout(PATIENCE, cell.rep.clear()).await.unwrap();
    assert!(cell.garden.containers().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_the_brain_missed_is_made_good() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let guid = brain.desire("web", 1, SERVER).await;
    let before = brain.until_running(&guid, 1).await;
    // The brain forgets what runs, as after the loss of its database.
    let (key, instance) = (&before[0].key, before[0].instance().unwrap());
    brain.bbs.remove(key, instance).await.unwrap();
    cell.rep.compare().await.unwrap();
    // The brain wants another in its place at once; whichever comes first, one of them stays.
    let mut changes = cell.executor.subscribe();
    let after = brain.until_running(&guid, 1).await;
    while cell.count() > 1 {
        changes.recv().await.unwrap();
    }
    let left = cell.executor.list().remove(0).guid;
    assert_eq!(left.as_str(), after[0].instance().unwrap().instance_guid.as_str());
}
