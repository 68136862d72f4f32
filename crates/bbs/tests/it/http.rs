//! The internal API from outside.

use base::http::Secret;
use bbs::Client;
use diego::bbs::{ActualLrpFilter, ErrorKind};
use diego::{Bbs as _, Event};
use futures::StreamExt as _;

use crate::rig::{Rig, lrp};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_in_order_from_the_moment_of_subscription() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 1).await;
        rig.bbs.desire_lrp(lrp("early", 1)).await.unwrap();
        rig.running("early", 1).await;
        let mut events = rig.bbs.events().await.unwrap();
        rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
        rig.running("web", 1).await;
        let (cell, guid) = rig.instance(&rig.records("web").await, 0);
        cell.crash(&guid, "oops").await.unwrap();
        let mut told = Vec::new();
        while told.len() < 6 {
            told.push(match events.next().await.expect("the stream is open") {
                Event::DesiredLrpCreated { desired_lrp } => {
                    format!("desired {}", desired_lrp.process_guid)
                }
                Event::ActualLrpCreated { actual_lrp } => {
                    format!("created {}", actual_lrp.state.name())
                }
                Event::ActualLrpChanged { before, after } => {
                    assert!(after.modification_tag.succeeds(&before.modification_tag));
                    format!("{} to {}", before.state.name(), after.state.name())
                }
                Event::ActualLrpCrashed { crash_reason, .. } => format!("crashed: {crash_reason}"),
                other => format!("{other:?}"),
            });
        }
        let want = [
            "desired web",
            "created UNCLAIMED",
            "UNCLAIMED to CLAIMED",
            "CLAIMED to RUNNING",
            "crashed: oops",
            "RUNNING to UNCLAIMED",
        ];
        assert_eq!(told, want);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_the_brain() {
    let rig = Rig::new(sql::testing::sqlite().await, 0).await;
    let mut events = rig.bbs.events().await.unwrap();
    let rig = rig.reopen().await;
    assert_eq!(events.next().await, None);
    assert!(rig.bbs.events().await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_turned_away() {
    let rig = Rig::new(sql::testing::sqlite().await, 0).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = base::CancellationToken::new();
    let serving = tokio::spawn(base::http::serve(listener, rig.server.router(), stop.clone()));
    let stranger = Client::new(url, &Secret::new("guess"));
    let error = stranger.domains().await.unwrap_err();
    assert!(error.message.contains("401"), "{error}");
    assert!(stranger.events().await.is_err());
    stop.cancel();
    serving.await.unwrap().unwrap();
    let nobody = Client::new("http://127.0.0.1:1", &Secret::new("guess"));
    assert_eq!(nobody.domains().await.unwrap_err().kind, ErrorKind::Unreachable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_narrow_a_list() {
    let rig = Rig::new(sql::testing::sqlite().await, 2).await;
    rig.bbs.desire_lrp(lrp("a", 2)).await.unwrap();
    let mut other = lrp("b", 1);
    other.domain = "elsewhere".into();
    rig.bbs.desire_lrp(other).await.unwrap();
    rig.running("a", 2).await;
    rig.running("b", 1).await;
    let count = async |filter: ActualLrpFilter| rig.bbs.actual_lrps(&filter).await.unwrap().len();
    let any = ActualLrpFilter::default;
    assert_eq!(count(any()).await, 3);
    assert_eq!(count(ActualLrpFilter { domain: Some("elsewhere".into()), ..any() }).await, 1);
    assert_eq!(count(ActualLrpFilter { index: Some(0), ..any() }).await, 2);
    assert_eq!(
        count(ActualLrpFilter { process_guids: Some(vec!["a".into(), "c".into()]), ..any() }).await,
        2
    );
    let by_cell = rig.cells[0].instances().len();
    assert_eq!(count(ActualLrpFilter { cell_id: Some("cell-0".into()), ..any() }).await, by_cell);
    assert_eq!(
        count(ActualLrpFilter { cell_id: Some("cell-0".into()), index: Some(9), ..any() }).await,
        0
    );
    assert_eq!(rig.bbs.scheduling_infos(Some(&"apps".into())).await.unwrap().len(), 1);
    assert_eq!(rig.bbs.desired_lrp(&"b".into()).await.unwrap().domain, "elsewhere".into());
    assert!(rig.bbs.desired_lrp(&"c".into()).await.unwrap_err().is_not_found());
}
