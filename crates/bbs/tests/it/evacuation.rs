//! A cell on its way out loses no request.

use std::time::Duration;

use diego::bbs::{Evacuation, Keep};
use diego::{Bbs as _, InstanceKey};

use crate::rig::{Rig, eventually, lrp};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_instance_serves_until_the_new_one_does() {
    for db in sql::testing::databases().await {
        let mut rig = Rig::new(db, 1).await;
        rig.bbs.desire_lrp(lrp("web", 3)).await.unwrap();
        rig.running("web", 3).await;
        rig.routed(&["web.example.com 0", "web.example.com 1", "web.example.com 2"]).await;
        assert!(!rig.cells[0].evacuate().await.unwrap());
        // No room elsewhere yet: the old ones stay.
        eventually(
            "copies",
            || rig.show("web"),
            |shown| shown.matches("RUNNING cell-0 evacuating").count() == 3,
        )
        .await;
        assert!(!rig.cells[0].evacuate().await.unwrap());
        assert_eq!(rig.routers.hosts().len(), 3);

        rig.clock.advance(Duration::from_secs(1));
        rig.add_cell("cell-1", "z1").await;
        let empty = || async { rig.cells[0].evacuate().await.unwrap() };
        eventually("the old cell is empty", empty, |empty| *empty).await;
        rig.running("web", 3).await;
        assert_eq!(rig.cells[1].instances().len(), 3);
        assert!(!rig.routers.gaps.lock().contains("web.example.com"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_longer_desired_does_not_hold_a_cell_up() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
    rig.running("web", 1).await;
    assert!(!rig.cells[0].evacuate().await.unwrap());
    rig.bbs.remove_lrp(&"web".into()).await.unwrap();
    assert!(rig.cells[0].evacuate().await.unwrap());
    rig.shows("web", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_container_has_its_answer() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    rig.bbs.desire_lrp(lrp("web", 1)).await.unwrap();
    rig.running("web", 1).await;
    let record = rig.records("web").await.remove(0);
    let (key, by, net) = (&record.key, record.instance().unwrap(), record.net().unwrap().clone());
    rig.cells[0].set_reachable(false);
    let evacuate = async |by: &InstanceKey, what| rig.bbs.evacuate(key, by, what).await.unwrap();
    let running = || Evacuation::Running { net: net.clone(), routable: true };

    assert_eq!(evacuate(by, running()).await, Keep::Keep);
    let stranger = InstanceKey { instance_guid: "other".into(), cell_id: "cell-7".into() };
    assert_eq!(evacuate(&stranger, running()).await, Keep::Delete, "another cell holds the copy");
    rig.bbs.start(key, &stranger, &net, true).await.unwrap();
    rig.shows("web", "0 RUNNING cell-7").await;
    assert_eq!(evacuate(by, running()).await, Keep::Delete, "the replacement runs");

    assert_eq!(
        evacuate(&stranger, Evacuation::Crashed { reason: "oops".to_owned() }).await,
        Keep::Delete
    );
    let record = rig.records("web").await.remove(0);
    assert_eq!((record.state.name(), record.crash_count), ("UNCLAIMED", 1));
    rig.bbs.claim(key, by).await.unwrap();
    assert_eq!(evacuate(by, Evacuation::Claimed).await, Keep::Delete);
    rig.bbs.start(key, by, &net, true).await.unwrap();
    assert_eq!(evacuate(by, Evacuation::Stopped).await, Keep::Delete);
    assert_eq!(
        rig.records("web").await[0].state.name(),
        "UNCLAIMED",
        "still desired, so a new one is wanted"
    );
}
