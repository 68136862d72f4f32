use diego::actual_lrp::State;
use diego::{ActualLrp, CellId, Presence};

use crate::support::{Brain, Cell, SERVER, is_running};

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
        use diego::Bbs;
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
    tokio::time::timeout(std::time::Duration::from_secs(15), old.rep.evacuated()).await.unwrap();
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
    let short = |config: &mut rep::Config| {
        config.timings.evacuation = std::time::Duration::from_millis(200)
    };
    let old = Cell::with(&brain, "old", short).await;
    let guid = brain.desire("web", 1, SERVER).await;
    brain.until_running(&guid, 1).await;
    old.rep.evacuate();
    tokio::time::timeout(std::time::Duration::from_secs(15), old.rep.evacuated()).await.unwrap();
    assert_eq!(old.count(), 0);
    brain
        .until(&guid, |lrps| {
            lrps.iter().all(|lrp| lrp.presence == Presence::Ordinary && !is_running(lrp))
        })
        .await;
}
