//! Many at once: nothing that could go side by side goes one after the other, and nothing without a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base::Clock;
use diego::Bbs as _;
use garden::fake::{End, FakeGarden, Play};
use garden::{
    Capacity, ContainerInfo, ContainerSpec, Garden, Handle, Metrics, Process, ProcessId,
    ProcessSignal, ProcessSpec, Result, Tar,
};

use crate::support::{Brain, Cell, left, lrp};

/// Takes its time to make containers, and counts how many it makes at once.
struct Slow {
    inner: FakeGarden,
    making: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl Garden for Slow {
    async fn capacity(&self) -> Result<Capacity> {
        Ok(Capacity { memory_mb: 100_000, disk_mb: 100_000, containers: 250 })
    }
    async fn create(&self, spec: ContainerSpec) -> Result<ContainerInfo> {
        let now = self.making.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.making.fetch_sub(1, Ordering::SeqCst);
        self.inner.create(spec).await
    }
    async fn destroy(&self, handle: &Handle) -> Result<()> {
        self.inner.destroy(handle).await
    }
    async fn containers(&self) -> Result<Vec<ContainerInfo>> {
        self.inner.containers().await
    }
    async fn info(&self, handle: &Handle) -> Result<ContainerInfo> {
        self.inner.info(handle).await
    }
    async fn run(&self, handle: &Handle, spec: ProcessSpec) -> Result<Process> {
        self.inner.run(handle, spec).await
    }
    async fn attach(&self, handle: &Handle, process: &ProcessId, from: u64) -> Result<Process> {
        self.inner.attach(handle, process, from).await
    }
    async fn signal(&self, handle: &Handle, id: &ProcessId, signal: ProcessSignal) -> Result<()> {
        self.inner.signal(handle, id, signal).await
    }
    async fn stop(&self, handle: &Handle, kill: bool) -> Result<()> {
        self.inner.stop(handle, kill).await
    }
    async fn stream_in(&self, handle: &Handle, path: &str, user: &str, tar: Tar) -> Result<()> {
        self.inner.stream_in(handle, path, user, tar).await
    }
    async fn stream_out(&self, handle: &Handle, path: &str, user: &str) -> Result<Tar> {
        self.inner.stream_out(handle, path, user).await
    }
    async fn metrics(&self, handle: &Handle) -> Result<Metrics> {
        self.inner.metrics(handle).await
    }
    async fn set_property(&self, handle: &Handle, key: &str, value: &str) -> Result<()> {
        self.inner.set_property(handle, key, value).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_instances_start_side_by_side() {
    let brain = Brain::new().await;
    let inner =
        FakeGarden::new(Clock::system(), |_, _| Play { output: vec![], end: End::WhenTold });
    inner.set_capacity(Capacity { memory_mb: 100_000, disk_mb: 100_000, containers: 250 });
    let garden = Arc::new(Slow { inner, making: AtomicUsize::new(0), most: AtomicUsize::new(0) });
    let cell = Cell::over(&brain, left("cell-1", garden.clone()), |_| {}).await;
    let began = std::time::Instant::now();
    brain.bbs.desire_lrp(lrp("web", 200, "sleep 600")).await.unwrap();
    brain.until_running(&"web".into(), 200).await;
    eprintln!("200 instances ran after {:?}", began.elapsed());
    // As many at once as the executor allows, and no more.
    assert_eq!(garden.most.load(Ordering::SeqCst), 32);
    assert_eq!(cell.count(), 200);
}
