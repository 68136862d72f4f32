use diego::Bbs;
use diego::actual_lrp::State;
use diego::desired_lrp::DesiredLrpUpdate;
use garden::Garden;

use crate::support::{Brain, Cell, SERVER, is_running};

#[tokio::test]
async fn a_desired_process_runs_where_its_record_says() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let guid = brain.desire("web", 2, SERVER).await;
    let lrps = brain.until_running(&guid, 2).await;
    for lrp in &lrps {
        let State::Running { by, net, routable } = &lrp.state else { unreachable!() };
        assert_eq!((&by.cell_id, by.instance_guid.as_str().len(), *routable), (&cell.id, 28, true));
        let port = net.ports[0];
        assert_eq!(port.container_port, 8080);
        tokio::net::TcpStream::connect((net.instance_address, port.listen_port)).await.unwrap();
    }
    brain.bbs.remove_lrp(&guid).await.unwrap();
    brain.until(&guid, <[_]>::is_empty).await;
    cell.until_empty().await;
    assert!(cell.garden.containers().await.unwrap().is_empty());
    assert!(cell.lines().iter().any(|line| line.starts_with("Cell cell-1 stopping instance ")));
}

#[tokio::test]
async fn scaling_follows() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let guid = brain.desire("web", 1, "sleep 600").await;
    let first = brain.until_running(&guid, 1).await;
    let to =
        |instances| DesiredLrpUpdate { instances: Some(instances), ..DesiredLrpUpdate::default() };
    brain.bbs.update_lrp(&guid, to(3)).await.unwrap();
    brain.until_running(&guid, 3).await;
    brain.bbs.update_lrp(&guid, to(1)).await.unwrap();
    let last = brain.until_running(&guid, 1).await;
    assert_eq!(last[0].instance(), first[0].instance());
    let mut changes = cell.executor.subscribe();
    while cell.count() > 1 {
        changes.recv().await.unwrap();
    }
}

#[tokio::test]
async fn a_crash_is_counted_and_started_again() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let guid = brain.desire("web", 1, "exit 7").await;
    let lrps =
        brain.until(&guid, |lrps| lrps.iter().any(|lrp| matches!(lrp.state, State::Crashed))).await;
    assert_eq!(lrps[0].crash_count, 3);
    assert_eq!(lrps[0].crash_reason, "APP/PROC/WEB: Exited with status 7");
    cell.until_empty().await;
}

#[tokio::test]
async fn ending_well_is_a_crash() {
    let brain = Brain::new().await;
    let _cell = Cell::new(&brain, "cell-1").await;
    let guid = brain.desire("web", 1, "exit 0").await;
    let lrps = brain.until(&guid, |lrps| lrps.iter().any(|lrp| lrp.crash_count > 0)).await;
    assert_eq!(lrps[0].crash_reason, "APP/PROC/WEB: Exited with status 0");
}

#[tokio::test]
async fn what_does_not_fit_is_handed_back() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    // Ten containers, of which one is kept back; each of 100 MB out of 1000.
    let guid = brain.desire("web", 12, "sleep 600").await;
    let lrps = brain
        .until(&guid, |lrps| {
            let refused = |lrp: &&diego::ActualLrp| {
                matches!(&lrp.state, State::Unclaimed { placement_error } if !placement_error.is_empty())
            };
            lrps.iter().filter(|lrp| is_running(lrp)).count() == 9 && lrps.iter().filter(refused).count() == 3
        })
        .await;
    assert_eq!(lrps.len(), 12);
    assert_eq!(cell.count(), 9);
}

#[tokio::test]
async fn an_instance_runs_although_the_brain_is_away_and_is_told_afterwards() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    cell.link.cut(true);
    let guid = brain.desire("web", 1, "sleep 600").await;
    let mut changes = cell.executor.subscribe();
    while !cell
        .executor
        .list()
        .iter()
        .any(|one| matches!(one.state, executor::State::Running { .. }))
    {
        changes.recv().await.unwrap();
    }
    assert!(brain.lrps(&guid).await.iter().all(|lrp| !is_running(lrp)));
    cell.link.cut(false);
    brain.until_running(&guid, 1).await;
}

#[tokio::test]
async fn a_stranger_to_its_record_gives_way() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let guid = brain.desire("web", 1, "sleep 600").await;
    let lrps = brain.until_running(&guid, 1).await;
    // The same work once more: its claim is refused, for the record runs elsewhere.
    let desired = brain.bbs.desired_lrp(&guid).await.unwrap();
    let work = diego::Work {
        lrps: vec![diego::cell::LrpStart { index: 0, desired: desired.into() }],
        tasks: vec![],
    };
    let dialer = rep::Dialer::new(&base::http::Secret::new(crate::support::SECRET));
    let presence = brain.bbs.cells().await.unwrap().remove(0);
    let client = diego::cell::Dial::dial(&dialer, &presence);
    let own = garden::Handle::from(lrps[0].instance().unwrap().instance_guid.as_str());
    let mut changes = cell.executor.subscribe();
    assert_eq!(client.perform(work).await.unwrap(), diego::cell::Refused::default());
    let stranger = loop {
        let guid = changes.recv().await.unwrap();
        if guid != own {
            break guid;
        }
    };
    while cell.executor.get(&stranger).is_some() {
        changes.recv().await.unwrap();
    }
    assert_eq!(cell.executor.list().remove(0).guid, own);
}

#[tokio::test]
async fn old_news_of_a_record_does_not_hide_a_crash() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let guid = brain.desire("web", 1, "while [ ! -e go ]; do sleep 0.01; done; exit 7").await;
    let lrps = brain.until_running(&guid, 1).await;
    // The records are read while it runs, and what was read arrives when it does not.
    cell.link.slow_records.send_replace(true);
    let compare = {
        let rep = cell.rep.clone();
        tokio::spawn(async move { rep.compare().await })
    };
    tokio::task::yield_now().await;
    let handle = garden::Handle::from(lrps[0].instance().unwrap().instance_guid.as_str());
    std::fs::write(cell.garden.path(&handle, "go"), "").unwrap();
    let lrps = brain.until(&guid, |lrps| lrps.iter().any(|lrp| lrp.crash_count > 0)).await;
    assert_eq!(lrps[0].crash_reason, "APP/PROC/WEB: Exited with status 7");
    cell.link.slow_records.send_replace(false);
    compare.await.unwrap().unwrap();
    brain.until_running(&guid, 1).await;
}
