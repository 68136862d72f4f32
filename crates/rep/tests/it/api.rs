use base::http::Secret;
use diego::Cell as _;
use rep::Client;

use crate::support::{Brain, Cell, SECRET, lrp};

#[tokio::test]
async fn only_who_knows_the_secret_is_answered() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let stranger = base::http::client(Some(&Secret::new("guess")));
    for path in ["state", "container_metrics"] {
        let status = stranger.get(format!("{}/{path}", cell.url)).send().await.unwrap().status();
        assert_eq!(status, 401, "{path}");
    }
    assert_eq!(stranger.post(format!("{}/evacuate", cell.url)).send().await.unwrap().status(), 401);
    assert_eq!(stranger.get(format!("{}/ping", cell.url)).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_cell_tells_what_it_holds_and_what_it_has_room_for() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let client = Client::new(base::http::client(Some(&Secret::new(SECRET))), &cell.url);
    let empty = client.state().await.unwrap();
    assert_eq!(
        (empty.presence.capacity.containers, empty.available.containers, empty.starting),
        (9, 9, 0)
    );
    let guid = brain.desire("web", 2, "sleep 600").await;
    brain.until_running(&guid, 2).await;
    let state = client.state().await.unwrap();
    assert_eq!((state.lrps.len(), state.available.memory_mb), (2, empty.available.memory_mb - 200));
    assert_eq!(state.lrps[0].key.process_guid, guid);
    let metrics = base::http::client(Some(&Secret::new(SECRET)))
        .get(format!("{}/container_metrics", cell.url));
    let metrics: serde_json::Value = metrics.send().await.unwrap().json().await.unwrap();
    assert_eq!(metrics["cell_id"], "cell-1");
    assert_eq!(metrics["lrps"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn strange_root_file_systems_and_unknown_guids() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let client = Client::new(base::http::client(Some(&Secret::new(SECRET))), &cell.url);
    let mut desired = lrp("web", 1, "true");
    desired.run.rootfs = "preloaded:other".into();
    let work = diego::Work {
        lrps: vec![diego::cell::LrpStart { index: 0, desired: desired.into() }],
        tasks: vec![],
    };
    let refused = client.perform(work).await.unwrap();
    assert_eq!(refused.lrps.len(), 1);
    client.stop_lrp(&"no".into(), &"no".into()).await.unwrap();
    client.cancel_task(&"no".into()).await.unwrap();
    cell.rep.evacuate();
    let work = diego::Work {
        lrps: vec![diego::cell::LrpStart { index: 0, desired: lrp("web", 1, "true").into() }],
        tasks: vec![],
    };
    assert_eq!(client.perform(work).await.unwrap().lrps.len(), 1);
    assert!(client.state().await.unwrap().presence.evacuating);
}

#[tokio::test]
async fn an_absent_cell_is_unreachable() {
    let client = Client::new(base::http::client(None), "http://127.0.0.1:1");
    assert_eq!(client.state().await.unwrap_err().kind, diego::bbs::ErrorKind::Unreachable);
}
