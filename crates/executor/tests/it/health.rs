use std::time::Duration;

use diego::desired_lrp::{Check, CheckDefinition};
use executor::{ContainerRequest, State};
use garden::Handle;

use crate::support::{Cell, request, sh};

/// Serves HTTP on the container's port: 200 for what lies in its folder, 404 for what does not.
const SERVER: &str =
    "echo serving; touch ok; exec python3 -u -m http.server --bind 127.0.0.1 $PORT 2>/dev/null >&2";

fn tcp() -> Check {
    Check::Tcp { port: 8080, connect_timeout_ms: 0, interval_ms: 0 }
}

fn http(path: &str) -> Check {
    Check::Http { port: 8080, path: path.into(), request_timeout_ms: 0, interval_ms: 0 }
}

fn checked(script: &str, checks: Vec<Check>, readiness_checks: Vec<Check>) -> ContainerRequest {
    let checks = CheckDefinition { checks, readiness_checks, log_source: String::new() };
    ContainerRequest {
        ports: vec![8080],
        env: vec![diego::action::EnvVar::new("PORT", "8080")],
        checks: Some(checks),
        start_timeout_ms: 20_000,
        ..request(sh(script))
    }
}

fn file(cell: &Cell, guid: &Handle, name: &str) -> std::path::PathBuf {
    cell.garden.path(guid, name)
}

#[tokio::test]
async fn it_runs_when_it_is_healthy_and_crashes_when_it_is_no_more() {
    let cell = Cell::new().await;
    let guid = cell.start(checked(SERVER, vec![tcp(), http("/ok")], vec![]));
    cell.running(&guid).await;
    let own = cell.own_lines();
    assert!(own.contains(&"CELL OUT Starting health monitoring of container".to_owned()));
    assert!(own.contains(&"CELL OUT Container became healthy".to_owned()));
    std::fs::remove_file(file(&cell, &guid, "ok")).unwrap();
    let reason = cell.outcome(&guid).await.reason;
    let want = "Instance became unhealthy: Liveness check unsuccessful: failed to make HTTP request to '/ok' on port 8080: \
                received status code 404 in ";
    assert!(reason.starts_with(want), "{reason}");
    assert!(
        cell.own_lines()
            .iter()
            .any(|line| line.starts_with("HEALTH ERR Liveness check unsuccessful"))
    );
    assert!(cell.own_lines().contains(&"CELL ERR Container became unhealthy".to_owned()));
}

#[tokio::test]
async fn it_has_so_long_to_become_healthy() {
    let cell = Cell::new().await;
    let guid = cell.start(ContainerRequest {
        start_timeout_ms: 60,
        ..checked("sleep 60", vec![tcp()], vec![])
    });
    let reason = cell.outcome(&guid).await.reason;
    assert!(
        reason.starts_with("Instance never healthy after ")
            && reason.ends_with(": connection refused"),
        "{reason}"
    );
    assert!(reason.contains("Timed out after 60ms ("), "{reason}");
}

#[tokio::test]
async fn readiness_turns_routes_on_and_off() {
    let cell = Cell::new().await;
    let guid = cell.start(checked(SERVER, vec![tcp()], vec![http("/ready")]));
    let State::Running { routable, .. } = cell.running(&guid).await.state else { unreachable!() };
    assert!(!routable);
    let now_is = |want| move |state: &State| matches!(state, State::Running { routable, .. } if *routable == want);
    std::fs::write(file(&cell, &guid, "ready"), "").unwrap();
    cell.until(&guid, now_is(true)).await;
    std::fs::remove_file(file(&cell, &guid, "ready")).unwrap();
    cell.until(&guid, now_is(false)).await;
    cell.until_logged("Container failed the readiness health check").await;
    cell.executor.delete(&guid).await.unwrap();
}

#[tokio::test]
async fn a_monitor_decides_and_its_words_explain() {
    let cell = Cell::new().await;
    let monitor = Some(sh("echo not yet; test -e well"));
    let guid =
        cell.start(ContainerRequest { monitor, ..request(sh("sleep 0.1; touch well; exit 0")) });
    cell.running(&guid).await;
    // The action is over; the monitor goes on as for a daemon.
    std::fs::remove_file(file(&cell, &guid, "well")).unwrap();
    assert_eq!(cell.outcome(&guid).await.reason, "Instance became unhealthy: not yet");
}

#[tokio::test]
async fn with_checks_an_ending_action_is_the_end() {
    let cell = Cell::new().await;
    let guid = cell.start(checked("exit 0", vec![tcp()], vec![]));
    let outcome = tokio::time::timeout(Duration::from_secs(10), cell.outcome(&guid)).await.unwrap();
    assert!(!outcome.failed && !outcome.stopped);
}
