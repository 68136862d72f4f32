use std::collections::BTreeMap;

use base::http::Secret;
use diego::cell::LrpUpdate;
use diego::{Bbs, Cell as _, TaskDefinition};
use envelope::Message;

use crate::support::{Brain, Cell, SECRET, lrp, run};

/// Tags of the first line with this text.
async fn tags(cell: &Cell, text: &str) -> BTreeMap<String, String> {
    let find = || {
        let envelopes = cell.log.0.lock().unwrap();
        envelopes
            .iter()
            .find(|one| matches!(&one.message, Message::Log { payload, .. } if payload == text))
            .map(|one| BTreeMap::clone(&one.tags))
    };
    let wait = async {
        loop {
            match find() {
                Some(tags) => return tags,
                None => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
            }
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, wait).await.unwrap()
}

#[tokio::test]
async fn new_tags_of_a_running_instance_need_no_restart_and_survive_one() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let script = "echo one; for go in a b; do while [ ! -e $go ]; do sleep 0.01; done; echo $go; done; sleep 600";
    let mut desired = lrp("web", 1, script);
    desired.metric_tags = [("app_name".to_owned(), "dora".to_owned())].into();
    brain.bbs.desire_lrp(desired).await.unwrap();
    let lrps = brain.until_running(&"web".into(), 1).await;
    assert_eq!(tags(&cell, "one").await["app_name"], "dora");

    let instance = &lrps[0].instance().unwrap().instance_guid;
    let client = rep::Client::new(base::http::client(Some(&Secret::new(SECRET))), &cell.url);
    let metric_tags = [("app_name".to_owned(), "renamed".to_owned())].into();
    let born = brain.bbs.desired_lrp(&"web".into()).await.unwrap().modification_tag;
    let update = LrpUpdate { modification_tag: born.next(), metric_tags };
    for unknown in [&"nobody".into(), instance] {
        client.update_lrp(&"web".into(), unknown, &update).await.unwrap();
    }
    let late = LrpUpdate { modification_tag: born, ..LrpUpdate::default() };
    client.update_lrp(&"web".into(), instance, &late).await.unwrap();
    let handle = garden::Handle::from(instance.as_str());
    std::fs::write(cell.garden.path(&handle, "a"), "").unwrap();
    let renamed = tags(&cell, "a").await;
    assert_eq!((&*renamed["app_name"], &*renamed["instance_id"]), ("renamed", "0"));
    assert_eq!(renamed["process_instance_id"], instance.as_str());

    let cell = Cell::back(&brain, cell.leave().await).await;
    std::fs::write(cell.garden.path(&handle, "b"), "").unwrap();
    assert_eq!(tags(&cell, "b").await["app_name"], "renamed");
    assert_eq!(brain.until_running(&"web".into(), 1).await[0].instance(), lrps[0].instance());
    assert_eq!(cell.garden.creations.lock().len(), 1);
}

#[tokio::test]
async fn lines_of_a_task_carry_its_tags() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let definition = TaskDefinition {
        run: run("echo working"),
        metric_tags: [("app_name".to_owned(), "dora".to_owned())].into(),
        ..TaskDefinition::default()
    };
    brain.bbs.desire_task(&"t".into(), &"test".into(), definition).await.unwrap();
    assert!(!brain.until_completed(&"t".into()).await.failed);
    assert_eq!(tags(&cell, "working").await["app_name"], "dora");
}
