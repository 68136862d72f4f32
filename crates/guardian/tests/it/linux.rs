//! Isolated containers keep the contract, and outlive the program that made them.

use garden::contract::{self, outcome, sh};
use garden::{Exit, Garden, ProcessId, ProcessSpec};

use crate::bed::{Bed, is_root};

#[tokio::test(flavor = "multi_thread")]
async fn isolated_containers_keep_the_contract() {
    if !is_root() {
        return;
    }
    Bed::new().run(|garden, fixture| async move { contract::everything(&*garden, &fixture).await }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_their_platform() {
    if !is_root() {
        return;
    }
    let bed = Bed::new();
    let garden = bed.open().await;
    let spec = garden::ContainerSpec { ports: vec![8080], ..bed.fixture.spec() };
    let info = garden.create(spec).await.unwrap();
    let (waits, ended) = (ProcessId::from("waits"), ProcessId::from("ended"));
    let run = |id: &ProcessId, script: &str| ProcessSpec { id: Some(id.clone()), ..sh("vcap", script) };
    let mut process = garden.run(&info.handle, run(&waits, "mkfifo /tmp/go; echo early; read -r x < /tmp/go; echo late $x; exit 5")).await.unwrap();
    let early = process.output.recv().await.unwrap();
    assert_eq!(&early.data[..], b"early\n");
    garden.run(&info.handle, run(&ended, "echo done; exit 3")).await.unwrap().wait().await.unwrap();
    garden.shutdown(false).await.unwrap();
    drop(garden);

    let garden = bed.open().await;
    let found = garden.info(&info.handle).await.unwrap();
    assert_eq!((found.ports, found.container_ip, found.created_at), (info.ports, info.container_ip, info.created_at));
    let mut again = garden.attach(&info.handle, &ended, 0).await.unwrap();
    assert_eq!(contract::text(&mut again).await, "done\n");
    assert_eq!(again.wait().await, Some(Exit::Status(3)));
    let mut process = garden.attach(&info.handle, &waits, early.end).await.unwrap();
    let (said, _) = outcome(&*garden, &info.handle, "vcap", "echo now > /tmp/go").await;
    assert_eq!(said, "");
    assert_eq!(contract::text(&mut process).await, "late now\n");
    assert_eq!(process.wait().await, Some(Exit::Status(5)));
    garden.shutdown(true).await.unwrap();
    bed.assert_nothing_left();
}
