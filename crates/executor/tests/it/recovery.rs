use diego::Action;
use diego::desired_lrp::{Check, CheckDefinition};
use executor::{ContainerRequest, State};
use garden::{Exit, Garden};

use crate::support::{Cell, request, sh};

#[tokio::test]
async fn a_running_container_is_taken_up_without_a_line_lost_or_doubled() {
    let cell = Cell::new().await;
    let script = "i=0; while [ $i -lt 400 ]; do echo line $i; echo err $i >&2; i=$((i+1)); sleep 0.002; done; exit 5";
    let guid = cell.start(request(sh(script)));
    cell.until_logged("line 20").await;
    let mut before = cell.log.clone();
    let mut all = Vec::new();
    let mut cell = cell;
    for _ in 0..4 {
        tokio::task::yield_now().await;
        let left = cell.leave().await;
        all.extend(before.0.lock().unwrap().drain(..));
        cell = Cell::back(left).await;
        before = cell.log.clone();
        let state = cell.executor.get(&guid).unwrap().state;
        if !matches!(state, State::Running { .. }) {
            break;
        }
        cell.until_logged("line").await;
    }
    let outcome = cell.outcome(&guid).await;
    assert_eq!(outcome.reason, "APP: Exited with status 5");
    all.extend(before.0.lock().unwrap().drain(..));
    let lines: Vec<String> = all
        .iter()
        .filter_map(|one| match &one.message {
            envelope::Message::Log { payload, .. } => {
                Some(String::from_utf8_lossy(payload).into_owned())
            }
            _ => None,
        })
        .collect();
    for stream in ["line", "err"] {
        let got: Vec<&String> =
            lines.iter().filter(|line| line.starts_with(&format!("{stream} "))).collect();
        let want: Vec<String> = (0..400).map(|i| format!("{stream} {i}")).collect();
        assert_eq!(got, want.iter().collect::<Vec<_>>());
    }
    assert_eq!(cell.garden.creations.lock().len(), 1);
}

#[tokio::test]
async fn an_end_while_nobody_looked_is_told_with_its_status() {
    let cell = Cell::new().await;
    let guid = cell.start(request(sh("while [ ! -e go ]; do sleep 0.01; done; exit 9")));
    cell.running(&guid).await;
    let left = cell.leave().await;
    let garden = left.0.clone();
    std::fs::write(garden.path(&guid, "go"), "").unwrap();
    let id = garden.info(&guid).await.unwrap().processes[0].clone();
    assert_eq!(garden.attach(&guid, &id, 0).await.unwrap().wait().await, Some(Exit::Status(9)));
    let cell = Cell::back(left).await;
    assert_eq!(cell.outcome(&guid).await.reason, "APP: Exited with status 9");
}

#[tokio::test]
async fn a_recipe_goes_on_in_the_middle() {
    let cell = Cell::new().await;
    let wait = "echo two >> steps; while [ ! -e go ]; do sleep 0.01; done";
    let action = Action::serial(vec![sh("echo one >> steps"), sh(wait), sh("echo three >> steps")]);
    let guid = cell.start(request(action.timeout(std::time::Duration::from_secs(60))));
    cell.until_logged("Exit status 0").await;
    let wait_for_two = async {
        while !std::fs::read_to_string(cell.garden.path(&guid, "steps")).unwrap().contains("two") {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    wait_for_two.await;
    let cell = cell.restarted().await;
    std::fs::write(cell.garden.path(&guid, "go"), "").unwrap();
    assert!(!cell.outcome(&guid).await.failed);
    let steps = cell.executor.read_file(&guid, "steps", 100).await.unwrap();
    assert_eq!(String::from_utf8(steps).unwrap(), "one\ntwo\nthree\n");
}

#[tokio::test]
async fn health_and_owner_are_remembered() {
    let cell = Cell::new().await;
    let check = Check::Tcp { port: 8080, connect_timeout_ms: 0, interval_ms: 0 };
    let definition = CheckDefinition { checks: vec![check], ..CheckDefinition::default() };
    let server = "exec python3 -m http.server --bind 127.0.0.1 $PORT";
    let guid = cell.start(ContainerRequest {
        ports: vec![8080],
        env: vec![diego::action::EnvVar::new("PORT", "8080")],
        checks: Some(definition),
        start_timeout_ms: 20_000,
        ..request(sh(server))
    });
    let before = cell.running(&guid).await;
    let cell = cell.restarted().await;
    let after = cell.executor.get(&guid).unwrap();
    assert_eq!((after.state, after.owner), (before.state, before.owner));
    assert_eq!(cell.executor.remaining().memory_mb, cell.executor.total().memory_mb - 64);
    assert!(
        !cell.lines().iter().any(|line| line.contains("Starting health monitoring")),
        "{:?}",
        cell.lines()
    );
    cell.executor.delete(&guid).await.unwrap();
    assert!(cell.garden.containers().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_stop_is_not_forgotten() {
    let cell = Cell::new().await;
    let guid = cell.start(request(sh(
        "trap 'exit 0' TERM; trap '' HUP; echo up; while :; do sleep 0.01; done",
    )));
    cell.until_logged("up").await;
    cell.executor.stop(&guid);
    let cell = cell.restarted().await;
    assert!(cell.outcome(&guid).await.stopped);
    let cell = cell.restarted().await;
    assert!(cell.outcome(&guid).await.stopped);
    cell.executor.delete(&guid).await.unwrap();
    let cell = cell.restarted().await;
    assert_eq!(cell.executor.get(&guid), None);
}

#[tokio::test]
async fn strangers_go_and_what_went_missing_is_told() {
    let cell = Cell::new().await;
    let guid = cell.start(request(sh("sleep 60")));
    cell.running(&guid).await;
    let left = cell.leave().await;
    left.0.destroy(&guid).await.unwrap();
    let stranger = garden::ContainerSpec {
        handle: Some("stranger".into()),
        properties: [("executor.cell".to_owned(), "cell-1".to_owned())].into(),
        ..garden::ContainerSpec::default()
    };
    left.0.create(stranger).await.unwrap();
    let cell = Cell::back(left).await;
    assert_eq!(cell.outcome(&guid).await.reason, "missing garden container");
    assert!(cell.garden.containers().await.unwrap().is_empty());
}
