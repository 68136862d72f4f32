//! What routers are told, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use diego::Bbs as _;
use diego::desired_lrp::DesiredLrpUpdate;
use diego::routing::{CF_ROUTER, TCP_ROUTER, TableUpdate, tcp_route};
use serde_json::json;

use crate::rig::{Rig, lrp};

fn routes(value: serde_json::Value) -> DesiredLrpUpdate {
    DesiredLrpUpdate {
        routes: Some(BTreeMap::from([(CF_ROUTER.to_owned(), value)])),
        ..DesiredLrpUpdate::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_routes_are_told_as_differences() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
    rig.routed(&["web.example.com 0"]).await;
    let both = json!([{"hostnames": ["web.example.com", "new.example.com/v1"], "port": 8080, "protocol": "http2"}]);
    rig.bbs.update_lrp(&"web".into(), routes(both)).await.unwrap();
    rig.routed(&["new.example.com/v1 0", "web.example.com 0"]).await;
    {
        let entries = rig.routers.entries.lock();
        let endpoint = entries.values().next().unwrap();
        assert!(endpoint.http2);
        assert_eq!(
            (endpoint.address.port(), endpoint.address.ip().to_string().starts_with("10.")),
            (8080, true)
        );
        assert_eq!((&*endpoint.log_guid, endpoint.tags["app_name"].as_str()), ("log", "web"));
    }
    let one = json!([{"hostnames": ["new.example.com/v1"], "port": 8080, "protocol": "http2"}]);
    rig.bbs.update_lrp(&"web".into(), routes(one)).await.unwrap();
    rig.routed(&["new.example.com/v1 0"]).await;
    let last = rig.routers.updates.lock().last().cloned().unwrap();
    let TableUpdate::Delta { add, remove } = last else { panic!("{last:?}") };
    assert_eq!((add.len(), remove.len()), (0, 1), "what stayed was not told again");
    // A port that the instance does not have, and routes that nobody can read, lead nowhere.
    rig.bbs
        .update_lrp(&"web".into(), routes(json!([{"hostnames": ["a.example.com"], "port": 9}])))
        .await
        .unwrap();
    rig.routed(&[]).await;
    rig.bbs.update_lrp(&"web".into(), routes(json!("nonsense"))).await.unwrap();
    assert!(rig.server.routes().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_are_told_beside_hosts() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
    rig.routed(&["web.example.com 0"]).await;
    let tell = async |http: serde_json::Value, tcp: serde_json::Value| {
        let routes = BTreeMap::from([(CF_ROUTER.to_owned(), http), (TCP_ROUTER.to_owned(), tcp)]);
        let update = DesiredLrpUpdate { routes: Some(routes), ..DesiredLrpUpdate::default() };
        rig.bbs.update_lrp(&"web".into(), update).await.unwrap();
    };
    let host = || json!([{"hostnames": ["web.example.com"], "port": 8080}]);
    let port = |external: u16, container: u16| json!([{"router_group_guid": "group", "external_port": external, "container_port": container}]);
    tell(host(), port(1024, 8080)).await;
    rig.routed(&["tcp://:1024 0", "web.example.com 0"]).await;
    {
        let entries = rig.routers.entries.lock();
        let endpoint = &entries.iter().find(|((route, _), _)| *route == tcp_route(1024)).unwrap().1;
        assert_eq!((endpoint.address.port(), endpoint.http2), (8080, false));
    }
    // Ports alone are routes too; what cannot be read beside them costs nothing else.
    tell(json!("nonsense"), port(1025, 8080)).await;
    rig.routed(&["tcp://:1025 0"]).await;
    // Nobody listens in the container, or the route has no port at all.
    tell(host(), port(1025, 9)).await;
    rig.routed(&["web.example.com 0"]).await;
    tell(host(), port(0, 8080)).await;
    rig.routed(&["web.example.com 0"]).await;
}

/// The cell of the rig fails the test when it is told too early.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_leaves_its_port_before_it_is_stopped() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    let mut wanted = lrp("web", 2);
    wanted.routes = BTreeMap::from([(
        TCP_ROUTER.to_owned(),
        json!([{"external_port": 1024, "container_port": 8080}]),
    )]);
    rig.bbs.desire_lrp(wanted).await.unwrap();
    rig.routed(&["tcp://:1024 0", "tcp://:1024 1"]).await;
    *rig.routers.delay.lock() = Duration::from_millis(200);
    let one = DesiredLrpUpdate { instances: Some(1), ..DesiredLrpUpdate::default() };
    rig.bbs.update_lrp(&"web".into(), one).await.unwrap();
    assert_eq!(rig.cells[0].instances().len(), 2);
    rig.routed(&["tcp://:1024 0"]).await;
    rig.bbs.remove_lrp(&"web".into()).await.unwrap();
    rig.shows("web", "").await;
    assert!(rig.cells[0].instances().is_empty() && rig.routers.hosts().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_turns_a_route_on_and_off() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
    rig.routed(&["web.example.com 0"]).await;
    let (cell, guid) = rig.instance(&rig.records("web").await, 0);
    cell.set_routable(&guid, false).await.unwrap();
    rig.routed(&[]).await;
    cell.set_routable(&guid, true).await.unwrap();
    rig.routed(&["web.example.com 0"]).await;
}

/// The cell of the rig fails the test when it is told too early.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_stopped_before_slow_routers_have_let_go() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    rig.bbs.desire_lrp(lrp("web", 2)).await.unwrap();
    rig.routed(&["web.example.com 0", "web.example.com 1"]).await;
    *rig.routers.delay.lock() = Duration::from_millis(200);
    rig.bbs.remove_lrp(&"web".into()).await.unwrap();
    assert_eq!(rig.cells[0].instances().len(), 2);
    rig.shows("web", "").await;
    assert!(rig.cells[0].instances().is_empty() && rig.routers.hosts().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_came_late_gets_everything() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
    rig.routed(&["web.example.com 0"]).await;
    rig.routers.entries.lock().clear();
    rig.server.resync_routes();
    rig.routed(&["web.example.com 0"]).await;
    assert_eq!(rig.server.routes().len(), 1);
}
