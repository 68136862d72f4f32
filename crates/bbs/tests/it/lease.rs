//! Two brains on one store, each a process of its own: one leads, the other takes over when it dies or freezes.

use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::http::Secret;
use base::{CancellationToken, Clock, TaskTracker};
use bbs::{BbsServer, Client, Config, Seat};
use diego::sim::SimDial;
use diego::{Bbs, ProcessGuid};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::rig::{Table, eventually, lrp};

const DB: &str = "CUPOLA_TEST_BRAIN_DB";
const PORT: &str = "CUPOLA_TEST_BRAIN_PORT";
/// On a machine that does nothing else it takes less than three seconds.
const TAKEOVER: Duration = Duration::from_secs(60);

fn secret() -> Secret {
    Secret::new("s3cret")
}

/// What the child processes run: not a test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the tests beside it start it as a process of its own"]
async fn a_brain_of_its_own() {
    let (Ok(url), Ok(port)) = (std::env::var(DB), std::env::var(PORT)) else { return };
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    let (seat, stop, tasks) = (Seat::default(), CancellationToken::new(), TaskTracker::new());
    tasks.spawn(base::http::serve(listener, seat.router(), stop.clone()));
    let deps = bbs::Deps {
        db: sql::Db::open(&url).await.unwrap(),
        clock: Clock::system(),
        dial: Arc::new(SimDial::default()),
        routers: Arc::new(Table::default()),
        stop,
        tasks,
    };
    let brain = BbsServer::stand_by(Config::new(secret()), deps).await.unwrap();
    seat.take(brain.router());
    brain.stopped().await;
    // Long enough for whoever asks to see that it leads no more.
    tokio::time::sleep(Duration::from_secs(2)).await;
}

struct Brain {
    process: Child,
    db: String,
    port: u16,
    client: Client,
}

impl Brain {
    fn start(db: &str) -> Brain {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let client = Client::new(format!("http://127.0.0.1:{port}"), &secret());
        Brain { process: spawn(db, port), db: db.to_owned(), port, client }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([name, &self.process.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    async fn leads(&self) -> bool {
        let domains = self.client.domains();
        matches!(tokio::time::timeout(Duration::from_millis(500), domains).await, Ok(Ok(_)))
    }

    fn start_again(&mut self) {
        self.process = spawn(&self.db, self.port);
    }
}

impl Drop for Brain {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(db: &str, port: u16) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "lease::a_brain_of_its_own", "--nocapture"])
        .env(DB, db)
        .env(PORT, port.to_string())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

/// Desires without pause, and what of it was acknowledged.
struct Load {
    acknowledged: Arc<Mutex<Vec<(ProcessGuid, Instant)>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Load {
    fn start(client: &Client) -> Load {
        let load = Load {
            acknowledged: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        for worker in 0..4 {
            let (client, acknowledged, stop) =
                (client.clone(), load.acknowledged.clone(), load.stop.clone());
            load.tasks.spawn(async move {
                let mut number = 0;
                while !stop.is_cancelled() {
                    number += 1;
                    let desired = lrp(&format!("load-{worker}-{number}"), 1);
                    let guid = desired.process_guid.clone();
                    // Whatever was not acknowledged may be there or not.
                    if client.desire_lrp(desired).await.is_ok() {
                        acknowledged.lock().push((guid, Instant::now()));
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        load
    }

    /// Waits for this many more.
    async fn goes_on(&self, more: usize) {
        let enough = self.acknowledged.lock().len() + more;
        let count = || async { self.acknowledged.lock().len() };
        eventually("load", count, |count| *count >= enough).await;
    }

    async fn goes_on_after(&self, moment: Instant) -> Duration {
        let end = Instant::now() + TAKEOVER;
        loop {
            let after = |(_, when): &&(ProcessGuid, Instant)| *when > moment;
            if let Some((_, when)) = self.acknowledged.lock().iter().rfind(after) {
                return *when - moment;
            }
            assert!(Instant::now() < end, "nobody took over");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How long it took from now on, once what was under way has arrived.
    async fn goes_on_elsewhere(&self) -> Duration {
        const UNDER_WAY: Duration = Duration::from_millis(50);
        self.goes_on_after(Instant::now() + UNDER_WAY).await + UNDER_WAY
    }

    /// Everything that was ever acknowledged is there.
    async fn end(self, client: &Client) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let there: std::collections::BTreeSet<_> = client
            .desired_lrps(None)
            .await
            .unwrap()
            .into_iter()
            .map(|desired| desired.process_guid)
            .collect();
        let acknowledged = self.acknowledged.lock();
        assert!(acknowledged.len() > 50, "too little load: {}", acknowledged.len());
        for (guid, _) in acknowledged.iter() {
            assert!(there.contains(guid), "{guid} was acknowledged and is gone");
        }
        assert!(!there.iter().any(|guid| guid.as_str().starts_with("ghost")));
    }
}

async fn leader(brains: &[Brain; 2]) -> usize {
    let end = Instant::now() + TAKEOVER;
    loop {
        for (place, brain) in brains.iter().enumerate() {
            if brain.leads().await {
                return place;
            }
        }
        assert!(Instant::now() < end, "nobody leads");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn pair(db: &str) -> ([Brain; 2], Client) {
    let brains = [Brain::start(db), Brain::start(db)];
    let client = Client::among([brains[0].url(), brains[1].url()], &secret());
    client.domains().await.unwrap();
    (brains, client)
}

async fn kill_the_leader(db: &str) {
    let (mut brains, client) = pair(db).await;
    let load = Load::start(&client);
    for _ in 0..2 {
        let active = leader(&brains).await;
        load.goes_on(40).await;
        brains[active].signal("-KILL");
        eprintln!("killed: the other one answers after {:?}", load.goes_on_elsewhere().await);
        brains[active].process.wait().unwrap();
        brains[active].start_again();
    }
    load.end(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_followed_by_the_other() {
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("bbs.db");
    kill_the_leader(&format!("sqlite://{}?mode=rwc", path.display())).await;
    if let Some(url) = sql::testing::postgres_url().await {
        kill_the_leader(&url).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_leader_wakes_up_to_nothing() {
    // A frozen process keeps its lock on a SQLite file; only a server ends what it left open.
    let Some(url) = sql::testing::postgres_url().await else { return };
    let (mut brains, client) = pair(&url).await;
    let load = Load::start(&client);
    for round in 0..2 {
        let old = leader(&brains).await;
        load.goes_on(40).await;
        brains[old].signal("-STOP");
        eprintln!("frozen: the other one answers after {:?}", load.goes_on_elsewhere().await);

        brains[old].signal("-CONT");
        let awake = Instant::now();
        let mut asked = 0;
        loop {
            let read = brains[old].client.desired_lrps(None).await;
            assert!(read.is_err(), "a woken leader answered from an old state");
            let ghost = lrp(&format!("ghost-{round}-{asked}"), 1);
            assert!(brains[old].client.desire_lrp(ghost).await.is_err());
            let refusal = brains[old].client.remove_lrp(&"nobody".into()).await.unwrap_err();
            assert!(!refusal.is_not_found(), "a woken leader refused by an old state: {refusal}");
            asked += 1;
            if brains[old].process.try_wait().unwrap().is_some() {
                break;
            }
            assert!(awake.elapsed() < TAKEOVER, "a woken leader does not end");
        }
        assert!(asked > 1);
        brains[old].start_again();
        let stands = || async { brains[old].client.domains().await };
        eventually("it stands by", stands, |answer| {
            answer.as_ref().is_err_and(|error| error.message.contains("does not lead"))
        })
        .await;
    }
    load.end(&client).await;
}
