use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::routing::post;
use envelope::{Collect, LogType, Source};
use loggregator::{Loggregator, Read};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::cluster::receiver;

const PATIENCE: Duration = Duration::from_secs(60);

fn line(text: &str) -> Envelope {
    let source = Source { id: "app".into(), instance: "0".into(), tags: Arc::default() };
    Envelope::log(&source, "APP", LogType::Out, text.to_owned(), Clock::system().now())
}

fn texts<'a>(envelopes: impl IntoIterator<Item = &'a Envelope>) -> Vec<String> {
    let text = |envelope: &Envelope| match &envelope.message {
        Message::Log { payload, .. } => String::from_utf8_lossy(payload).into_owned(),
        other => format!("{other:?}"),
    };
    envelopes.into_iter().map(text).collect()
}

fn collected(collect: &Collect) -> Vec<String> {
    texts(collect.0.lock().unwrap().iter())
}

async fn until(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

async fn serve(router: Router) -> (String, JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (url, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

/// A cell's side at work, until it is told to stop.
struct Cell {
    forward: Arc<Forward>,
    stop: CancellationToken,
    sender: JoinHandle<()>,
}

impl Cell {
    fn new(dir: &TempDir, url: &str, secret: &Secret) -> Cell {
        let forward = Forward::open(dir.path(), "cell-1", Clock::system()).unwrap();
        let (stop, sending) = (CancellationToken::new(), forward.clone());
        let (url, secret, until) = (url.to_owned(), secret.clone(), stop.clone());
        let sender = tokio::spawn(async move { sending.run(&url, &secret, until).await });
        Cell { forward, stop, sender }
    }

    /// All that is queued is sent first.
    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.sender).await.unwrap().unwrap();
    }
}

fn mark(at: &str) -> Mark {
    Mark { key: "process".to_owned(), at: at.to_owned().into() }
}

#[tokio::test]
async fn lines_wait_for_the_store_and_come_in_order() {
    let (dir, collect, secret) = (TempDir::new().unwrap(), Collect::default(), Secret::new("s"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let cell = Cell::new(&dir, &format!("http://{address}"), &secret);
    for number in 0..10 {
        cell.forward.emit(line(&number.to_string()));
    }
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let router = receiver(Arc::new(collect.clone()), &secret);
    let server = tokio::spawn(base::http::serve(listener, router, CancellationToken::new()));
    until(|| collected(&collect).len() == 10).await;
    cell.forward.emit(line("last"));
    cell.end().await;
    let want: Vec<_> = (0..10).map(|number| number.to_string()).chain(["last".into()]).collect();
    assert_eq!(collected(&collect), want);
    server.abort();
}

#[tokio::test]
async fn each_line_comes_once_though_cell_and_store_are_killed_at_the_worst_moments() {
    let (dir, logs, secret) = (TempDir::new().unwrap(), TempDir::new().unwrap(), Secret::new("s"));
    let store = || {
        let config = loggregator::Config::new(logs.path().to_owned());
        Loggregator::open(config, Clock::system()).unwrap()
    };
    let all = |store: &Loggregator| texts(&store.read("app", &Read::default()));
    // Kept, and the cell is killed before anything is sent.
    let forward = Forward::open(dir.path(), "cell-1", Clock::system()).unwrap();
    forward.keep(vec![line("1"), line("2")], mark("2")).await;
    drop(forward);
    let loggregator = store();
    let (url, server) = serve(receiver(Arc::new(loggregator.clone()), &secret)).await;
    let cell = Cell::new(&dir, &url, &secret);
    assert_eq!(cell.forward.mark("process").unwrap(), "2");
    cell.forward.keep(vec![line("3")], mark("3")).await;
    cell.end().await;
    assert_eq!(all(&loggregator), ["1", "2", "3"]);
    // Killed before it noted that the store has them: it sends all of it again.
    std::fs::remove_file(dir.path().join("cursor")).unwrap();
    let cell = Cell::new(&dir, &url, &secret);
    cell.forward.keep(vec![line("4")], mark("4")).await;
    cell.end().await;
    assert_eq!(all(&loggregator), ["1", "2", "3", "4"]);
    // The same, and the store is killed as well.
    server.abort();
    let _ = server.await;
    drop(loggregator);
    std::fs::remove_file(dir.path().join("cursor")).unwrap();
    let loggregator = store();
    let (url, _server) = serve(receiver(Arc::new(loggregator.clone()), &secret)).await;
    let cell = Cell::new(&dir, &url, &secret);
    cell.forward.keep(vec![line("5")], mark("5")).await;
    cell.end().await;
    assert_eq!(all(&loggregator), ["1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_refused_batch_is_dropped_and_its_readers_are_told() {
    let (dir, collect, secret) = (TempDir::new().unwrap(), Collect::default(), Secret::new("s"));
    let (sink, refusals, busy) =
        (collect.clone(), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(2)));
    let refused = refusals.clone();
    let take = move |body: Bytes| {
        let batch = wire::decode(&body).unwrap();
        // Twice it is only busy.
        let status = if busy
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_ok()
        {
            StatusCode::TOO_MANY_REQUESTS
        } else if texts(&batch).iter().any(|text| text == "bad") {
            refused.fetch_add(1, Ordering::SeqCst);
            StatusCode::PAYLOAD_TOO_LARGE
        } else {
            batch.into_iter().for_each(|envelope| sink.emit(envelope));
            StatusCode::ACCEPTED
        };
        async move { status }
    };
    let (url, _server) = serve(Router::new().route(PATH, post(take))).await;
    let cell = Cell::new(&dir, &url, &secret);
    cell.forward.keep(vec![line("bad"), line("with it")], mark("2")).await;
    until(|| refusals.load(Ordering::SeqCst) == 1).await;
    cell.forward.emit(line("good"));
    until(|| collected(&collect).len() == 2).await;
    cell.end().await;
    let mut lines = collected(&collect);
    lines.sort();
    let told = "2 messages were dropped on cell cell-1: the log store refused them (413)";
    assert_eq!(lines, [told, "good"]);
    assert_eq!(refusals.load(Ordering::SeqCst), 1, "it is not sent again");
}

#[tokio::test]
async fn what_does_not_fit_is_counted_where_it_is_missing() {
    let (dir, collect, secret) = (TempDir::new().unwrap(), Collect::default(), Secret::new("s"));
    let forward = Forward::bounded(dir.path(), "cell-1", Clock::system(), 8 << 20).unwrap();
    let large = "x".repeat(1 << 20);
    for number in 0..12 {
        forward.keep(vec![line(&large)], mark(&number.to_string())).await;
    }
    let (url, _server) = serve(receiver(Arc::new(collect.clone()), &secret)).await;
    let (stop, sending) = (CancellationToken::new(), forward.clone());
    stop.cancel();
    // What fits is sent, and then it stops.
    sending.run(&url, &secret, stop).await;
    let lines = collected(&collect);
    let (told, kept): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line.contains("messages were dropped on cell cell-1"));
    let dropped: usize =
        told.iter().map(|line| line.split(' ').next().unwrap().parse::<usize>().unwrap()).sum();
    assert!(kept.len() < 12 && dropped > 0, "{} {dropped}", kept.len());
    assert_eq!(kept.len() + dropped, 12);
    assert!(told[0].contains("out of reach"), "{told:?}");
}

#[test]
fn what_is_about_the_moment_is_tried_again() {
    let again =
        |code: u16| matches!(answer(StatusCode::from_u16(code).unwrap(), None), Answer::Again(_));
    for code in [401, 403, 404, 408, 425, 429, 500, 502, 503, 504] {
        assert!(again(code), "{code}");
    }
    for code in [400, 411, 413, 415, 422] {
        let status = StatusCode::from_u16(code).unwrap();
        assert_eq!(answer(status, None), Answer::Refused(status));
    }
    assert_eq!(answer(StatusCode::ACCEPTED, Some(7)), Answer::Taken(Some(7)));
}
