use std::sync::Arc;
use std::time::Duration;

use diego::actual_lrp::State;
use diego::desired_lrp::Check;
use diego::{ActualLrp, Bbs as _, CellId, Presence, TaskDefinition};
use garden::Garden as _;

use crate::support::{Brain, Cell, PATIENCE, SERVER, Table, is_running};

fn runs_on(lrp: &ActualLrp, cell: &CellId) -> bool {
    matches!(&lrp.state, State::Running { by, .. } if by.cell_id == *cell)
}

#[tokio::test]
async fn instances_move_and_none_is_ever_missing() {
    let brain = Brain::new().await;
    let old = Cell::new(&brain, "old").await;
    let guid = brain.desire("web", 3, SERVER).await;
    brain.until_running(&guid, 3).await;
    let new = Cell::new(&brain, "new").await;
    let (watch, watched) = (brain.bbs.clone(), guid.clone());
    let gap = tokio::spawn(async move {
        use futures::StreamExt;
        let mut events = watch.events().await.unwrap();
        while events.next().await.is_some() {
            let filter = diego::bbs::ActualLrpFilter {
                process_guids: Some(vec![watched.clone()]),
                ..Default::default()
            };
            let lrps = watch.actual_lrps(&filter).await.unwrap();
            for index in 0..3 {
                if !lrps.iter().any(|lrp| lrp.key.index == index && is_running(lrp)) {
                    return format!("{lrps:#?}");
                }
            }
        }
        String::new()
    });
    old.rep.evacuate();
    tokio::time::timeout(PATIENCE, old.rep.evacuated()).await.unwrap();
    assert_eq!((old.count(), new.count()), (0, 3));
    let lrps = brain.until_running(&guid, 3).await;
    assert!(lrps.iter().all(|lrp| runs_on(lrp, &new.id) && lrp.presence == Presence::Ordinary));
    assert!(!gap.is_finished(), "an instance was missing: {}", gap.await.unwrap());
    gap.abort();
    let asked = old
        .lines()
        .iter()
        .filter(|line| line.contains("requesting replacement for instance"))
        .count();
    assert_eq!(asked, 3);
}

#[tokio::test]
async fn without_another_place_the_old_one_serves() {
    let brain = Brain::new().await;
    let old = Cell::new(&brain, "old").await;
    let guid = brain.desire("web", 1, SERVER).await;
    brain.until_running(&guid, 1).await;
    old.rep.evacuate();
    brain
        .until(&guid, |lrps| {
            lrps.iter().any(|lrp| lrp.presence == Presence::Evacuating && is_running(lrp))
                && lrps.iter().any(|lrp| matches!(&lrp.state, State::Unclaimed { placement_error } if !placement_error.is_empty()))
        })
        .await;
    assert_eq!(old.count(), 1);
    let new = Cell::new(&brain, "new").await;
    brain.bbs.converge();
    old.until_empty().await;
    assert!(runs_on(&brain.until_running(&guid, 1).await[0], &new.id));
}

#[tokio::test]
async fn what_ends_during_evacuation_is_told_as_what_it_is() {
    let brain = Brain::new().await;
    let old = Cell::new(&brain, "old").await;
    let guid = brain.desire("web", 1, "while [ ! -e go ]; do sleep 0.01; done; exit 6").await;
    let lrps = brain.until_running(&guid, 1).await;
    old.rep.evacuate();
    brain.until(&guid, |lrps| lrps.iter().any(|lrp| lrp.presence == Presence::Evacuating)).await;
    let handle = garden::Handle::from(lrps[0].instance().unwrap().instance_guid.as_str());
    std::fs::write(old.garden.path(&handle, "go"), "").unwrap();
    old.until_empty().await;
    brain.until(&guid, |lrps| lrps.iter().all(|lrp| lrp.presence == Presence::Ordinary)).await;
}

#[tokio::test]
async fn what_finds_no_place_in_time_is_stopped() {
    let brain = Brain::new().await;
    let short = |config: &mut rep::Config| config.timings.evacuation = Duration::from_millis(200);
    let old = Cell::with(&brain, "old", short).await;
    let guid = brain.desire("web", 1, SERVER).await;
    brain.until_running(&guid, 1).await;
    old.rep.evacuate();
    tokio::time::timeout(PATIENCE, old.rep.evacuated()).await.unwrap();
    assert_eq!(old.count(), 0);
    brain
        .until(&guid, |lrps| {
            lrps.iter().all(|lrp| lrp.presence == Presence::Ordinary && !is_running(lrp))
        })
        .await;
}

/// As [`crate::support::lrp`], behind a route.
fn routed(guid: &str, instances: u32) -> diego::DesiredLrp {
    let routes = serde_json::json!([{ "hostnames": [format!("{guid}.test")], "port": 8080 }]);
    diego::DesiredLrp {
        routes: [("cf-router".to_owned(), routes)].into(),
        ..crate::support::lrp(guid, instances, SERVER)
    }
}

/// Connects to one endpoint after the other, as routers would. One that does not answer and is still in the table is
/// an offence.
async fn hammer(table: Arc<Table>, routes: Vec<String>) {
    for turn in 0_usize.. {
        for route in &routes {
            let endpoints: Vec<_> = table.endpoints(route).into_iter().collect();
            let Some((guid, address)) = endpoints.get(turn % endpoints.len().max(1)) else {
                table.offend(format!("{route} leads nowhere"));
                continue;
            };
            if let Err(error) = tokio::net::TcpStream::connect(address).await
                && table.endpoints(route).contains_key(guid)
            {
                table.offend(format!("{route} leads to {guid}: {error}"));
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn at_every_moment_each_process_is_behind_its_route() {
    let brain = Brain::new().await;
    let old = Cell::new(&brain, "old").await;
    for (guid, instances) in [("single", 1), ("many", 3)] {
        brain.bbs.desire_lrp(routed(guid, instances)).await.unwrap();
        brain.until_running(&guid.into(), instances as usize).await;
    }
    let routes = vec!["single.test".to_owned(), "many.test".to_owned()];
    while routes.iter().any(|route| brain.table.endpoints(route).is_empty()) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    brain.table.arm();
    let hammering = tokio::spawn(hammer(brain.table.clone(), routes));
    let new = Cell::new(&brain, "new").await;
    old.rep.evacuate();
    tokio::time::timeout(PATIENCE, old.rep.evacuated()).await.unwrap();
    assert_eq!((old.count(), new.count()), (0, 4));
    brain.until_running(&"many".into(), 3).await;
    hammering.abort();
    assert_eq!(brain.table.offences(), Vec::<String>::new());
}

#[tokio::test]
async fn a_replacement_that_is_not_ready_replaces_nobody() {
    let brain = Brain::new().await;
    let old = Cell::new(&brain, "old").await;
    let mut desired = routed("web", 1);
    let ready =
        Check::Http { port: 8080, path: "/ready".into(), request_timeout_ms: 0, interval_ms: 10 };
    desired.run.check_definition.as_mut().unwrap().readiness_checks = vec![ready];
    brain.bbs.desire_lrp(desired).await.unwrap();
    let is_ready =
        |lrp: &ActualLrp| matches!(&lrp.state, State::Running { routable, .. } if *routable);
    let first = brain.until_running(&"web".into(), 1).await;
    let path = |cell: &Cell, lrp: &ActualLrp| {
        let handle = garden::Handle::from(lrp.instance().unwrap().instance_guid.as_str());
        cell.garden.path(&handle, "ready")
    };
    std::fs::write(path(&old, &first[0]), "").unwrap();
    brain.until(&"web".into(), |lrps| lrps.iter().any(is_ready)).await;
    while brain.table.endpoints("web.test").is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    brain.table.arm();
    let new = Cell::new(&brain, "new").await;
    old.rep.evacuate();
    let lrps =
        brain.until(&"web".into(), |lrps| lrps.iter().any(|lrp| runs_on(lrp, &new.id))).await;
    // It runs, but it is not ready: the old one serves on.
    assert!(lrps.iter().any(|lrp| runs_on(lrp, &old.id)), "{lrps:#?}");
    assert_eq!(old.count(), 1);
    let newcomer = lrps.iter().find(|lrp| runs_on(lrp, &new.id)).unwrap();
    std::fs::write(path(&new, newcomer), "").unwrap();
    tokio::time::timeout(PATIENCE, old.rep.evacuated()).await.unwrap();
    assert_eq!(brain.table.offences(), Vec::<String>::new());
    assert_eq!(brain.table.endpoints("web.test").len(), 1);
}

#[tokio::test]
async fn a_task_runs_to_its_end_before_its_cell_goes() {
    let brain = Brain::new().await;
    let old = Cell::new(&brain, "old").await;
    let definition = TaskDefinition {
        run: crate::support::run(
            "echo up; while [ ! -e go ]; do sleep 0.01; done; printf 42 > answer",
        ),
        result_file: "/answer".into(),
        ..TaskDefinition::default()
    };
    brain.bbs.desire_task(&"t".into(), &"test".into(), definition).await.unwrap();
    let guid = brain.desire("web", 1, SERVER).await;
    brain.until_running(&guid, 1).await;
    old.until_logged("up").await;
    let new = Cell::new(&brain, "new").await;
    old.rep.evacuate();
    brain
        .until(&guid, |lrps| lrps.len() == 1 && lrps.iter().all(|lrp| runs_on(lrp, &new.id)))
        .await;
    let mut changes = old.executor.subscribe();
    while old.count() > 1 {
        changes.recv().await.unwrap();
    }
    std::fs::write(old.garden.path(&"t".into(), "go"), "").unwrap();
    tokio::time::timeout(PATIENCE, old.rep.evacuated()).await.unwrap();
    let outcome = brain.until_completed(&"t".into()).await;
    assert_eq!((outcome.failed, &*outcome.result), (false, "42"));
    assert!(brain.bbs.cells().await.unwrap().iter().all(|cell| cell.cell_id == new.id));
}

#[tokio::test]
async fn what_has_not_ended_by_the_deadline_fails() {
    let brain = Brain::new().await;
    let short = |config: &mut rep::Config| config.timings.evacuation = Duration::from_millis(100);
    let old = Cell::with(&brain, "old", short).await;
    let definition =
        TaskDefinition { run: crate::support::run("echo up; sleep 600"), ..Default::default() };
    brain.bbs.desire_task(&"t".into(), &"test".into(), definition).await.unwrap();
    old.until_logged("up").await;
    old.rep.evacuate();
    tokio::time::timeout(PATIENCE, old.rep.evacuated()).await.unwrap();
    assert!(brain.until_completed(&"t".into()).await.failed);
}

#[tokio::test]
async fn without_the_brain_a_cell_goes_all_the_same() {
    let brain = Brain::new().await;
    let short = |config: &mut rep::Config| {
        config.timings.evacuation = Duration::from_millis(100);
        config.timings.closing = Duration::from_millis(500);
    };
    let old = Cell::with(&brain, "old", short).await;
    let guid = brain.desire("web", 2, SERVER).await;
    brain.until_running(&guid, 2).await;
    old.link.cut(true);
    old.rep.evacuate();
    tokio::time::timeout(PATIENCE, old.rep.evacuated()).await.unwrap();
    assert_eq!(old.count(), 0);
    assert!(old.garden.containers().await.unwrap().is_empty());
}
