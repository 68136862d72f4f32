//! Many containers at the same time, each with a process, on one host.

use std::collections::HashSet;

use futures::StreamExt;
use garden::contract::sh;
use garden::{ContainerSpec, Garden, Handle};

use crate::bed::{Bed, is_root};

const MANY: usize = 120;

#[tokio::test(flavor = "multi_thread")]
async fn many_containers_come_and_go_together() {
    if !is_root() {
        return;
    }
    let mut bed = Bed::new();
    bed.config.host_ports = 34_000..=34_999;
    bed.config.spares = 4;
    bed.run(|garden, fixture| async move {
        let made = futures::stream::iter(0..MANY).map(|_| {
            let (garden, spec) =
                (garden.clone(), ContainerSpec { ports: vec![8080], ..fixture.spec() });
            async move {
                let info = garden.create(spec).await.unwrap();
                let mut process =
                    garden.run(&info.handle, sh("vcap", "echo up; exec sleep 1000")).await.unwrap();
                assert_eq!(&process.output.recv().await.unwrap().data[..], b"up\n");
                info
            }
        });
        let made: Vec<_> = made.buffer_unordered(8).collect().await;
        let listed = garden.containers().await.unwrap();
        assert_eq!(listed.len(), MANY);
        let addresses: HashSet<_> = listed.iter().map(|one| one.container_ip).collect();
        let ports: HashSet<_> = listed.iter().map(|one| one.ports[0].host_port).collect();
        assert_eq!((addresses.len(), ports.len()), (MANY, MANY));
        let removals = made.iter().map(|info| garden.destroy(&info.handle));
        for removed in futures::future::join_all(removals).await {
            removed.unwrap();
        }
        assert!(garden.containers().await.unwrap().is_empty());
    })
    .await;
}

/// Asked for all at once, no more are made than there is room for.
#[tokio::test(flavor = "multi_thread")]
async fn there_is_room_for_as_many_as_was_said() {
    if !is_root() {
        return;
    }
    let mut bed = Bed::new();
    bed.config.max_containers = 3;
    bed.run(|garden, fixture| async move {
        let asked = (0..8).map(|_| garden.create(fixture.spec()));
        let made = futures::future::join_all(asked).await;
        let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
        assert_eq!((made.len(), refused.len()), (3, 5));
        for error in refused {
            assert!(matches!(error, Err(garden::GardenError::Exhausted("containers"))));
        }
        let first: Handle = made.into_iter().next().unwrap().unwrap().handle;
        garden.destroy(&first).await.unwrap();
        garden.create(fixture.spec()).await.unwrap();
    })
    .await;
}
