//! A garden whose containers are folders and whose processes are the host's. It outlives executors, as the real one
//! outlives the platform.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::Timestamp;
use bytes::Bytes;
use garden::{
    Capacity, ContainerInfo, ContainerSpec, Exit, Garden, GardenError, Handle, Metrics, Output,
    PortMapping, Process, ProcessId, ProcessSignal, ProcessSpec, Result, Stream, Tar,
};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio_util::io::SyncIoBridge;

pub struct HostGarden {
    root: tempfile::TempDir,
    containers: Mutex<HashMap<Handle, Arc<Container>>>,
    /// What the next creations end with.
    pub failures: Mutex<Vec<&'static str>>,
    pub creations: Mutex<Vec<ContainerSpec>>,
    pub capacity: Mutex<Capacity>,
    /// Creations wait while this holds.
    pub held: watch::Sender<bool>,
    /// Every process that was ever begun.
    pub ran: Mutex<Vec<(Handle, ProcessSpec)>>,
}

struct Container {
    info: Mutex<ContainerInfo>,
    spec: ContainerSpec,
    dir: PathBuf,
    processes: Mutex<HashMap<ProcessId, Arc<Running>>>,
}

struct Running {
    pid: i32,
    /// All pieces so far, and whether there will be more.
    output: watch::Sender<(Vec<Output>, bool)>,
    exit: watch::Sender<Option<Exit>>,
}

impl HostGarden {
    pub fn new() -> Arc<HostGarden> {
        Arc::new(HostGarden {
            root: tempfile::tempdir().unwrap(),
            containers: Mutex::default(),
            failures: Mutex::default(),
            creations: Mutex::default(),
            capacity: Mutex::new(Capacity { memory_mb: 1000, disk_mb: 1000, containers: 10 }),
            held: watch::Sender::new(false),
            ran: Mutex::default(),
        })
    }

    fn container(&self, handle: &Handle) -> Result<Arc<Container>> {
        let found = self.containers.lock().get(handle).cloned();
        found.ok_or_else(|| GardenError::UnknownContainer(handle.clone()))
    }

    /// Whether soon no process of a container lives; one that was killed takes a moment to end.
    pub async fn falls_quiet(&self, handle: &Handle) -> bool {
        let quiet = async {
            while !self.is_quiet(handle) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), quiet).await.is_ok()
    }

    fn is_quiet(&self, handle: &Handle) -> bool {
        let container = self.containers.lock().get(handle).cloned();
        let processes = container.map(|one| one.processes.lock().values().cloned().collect());
        let processes: Vec<Arc<Running>> = processes.unwrap_or_default();
        let groups: Vec<i32> = processes.iter().map(|one| one.pid).collect();
        std::fs::read_dir("/proc").unwrap().flatten().all(|entry| {
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { return true };
            // After the name in parentheses: state, parent, process group.
            let rest = stat.rsplit(')').next().unwrap_or_default();
            let mut fields = rest.split_ascii_whitespace();
            let state = fields.next();
            let group = fields.nth(1).and_then(|group| group.parse().ok());
            state == Some("Z") || !group.is_some_and(|group| groups.contains(&group))
        })
    }

    /// A path of a container as the host sees it.
    pub fn path(&self, handle: &Handle, path: &str) -> PathBuf {
        self.root.path().join(handle.as_str()).join(path.trim_start_matches('/'))
    }
}

impl Drop for HostGarden {
    fn drop(&mut self) {
        for container in self.containers.lock().values() {
            container.kill_all();
        }
    }
}

impl Container {
    fn kill_all(&self) {
        for process in self.processes.lock().values() {
            process.signal_group("KILL");
        }
    }
}

impl Running {
    fn signal(&self, name: &str) {
        if self.exit.borrow().is_none() {
            self.signal_group(name);
        }
    }

    /// Also what its end left behind.
    fn signal_group(&self, name: &str) {
        let group = format!("-{}", self.pid);
        std::process::Command::new("kill")
            .args(["-s", name, "--", &group])
            .stderr(Stdio::null())
            .status()
            .ok();
    }

    fn process(self: &Arc<Running>, id: &ProcessId, from: u64) -> Process {
        let (sender, output) = mpsc::channel(8);
        let mut pieces = self.output.subscribe();
        tokio::spawn(async move {
            let mut next = 0;
            loop {
                let (batch, more) = {
                    let seen = pieces.borrow_and_update();
                    (seen.0[next..].to_vec(), seen.1)
                };
                next += batch.len();
                for piece in batch.into_iter().filter(|piece| piece.end > from) {
                    if sender.send(piece).await.is_err() {
                        return;
                    }
                }
                if !more || pieces.changed().await.is_err() {
                    return;
                }
            }
        });
        Process { id: id.clone(), output, exit: self.exit.subscribe() }
    }
}

#[async_trait]
impl Garden for HostGarden {
    async fn capacity(&self) -> Result<Capacity> {
        Ok(*self.capacity.lock())
    }

    async fn create(&self, spec: ContainerSpec) -> Result<ContainerInfo> {
        // The sender is here.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        self.creations.lock().push(spec.clone());
        if let Some(failure) = self.failures.lock().pop() {
            return Err(GardenError::Exhausted(failure));
        }
        let handle = spec.handle.clone().unwrap();
        let dir = self.root.path().join(handle.as_str());
        std::fs::create_dir_all(&dir).unwrap();
        let ports = spec.ports.iter().map(|asked| {
            let free =
                std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            PortMapping { asked_port: *asked, container_port: free, host_port: free }
        });
        let info = ContainerInfo {
            handle: handle.clone(),
            host_ip: Ipv4Addr::LOCALHOST,
            container_ip: Ipv4Addr::LOCALHOST,
            ports: ports.collect(),
            properties: spec.properties.clone(),
            processes: vec![],
            created_at: Timestamp::from_secs(1),
        };
        let container =
            Container { info: Mutex::new(info.clone()), spec, dir, processes: Mutex::default() };
        self.containers.lock().insert(handle, Arc::new(container));
        Ok(info)
    }

    async fn destroy(&self, handle: &Handle) -> Result<()> {
        if let Some(container) = self.containers.lock().remove(handle) {
            container.kill_all();
            std::fs::remove_dir_all(&container.dir).ok();
        }
        Ok(())
    }

    async fn containers(&self) -> Result<Vec<ContainerInfo>> {
        let all: Vec<_> = self.containers.lock().values().cloned().collect();
        Ok(all.iter().map(|container| container.info.lock().clone()).collect())
    }

    async fn info(&self, handle: &Handle) -> Result<ContainerInfo> {
        Ok(self.container(handle)?.info.lock().clone())
    }

    async fn run(&self, handle: &Handle, spec: ProcessSpec) -> Result<Process> {
        let container = self.container(handle)?;
        self.ran.lock().push((handle.clone(), spec.clone()));
        let id = spec.id.clone().unwrap();
        let mut command = Command::new(&spec.path);
        command
            .args(&spec.args)
            .env("ROOT", &container.dir)
            .envs(container.spec.env.iter().cloned())
            .envs(spec.env.iter().cloned())
            .current_dir(&container.dir)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|_| GardenError::ExecutableNotFound(spec.path.clone()))?;
        let running = Arc::new(Running {
            pid: i32::try_from(child.id().unwrap()).unwrap(),
            output: watch::channel((vec![], true)).0,
            exit: watch::channel(None).0,
        });
        container.processes.lock().insert(id.clone(), running.clone());
        container.info.lock().processes.push(id.clone());
        let process = running.process(&id, 0);
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        tokio::spawn(async move {
            let keep = |stream| {
                let running = running.clone();
                move |data: Bytes| {
                    running.output.send_modify(|(pieces, _)| {
                        let end = pieces.last().map_or(0, |last| last.end) + data.len() as u64;
                        pieces.push(Output { stream, data, end, lost: 0 });
                    });
                }
            };
            let reading = async {
                tokio::join!(read(out, keep(Stream::Stdout)), read(err, keep(Stream::Stderr)));
            };
            let ending = async {
                let status = child.wait().await.unwrap();
                let signal = std::os::unix::process::ExitStatusExt::signal(&status);
                let exit =
                    signal.map_or_else(|| Exit::Status(status.code().unwrap()), Exit::Signal);
                running.exit.send_replace(Some(exit));
            };
            // A descendant may hold the pipes for longer than the process lives.
            tokio::join!(reading, ending);
            running.output.send_modify(|(_, more)| *more = false);
        });
        Ok(process)
    }

    async fn attach(&self, handle: &Handle, process: &ProcessId, from: u64) -> Result<Process> {
        let running = self.container(handle)?.processes.lock().get(process).cloned();
        let running =
            running.ok_or_else(|| GardenError::UnknownProcess(process.clone(), handle.clone()))?;
        Ok(running.process(process, from))
    }

    async fn signal(
        &self,
        handle: &Handle,
        process: &ProcessId,
        signal: ProcessSignal,
    ) -> Result<()> {
        if let Some(running) = self.container(handle)?.processes.lock().get(process) {
            running.signal(signal.name());
        }
        Ok(())
    }

    async fn stop(&self, handle: &Handle, _kill: bool) -> Result<()> {
        self.container(handle)?.kill_all();
        Ok(())
    }

    async fn stream_in(&self, handle: &Handle, path: &str, _user: &str, tar: Tar) -> Result<()> {
        let to = self.container(handle)?.dir.join(path.trim_start_matches('/'));
        let bridge = SyncIoBridge::new(tar);
        let unpack = move || {
            std::fs::create_dir_all(&to)?;
            tar::Archive::new(bridge).unpack(&to)
        };
        tokio::task::spawn_blocking(unpack)
            .await
            .unwrap()
            .map_err(|error| GardenError::failed("unpacking", error))
    }

    async fn stream_out(&self, handle: &Handle, path: &str, _user: &str) -> Result<Tar> {
        let file = self.container(handle)?.dir.join(path.trim_matches('/'));
        if file.is_dir() {
            let mut archive = tar::Builder::new(Vec::new());
            archive.append_dir_all(".", &file).unwrap();
            return Ok(Box::pin(std::io::Cursor::new(archive.into_inner().unwrap())));
        }
        let content =
            std::fs::read(&file).map_err(|_| GardenError::FileNotFound(path.to_owned()))?;
        Ok(Box::pin(std::io::Cursor::new(tar_of(
            Path::new(path).file_name().unwrap().to_str().unwrap(),
            &content,
        ))))
    }

    async fn metrics(&self, handle: &Handle) -> Result<Metrics> {
        self.container(handle)?;
        Ok(Metrics { memory_bytes: 7 << 20, disk_bytes: 3 << 20, ..Metrics::default() })
    }

    async fn set_property(&self, handle: &Handle, key: &str, value: &str) -> Result<()> {
        self.container(handle)?.info.lock().properties.insert(key.to_owned(), value.to_owned());
        Ok(())
    }
}

async fn read(mut pipe: impl AsyncRead + Unpin, keep: impl Fn(Bytes)) {
    let mut piece = [0; 4096];
    loop {
        // A descendant may hold the pipe; the test's processes do not write after their end.
        match tokio::time::timeout(Duration::from_secs(30), pipe.read(&mut piece)).await {
            Ok(Ok(length)) if length > 0 => keep(Bytes::copy_from_slice(&piece[..length])),
            _ => return,
        }
    }
}

pub fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, content).unwrap();
    archive.into_inner().unwrap()
}
