//! Envelopes of a joined cell on their way to the log store: queued, sent in batches, tried again while the store is out
//! of reach. What does not fit the queue is dropped, counted, and told to the readers of the source.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use base::http::Secret;
use base::{Backoff, CancellationToken, Clock};
use envelope::{Envelope, LogType, Message, Sink, Source, wire};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::warn;

const PATH: &str = "/cluster/envelopes";
/// What waits while the store is away; then the newest give way, since their readers are told so right there.
const QUEUE_BYTES: usize = 32 << 20;
/// One request.
const BATCH_BYTES: usize = 512 << 10;
/// A batch ends with the envelope that fills it, and one line may be large.
const BODY_LIMIT: usize = 4 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Sources whose losses are counted one by one; more are counted together in the cell's log.
const SOURCES: usize = 4096;

/// The cell's side.
pub struct Forward {
    queue: Mutex<Queue>,
    more: Notify,
    cell_id: String,
    clock: Clock,
}

#[derive(Default)]
struct Queue {
    envelopes: VecDeque<Envelope>,
    bytes: usize,
    lost: BTreeMap<(Arc<str>, Arc<str>), Lost>,
}

struct Lost {
    source: Source,
    count: u64,
}

impl Forward {
    pub fn new(cell_id: &str, clock: Clock) -> Arc<Forward> {
        let (queue, more) = (Mutex::default(), Notify::new());
        Arc::new(Forward { queue, more, cell_id: cell_id.to_owned(), clock })
    }

    /// Sends until `stop`, and then what is queued, as long as that works at the first try.
    pub async fn run(&self, url: &str, secret: &Secret, stop: CancellationToken) {
        let (http, url) = (base::http::client(Some(secret)), format!("{url}{PATH}"));
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            let Some(batch) = self.next(&stop).await else { return };
            let body = Bytes::from(wire::encode(&batch));
            loop {
                let sent = http.post(&url).body(body.clone()).timeout(TIMEOUT).send().await;
                match sent.and_then(reqwest::Response::error_for_status) {
                    Ok(_) => break backoff.reset(),
                    Err(_) if stop.is_cancelled() => return,
                    Err(error) => warn!(%error, "the log store is out of reach"),
                }
                // A token that is cancelled meanwhile makes the next try the last one.
                stop.run_until_cancelled(tokio::time::sleep(backoff.step())).await;
            }
        }
    }

    /// `None` when stopped and empty.
    async fn next(&self, stop: &CancellationToken) -> Option<Vec<Envelope>> {
        loop {
            let more = self.more.notified();
            let batch = self.queue.lock().take(&self.cell_id, &self.clock);
            if !batch.is_empty() {
                return Some(batch);
            }
            if stop.is_cancelled() {
                return None;
            }
            stop.run_until_cancelled(more).await;
        }
    }
}

impl Sink for Forward {
    fn emit(&self, envelope: Envelope) {
        self.queue.lock().push(envelope);
        self.more.notify_one();
    }
}

impl Queue {
    fn push(&mut self, envelope: Envelope) {
        let size = size(&envelope);
        if self.bytes + size <= QUEUE_BYTES {
            self.bytes += size;
            self.envelopes.push_back(envelope);
            return;
        }
        let key = (envelope.source_id.clone(), envelope.instance_id.clone());
        if let Some(lost) = self.lost.get_mut(&key) {
            lost.count += 1;
        } else if self.lost.len() < SOURCES {
            let source = Source {
                id: envelope.source_id,
                instance: envelope.instance_id,
                tags: envelope.tags,
            };
            self.lost.insert(key, Lost { source, count: 1 });
        } else {
            warn!(source_id = %key.0, "an envelope was dropped: the log store is out of reach");
        }
    }

    fn take(&mut self, cell_id: &str, clock: &Clock) -> Vec<Envelope> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES
            && let Some(envelope) = self.envelopes.pop_front()
        {
            bytes += size(&envelope);
            batch.push(envelope);
        }
        self.bytes -= bytes;
        if self.envelopes.is_empty() {
            // Everything queued before the loss is on its way, so the notice stands where the gap is.
            let lost = std::mem::take(&mut self.lost);
            batch.extend(lost.into_values().map(|lost| {
                let text = format!(
                    "{} messages were dropped on cell {cell_id}: the log store was out of reach",
                    lost.count
                );
                Envelope::log(&lost.source, "LGR", LogType::Err, text, clock.now())
            }));
        }
        batch
    }
}

/// About what it takes in memory and on the wire.
fn size(envelope: &Envelope) -> usize {
    let message = match &envelope.message {
        Message::Log { payload, .. } => payload.len(),
        Message::Event { title, body } => title.len() + body.len(),
        Message::Gauge(metrics) => metrics.len() * 32,
        Message::Counter { .. } | Message::Timer { .. } => 32,
    };
    let tags: usize = envelope.tags.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    128 + message + tags
}

/// The store's side.
pub fn receiver(sink: Arc<dyn Sink>, secret: &Secret) -> Router {
    let router = Router::new()
        .route(PATH, post(receive))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(sink);
    base::http::guarded(router, secret)
}

async fn receive(
    State(sink): State<Arc<dyn Sink>>,
    body: Bytes,
) -> Result<StatusCode, (StatusCode, String)> {
    let batch =
        wire::decode(&body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    batch.into_iter().for_each(|envelope| sink.emit(envelope));
    Ok(StatusCode::ACCEPTED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use envelope::Collect;

    fn line(text: &str) -> Envelope {
        let source = Source { id: "app".into(), instance: "0".into(), tags: Arc::default() };
        Envelope::log(&source, "APP", LogType::Out, text.to_owned(), Clock::system().now())
    }

    fn texts(collect: &Collect) -> Vec<String> {
        let envelopes = collect.0.lock().unwrap();
        let text = |envelope: &Envelope| match &envelope.message {
            Message::Log { payload, .. } => String::from_utf8_lossy(payload).into_owned(),
            other => format!("{other:?}"),
        };
        envelopes.iter().map(text).collect()
    }

    #[tokio::test]
    async fn lines_wait_for_the_store_and_come_in_order() {
        let (collect, secret) = (Collect::default(), Secret::new("s"));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let forward = Forward::new("cell-1", Clock::system());
        for number in 0..10 {
            forward.emit(line(&number.to_string()));
        }
        let stop = CancellationToken::new();
        let (sending, until, url) = (forward.clone(), stop.clone(), format!("http://{address}"));
        let shown = secret.clone();
        let sender = tokio::spawn(async move { sending.run(&url, &shown, until).await });

        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let router = receiver(Arc::new(collect.clone()), &secret);
        let server = tokio::spawn(base::http::serve(listener, router, CancellationToken::new()));
        let all = async {
            while texts(&collect).len() < 10 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), all).await.unwrap();
        forward.emit(line("last"));
        stop.cancel();
        sender.await.unwrap();
        let want: Vec<_> =
            (0..10).map(|number| number.to_string()).chain(["last".into()]).collect();
        assert_eq!(texts(&collect), want);
        server.abort();
    }

    #[test]
    fn what_does_not_fit_is_counted_where_it_is_missing() {
        let forward = Forward::new("cell-1", Clock::system());
        let large = "x".repeat(1 << 20);
        for _ in 0..40 {
            forward.emit(line(&large));
        }
        let mut queue = forward.queue.lock();
        let (mut kept, mut last) = (0, None);
        loop {
            let mut batch = queue.take("cell-1", &forward.clock);
            let Some(end) = batch.pop() else { break };
            kept += batch.len();
            last = Some(end);
        }
        let Some(Message::Log { payload, .. }) = last.map(|envelope| envelope.message) else {
            panic!("the last one is the notice");
        };
        let text = String::from_utf8_lossy(&payload).into_owned();
        assert!(text.contains("messages were dropped on cell cell-1"), "{text}");
        let dropped: usize = text.split(' ').next().unwrap().parse().unwrap();
        assert!(kept < 40 && dropped > 0 && queue.bytes == 0, "{kept} {dropped}");
    }
}
