//! One cell of a test: an executor that can be let go and started anew over the same garden.

use std::sync::Arc;
use std::time::Duration;

use base::{CancellationToken, Clock};
use diego::Action;
use diego::action::RunAction;
use diego::cell::Resources;
use envelope::{Collect, LogType, Message};
use executor::{
    Config, Container, ContainerRequest, Executor, Identities, LogConfig, Outcome, State, Timings,
};
use garden::Handle;
use tokio::task::JoinHandle;

use crate::garden_on_host::HostGarden;

pub struct Cell {
    pub garden: Arc<HostGarden>,
    pub executor: Arc<Executor>,
    pub log: Collect,
    pub dir: Arc<tempfile::TempDir>,
    config: Config,
    identities: Option<Arc<dyn Identities>>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// What stays of a cell whose platform goes.
pub type Left = (Arc<HostGarden>, Arc<tempfile::TempDir>, Config, Option<Arc<dyn Identities>>);

pub fn quick() -> Timings {
    let ms = Duration::from_millis;
    Timings {
        grace: ms(300),
        healthy_check: ms(30),
        unhealthy_check: ms(20),
        first_monitor: ms(5),
        unhealthy_monitor: ms(20),
        second_sample: ms(20),
        first_retry: ms(5),
        last_retry: ms(20),
        ..Timings::default()
    }
}

impl Cell {
    pub async fn new() -> Cell {
        Cell::with(quick()).await
    }

    pub async fn with(timings: Timings) -> Cell {
        Cell::configured(timings, |_| {}).await
    }

    pub async fn with_capacity(capacity: garden::Capacity) -> Cell {
        let cell = Cell::with(quick()).await;
        *cell.garden.capacity.lock() = capacity;
        cell.restarted().await
    }

    pub async fn configured(timings: Timings, change: impl FnOnce(&mut Config)) -> Cell {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let path = dir.path().join("executor");
        let cell_id = "cell-1".into();
        let mut config = Config { cell_id, dir: path, timings, ..Config::default() };
        change(&mut config);
        Cell::over((HostGarden::new(), dir, config, None)).await
    }

    /// Containers get certificates.
    pub async fn identified(identities: Arc<dyn Identities>) -> Cell {
        let (garden, dir, config, _) = Cell::with(quick()).await.leave().await;
        Cell::over((garden, dir, config, Some(identities))).await
    }

    async fn over((garden, dir, config, identities): Left) -> Cell {
        let log = Collect::default();
        let images = image::Config {
            dir: dir.path().join("images"),
            stacks: ["test".to_owned()].into(),
            limits: image::Limits::default(),
        };
        let store = Arc::new(image::Store::open(images).unwrap());
        let executor = Executor::new(
            garden.clone(),
            store,
            Arc::new(log.clone()),
            config.clone(),
            Clock::system(),
        )
        .unwrap();
        if let Some(identities) = &identities {
            executor.identify(identities.clone()).unwrap();
        }
        executor.recover().await.unwrap();
        let stop = CancellationToken::new();
        let (serve, stopping) = (executor.clone(), stop.clone());
        let serving = tokio::spawn(async move { serve.serve(stopping).await });
        Cell { garden, executor, log, dir, config, identities, stop, serving }
    }

    /// The platform goes and comes again; containers and their processes stay.
    pub async fn restarted(self) -> Cell {
        Cell::back(self.leave().await).await
    }

    pub async fn leave(self) -> Left {
        self.stop.cancel();
        self.serving.await.unwrap();
        (self.garden, self.dir, self.config, self.identities)
    }

    pub async fn back(left: Left) -> Cell {
        Cell::over(left).await
    }

    pub fn start(&self, request: ContainerRequest) -> Handle {
        let guid = request.guid.clone();
        self.executor.reserve(&guid, request.resources, request.owner.clone()).unwrap();
        self.executor.run(request).unwrap();
        guid
    }

    /// Waits until the container is in a state that `is` accepts.
    pub async fn until(&self, guid: &Handle, is: impl Fn(&State) -> bool) -> Container {
        let mut changes = self.executor.subscribe();
        let wait = async {
            loop {
                match self.executor.get(guid) {
                    Some(container) if is(&container.state) => return container,
                    _ => drop(changes.recv().await),
                }
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        waited.unwrap_or_else(|_| {
            panic!("{guid} is {:?}; log: {:?}", self.executor.get(guid), self.lines())
        })
    }

    pub async fn outcome(&self, guid: &Handle) -> Outcome {
        match self.until(guid, |state| matches!(state, State::Completed(_))).await.state {
            State::Completed(outcome) => outcome,
            state => unreachable!("{state:?}"),
        }
    }

    pub async fn running(&self, guid: &Handle) -> Container {
        self.until(guid, |state| matches!(state, State::Running { .. })).await
    }

    /// `SOURCE OUT text` of every log line so far.
    pub fn lines(&self) -> Vec<String> {
        let envelopes = self.log.0.lock().unwrap();
        let line = |envelope: &envelope::Envelope| match &envelope.message {
            Message::Log { payload, stream } => {
                let stream = if *stream == LogType::Out { "OUT" } else { "ERR" };
                Some(format!(
                    "{} {stream} {}",
                    envelope.tags["source_type"],
                    String::from_utf8_lossy(payload)
                ))
            }
            _ => None,
        };
        envelopes.iter().filter_map(line).collect()
    }

    /// Lines that no cell wrote.
    pub fn own_lines(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| !line.contains("Cell cell-1")).collect()
    }

    pub async fn until_logged(&self, text: &str) {
        let wait = async {
            while !self.lines().iter().any(|line| line.contains(text)) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        waited.unwrap_or_else(|_| panic!("{text:?} was not logged: {:?}", self.lines()));
    }
}

pub fn sh(script: &str) -> Action {
    let args = vec!["-c".to_owned(), script.to_owned()];
    Action::Run(RunAction {
        path: "/bin/sh".into(),
        args,
        log_source: "APP".into(),
        ..RunAction::default()
    })
}

pub fn request(action: Action) -> ContainerRequest {
    ContainerRequest {
        guid: Handle::random(),
        rootfs: "preloaded:test".into(),
        resources: Resources { memory_mb: 64, disk_mb: 64, containers: 1 },
        cpu_weight: 10,
        max_pids: 0,
        privileged: false,
        env: vec![],
        ports: vec![],
        egress: vec![],
        cached_dependencies: vec![],
        image_layers: vec![],
        volume_mounts: vec![],
        volume_mounted_files: vec![],
        units: vec![],
        setup: None,
        action,
        monitor: None,
        checks: None,
        start_timeout_ms: 0,
        sidecars: vec![],
        log: LogConfig {
            guid: "app".into(),
            source: "CELL".into(),
            bytes_per_second: -1,
            ..LogConfig::default()
        },
        metrics_guid: "app".into(),
        owner: [("whose".to_owned(), "mine".to_owned())].into(),
    }
}
