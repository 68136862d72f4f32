//! Droplets that lie on a cell draw instances there, as long as nothing weightier speaks against it.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use diego::desired_lrp::{ImageLayer, RunInfo};
use diego::{ActualLrp, Bbs as _, DesiredLrp, ProcessGuid};
use garden::Capacity;
use sha2::{Digest as _, Sha256};

use crate::garden_on_host::{HostGarden, tar_of};
use crate::support::{Brain, Cell, PATIENCE, left, lrp};

/// A droplet on a server, by its digest.
async fn droplet() -> ImageLayer {
    let archive = tar_of("app", b"the app");
    let digest_value: String =
        Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
    let router = Router::new().route("/droplet", get(async move || archive));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/droplet", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    ImageLayer {
        name: "droplet".into(),
        url,
        destination_path: "/home/vcap".into(),
        digest_algorithm: "sha256".into(),
        digest_value,
    }
}

fn of(guid: &str, instances: u32, droplet: Option<&ImageLayer>, tags: &[&str]) -> DesiredLrp {
    let lrp = lrp(guid, instances, "sleep 300");
    let run = RunInfo {
        image_layers: droplet.into_iter().cloned().collect(),
        placement_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        memory_mb: 10,
        disk_mb: 10,
        ..lrp.run.clone()
    };
    DesiredLrp { run, ..lrp }
}

async fn cell(brain: &Brain, id: &str, zone: &str) -> Cell {
    let garden = HostGarden::new();
    *garden.capacity.lock() = Capacity { memory_mb: 10_000, disk_mb: 10_000, containers: 1000 };
    Cell::over(brain, left(id, garden), |config| {
        config.zone = zone.to_owned();
        config.optional_placement_tags = vec![format!("on-{id}")];
    })
    .await
}

/// Waits until the brain has heard that the cell holds the droplet.
async fn holds(cell: &Cell, droplet: &ImageLayer) {
    let mut told = cell.link.layers.subscribe();
    let told = told.wait_for(|layers| layers.contains(&droplet.digest_value));
    tokio::time::timeout(PATIENCE, told).await.unwrap().unwrap();
}

async fn places(brain: &Brain, lrp: DesiredLrp) -> Vec<String> {
    let (guid, count): (ProcessGuid, _) = (lrp.process_guid.clone(), lrp.instances as usize);
    brain.bbs.desire_lrp(lrp).await.unwrap();
    let mut lrps = brain.until_running(&guid, count).await;
    lrps.sort_by_key(|lrp| lrp.key.index);
    let place = |lrp: &ActualLrp| lrp.instance().unwrap().cell_id.to_string();
    lrps.iter().map(place).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_that_holds_the_droplet_is_preferred_when_all_else_is_equal() {
    let (brain, droplet) = (Brain::new().await, droplet().await);
    let cells = [cell(&brain, "a", "z").await, cell(&brain, "b", "z").await];
    assert_eq!(places(&brain, of("seed", 1, Some(&droplet), &["on-b"])).await, ["b"]);
    holds(&cells[1], &droplet).await;
    // Now the holder is the fuller one by an instance, and is preferred all the same, again and again.
    for guid in ["second", "third", "fourth"] {
        assert_eq!(places(&brain, of(guid, 1, Some(&droplet), &[])).await, ["b"], "{guid}");
    }
    // Whoever does not want the droplet goes where there is more room.
    assert_eq!(places(&brain, of("plain", 1, None, &[])).await, ["a"]);
    assert!(cells[0].executor.layers().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn spread_over_zones_and_cells_comes_before_the_droplet() {
    let (brain, droplet) = (Brain::new().await, droplet().await);
    let _a = cell(&brain, "a", "x").await;
    let (_b, c) = (cell(&brain, "b", "y").await, cell(&brain, "c", "y").await);
    let seed = of("seed", 1, Some(&droplet), &["on-c"]);
    let guid = seed.process_guid.clone();
    places(&brain, seed).await;
    holds(&c, &droplet).await;
    brain.bbs.remove_lrp(&guid).await.unwrap();
    c.until_empty().await;
    // The first where the droplet is; the second in the other zone, though nobody holds it there.
    let two = places(&brain, of("two", 2, Some(&droplet), &[])).await;
    assert_eq!(two, ["c", "a"]);
    // The third on the other cell, though it is the last one without the droplet.
    let three = places(&brain, of("three", 3, Some(&droplet), &[])).await;
    assert_eq!(
        three.into_iter().collect::<BTreeSet<_>>(),
        ["a", "b", "c"].map(str::to_owned).into()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_on_a_cell_is_told_again_after_its_restart_and_to_a_new_brain() {
    let (brain, droplet) = (Brain::new().await, droplet().await);
    let b = cell(&brain, "b", "z").await;
    let seed = of("seed", 1, Some(&droplet), &[]);
    let guid = seed.process_guid.clone();
    places(&brain, seed).await;
    holds(&b, &droplet).await;
    brain.bbs.remove_lrp(&guid).await.unwrap();
    b.until_empty().await;
    let left = b.leave().await;
    // Another brain, which knows nothing; no container is left that stands on the droplet.
    let brain = Brain::new().await;
    let _a = cell(&brain, "a", "z").await;
    let _b = Cell::back(&brain, left).await;
    assert_eq!(places(&brain, of("later", 1, Some(&droplet), &[])).await, ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_brain_did_not_hear_is_told_until_it_does() {
    let (brain, droplet) = (Brain::new().await, droplet().await);
    let cells = [cell(&brain, "a", "z").await, cell(&brain, "b", "z").await];
    let seed = of("seed", 1, Some(&droplet), &["on-b"]);
    cells[1].garden.held.send_replace(true);
    cells[1].link.disturb(7);
    brain.bbs.desire_lrp(seed).await.unwrap();
    tokio::time::timeout(PATIENCE, async {
        while cells[1].executor.layers().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
    cells[1].garden.held.send_replace(false);
    holds(&cells[1], &droplet).await;
    cells[1].link.calm();
    brain.until_running(&"seed".into(), 1).await;
    assert_eq!(places(&brain, of("later", 1, Some(&droplet), &[])).await, ["b"]);
}
