//! A garden on this host, whichever way it keeps containers apart: what is the same for all ways is here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use garden::{
    Capacity, ContainerInfo, ContainerSpec, EgressRule, Garden, GardenError, Handle, Input, Limits,
    Metrics, PortMapping, Process, ProcessId, ProcessSignal, ProcessSpec, Result, Snapshot, Tar,
    WindowSize,
};
use tracing::warn;

use crate::containers::{Container, Containers, Record, to_the_end};

/// A way of keeping containers apart. Numbers, files, limits and networks are its business, processes are not.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    fn containers(&self) -> &Containers;

    fn max_containers(&self) -> u32;

    /// Whether a container's processes end with its keeper by themselves.
    fn is_isolated(&self) -> bool;

    /// Counts; may block.
    fn capacity(&self) -> Result<Capacity>;

    /// Bytes that a container wrote to its disk; may block.
    fn written(&self, container: &Container) -> u64;

    /// Bytes that all containers wrote; may block.
    fn all_written(&self) -> u64 {
        self.containers().all().iter().map(|container| self.written(container)).sum()
    }

    /// All or nothing. The handle is this container's alone, and so is everything in its spec that can be refused.
    async fn make(self: Arc<Self>, handle: Handle, spec: ContainerSpec) -> Result<Arc<Container>>;

    /// Takes away everything that was made for a container whose processes have ended.
    async fn unmake(self: Arc<Self>, record: Record);

    /// Counts; may block.
    fn metrics(&self, container: &Container) -> Result<Metrics>;

    /// A process as it can run here.
    fn process(&self, container: &Container, spec: ProcessSpec) -> Result<ProcessSpec>;

    /// Where a path of the container is for its keeper.
    fn path(&self, container: &Container, path: &str) -> String;

    /// From the record's limits to these; may block.
    fn limit(&self, record: &Record, limits: &Limits) -> Result<()>;

    async fn map_port(
        &self,
        record: &Record,
        port: u16,
        host_port: Option<u16>,
    ) -> Result<PortMapping>;

    /// From what the record's rules allow to what these do.
    async fn allow(&self, record: &Record, rules: &[EgressRule]) -> Result<()>;
}

/// See the module.
pub struct Hosted<B: Backend>(pub(crate) Arc<B>);

impl<B: Backend> Hosted<B> {
    pub(crate) fn new(backend: Arc<B>) -> Hosted<B> {
        let keeping = backend.clone();
        backend.containers().tasks.spawn(async move {
            let end = |handle: Handle| {
                let backend = keeping.clone();
                async move {
                    if let Err(error) = destroy(backend, handle.clone()).await {
                        warn!(%handle, %error, "a container stays beyond its grace time");
                    }
                }
            };
            keeping.containers().keep_time(end).await;
        });
        Hosted(backend)
    }

    /// Ends this program's part, and first every container with `remove`.
    pub(crate) async fn end(&self, remove: bool) {
        if remove {
            let all = self.0.containers().all();
            let removals = all.iter().map(|one| destroy(self.0.clone(), one.record().handle));
            for error in
                futures::future::join_all(removals).await.into_iter().filter_map(Result::err)
            {
                warn!(%error, "a container stays");
            }
        }
        self.0.containers().close().await;
    }

    /// `change` is made to the container and then remembered; others who change it wait.
    async fn change<T>(
        &self,
        handle: &Handle,
        change: impl AsyncFnOnce(&Record) -> Result<T>,
        remember: impl FnOnce(&mut Record, T),
    ) -> Result<()> {
        let container = self.0.containers().get(handle)?;
        let _changes = container.changes.lock().await;
        let changed = change(&container.record()).await?;
        container.change(|record| remember(record, changed))
    }
}

impl<B: Backend> Drop for Hosted<B> {
    fn drop(&mut self) {
        self.0.containers().stop.cancel();
    }
}

async fn create<B: Backend>(backend: Arc<B>, mut spec: ContainerSpec) -> Result<ContainerInfo> {
    let handle = spec.handle.get_or_insert_with(Handle::random).clone();
    spec.egress.iter().try_for_each(|rule| rule.ranges().map(drop))?;
    let containers = backend.containers();
    containers.reserve(&handle, backend.max_containers())?;
    match backend.clone().make(handle.clone(), spec).await {
        Ok(container) => {
            let info = container.info();
            containers.put(container);
            Ok(info)
        }
        Err(error) => {
            containers.release(&handle);
            Err(error)
        }
    }
}

async fn destroy<B: Backend>(backend: Arc<B>, handle: Handle) -> Result<()> {
    let containers = backend.containers();
    let Some(container) = containers.take(&handle) else { return Ok(()) };
    // Whoever changes it has begun before it was taken away, and nobody begins after.
    let _changes = container.changes.lock().await;
    if let Err(error) = container.end(backend.is_isolated()).await {
        container.touch();
        containers.put(container.clone());
        return Err(GardenError::failed("ending the container", error));
    }
    backend.clone().unmake(container.record()).await;
    containers.release(&handle);
    Ok(())
}

#[async_trait]
impl<B: Backend> Garden for Hosted<B> {
    async fn capacity(&self) -> Result<Capacity> {
        let backend = self.0.clone();
        blocking("counting", move || backend.capacity()).await
    }

    async fn create(&self, spec: ContainerSpec) -> Result<ContainerInfo> {
        to_the_end(create(self.0.clone(), spec)).await
    }

    async fn destroy(&self, handle: &Handle) -> Result<()> {
        to_the_end(destroy(self.0.clone(), handle.clone())).await
    }

    async fn containers(&self) -> Result<Vec<ContainerInfo>> {
        Ok(self.0.containers().all().iter().map(|container| container.info()).collect())
    }

    async fn info(&self, handle: &Handle) -> Result<ContainerInfo> {
        Ok(self.0.containers().get(handle)?.info())
    }

    async fn run(&self, handle: &Handle, spec: ProcessSpec) -> Result<Process> {
        let containers = self.0.containers();
        let spec = self.0.process(&*containers.get(handle)?, spec)?;
        containers.run(handle, spec).await
    }

    async fn attach(&self, handle: &Handle, process: &ProcessId, from: u64) -> Result<Process> {
        self.0.containers().attach(handle, process, from).await
    }

    async fn input(&self, handle: &Handle, process: &ProcessId) -> Result<Input> {
        self.0.containers().input(handle, process).await
    }

    async fn close_input(&self, handle: &Handle, process: &ProcessId) -> Result<()> {
        self.0.containers().close_input(handle, process).await
    }

    async fn resize(&self, handle: &Handle, process: &ProcessId, size: WindowSize) -> Result<()> {
        self.0.containers().resize(handle, process, size).await
    }

    async fn signal(
        &self,
        handle: &Handle,
        process: &ProcessId,
        signal: ProcessSignal,
    ) -> Result<()> {
        self.0.containers().signal(handle, process, signal).await
    }

    async fn stop(&self, handle: &Handle, kill: bool) -> Result<()> {
        self.0.containers().stop(handle, kill).await
    }

    async fn stream_in(&self, handle: &Handle, path: &str, user: &str, tar: Tar) -> Result<()> {
        let containers = self.0.containers();
        let path = self.0.path(&*containers.get(handle)?, path);
        containers.stream_in(handle, &path, user, tar).await
    }

    async fn stream_out(&self, handle: &Handle, path: &str, user: &str) -> Result<Tar> {
        let containers = self.0.containers();
        let path = self.0.path(&*containers.get(handle)?, path);
        containers.stream_out(handle, &path, user).await
    }

    async fn metrics(&self, handle: &Handle) -> Result<Metrics> {
        let (backend, container) = (self.0.clone(), self.0.containers().get(handle)?);
        blocking("counting", move || backend.metrics(&container)).await
    }

    async fn set_limits(&self, handle: &Handle, limits: Limits) -> Result<()> {
        let limit = async |record: &Record| {
            let (backend, record) = (self.0.clone(), record.clone());
            blocking("limiting the container", move || backend.limit(&record, &limits)).await
        };
        self.change(handle, limit, |record, ()| record.spec.limits = limits).await
    }

    async fn net_in(
        &self,
        handle: &Handle,
        port: u16,
        host_port: Option<u16>,
    ) -> Result<PortMapping> {
        let mut mapped = None;
        let map = async |record: &Record| self.0.map_port(record, port, host_port).await;
        let remember = |record: &mut Record, mapping| {
            mapped = Some(mapping);
            record.ports.push(mapping);
        };
        self.change(handle, map, remember).await?;
        mapped.ok_or_else(|| GardenError::failed("mapping a port", "nothing was mapped"))
    }

    async fn net_out(&self, handle: &Handle, rules: Vec<EgressRule>) -> Result<()> {
        let allow = async |record: &Record| {
            rules.iter().try_for_each(|rule| rule.ranges().map(drop))?;
            let all: Vec<_> = record.spec.egress.iter().chain(&rules).cloned().collect();
            self.0.allow(record, &all).await?;
            Ok(all)
        };
        self.change(handle, allow, |record, all| record.spec.egress = all).await
    }

    async fn set_property(&self, handle: &Handle, key: &str, value: &str) -> Result<()> {
        self.0.containers().set_property(handle, key, value)
    }

    async fn remove_property(&self, handle: &Handle, key: &str) -> Result<()> {
        self.0.containers().remove_property(handle, key)
    }

    async fn set_grace_time(&self, handle: &Handle, grace: Option<Duration>) -> Result<()> {
        self.0.containers().set_grace_time(handle, grace)
    }

    async fn snapshot(&self, handle: &Handle) -> Result<Snapshot> {
        Ok(self.0.containers().get(handle)?.snapshot())
    }
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| GardenError::failed(what, error))?
}
