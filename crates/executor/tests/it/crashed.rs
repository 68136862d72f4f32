use std::time::Duration;

use executor::{Config, ContainerRequest, ExecutorError, KeepCrashed};
use garden::{Garden, Handle};

use crate::support::{Cell, quick, request, sh};

/// Runs to its crash and is kept.
async fn crash(cell: &Cell, script: &str, group: &str) -> Handle {
    let guid = cell.start(request(sh(script)));
    assert!(cell.outcome(&guid).await.failed);
    cell.executor.keep(&guid, group).await.unwrap();
    guid
}

fn kept(cell: &Cell) -> Vec<Handle> {
    cell.executor.crashed().into_iter().map(|one| one.guid).collect()
}

async fn text(cell: &Cell, guid: &Handle, path: &str) -> String {
    use tokio::io::AsyncReadExt as _;
    let (mut tar, mut bytes) = (cell.executor.crashed_files(guid, path).await.unwrap(), Vec::new());
    tar.read_to_end(&mut bytes).await.unwrap();
    let mut archive = tar::Archive::new(&*bytes);
    let mut file = archive.entries().unwrap().next().unwrap().unwrap();
    std::io::read_to_string(&mut file).unwrap()
}

#[tokio::test]
async fn files_stay_and_everything_else_goes() {
    let cell = Cell::new().await;
    let script = "echo why > core.txt; sleep 600 & exit 7";
    let guid = crash(&cell, script, "web").await;
    assert_eq!(cell.executor.get(&guid), None);
    assert_eq!(cell.executor.remaining(), cell.executor.total());
    let one = cell.executor.crashed().remove(0);
    assert_eq!((&one.guid, one.reason.as_str()), (&guid, "APP: Exited with status 7"));
    assert_eq!((one.owner["whose"].as_str(), one.bytes), ("mine", 3 << 20));
    assert_eq!(one.kept_until, one.crashed_at + Duration::from_secs(3600));
    assert_eq!(text(&cell, &guid, "/core.txt").await, "why\n");
    let missing = cell.executor.crashed_files(&guid, "/none").await;
    assert!(matches!(missing, Err(ExecutorError::NoFile(_))));
    assert!(cell.garden.falls_quiet(&guid).await, "a process lives on");
    let told = format!("CELL OUT Cell cell-1 keeping files of crashed instance {guid} for 1h0m0s");
    assert!(cell.lines().contains(&told), "{:?}", cell.lines());
    // The recipe holds secrets and is gone.
    let recipes = cell.dir.path().join("executor/recipes");
    assert_eq!(std::fs::read_dir(recipes).unwrap().count(), 0);
    cell.executor.discard(&guid).await.unwrap();
    assert!(cell.garden.containers().await.unwrap().is_empty());
    let gone = cell.executor.crashed_files(&guid, "/core.txt").await;
    assert!(matches!(gone, Err(ExecutorError::Unknown(_))));
    cell.executor.discard(&guid).await.unwrap();
}

#[tokio::test]
async fn a_restart_keeps_them_and_housekeeping_leaves_them_alone() {
    let timings = executor::Timings { housekeeping: Duration::from_millis(5), ..quick() };
    let cell = Cell::with(timings).await;
    let guid = crash(&cell, "echo why > core.txt; exit 7", "web").await;
    let lost = crash(&cell, "exit 7", "web").await;
    let before = cell.executor.crashed();
    let left = cell.leave().await;
    left.0.destroy(&lost).await.unwrap();
    let cell = Cell::back(left).await;
    assert_eq!(cell.executor.crashed(), [before[1].clone()]);
    // Somebody else's rounds of housekeeping pass.
    let passing = Handle::from("passing");
    let stranger = garden::ContainerSpec {
        handle: Some(passing.clone()),
        properties: [("executor.cell".to_owned(), "cell-1".to_owned())].into(),
        ..garden::ContainerSpec::default()
    };
    cell.garden.create(stranger).await.unwrap();
    while cell.garden.info(&passing).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(text(&cell, &guid, "/core.txt").await, "why\n");
    cell.executor.clear_crashed().await;
    assert!(cell.garden.containers().await.unwrap().is_empty());
    let cell = cell.restarted().await;
    assert_eq!(kept(&cell), []);
}

#[tokio::test]
async fn only_so_many_for_so_long() {
    let limits = KeepCrashed { containers: 3, of_one_group: 2, ..KeepCrashed::default() };
    let change = |config: &mut Config| config.crashed = limits;
    let cell = Cell::configured(quick(), change).await;
    let (one, two) = (crash(&cell, "exit 1", "a").await, crash(&cell, "exit 1", "a").await);
    let three = crash(&cell, "exit 1", "a").await;
    assert_eq!(kept(&cell), [three.clone(), two.clone()], "{one} is the oldest of its group");
    let four = crash(&cell, "exit 1", "b").await;
    let five = crash(&cell, "exit 1", "c").await;
    assert_eq!(kept(&cell), [five, four, three]);
    assert_eq!(cell.garden.containers().await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_was_kept_long_enough_goes_by_itself() {
    let timings = executor::Timings { housekeeping: Duration::from_millis(5), ..quick() };
    let limits = KeepCrashed { time: Duration::from_millis(1), ..KeepCrashed::default() };
    let cell = Cell::configured(timings, |config| config.crashed = limits).await;
    crash(&cell, "exit 1", "a").await;
    while !cell.garden.containers().await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(kept(&cell), []);
}

#[tokio::test]
async fn a_full_disk_takes_the_oldest() {
    // No disk has so much left.
    let limits = KeepCrashed { free_disk_mb: u64::MAX >> 20, ..KeepCrashed::default() };
    let cell = Cell::configured(quick(), |config| config.crashed = limits).await;
    crash(&cell, "exit 1", "a").await;
    assert_eq!(kept(&cell), []);
    // What is promised to others counts as taken: 1000 MB in all, of which each crashed one takes 3.
    let cell = Cell::new().await;
    let first = crash(&cell, "exit 1", "a").await;
    let with = |disk_mb, script| ContainerRequest {
        resources: diego::cell::Resources { memory_mb: 1, disk_mb, containers: 1 },
        ..request(sh(script))
    };
    let second = cell.start(with(4, "while [ ! -e go ]; do sleep 0.01; done; exit 1"));
    cell.running(&second).await;
    let large = cell.start(with(996, "sleep 600"));
    cell.running(&large).await;
    std::fs::write(cell.garden.path(&second, "go"), "").unwrap();
    cell.outcome(&second).await;
    cell.executor.keep(&second, "b").await.unwrap();
    assert_eq!(kept(&cell), [second], "{first} gives way");
}

#[tokio::test]
async fn who_runs_comes_before_who_is_looked_at() {
    let cell = Cell::new().await;
    crash(&cell, "exit 1", "a").await;
    cell.garden.failures.lock().push("addresses");
    let guid = cell.start(request(sh("sleep 600")));
    cell.running(&guid).await;
    assert_eq!(kept(&cell), []);
}

#[tokio::test]
async fn what_never_ran_or_was_stopped_is_deleted() {
    let cell = Cell::new().await;
    cell.garden.failures.lock().push("addresses");
    let never = cell.start(request(sh("true")));
    cell.outcome(&never).await;
    let stopped = cell.start(request(sh("sleep 600")));
    cell.running(&stopped).await;
    cell.executor.stop(&stopped);
    cell.outcome(&stopped).await;
    for guid in [never, stopped] {
        cell.executor.keep(&guid, "a").await.unwrap();
    }
    let limits = KeepCrashed { containers: 0, ..KeepCrashed::default() };
    let none = Cell::configured(quick(), |config| config.crashed = limits).await;
    crash(&none, "exit 1", "a").await;
    for cell in [cell, none] {
        assert_eq!(kept(&cell), []);
        assert!(cell.garden.containers().await.unwrap().is_empty());
    }
}
