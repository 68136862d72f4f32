//! A cell that is cut off, and one that comes back.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use diego::actual_lrp::State;
use diego::task::State as TaskState;
use diego::{ActualLrp, Bbs, CellId, TaskDefinition, TaskGuid};

use crate::link::Link;
use crate::support::{Brain, Cell, PATIENCE, SERVER, is_running, run};

/// As short as they are meant to be, and a little shorter.
fn short(config: &mut rep::Config) {
    config.timings.presence_ttl = Duration::from_millis(1200);
    config.timings.announce = Duration::from_millis(200);
}

fn run_on(lrps: &[ActualLrp], cell: &CellId) -> usize {
    let there =
        |lrp: &&ActualLrp| matches!(&lrp.state, State::Running { by, .. } if by.cell_id == *cell);
    lrps.iter().filter(there).count()
}

async fn until_told(brain: &Brain, task: &TaskGuid, is: impl Fn(&TaskState) -> bool) {
    let wait = async {
        while !is(&brain.bbs.task(task).await.unwrap().state) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

async fn desire_task(brain: &Brain, script: &str) -> TaskGuid {
    let definition = TaskDefinition { run: run(script), ..TaskDefinition::default() };
    brain.bbs.desire_task(&"t".into(), &"test".into(), definition).await.unwrap();
    "t".into()
}

#[tokio::test]
async fn what_a_cut_off_cell_holds_runs_elsewhere_and_it_gives_way_when_it_is_back() {
    let brain = Brain::new().await;
    let lost = Cell::with(&brain, "lost", short).await;
    let guid = brain.desire("web", 3, SERVER).await;
    brain.until_running(&guid, 3).await;
    let other = Cell::new(&brain, "other").await;
    let began = Instant::now();
    brain.cut(&lost, true);
    brain.until(&guid, |lrps| run_on(lrps, &other.id) == 3).await;
    eprintln!("replaced after {:?}", began.elapsed());
    assert_eq!(lost.count(), 3, "nobody has told the lost cell");
    brain.cut(&lost, false);
    lost.until_empty().await;
    let lrps = brain.until_running(&guid, 3).await;
    assert_eq!(run_on(&lrps, &other.id), 3);
    assert_eq!(other.count(), 3);
}

#[tokio::test]
async fn what_could_not_be_replaced_goes_on_where_it_is() {
    let brain = Brain::new().await;
    let lost = Cell::with(&brain, "lost", short).await;
    let guid = brain.desire("web", 2, SERVER).await;
    let before = brain.until_running(&guid, 2).await;
    brain.cut(&lost, true);
    brain.until(&guid, |lrps| lrps.iter().any(|lrp| !is_running(lrp))).await;
    brain.cut(&lost, false);
    let after = brain.until_running(&guid, 2).await;
    let of = |lrps: &[ActualLrp]| {
        let mut all: Vec<_> = lrps.iter().map(|lrp| lrp.instance().cloned()).collect();
        all.sort_by_key(|key| key.as_ref().map(|key| key.instance_guid.clone()));
        all
    };
    assert_eq!(of(&after), of(&before));
    assert_eq!(lost.garden.creations.lock().len(), 2);
}

#[tokio::test]
async fn a_task_that_was_granted_before_the_cut_does_not_begin_after_it() {
    let brain = Brain::new().await;
    let cell = Cell::with(&brain, "cell-1", short).await;
    cell.garden.held.send_replace(true);
    let task = desire_task(&brain, "echo ran").await;
    until_told(&brain, &task, |state| matches!(state, TaskState::Running { .. })).await;
    brain.cut(&cell, true);
    until_told(&brain, &task, |state| matches!(state, TaskState::Completed { .. })).await;
    let given_up = brain.bbs.task(&task).await.unwrap();
    // Its container is made only now, by a cell that knows of nothing.
    cell.garden.held.send_replace(false);
    let made = async {
        while cell.garden.creations.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, made).await.unwrap();
    cell.until_logged("successfully created container").await;
    brain.cut(&cell, false);
    cell.until_empty().await;
    assert!(cell.garden.ran.lock().is_empty(), "the task ran");
    assert_eq!(brain.bbs.task(&task).await.unwrap(), given_up);
}

#[tokio::test]
async fn a_task_that_is_still_granted_begins_when_the_cell_is_certain_of_it() {
    let brain = Brain::new().await;
    let cell = Cell::with(&brain, "cell-1", short).await;
    // The brain believes in the cell for longer than the cell itself does.
    *cell.link.patience.lock() = Some(Duration::from_secs(120));
    let announced = cell.link.announced.lock().len();
    while cell.link.announced.lock().len() < announced + 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cell.garden.held.send_replace(true);
    let task = desire_task(&brain, "echo ran").await;
    until_told(&brain, &task, |state| matches!(state, TaskState::Running { .. })).await;
    cell.link.mute.store(true, Ordering::SeqCst);
    while cell.rep.is_present() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cell.garden.held.send_replace(false);
    cell.until_logged("successfully created container").await;
    tokio::task::yield_now().await;
    assert!(cell.garden.ran.lock().is_empty(), "the task ran while it might have been another's");
    cell.link.mute.store(false, Ordering::SeqCst);
    assert!(!brain.until_completed(&task).await.failed);
    assert_eq!(cell.garden.ran.lock().len(), 1);
}

#[tokio::test]
async fn the_end_of_what_was_given_up_changes_nothing() {
    let brain = Brain::new().await;
    let cell = Cell::with(&brain, "cell-1", short).await;
    let task = desire_task(&brain, "echo up; while [ ! -e go ]; do sleep 0.01; done").await;
    cell.until_logged("up").await;
    brain.cut(&cell, true);
    let outcome = brain.until_completed(&task).await;
    assert!(outcome.failed, "{outcome:?}");
    std::fs::write(cell.garden.path(&"t".into(), "go"), "").unwrap();
    cell.until_logged("Exit status 0").await;
    brain.cut(&cell, false);
    cell.until_empty().await;
    assert_eq!(brain.until_completed(&task).await, outcome);
}

#[tokio::test]
async fn nothing_keeps_the_cell_from_announcing_itself() {
    let brain = Brain::new().await;
    let heart = Link::new(brain.bbs.clone());
    let cell = Cell::with_heart(&brain, "cell-1", heart.clone(), short).await;
    let began = Instant::now();
    // All that the cell has beside its heart is busy for longer than its presence lasts.
    while began.elapsed() < Duration::from_secs(3) {
        std::hint::spin_loop();
    }
    let times: Vec<Instant> = heart.announced.lock().clone();
    let during: Vec<&Instant> = times.iter().filter(|at| **at > began).collect();
    assert!(during.len() >= 3, "{} announcements in three seconds", during.len());
    let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(gap < Duration::from_millis(1200), "silent for {gap:?}");
    assert!(cell.link.announced.lock().is_empty());
    cell.leave().await;
}
