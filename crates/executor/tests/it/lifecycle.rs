use std::time::Duration;

use diego::Action;
use diego::action::{ActionList, EnvVar, RunAction};
use diego::cell::Resources;
use diego::desired_lrp::Sidecar;
use executor::{ExecutorError, State};
use garden::Handle;

use crate::support::{Cell, quick, request, sh};

#[tokio::test]
async fn a_recipe_runs_to_its_end_and_leaves_nothing() {
    let cell = Cell::new().await;
    let action = Action::serial(vec![sh("echo one"), sh("echo two >&2")]);
    let guid = cell.start(request(action));
    let outcome = cell.outcome(&guid).await;
    assert!(!outcome.failed && !outcome.stopped && outcome.reason.is_empty(), "{outcome:?}");
    cell.executor.delete(&guid).await.unwrap();
    assert_eq!(
        cell.lines(),
        [
            format!("CELL OUT Cell cell-1 creating container for instance {guid}"),
            format!("CELL OUT Cell cell-1 successfully created container for instance {guid}"),
            "APP OUT one".to_owned(),
            "APP OUT Exit status 0".to_owned(),
            "APP ERR two".to_owned(),
            "APP OUT Exit status 0".to_owned(),
            format!("CELL OUT Cell cell-1 destroying container for instance {guid}"),
            format!("CELL OUT Cell cell-1 successfully destroyed container for instance {guid}"),
        ]
    );
    assert_eq!(cell.executor.get(&guid), None);
    assert_eq!(cell.executor.remaining(), cell.executor.total());
    let left: Vec<_> =
        std::fs::read_dir(cell.dir.path().join("executor/recipes")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_failing_process_names_its_source_and_status() {
    let cell = Cell::new().await;
    let guid = cell.start(request(sh("exit 3")));
    let outcome = cell.outcome(&guid).await;
    assert_eq!((outcome.failed, outcome.reason.as_str()), (true, "APP: Exited with status 3"));
    assert!(!outcome.retryable);
}

#[tokio::test]
async fn a_missing_program_is_told() {
    let cell = Cell::new().await;
    let action = Action::Run(RunAction { path: "/no/such".into(), ..RunAction::default() });
    let guid = cell.start(request(action));
    assert_eq!(cell.outcome(&guid).await.reason, "no program /no/such in the container");
    assert!(
        cell.lines()
            .iter()
            .any(|line| line.starts_with("CELL OUT failed-creating-process: no program"))
    );
}

#[tokio::test]
async fn setup_comes_first_and_its_failure_ends_it() {
    let cell = Cell::new().await;
    let guid = cell.start(executor::ContainerRequest {
        setup: Some(sh("exit 1")),
        ..request(sh("echo never"))
    });
    assert_eq!(cell.outcome(&guid).await.reason, "APP: Exited with status 1");
    assert!(!cell.lines().iter().any(|line| line.contains("never")));
}

#[tokio::test]
async fn without_checks_it_runs_when_its_process_does() {
    let cell = Cell::new().await;
    let guid = cell.start(request(sh("echo up; sleep 60")));
    let State::Running { net, routable } = cell.running(&guid).await.state else { unreachable!() };
    assert!(routable && net.ports.is_empty());
    cell.executor.stop(&guid);
    let outcome = cell.outcome(&guid).await;
    assert!(outcome.stopped, "{outcome:?}");
    cell.executor.delete(&guid).await.unwrap();
}

#[tokio::test]
async fn who_ignores_sigterm_is_killed() {
    let cell = Cell::new().await;
    let guid = cell.start(request(sh("trap '' TERM; echo deaf; while :; do sleep 0.02; done")));
    cell.until_logged("deaf").await;
    cell.executor.stop(&guid);
    assert_eq!(cell.outcome(&guid).await.reason, "exceeded graceful shutdown interval");
    assert!(cell.lines().contains(
        &"APP OUT Exit status 137 (exceeded 300ms graceful shutdown interval)".to_owned()
    ));
}

#[tokio::test]
async fn who_heeds_sigterm_ends_in_its_own_way() {
    let cell = Cell::new().await;
    let guid = cell
        .start(request(sh("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done")));
    cell.until_logged("up").await;
    cell.executor.delete(&guid).await.unwrap();
    assert!(cell.own_lines().contains(&"APP OUT bye".to_owned()), "{:?}", cell.lines());
}

#[tokio::test]
async fn codependent_processes_end_together() {
    let cell = Cell::new().await;
    let list =
        ActionList { actions: vec![sh("sleep 60"), sh("exit 0")], log_source: String::new() };
    let guid = cell.start(request(Action::Codependent(list)));
    assert_eq!(cell.outcome(&guid).await.reason, "Codependent step exited");
}

#[tokio::test]
async fn a_sidecar_that_ends_ends_all() {
    let cell = Cell::new().await;
    let sidecars = vec![Sidecar { action: sh("exit 4"), memory_mb: 1, disk_mb: 1 }];
    let guid = cell.start(executor::ContainerRequest { sidecars, ..request(sh("sleep 60")) });
    assert_eq!(cell.outcome(&guid).await.reason, "APP: Exited with status 4");
}

#[tokio::test]
async fn time_runs_out() {
    let cell = Cell::new().await;
    let guid = cell.start(request(sh("sleep 60").timeout(Duration::from_millis(50))));
    let outcome = cell.outcome(&guid).await;
    assert_eq!((outcome.failed, outcome.reason.as_str()), (true, "exceeded 50ms timeout"));
}

#[tokio::test]
async fn a_try_cannot_fail_and_progress_is_told() {
    let cell = Cell::new().await;
    let tried = sh("exit 1").progress("starting", "done", "went wrong").attempt();
    let guid = cell
        .start(request(Action::serial(vec![tried, sh("true").progress("again", "fine", "no")])));
    assert!(!cell.outcome(&guid).await.failed);
    let own = cell.own_lines();
    assert_eq!(
        own,
        [
            "CELL OUT starting",
            "APP OUT Exit status 1",
            "CELL ERR went wrong: APP: Exited with status 1",
            "CELL OUT again",
            "APP OUT Exit status 0",
            "CELL OUT fine",
        ]
    );
}

#[tokio::test]
async fn environments_are_laid_over_one_another() {
    let cell = Cell::new().await;
    let mut inner = request(sh("echo $A $B $PORT ${CF_INSTANCE_PORTS}"));
    let Action::Run(run) = &mut inner.action else { unreachable!() };
    run.env = vec![EnvVar::new("B", "action")];
    inner.env = vec![
        EnvVar::new("A", "container"),
        EnvVar::new("B", "container"),
        EnvVar::new("PORT", "8080"),
    ];
    inner.ports = vec![8080, 8080];
    let guid = cell.start(inner);
    cell.outcome(&guid).await;
    let spec = cell.garden.creations.lock()[0].clone();
    assert_eq!(spec.ports, [8080]);
    assert_eq!(spec.limits.cpu_shares, 102);
    assert_eq!(spec.limits.memory_bytes, 64 << 20);
    let listen = garden::Garden::info(&*cell.garden, &guid).await.unwrap().ports[0].container_port;
    let want = format!(
        r#"APP OUT container action {listen} [{{"external":{listen},"internal":{listen}}}]"#
    );
    assert_eq!(cell.own_lines()[0], want);
}

#[tokio::test]
async fn a_container_that_cannot_be_made_may_be_tried_elsewhere() {
    let cell = Cell::new().await;
    cell.garden.failures.lock().push("addresses");
    let guid = cell.start(request(sh("true")));
    let outcome = cell.outcome(&guid).await;
    assert_eq!(outcome.reason, "failed to create container: out of addresses");
    assert!(outcome.failed && outcome.retryable);
}

#[tokio::test]
async fn room_is_counted() {
    let cell = Cell::new().await;
    let all = cell.executor.total();
    let guid = Handle::from("all");
    cell.executor.reserve(&guid, all, Default::default()).unwrap();
    let more = cell.executor.reserve(
        &Handle::from("more"),
        Resources { memory_mb: 1, ..all },
        Default::default(),
    );
    assert!(matches!(more, Err(ExecutorError::Full)));
    let twice = cell.executor.reserve(&guid, Resources::default(), Default::default());
    assert!(matches!(twice, Err(ExecutorError::Exists(_))));
    cell.executor.stop(&guid);
    let outcome = cell.outcome(&guid).await;
    assert!(outcome.stopped && outcome.reason == "stopped-before-running", "{outcome:?}");
    cell.executor.delete(&guid).await.unwrap();
    assert_eq!(cell.executor.remaining(), all);
}

#[tokio::test]
async fn reservations_expire() {
    let timings = executor::Timings {
        reservation: Duration::ZERO,
        housekeeping: Duration::from_millis(10),
        ..quick()
    };
    let cell = Cell::with(timings).await;
    let idle = Handle::from("idle");
    cell.executor.reserve(&idle, Resources::default(), Default::default()).unwrap();
    assert_eq!(cell.outcome(&idle).await.reason, "expired container");
}

#[tokio::test]
async fn results_are_read_within_bounds() {
    let cell = Cell::new().await;
    let guid = cell.start(request(sh("printf 0123456789 > result")));
    cell.outcome(&guid).await;
    assert_eq!(cell.executor.read_file(&guid, "/result", 10).await.unwrap(), b"0123456789");
    assert!(cell.executor.read_file(&guid, "/result", 9).await.is_err());
    assert!(cell.executor.read_file(&guid, "/none", 9).await.is_err());
}

#[tokio::test]
async fn deleting_waits_for_a_creation_and_may_be_asked_twice() {
    let cell = Cell::new().await;
    let guid = cell.start(request(sh("sleep 60")));
    let (first, second) = tokio::join!(cell.executor.delete(&guid), cell.executor.delete(&guid));
    first.unwrap();
    second.unwrap();
    assert!(garden::Garden::containers(&*cell.garden).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_was_stopped_before_it_began_never_comes_back() {
    let cell = Cell::new().await;
    let one = request(sh("true"));
    let guid = one.guid.clone();
    cell.executor.reserve(&guid, one.resources, one.owner.clone()).unwrap();
    cell.executor.stop(&guid);
    assert!(cell.executor.run(one).is_err());
    let cell = cell.restarted().await;
    assert_eq!(cell.executor.get(&guid), None);
    assert!(cell.garden.creations.lock().is_empty());
}

#[tokio::test]
async fn a_recipe_that_cannot_begin_may_be_tried_elsewhere() {
    let cell = Cell::new().await;
    let guid = Handle::from("one");
    cell.executor.reserve(&guid, Resources::default(), Default::default()).unwrap();
    cell.executor.fail(&guid, "no such rule");
    let outcome = cell.outcome(&guid).await;
    assert_eq!((outcome.reason.as_str(), outcome.retryable), ("no such rule", true));
}
