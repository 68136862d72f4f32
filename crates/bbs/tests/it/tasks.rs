//! Tasks from desire to deletion.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use base::CancellationToken;
use diego::bbs::{ErrorKind, TaskFilter};
use diego::sim::{OnTask, Script};
use diego::task::{Attempt, TaskCallback};
use diego::{Bbs as _, TaskDefinition};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::rig::{Rig, TTL, eventually, run_info};

fn definition(callback: &str) -> TaskDefinition {
    TaskDefinition {
        run: run_info(100),
        completion_callback_url: callback.to_owned(),
        annotation: "note".to_owned(),
        ..TaskDefinition::default()
    }
}

fn first(cell: &str) -> Attempt {
    Attempt { cell_id: cell.into(), rejections: 0 }
}

fn script(tasks: OnTask) -> Script {
    Script { tasks, ..Script::default() }
}

async fn show(rig: &Rig, guid: &str) -> String {
    match rig.bbs.task(&guid.into()).await {
        Ok(task) => {
            let end = task
                .outcome()
                .map(|end| format!(" ({}{})", end.failure_reason, end.result))
                .unwrap_or_default();
            format!("{}{end}", task.state.name())
        }
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn shows<'a>(rig: &'a Rig, guid: &'a str, want: &'a str) -> impl Future<Output = ()> + 'a {
    eventually(want, move || show(rig, guid), move |shown| shown == want)
}

/// Takes callbacks; the first so many are answered 503.
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<TaskCallback>>>,
    stop: CancellationToken,
}

impl Receiver {
    async fn new(busy: usize, then: StatusCode) -> Receiver {
        type Shared = (Arc<Mutex<Vec<TaskCallback>>>, Arc<AtomicUsize>, StatusCode);
        async fn take(
            State((got, busy, then)): State<Shared>,
            Json(body): Json<TaskCallback>,
        ) -> StatusCode {
            got.lock().push(body);
            let left =
                busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |busy| busy.checked_sub(1));
            if left.is_ok() { StatusCode::SERVICE_UNAVAILABLE } else { then }
        }
        let (got, stop) = (Arc::default(), CancellationToken::new());
        let shared: Shared = (Arc::clone(&got), Arc::new(AtomicUsize::new(busy)), then);
        let router = Router::new().route("/done", post(take)).with_state(shared);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/done", listener.local_addr().unwrap());
        tokio::spawn(base::http::serve(listener, router, stop.clone()));
        Receiver { url, got, stop }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_runs_once_and_waits_to_be_fetched() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 2).await;
        rig.bbs.desire_task(&"t".into(), &"apps".into(), definition("")).await.unwrap();
        shows(&rig, "t", "COMPLETED (done)").await;
        let again =
            rig.bbs.desire_task(&"t".into(), &"apps".into(), definition("")).await.unwrap_err();
        assert_eq!(again.kind, ErrorKind::ResourceExists);
        assert_eq!(rig.cells.iter().map(|cell| cell.performed()).sum::<usize>(), 1);

        let late = rig.bbs.delete_task(&"t".into()).await.unwrap_err();
        assert_eq!(late.kind, ErrorKind::InvalidStateTransition);
        rig.bbs.resolve_task(&"t".into()).await.unwrap();
        assert!(rig.bbs.resolve_task(&"t".into()).await.is_err());
        rig.bbs.delete_task(&"t".into()).await.unwrap();
        assert!(rig.bbs.task(&"t".into()).await.unwrap_err().is_not_found());
        let domain = TaskFilter { domain: Some("apps".into()), ..TaskFilter::default() };
        assert!(rig.bbs.tasks(&domain).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_tells_of_the_end_and_ends_the_task() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 1).await;
        let receiver = Receiver::new(2, StatusCode::OK).await;
        rig.bbs.desire_task(&"t".into(), &"apps".into(), definition(&receiver.url)).await.unwrap();
        shows(&rig, "t", "the task t does not exist").await;
        let got = receiver.got.lock().clone();
        assert_eq!(got.len(), 3, "two were answered 503");
        assert_eq!(
            (got[2].result.as_str(), got[2].annotation.as_str(), got[2].failed),
            ("done", "note", false)
        );

        // Any other answer counts as taken, a failure too.
        rig.cells[0].set_script(script(OnTask::Fail("Exited with status 1".to_owned())));
        let angry = Receiver::new(0, StatusCode::INTERNAL_SERVER_ERROR).await;
        rig.bbs.desire_task(&"u".into(), &"apps".into(), definition(&angry.url)).await.unwrap();
        shows(&rig, "u", "the task u does not exist").await;
        assert_eq!(angry.got.lock()[0].failure_reason, "Exited with status 1");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_that_nobody_takes_is_tried_again_later() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    let receiver = Receiver::new(4, StatusCode::OK).await;
    rig.bbs.desire_task(&"t".into(), &"apps".into(), definition(&receiver.url)).await.unwrap();
    shows(&rig, "t", "RESOLVING (done)").await;
    eventually("three tries", || async { receiver.got.lock().len() }, |count| *count == 3).await;
    rig.advance(Duration::from_secs(31), &[]).await;
    shows(&rig, "t", "the task t does not exist").await;
    assert_eq!(receiver.got.lock().len(), 5);

    // Nobody listens at all: in the end the record goes.
    rig.bbs
        .desire_task(&"u".into(), &"apps".into(), definition("http://127.0.0.1:1/"))
        .await
        .unwrap();
    shows(&rig, "u", "RESOLVING (done)").await;
    rig.advance(Duration::from_secs(121), &[]).await;
    shows(&rig, "u", "the task u does not exist").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_that_a_restart_cut_off_is_made_at_once() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 1).await;
        let receiver = Receiver::new(3, StatusCode::OK).await;
        rig.bbs.desire_task(&"t".into(), &"apps".into(), definition(&receiver.url)).await.unwrap();
        shows(&rig, "t", "RESOLVING (done)").await;
        eventually("its tries", || async { receiver.got.lock().len() }, |count| *count == 3).await;
        // No time passes, and it is told all the same.
        let rig = rig.reopen().await;
        shows(&rig, "t", "the task t does not exist").await;
        assert_eq!(receiver.got.lock().len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_without_room_fails_after_four_rounds() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 1).await;
        let big = TaskDefinition { run: run_info(5000), ..definition("") };
        rig.bbs.desire_task(&"t".into(), &"apps".into(), big).await.unwrap();
        for round in 1..=3 {
            eventually(
                round,
                || async { rig.bbs.task(&"t".into()).await },
                |task| task.as_ref().unwrap().rejection_count == round,
            )
            .await;
            assert_eq!(show(&rig, "t").await, "PENDING");
            rig.advance(Duration::from_secs(31), &[]).await;
        }
        let want = "COMPLETED (insufficient resources: memory: 1 of 1 cell lacks memory: needed 5000 MB, most free 1000 MB)";
        shows(&rig, "t", want).await;
        rig.advance(Duration::from_secs(121), &[]).await;
        shows(&rig, "t", "the task t does not exist").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_cannot_be_made_is_tried_four_times() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    rig.cells[0].set_script(script(OnTask::Reject("no container".to_owned())));
    rig.bbs.desire_task(&"t".into(), &"apps".into(), definition("")).await.unwrap();
    for round in 1..=3 {
        eventually(
            round,
            || async { rig.bbs.task(&"t".into()).await },
            |task| task.as_ref().unwrap().rejection_count == round,
        )
        .await;
        rig.advance(Duration::from_secs(31), &[]).await;
    }
    shows(&rig, "t", "COMPLETED (no container)").await;
    assert_eq!(rig.cells[0].performed(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_ends_the_task_and_its_container() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 1).await;
        rig.cells[0].set_script(script(OnTask::Run));
        rig.bbs.desire_task(&"t".into(), &"apps".into(), definition("")).await.unwrap();
        shows(&rig, "t", "RUNNING").await;
        rig.bbs.cancel_task(&"t".into()).await.unwrap();
        shows(&rig, "t", "COMPLETED (task was cancelled)").await;
        eventually(
            "no container",
            || async { rig.cells[0].task_guids() },
            |guids| guids.is_empty(),
        )
        .await;
        assert!(rig.bbs.cancel_task(&"t".into()).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_on_a_lost_cell_fails_and_does_not_move() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 2).await;
        for cell in &rig.cells {
            cell.set_script(script(OnTask::Run));
        }
        rig.bbs.desire_task(&"t".into(), &"apps".into(), definition("")).await.unwrap();
        shows(&rig, "t", "RUNNING").await;
        let holder = rig.cells.iter().position(|cell| !cell.task_guids().is_empty()).unwrap();
        rig.cells[holder].set_reachable(false);
        rig.advance(TTL + Duration::from_secs(1), &[holder]).await;
        let cells = || async { rig.bbs.cells().await.unwrap().len() };
        eventually("the cell is lost", cells, |count| *count == 1).await;
        shows(&rig, "t", "RUNNING").await;
        rig.advance(Duration::from_secs(15), &[holder]).await;
        shows(&rig, "t", "COMPLETED (cell disappeared before completion)").await;
        let other = rig.bbs.start_task(&"t".into(), &first("cell-9")).await.unwrap_err();
        assert_eq!(other.kind, ErrorKind::InvalidStateTransition);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_run_is_granted_once() {
    let rig = Rig::new(sql::testing::sqlite().await, 0).await;
    rig.bbs.desire_task(&"t".into(), &"apps".into(), definition("")).await.unwrap();
    // No cell is known, which counts as a rejection.
    eventually(
        "its rejection",
        || async { rig.bbs.task(&"t".into()).await },
        |task| task.as_ref().unwrap().rejection_count == 1,
    )
    .await;
    let second = |cell: &str| Attempt { cell_id: cell.into(), rejections: 1 };
    let late = rig.bbs.start_task(&"t".into(), &first("cell-1")).await.unwrap_err();
    assert_eq!(late.kind, ErrorKind::InvalidStateTransition);
    let starts = (0..20).map(|cell| {
        let (bbs, by) = (rig.bbs.clone(), second(&format!("cell-{cell}")));
        async move { bbs.start_task(&"t".into(), &by).await }
    });
    let granted = futures::future::join_all(starts)
        .await
        .into_iter()
        .filter(|start| matches!(start, Ok(true)))
        .count();
    assert_eq!(granted, 1);
    let stranger = rig.bbs.reject_task(&"t".into(), &second("stranger"), "late").await.unwrap_err();
    assert_eq!(stranger.kind, ErrorKind::RunningOnDifferentCell);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_no_cell_starts_gives_up_after_half_an_hour() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    rig.cells[0].set_script(script(OnTask::Ignore));
    rig.bbs.desire_task(&"t".into(), &"apps".into(), definition("")).await.unwrap();
    eventually("work is given", || async { rig.cells[0].performed() }, |count| *count == 1).await;
    rig.advance(Duration::from_secs(1795), &[]).await;
    eventually("it is offered again", || async { rig.cells[0].performed() }, |count| *count > 1)
        .await;
    assert_eq!(show(&rig, "t").await, "PENDING");
    rig.advance(Duration::from_secs(10), &[]).await;
    shows(&rig, "t", "COMPLETED (not started within time limit)").await;
}

/// Closes the first connection after it has read from it, holds the second one open, and answers the third.
async fn moody() -> (String, Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/done", listener.local_addr().unwrap());
    let calls: Arc<AtomicUsize> = Arc::default();
    let count = calls.clone();
    let serving = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            connection.read_u8().await.unwrap();
            match count.fetch_add(1, Ordering::SeqCst) {
                0 => drop(connection),
                1 => held.push(connection),
                _ => {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    connection.write_all(answer).await.unwrap();
                    held.push(connection);
                }
            }
        }
    });
    (url, calls, serving)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_that_is_cut_off_or_left_waiting_is_made_again_at_once() {
    let mut rig = Rig::new(sql::testing::sqlite().await, 1).await;
    rig.config.timings.callback_timeout = Duration::from_millis(500);
    let rig = rig.reopen().await;
    let (url, calls, serving) = moody().await;
    rig.bbs.desire_task(&"t".into(), &"apps".into(), definition(&url)).await.unwrap();
    shows(&rig, "t", "the task t does not exist").await;
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_cancelled_before_it_runs_and_not_after_it_ended() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 1).await;
        // It waits for a cell; whoever reserved it must let it go.
        rig.cells[0].set_script(script(OnTask::Ignore));
        rig.bbs.desire_task(&"waits".into(), &"apps".into(), definition("")).await.unwrap();
        eventually("work is given", || async { rig.cells[0].performed() }, |count| *count == 1)
            .await;
        rig.bbs.cancel_task(&"waits".into()).await.unwrap();
        shows(&rig, "waits", "COMPLETED (task was cancelled)").await;
        let start = rig.bbs.start_task(&"waits".into(), &first("cell-0")).await.unwrap_err();
        assert_eq!(start.kind, ErrorKind::InvalidStateTransition);

        // What is over stays as it ended, whoever deals with it.
        rig.cells[0].set_script(script(OnTask::Succeed("done".to_owned())));
        rig.bbs.desire_task(&"ended".into(), &"apps".into(), definition("")).await.unwrap();
        shows(&rig, "ended", "COMPLETED (done)").await;
        for state in ["COMPLETED (done)", "RESOLVING (done)"] {
            let refused = rig.bbs.cancel_task(&"ended".into()).await.unwrap_err();
            assert_eq!(refused.kind, ErrorKind::InvalidStateTransition);
            assert_eq!(show(&rig, "ended").await, state);
            // Refused where it is being resolved already.
            let _ = rig.bbs.resolve_task(&"ended".into()).await;
        }
    }
}
