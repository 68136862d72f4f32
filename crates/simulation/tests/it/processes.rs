//! The auction across processes: each cell is a process of its own and speaks the protocol between brain and cell.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use auction::{Weights, place};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use base::http::Secret;
use diego::cell::{LrpStart, Refused, Resources};
use diego::desired_lrp::RunInfo;
use diego::sim::SimCell;
use diego::{Cell, CellState, DesiredLrp, Work};
use rep::Client;

const CELLS: usize = 6;
const CELL: &str = "SIMULATED_CELL";

/// A simulated cell behind the HTTP face of a real one.
fn face(cell: Arc<SimCell>, secret: &Secret) -> Router {
    type Held = State<Arc<SimCell>>;
    async fn state(State(cell): Held) -> Result<Json<CellState>, StatusCode> {
        cell.state().await.map(Json).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
    }
    async fn work(State(cell): Held, Json(work): Json<Work>) -> Result<Json<Refused>, StatusCode> {
        cell.perform(work).await.map(Json).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
    }
    async fn stop(State(cell): Held, Path((process, guid)): Path<(String, String)>) -> StatusCode {
        let stopped = cell.stop_lrp(&process.into(), &guid.into()).await;
        stopped.map_or(StatusCode::SERVICE_UNAVAILABLE, |()| StatusCode::ACCEPTED)
    }
    let routes = Router::new()
        .route("/state", get(state))
        .route("/work", post(work))
        .route("/v1/lrps/{process_guid}/instances/{instance_guid}/stop", post(stop))
        .with_state(cell);
    base::http::guarded(routes, secret)
}

/// Not a test by itself: what each cell's process runs. Without a cell's name it has nothing to do.
#[tokio::test]
async fn one_cell() {
    let Ok(name) = std::env::var(CELL) else { return };
    let number: usize = name.parse().unwrap();
    let capacity = Resources { memory_mb: 1000, disk_mb: 10_000, containers: 50 };
    let zone = format!("z{}", number % 2);
    let cell = SimCell::new(SimCell::presence(&format!("cell-{number}"), &zone, capacity));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("\nport {}", listener.local_addr().unwrap().port());
    let stop = base::CancellationToken::new();
    let ended = stop.clone();
    std::thread::spawn(move || {
        // The parent holds the other end: when it goes, so does this.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        ended.cancel();
    });
    base::http::serve(listener, face(cell, &Secret::new("s3cret")), stop).await.unwrap();
}

struct Process {
    child: Child,
    client: Client,
}

impl Process {
    fn start(number: usize) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["processes::one_cell", "--exact", "--nocapture"])
            .env(CELL, number.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("port ").map(str::to_owned))
            .expect("a cell says where it listens");
        let http = base::http::client(Some(&Secret::new("s3cret")));
        let client = Client::new(http, &format!("http://127.0.0.1:{port}"));
        Process { child, client }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One round: every cell is asked, all is placed, each cell gets its part. What was refused comes back.
async fn auction(cells: &BTreeMap<String, Process>, work: Work) -> (usize, Vec<String>) {
    let mut states = Vec::new();
    for process in cells.values() {
        states.extend(process.client.state().await);
    }
    let outcome = place(&states, work, &Weights::default());
    for (id, work) in outcome.placed {
        let refused = cells[id.as_str()].client.perform(work).await.unwrap();
        assert_eq!(refused, Refused::default(), "a cell takes what it said it has room for");
    }
    (states.len(), outcome.failed_lrps.into_iter().map(|(_, why)| why).collect())
}

fn starts(process: &str, indices: std::ops::Range<u32>, memory_mb: u64) -> Work {
    let desired = Arc::new(DesiredLrp {
        process_guid: process.into(),
        domain: "d".into(),
        instances: indices.end,
        run: RunInfo {
            rootfs: "preloaded:base".to_owned(),
            memory_mb,
            disk_mb: 10,
            ..RunInfo::default()
        },
        routes: BTreeMap::new(),
        annotation: String::new(),
        metric_tags: BTreeMap::new(),
        modification_tag: Default::default(),
    });
    let lrps = indices.map(|index| LrpStart { index, desired: desired.clone() }).collect();
    Work { lrps, tasks: Vec::new() }
}

async fn counts(cells: &BTreeMap<String, Process>) -> Vec<usize> {
    let mut counts = Vec::new();
    for process in cells.values() {
        counts.push(process.client.state().await.unwrap().lrps.len());
    }
    counts
}

#[tokio::test]
async fn cells_in_processes_of_their_own_share_the_work() {
    let start = |number| (format!("cell-{number}"), Process::start(number));
    let mut cells: BTreeMap<String, Process> = (0..CELLS).map(start).collect();
    assert_eq!(auction(&cells, starts("p", 0..12, 100)).await, (CELLS, Vec::new()));
    assert_eq!(counts(&cells).await, [2; CELLS]);

    // One dies; the others take its part.
    let dead = cells.get_mut("cell-0").unwrap();
    dead.child.kill().unwrap();
    dead.child.wait().unwrap();
    assert_eq!(auction(&cells, starts("p", 12..14, 100)).await, (CELLS - 1, Vec::new()));
    cells.remove("cell-0");
    // Zone z0 lost two of its six, and has them again.
    assert_eq!(counts(&cells).await, [2, 3, 2, 3, 2]);

    // What is stopped makes room, and what does not fit is told why.
    let (_, refused) = auction(&cells, starts("large", 0..1, 900)).await;
    let want =
        "insufficient resources: memory: 5 of 5 cells lack memory: needed 900 MB, most free 800 MB";
    assert_eq!(refused, [want]);
    let client = &cells["cell-1"].client;
    for held in client.state().await.unwrap().lrps {
        client.stop_lrp(&held.key.process_guid, &held.instance_guid).await.unwrap();
    }
    assert_eq!(auction(&cells, starts("large", 0..1, 900)).await.1, Vec::<String>::new());
    assert_eq!(counts(&cells).await, [1, 3, 2, 3, 2]);
}
