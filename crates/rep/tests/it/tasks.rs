use diego::{Bbs, TaskDefinition, TaskGuid};

use crate::support::{Brain, Cell, run};

async fn desire(brain: &Brain, guid: &str, script: &str, result_file: &str) -> TaskGuid {
    let definition = TaskDefinition {
        run: run(script),
        result_file: result_file.into(),
        ..TaskDefinition::default()
    };
    brain.bbs.desire_task(&guid.into(), &"test".into(), definition).await.unwrap();
    guid.into()
}

#[tokio::test]
async fn a_task_brings_its_result() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let guid = desire(&brain, "t", "printf 42 > answer", "/answer").await;
    let outcome = brain.until_completed(&guid).await;
    assert_eq!((outcome.failed, &*outcome.failure_reason, &*outcome.result), (false, "", "42"));
    cell.until_empty().await;
}

#[tokio::test]
async fn a_failing_task_says_why_and_brings_what_it_has() {
    let brain = Brain::new().await;
    let _cell = Cell::new(&brain, "cell-1").await;
    let guid = desire(&brain, "t", "printf partly > answer; exit 2", "/answer").await;
    let outcome = brain.until_completed(&guid).await;
    let want = (true, "APP/PROC/WEB: Exited with status 2", "partly");
    assert_eq!((outcome.failed, &*outcome.failure_reason, &*outcome.result), want);
}

#[tokio::test]
async fn without_its_result_a_task_has_failed() {
    let brain = Brain::new().await;
    let _cell = Cell::new(&brain, "cell-1").await;
    let missing = desire(&brain, "missing", "true", "/answer").await;
    let large = desire(&brain, "large", "head -c 60000 /dev/zero > answer", "/answer").await;
    for guid in [missing, large] {
        let outcome = brain.until_completed(&guid).await;
        assert_eq!((outcome.failed, &*outcome.failure_reason), (true, "failed to fetch result"));
    }
}

#[tokio::test]
async fn a_cancelled_task_goes() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let guid = desire(&brain, "t", "sleep 600", "").await;
    let mut changes = cell.executor.subscribe();
    while !cell
        .executor
        .list()
        .iter()
        .any(|one| matches!(one.state, executor::State::Running { .. }))
    {
        changes.recv().await.unwrap();
    }
    brain.bbs.cancel_task(&guid).await.unwrap();
    cell.until_empty().await;
    assert_eq!(brain.until_completed(&guid).await.failure_reason, "task was cancelled");
}

#[tokio::test]
async fn a_container_that_cannot_be_made_is_tried_again() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    cell.garden.failures.lock().push("addresses");
    let guid = desire(&brain, "t", "true", "").await;
    let wait = async {
        while brain.bbs.task(&guid).await.unwrap().rejection_count == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.unwrap();
    let task = brain.bbs.task(&guid).await.unwrap();
    assert_eq!(task.rejection_reason, "failed to create container: out of addresses");
    cell.until_empty().await;
}

#[tokio::test]
async fn nothing_of_a_task_happens_without_its_grant() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    cell.link.cut(true);
    let guid = desire(&brain, "t", "echo ran", "").await;
    let mut changes = cell.executor.subscribe();
    while cell.count() == 0 {
        changes.recv().await.unwrap();
    }
    tokio::task::yield_now().await;
    assert!(cell.garden.creations.lock().is_empty());
    brain.bbs.cancel_task(&guid).await.unwrap();
    cell.link.cut(false);
    cell.until_empty().await;
    assert!(cell.garden.creations.lock().is_empty());
}
