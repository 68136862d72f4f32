use std::time::{Duration, Instant};
use diego::Bbs as _;
use crate::rig::{Rig, lrp};
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timing() {
    for db in sql::testing::databases().await {
        let rig = Rig::new(db, 1).await;
        let mut times = Vec::new();
        for n in 0..100 {
            let name = format!("p{n}");
            let mut l = lrp(&name, 1);
            l.run.memory_mb = 1; l.run.disk_mb = 1;
            let start = Instant::now();
            rig.bbs.desire_lrp(l).await.unwrap();
            let host = format!("{name}.example.com");
            while !rig.routers.entries.lock().keys().any(|(h, _)| *h == host) { tokio::time::sleep(Duration::from_micros(200)).await; }
            times.push(start.elapsed());
            rig.bbs.remove_lrp(&name.as_str().into()).await.unwrap();
            while !rig.cells[0].instances().is_empty() { tokio::time::sleep(Duration::from_micros(200)).await; }
        }
        times.sort();
        eprintln!("p50 {:?} p90 {:?} p99 {:?}", times[50], times[90], times[98]);
        let mut rig = rig;
        for n in 0..19 { rig.add_cell(&format!("c{n}"), "z").await; }
        let start = Instant::now();
        let mut l = lrp("many", 1000); l.run.memory_mb = 1; l.run.disk_mb = 1;
        rig.bbs.desire_lrp(l).await.unwrap();
        rig.running("many", 1000).await;
        eprintln!("1000 instances {:?}", start.elapsed());
    }
}
