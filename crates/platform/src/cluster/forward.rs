//! Envelopes of a joined cell on their way to the log store: kept on the cell's disk with how far output was read, sent in
//! batches, and tried again while the store is out of reach. What is dropped is counted and told to the readers.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base::http::Secret;
use base::{Backoff, CancellationToken, Clock};
use bytes::Bytes;
use envelope::{Envelope, Kept, Mark, Message, Sink, wire};
use parking_lot::Mutex;
use reqwest::StatusCode;
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{error, warn};

use super::losses::{Losses, Why};
use super::receive::{AT, FROM, PATH, SEGMENT, TO};
use super::spool::{Place, Spool};

/// What waits on disk while the store is away; then the newest give way, since their readers are told so right there.
const SPOOL_BYTES: u64 = 256 << 20;
/// What waits in memory while the disk takes nothing; then the newest give way.
const AFLOAT_BYTES: usize = 8 << 20;
/// One part of a batch; a larger one is sent alone.
const PART_BYTES: usize = 512 << 10;
/// Left free for telling of losses.
const NOTICES: u64 = 64 << 10;
/// What waits for its turn to be written: lines of containers wait, the rest gives way.
const QUEUE: usize = 4096;
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is forwarded outlives this program: whoever opens the same folder goes on with it.
pub struct Forward {
    queue: mpsc::Sender<Command>,
    /// Of an earlier life, until they are asked for.
    marks: Mutex<HashMap<String, Bytes>>,
    losses: Arc<Mutex<Losses>>,
    more: Arc<Notify>,
}

enum Command {
    Put {
        envelopes: Vec<Envelope>,
        mark: Option<Mark>,
        done: Option<oneshot::Sender<()>>,
    },
    Next(oneshot::Sender<Option<Parcel>>),
    /// The store has what it was sent, the segment up to here.
    Taken(Option<(String, u64)>),
}

/// What is sent at once; from memory when it has no place.
struct Parcel {
    place: Option<Place>,
    body: Bytes,
}

/// What came of a try.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Up to where the store has the segment, if it says so.
    Taken(Option<u64>),
    Again(String),
    /// The same will never be taken.
    Refused(StatusCode),
}

impl Forward {
    pub fn open(dir: &Path, cell_id: &str, clock: Clock) -> anyhow::Result<Arc<Forward>> {
        Forward::bounded(dir, cell_id, clock, SPOOL_BYTES)
    }

    fn bounded(dir: &Path, cell_id: &str, clock: Clock, most: u64) -> anyhow::Result<Arc<Forward>> {
        let (spool, marks) = Spool::open(dir, most).context("opening the spool of log lines")?;
        let (queue, commands) = mpsc::channel(QUEUE);
        let (losses, more) = (Arc::<Mutex<Losses>>::default(), Arc::new(Notify::new()));
        let mut keeper = Keeper {
            spool,
            afloat: VecDeque::new(),
            afloat_bytes: 0,
            losses: losses.clone(),
            more: more.clone(),
            cell_id: cell_id.to_owned(),
            clock,
            failing: false,
        };
        // It ends with the last sender.
        std::thread::Builder::new()
            .name("log-spool".to_owned())
            .spawn(move || keeper.run(commands))?;
        Ok(Arc::new(Forward { queue, marks: Mutex::new(marks), losses, more }))
    }

    /// Sends until `stop`, and then what is queued, as long as that works at the first try; the rest stays on disk.
    pub async fn run(&self, url: &str, secret: &Secret, stop: CancellationToken) {
        let (http, url) = (base::http::client(Some(secret)), format!("{url}{PATH}"));
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        while let Some(parcel) = self.next(&stop).await {
            match send(&http, &url, &parcel).await {
                Answer::Taken(at) => {
                    backoff.reset();
                    self.taken(&parcel, at).await;
                    continue;
                }
                Answer::Refused(status) => {
                    warn!(%status, "the log store refused envelopes: they are dropped");
                    let lost = wire::decode(&parcel.body).unwrap_or_default();
                    self.losses.lock().count(lost, Why::Refused(status.as_u16()));
                    self.taken(&parcel, None).await;
                }
                Answer::Again(_) if stop.is_cancelled() => return,
                Answer::Again(error) => warn!(%error, "the log store is out of reach"),
            }
            // A token that is cancelled meanwhile makes the next try the last one.
            stop.run_until_cancelled(tokio::time::sleep(backoff.step())).await;
        }
    }

    /// `None` when stopped and empty.
    async fn next(&self, stop: &CancellationToken) -> Option<Parcel> {
        loop {
            let more = self.more.notified();
            // Asked before: what came until then is found.
            let is_stopped = stop.is_cancelled();
            let (reply, parcel) = oneshot::channel();
            self.queue.send(Command::Next(reply)).await.ok()?;
            if let Some(parcel) = parcel.await.ok()? {
                return Some(parcel);
            }
            if is_stopped {
                return None;
            }
            stop.run_until_cancelled(more).await;
        }
    }

    async fn taken(&self, parcel: &Parcel, at: Option<u64>) {
        let taken = parcel.place.as_ref();
        let taken = taken.map(|place| (place.segment.clone(), at.unwrap_or(place.to)));
        // The keeper ends only when this does.
        let _ = self.queue.send(Command::Taken(taken)).await;
    }
}

async fn send(http: &reqwest::Client, url: &str, parcel: &Parcel) -> Answer {
    let mut post = http.post(url).body(parcel.body.clone()).timeout(TIMEOUT);
    if let Some(Place { segment, from, to }) = &parcel.place {
        post = post.header(SEGMENT, segment).header(FROM, *from).header(TO, *to);
    }
    match post.send().await {
        Ok(response) => {
            let at = response.headers().get(AT);
            answer(response.status(), at.and_then(|at| at.to_str().ok()?.parse().ok()))
        }
        Err(error) => Answer::Again(error.to_string()),
    }
}

/// Pure: what a status says about the batch. What is about the caller, the way or the moment may be over soon.
fn answer(status: StatusCode, at: Option<u64>) -> Answer {
    use StatusCode as Is;
    match status {
        status if status.is_success() => Answer::Taken(at),
        Is::UNAUTHORIZED
        | Is::FORBIDDEN
        | Is::NOT_FOUND
        | Is::REQUEST_TIMEOUT
        | Is::TOO_EARLY
        | Is::TOO_MANY_REQUESTS => Answer::Again(format!("it answered {status}")),
        status if status.is_client_error() => Answer::Refused(status),
        status => Answer::Again(format!("it answered {status}")),
    }
}

impl Sink for Forward {
    fn emit(&self, envelope: Envelope) {
        let put = Command::Put { envelopes: vec![envelope], mark: None, done: None };
        if let Err(error) = self.queue.try_send(put)
            && let Command::Put { envelopes, .. } = error.into_inner()
        {
            self.losses.lock().count(envelopes, Why::Disk);
        }
    }

    fn keep(&self, envelopes: Vec<Envelope>, mark: Mark) -> Kept {
        let (queue, (done, kept)) = (self.queue.clone(), oneshot::channel());
        Box::pin(async move {
            let put = Command::Put { envelopes, mark: Some(mark), done: Some(done) };
            if queue.send(put).await.is_ok() {
                // It is told in any case, or this program ends.
                let _ = kept.await;
            }
        })
    }

    fn mark(&self, key: &str) -> Option<Bytes> {
        self.marks.lock().remove(key)
    }
}

/// Alone with the disk on a thread of its own, so it may block.
struct Keeper {
    spool: Spool,
    /// What the disk did not take.
    afloat: VecDeque<Bytes>,
    afloat_bytes: usize,
    losses: Arc<Mutex<Losses>>,
    more: Arc<Notify>,
    cell_id: String,
    clock: Clock,
    failing: bool,
}

impl Keeper {
    fn run(&mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.blocking_recv() {
            match command {
                Command::Put { envelopes, mark, done } => {
                    self.put(envelopes, mark.as_ref());
                    self.more.notify_one();
                    if let Some(done) = done {
                        // Whoever does not wait any more does not mind.
                        let _ = done.send(());
                    }
                }
                Command::Next(reply) => {
                    self.tell_losses();
                    let _ = reply.send(self.next());
                }
                Command::Taken(Some((segment, at))) => self.spool.taken(&segment, at),
                Command::Taken(None) => {
                    let gone = self.afloat.pop_front();
                    self.afloat_bytes -= gone.map_or(0, |part| part.len());
                }
            }
        }
    }

    fn put(&mut self, envelopes: Vec<Envelope>, mark: Option<&Mark>) {
        let parts = parts(&envelopes);
        match self.spool.append(&parts, mark) {
            Ok(true) => self.failing = false,
            Ok(false) => self.losses.lock().count(envelopes, Why::OutOfReach),
            Err(error) => {
                // Once: the disk does not get better by many words.
                if !std::mem::replace(&mut self.failing, true) {
                    let error = format!("{error:#}");
                    warn!(%error, "log lines wait in memory until the disk takes them again");
                }
                let bytes: usize = parts.iter().map(Vec::len).sum();
                if self.afloat_bytes + bytes > AFLOAT_BYTES {
                    return self.losses.lock().count(envelopes, Why::Disk);
                }
                self.afloat_bytes += bytes;
                self.afloat.extend(parts.into_iter().map(Bytes::from));
            }
        }
    }

    /// As soon as there is room, so that it stands where the gap is.
    fn tell_losses(&mut self) {
        if self.spool.has_room(NOTICES) {
            let mut losses = self.losses.lock();
            if !losses.is_empty() {
                let notices = losses.tell(&self.cell_id, &self.clock);
                drop(losses);
                self.put(notices, None);
            }
        }
    }

    /// The disk's come first: they are older.
    fn next(&mut self) -> Option<Parcel> {
        match self.spool.next() {
            Ok(Some(batch)) => Some(Parcel { place: Some(batch.place), body: batch.body }),
            Ok(None) => self.afloat.front().map(|part| Parcel { place: None, body: part.clone() }),
            Err(error) => {
                error!(error = %format!("{error:#}"), "log lines on disk cannot be read: they are left out");
                self.spool.skip();
                None
            }
        }
    }
}

/// Encoded pieces of which each fits a request.
fn parts(envelopes: &[Envelope]) -> Vec<Vec<u8>> {
    let (mut parts, mut begin, mut bytes) = (Vec::new(), 0, 0);
    for (nth, envelope) in envelopes.iter().enumerate() {
        bytes += size(envelope);
        if bytes >= PART_BYTES {
            parts.push(wire::encode(&envelopes[begin..=nth]));
            (begin, bytes) = (nth + 1, 0);
        }
    }
    if begin < envelopes.len() {
        parts.push(wire::encode(&envelopes[begin..]));
    }
    parts
}

/// About what it takes on the wire.
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

#[cfg(test)]
mod tests;
