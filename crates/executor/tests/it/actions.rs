//! Each action with its fields; what they come to is in `lifecycle` and `transfers`.

use std::time::{Duration, Instant};

use diego::Action;
use diego::action::{
    ActionList, EmitProgressAction, EnvVar, ResourceLimits, RunAction, TimeoutAction, TryAction,
};
use diego::desired_lrp::{SharedDevice, VolumeMount, VolumeMountedFile};
use executor::{Config, ContainerRequest, LogConfig};

use crate::support::{Cell, quick, request, sh};

fn list(actions: Vec<Action>, log_source: &str) -> ActionList {
    ActionList { actions, log_source: log_source.into() }
}

fn silent(script: &str) -> RunAction {
    let args = vec!["-c".to_owned(), script.to_owned()];
    RunAction { path: "/bin/sh".into(), args, ..RunAction::default() }
}

#[tokio::test]
async fn a_run_hands_all_its_fields_to_the_process() {
    let cell = Cell::new().await;
    let run = RunAction {
        dir: "/work".into(),
        env: vec![EnvVar::new("A", "1")],
        resource_limits: ResourceLimits { nofile: Some(123) },
        user: "vcap".into(),
        suppress_log_output: true,
        ..silent("echo unheard; exit 5")
    };
    let guid = cell.start(request(Action::Run(run)));
    // A source of its own it has not: the container's is named.
    assert_eq!(cell.outcome(&guid).await.reason, "CELL: Exited with status 5");
    let (of, spec) = cell.garden.ran.lock()[0].clone();
    assert_eq!(of, guid);
    assert_eq!((&*spec.path, &*spec.args[1]), ("/bin/sh", "echo unheard; exit 5"));
    assert_eq!((&*spec.dir, &*spec.user, spec.nofile), ("/work", "vcap", Some(123)));
    assert!(spec.env.contains(&("A".to_owned(), "1".to_owned())), "{:?}", spec.env);
    assert_eq!(cell.own_lines(), Vec::<String>::new());
}

#[tokio::test]
async fn a_log_source_further_in_beats_one_further_out() {
    let cell = Cell::new().await;
    let inner = |text: &str| Action::Run(silent(&format!("echo {text}")));
    let named = |text: &str| {
        Action::Run(RunAction { log_source: "RUN".into(), ..silent(&format!("echo {text}")) })
    };
    let tried = Action::Try(TryAction { action: inner("b").into(), log_source: "TRY".into() });
    let timed = Action::Timeout(TimeoutAction {
        action: inner("c").into(),
        timeout_ms: 60_000,
        log_source: "TIMEOUT".into(),
    });
    let told = Action::EmitProgress(EmitProgressAction {
        action: inner("d").into(),
        start_message: "start".into(),
        success_message: String::new(),
        failure_message_prefix: String::new(),
        log_source: "EMIT".into(),
    });
    let parallel = Action::Parallel(list(vec![inner("e")], "PARALLEL"));
    let actions = vec![inner("a"), tried, timed, told, parallel, named("f")];
    let guid = cell.start(request(Action::Serial(list(actions, "SERIAL"))));
    assert_eq!(cell.outcome(&guid).await.reason, "");
    let own = cell.own_lines();
    let own: Vec<_> = own.iter().filter(|line| !line.contains("Exit status")).collect();
    let want = [
        "SERIAL OUT a",
        "TRY OUT b",
        "TIMEOUT OUT c",
        "EMIT OUT start",
        "EMIT OUT d",
        "PARALLEL OUT e",
        "RUN OUT f",
    ];
    assert_eq!(own, want);
}

#[tokio::test]
async fn parallel_steps_run_at_once_and_their_failures_are_joined() {
    let cell = Cell::new().await;
    // Each waits for what the other writes.
    let meet = |own: &str, other: &str, status: u8| {
        sh(&format!("touch {own}; while [ ! -e {other} ]; do sleep 0.01; done; exit {status}"))
    };
    let parallel = Action::Parallel(list(vec![meet("a", "b", 1), meet("b", "a", 2)], ""));
    let guid = cell.start(request(parallel));
    assert_eq!(
        cell.outcome(&guid).await.reason,
        "APP: Exited with status 1; APP: Exited with status 2"
    );
}

#[tokio::test]
async fn a_serial_list_ends_with_its_first_failure() {
    let cell = Cell::new().await;
    let guid = cell.start(request(Action::serial(vec![sh("exit 4"), sh("echo never")])));
    assert_eq!(cell.outcome(&guid).await.reason, "APP: Exited with status 4");
    assert!(!cell.own_lines().contains(&"APP OUT never".to_owned()));
}

#[tokio::test]
async fn codependent_steps_are_cancelled_by_a_failure() {
    let cell = Cell::new().await;
    let both = vec![sh("echo up; sleep 600"), sh("exit 9")];
    let guid = cell.start(request(Action::Codependent(list(both, ""))));
    assert_eq!(cell.outcome(&guid).await.reason, "APP: Exited with status 9");
}

#[tokio::test]
async fn time_that_ran_out_ends_the_process_and_says_what_it_said_last() {
    let cell = Cell::new().await;
    let deaf = sh("trap '' TERM; while :; do sleep 0.02; done");
    let guid = cell.start(request(deaf.timeout(Duration::from_millis(100))));
    assert_eq!(cell.outcome(&guid).await.reason, "exceeded 100ms timeout");
    assert!(cell.garden.falls_quiet(&guid).await);
}

#[tokio::test]
async fn a_monitor_is_asked_as_soon_as_there_is_something_to_ask() {
    let ages = Duration::from_secs(600);
    let timings = executor::Timings { first_monitor: ages, unhealthy_monitor: ages, ..quick() };
    let cell = Cell::with(timings).await;
    let began = Instant::now();
    let guid =
        cell.start(ContainerRequest { monitor: Some(sh("true")), ..request(sh("sleep 600")) });
    cell.running(&guid).await;
    assert!(began.elapsed() < ages);
}

#[tokio::test]
async fn lines_are_limited_for_the_whole_cell() {
    let cell =
        Cell::configured(quick(), |config: &mut Config| config.log_lines_per_second = 3).await;
    let log = LogConfig {
        guid: "app".into(),
        source: "CELL".into(),
        bytes_per_second: -1,
        ..LogConfig::default()
    };
    let script = sh("for i in 1 2 3 4 5 6; do echo x; done");
    let guid = cell.start(ContainerRequest { log, ..request(script) });
    cell.outcome(&guid).await;
    let own = cell.own_lines();
    assert_eq!(own.iter().filter(|line| *line == "APP OUT x").count(), 3, "{own:?}");
    let told =
        "APP ERR app instance exceeded log rate limit (3 log-lines/sec) set by platform operator";
    assert_eq!(own.iter().filter(|line| *line == told).count(), 1, "{own:?}");
}

fn volume(driver: &str) -> VolumeMount {
    VolumeMount {
        driver: driver.into(),
        container_dir: "/var/data".into(),
        mode: "rw".into(),
        shared: SharedDevice { volume_id: "v1".into(), ..SharedDevice::default() },
    }
}

#[tokio::test]
async fn volumes_are_mounted_and_outlive_their_containers() {
    let volumes = tempfile::tempdir().unwrap();
    let drivers = [("local".to_owned(), volumes.path().to_owned())].into();
    let cell =
        Cell::configured(quick(), |config: &mut Config| config.volume_drivers = drivers).await;
    assert_eq!(cell.executor.volume_drivers(), ["local"]);
    let with =
        |driver| ContainerRequest { volume_mounts: vec![volume(driver)], ..request(sh("true")) };
    let guid = cell.start(with("local"));
    assert_eq!(cell.outcome(&guid).await.reason, "");
    let mount = cell.garden.creations.lock()[0].mounts[0].clone();
    assert_eq!((mount.source, mount.writable), (volumes.path().join("v1"), true));
    cell.executor.delete(&guid).await.unwrap();
    assert!(volumes.path().join("v1").is_dir());
    let guid = cell.start(with("nfs"));
    let outcome = cell.outcome(&guid).await;
    assert_eq!((&*outcome.reason, outcome.retryable), ("failed to mount volume", true));
}

#[tokio::test]
async fn files_of_bindings_are_there_before_anything_runs() {
    let cell = Cell::new().await;
    let file = VolumeMountedFile { path: "db/password".into(), content: "s3cret".into() };
    let guid = cell.start(ContainerRequest {
        volume_mounted_files: vec![file],
        setup: Some(sh("cat etc/cf-service-bindings/db/password")),
        ..request(sh("true"))
    });
    assert_eq!(cell.outcome(&guid).await.reason, "");
    assert_eq!(cell.own_lines()[0], "APP OUT s3cret");
}
