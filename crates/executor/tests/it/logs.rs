use diego::ModificationTag;
use envelope::Message;
use executor::{ContainerRequest, LogConfig, LogTags};

use crate::support::{Cell, request, sh};

fn logged(action: diego::Action, bytes_per_second: i64) -> ContainerRequest {
    let tags = tags("dora", 1);
    let log =
        LogConfig { guid: "app".into(), index: 2, source: "CELL".into(), tags, bytes_per_second };
    ContainerRequest { log, ..request(action) }
}

fn tags(app_name: &str, index: u32) -> LogTags {
    LogTags {
        tags: [("app_name".to_owned(), app_name.to_owned())].into(),
        version: ModificationTag { epoch: "e".into(), index },
    }
}

#[tokio::test]
async fn lines_carry_source_and_tags() {
    let cell = Cell::new().await;
    let guid = cell.start(logged(sh("echo hi"), -1));
    cell.outcome(&guid).await;
    let envelopes = cell.log.0.lock().unwrap();
    let line = envelopes
        .iter()
        .find(|one| matches!(&one.message, Message::Log { payload, .. } if payload == "hi"))
        .unwrap();
    assert_eq!((&*line.source_id, &*line.instance_id), ("app", "2"));
    assert_eq!((&*line.tags["source_type"], &*line.tags["app_name"]), ("APP", "dora"));
}

#[tokio::test]
async fn too_much_is_dropped_and_told_once() {
    let cell = Cell::new().await;
    let guid = cell.start(logged(sh("for i in 1 2 3 4 5 6; do echo 0123456789; done"), 35));
    cell.outcome(&guid).await;
    let own = cell.own_lines();
    assert_eq!(own.iter().filter(|line| line.ends_with("0123456789")).count(), 3, "{own:?}");
    let told = own
        .iter()
        .filter(|line| *line == "APP ERR app instance exceeded log rate limit (35 bytes/sec)")
        .count();
    assert_eq!(told, 1, "{own:?}");
}

#[tokio::test]
async fn new_tags_hold_from_then_on() {
    let cell = Cell::new().await;
    let guid = cell
        .start(logged(sh("echo first; while [ ! -e go ]; do sleep 0.01; done; echo second"), -1));
    cell.until_logged("first").await;
    cell.executor.retag(&guid, &tags("renamed", 3));
    cell.executor.retag(&guid, &tags("late", 2));
    std::fs::write(cell.garden.path(&guid, "go"), "").unwrap();
    cell.outcome(&guid).await;
    let envelopes = cell.log.0.lock().unwrap();
    let name = |text: &str| {
        let found = envelopes
            .iter()
            .find(|one| matches!(&one.message, Message::Log { payload, .. } if payload == text));
        found.unwrap().tags["app_name"].clone()
    };
    assert_eq!((name("first"), name("second")), ("dora".into(), "renamed".into()));
}

#[tokio::test]
async fn a_container_is_measured_as_soon_as_it_runs() {
    let cell = Cell::new().await;
    let guid = cell.start(logged(sh("sleep 60"), 500));
    let gauges = || {
        let envelopes = cell.log.0.lock().unwrap();
        let gauge = |one: &envelope::Envelope| match &one.message {
            Message::Gauge(values) => Some(values.clone()),
            _ => None,
        };
        envelopes.iter().filter_map(gauge).collect::<Vec<_>>()
    };
    cell.running(&guid).await;
    let wait = async {
        while !gauges().iter().any(|gauge| gauge.contains_key("log_rate")) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), wait).await.unwrap();
    let all = gauges();
    assert_eq!(
        all[0].keys().collect::<Vec<_>>(),
        ["cpu", "disk", "disk_quota", "memory", "memory_quota"]
    );
    assert!((all[0]["memory"].value - f64::from(7 << 20)).abs() < 0.1);
    assert!((all[0]["memory_quota"].value - f64::from(64 << 20)).abs() < 0.1);
    let rate = all.iter().find_map(|gauge| gauge.get("log_rate_limit")).unwrap();
    assert!((rate.value - 500.0).abs() < 0.1);
    assert_eq!(cell.executor.get(&guid).unwrap().usage.unwrap().memory_bytes, 7 << 20);
    cell.executor.delete(&guid).await.unwrap();
}
