//! The same over the real process backend: what a restart of the whole platform must not lose.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::{CancellationToken, Clock};
use envelope::{Collect, Message};
use executor::{Config, Executor, State};
use garden::{Garden, Handle};
use guardian::process::ProcessGarden;
use tokio::task::JoinHandle;

use crate::support::{quick, request, sh};

/// One life of the platform.
struct Life {
    garden: Arc<ProcessGarden>,
    executor: Arc<Executor>,
    log: Collect,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Life {
    async fn begin(dir: &Path) -> Life {
        let config = guardian::process::Config::new(dir.join("containers"));
        let garden = Arc::new(ProcessGarden::open(config).await.unwrap());
        let images = image::Config {
            dir: dir.join("images"),
            stacks: ["test".to_owned()].into(),
            limits: image::Limits::default(),
        };
        let store = Arc::new(image::Store::open(images).unwrap());
        let log = Collect::default();
        let config = Config { dir: dir.join("executor"), timings: quick(), ..Config::default() };
        let sink = Arc::new(log.clone());
        let executor = Executor::new(garden.clone(), store, sink, config, Clock::system()).unwrap();
        executor.recover().await.unwrap();
        let stop = CancellationToken::new();
        let (serve, until) = (executor.clone(), stop.clone());
        let serving = tokio::spawn(async move { serve.serve(until).await });
        Life { garden, executor, log, stop, serving }
    }

    /// Ends as after SIGTERM, and hands over what was logged.
    async fn end(self, remove: bool) -> Vec<String> {
        self.stop.cancel();
        self.serving.await.unwrap();
        self.garden.shutdown(remove).await.unwrap();
        lines(&self.log)
    }

    fn state(&self, guid: &Handle) -> State {
        self.executor.get(guid).expect("it is known until it is deleted").state
    }

    async fn until(&self, guid: &Handle, is: impl Fn(&State) -> bool) -> State {
        let mut changes = self.executor.subscribe();
        let wait = async {
            loop {
                match self.executor.get(guid).map(|container| container.state) {
                    Some(state) if is(&state) => return state,
                    _ => drop(changes.recv().await),
                }
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
        waited
            .unwrap_or_else(|_| panic!("{:?}, log {:?}", self.executor.get(guid), lines(&self.log)))
    }

    /// Waits for so many lines, or for the end of a container that has no more to say.
    async fn until_logged(&self, guid: &Handle, count: usize) {
        let ended = || matches!(self.state(guid), State::Completed(_));
        let wait = async {
            while lines(&self.log).len() < count && !ended() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
        waited.unwrap_or_else(|_| panic!("only {:?}", lines(&self.log)));
    }
}

fn lines(log: &Collect) -> Vec<String> {
    let text = |one: &envelope::Envelope| match &one.message {
        Message::Log { payload, .. } => Some(String::from_utf8_lossy(payload).into_owned()),
        _ => None,
    };
    log.0.lock().unwrap().iter().filter_map(text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_lose_and_double_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut life = Life::begin(dir.path()).await;
    let script = "i=0; while [ $i -lt 600 ]; do echo line $i; echo err $i >&2; i=$((i+1)); \
                  [ $((i % 20)) = 0 ] && sleep 0.02; done; exit 5";
    let mut request = request(sh(script));
    let diego::Action::Run(run) = &mut request.action else { unreachable!() };
    run.user = "root".to_owned();
    let guid = request.guid.clone();
    life.executor.reserve(&guid, request.resources, request.owner.clone()).unwrap();
    life.executor.run(request).unwrap();
    life.until_logged(&guid, 60).await;
    let mut all = vec![];
    for _ in 0..3 {
        all.extend(life.end(false).await);
        life = Life::begin(dir.path()).await;
        // On a busy machine it may be at its end already.
        let state = life.state(&guid);
        assert!(matches!(state, State::Running { .. } | State::Completed(_)), "{state:?}");
        life.until_logged(&guid, 10).await;
    }
    let State::Completed(outcome) =
        life.until(&guid, |state| matches!(state, State::Completed(_))).await
    else {
        unreachable!()
    };
    assert_eq!(outcome.reason, "APP: Exited with status 5");
    all.extend(lines(&life.log));
    for stream in ["line", "err"] {
        let got: Vec<_> = all.iter().filter(|line| line.starts_with(stream)).cloned().collect();
        let want: Vec<_> = (0..600).map(|i| format!("{stream} {i}")).collect();
        assert_eq!(got, want);
    }
    life.executor.delete(&guid).await.unwrap();
    assert!(life.garden.containers().await.unwrap().is_empty());
    life.end(true).await;
}
