//! Writes into the log of one container.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::Clock;
use bytes::Bytes;
use envelope::{Envelope, LogType, Mark, Message, Sink, Source, Tags};
use garden::Stream;
use parking_lot::Mutex;
use tracing::warn;

use crate::container::{LogConfig, LogTags};
use crate::rate::{Excess, Rate, Verdict};

/// The source type of lines for which nobody chose one.
const DEFAULT_SOURCE: &str = "LOG";
/// How long lines may take to be on disk before output is read on without them.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a container exceeded its log rate; counted for the whole cell.
static EXCEEDED: AtomicU64 = AtomicU64::new(0);

/// Clones write into the same log; each has the source type its lines carry.
#[derive(Clone)]
pub(crate) struct Logger {
    shared: Arc<Shared>,
    source_type: Arc<str>,
}

struct Shared {
    sink: Arc<dyn Sink>,
    clock: Clock,
    source_id: Arc<str>,
    instance: Arc<str>,
    tags: Mutex<TagSets>,
    rate: Mutex<Rate>,
    /// Bytes of output that passed, since somebody asked.
    passed: AtomicU64,
}

/// Tag sets repeat from line to line, so there is one per source type.
struct TagSets {
    base: LogTags,
    by_source: HashMap<Arc<str>, Arc<Tags>>,
}

impl Logger {
    /// `lines_per_second` is the cell's own limit; 0 = none.
    pub fn new(
        sink: Arc<dyn Sink>,
        clock: Clock,
        config: &LogConfig,
        lines_per_second: u64,
    ) -> Logger {
        let source = if config.source.is_empty() { DEFAULT_SOURCE } else { &config.source };
        let rate = Mutex::new(Rate::new(config.bytes_per_second, lines_per_second, clock.now()));
        let shared = Shared {
            sink,
            clock,
            source_id: config.guid.as_str().into(),
            instance: config.index.to_string().into(),
            tags: Mutex::new(TagSets { base: config.tags.clone(), by_source: HashMap::new() }),
            rate,
            passed: AtomicU64::new(0),
        };
        Logger { shared: Arc::new(shared), source_type: source.into() }
    }

    /// The same log with another source type; an empty one changes nothing.
    pub fn from(&self, source_type: &str) -> Logger {
        match source_type {
            "" => self.clone(),
            other => Logger { shared: self.shared.clone(), source_type: other.into() },
        }
    }

    pub fn source_type(&self) -> &str {
        &self.source_type
    }

    /// A line of the platform's own; no limit holds it back.
    pub fn say(&self, stream: Stream, line: impl Into<String>) {
        self.emit(stream, Bytes::from(line.into()), &self.tags(), 0);
    }

    /// As [`Logger::say`], unless an earlier life of this program said it under the same key.
    pub async fn say_once(&self, stream: Stream, line: String, key: String) {
        if self.mark(&key).is_none() {
            let line = self.envelope(stream, Bytes::from(line), &self.tags(), 0);
            self.keep(line.into_iter().collect(), Mark { key, at: Bytes::new() }).await;
        }
    }

    /// The last mark of an earlier life; asked once.
    pub fn mark(&self, key: &str) -> Option<Bytes> {
        self.shared.sink.mark(key)
    }

    /// Lines of the process, and how far its output is read with them. Completes when a crash loses neither.
    pub async fn output(&self, lines: impl IntoIterator<Item = (Stream, Bytes)>, mark: Mark) {
        let tags = self.tags();
        let mut envelopes = Vec::new();
        for (nth, (stream, line)) in (0..).zip(lines) {
            let verdict = self.shared.rate.lock().judge(line.len(), self.shared.clock.now());
            match verdict {
                Verdict::Pass => {
                    self.shared.passed.fetch_add(line.len() as u64, Ordering::Relaxed);
                    envelopes.extend(self.envelope(stream, line, &tags, nth));
                }
                Verdict::Drop => {}
                Verdict::DropAndTell(excess) => {
                    envelopes.extend(self.tell_excess(&tags, nth, excess))
                }
            }
        }
        if !self.shared.source_id.is_empty() {
            self.keep(envelopes, mark).await;
        }
    }

    /// A disk that takes nothing must not hold up the container for ever.
    async fn keep(&self, envelopes: Vec<Envelope>, mark: Mark) {
        if tokio::time::timeout(PATIENCE, self.shared.sink.keep(envelopes, mark)).await.is_err() {
            warn!("log lines are not on disk yet");
        }
    }

    fn emit(&self, stream: Stream, payload: Bytes, tags: &Arc<Tags>, nth: u64) {
        if let Some(envelope) = self.envelope(stream, payload, tags, nth) {
            self.shared.sink.emit(envelope);
        }
    }

    /// Lines of one batch keep their order: each is stamped a little later than the one before. `None` when nobody's.
    fn envelope(
        &self,
        stream: Stream,
        payload: Bytes,
        tags: &Arc<Tags>,
        nth: u64,
    ) -> Option<Envelope> {
        if self.shared.source_id.is_empty() {
            return None;
        }
        let stream = match stream {
            Stream::Stdout => LogType::Out,
            Stream::Stderr => LogType::Err,
        };
        Some(Envelope {
            timestamp: self.shared.clock.now() + Duration::from_nanos(nth),
            source_id: self.shared.source_id.clone(),
            instance_id: self.shared.instance.clone(),
            tags: tags.clone(),
            message: Message::Log { payload, stream },
        })
    }

    fn tell_excess(&self, tags: &Arc<Tags>, nth: u64, excess: Excess) -> Option<Envelope> {
        let line = match excess {
            Excess::Bytes(limit) => {
                format!("app instance exceeded log rate limit ({limit} bytes/sec)")
            }
            Excess::Lines(limit) => format!(
                "app instance exceeded log rate limit ({limit} log-lines/sec) set by platform operator"
            ),
        };
        let line = self.envelope(Stream::Stderr, Bytes::from(line), tags, nth);
        let total = EXCEEDED.fetch_add(1, Ordering::Relaxed) + 1;
        self.shared.sink.emit(Envelope {
            timestamp: self.shared.clock.now(),
            source_id: "executor".into(),
            instance_id: "".into(),
            tags: Arc::default(),
            message: Message::Counter {
                name: "AppInstanceExceededLogRateLimitCount".to_owned(),
                delta: 1,
                total,
            },
        });
        line
    }

    fn tags(&self) -> Arc<Tags> {
        let TagSets { base, by_source } = &mut *self.shared.tags.lock();
        if let Some(tags) = by_source.get(&self.source_type) {
            return tags.clone();
        }
        let mut tags = base.tags.clone();
        tags.insert("source_type".to_owned(), self.source_type.to_string());
        by_source.entry(self.source_type.clone()).or_insert(Arc::new(tags)).clone()
    }

    /// Whether lines carry these tags from now on: not when they are older than what there is.
    pub fn retag(&self, tags: &LogTags) -> bool {
        let mut held = self.shared.tags.lock();
        let newer = held.base.replace(tags.clone());
        if newer {
            held.by_source.clear();
        }
        newer
    }

    /// Whom metrics of the container are about, when `guid` is their source.
    pub fn source(&self, guid: &str) -> Source {
        let tags = Arc::new(self.shared.tags.lock().base.tags.clone());
        Source { id: guid.into(), instance: self.shared.instance.clone(), tags }
    }

    pub fn sink(&self) -> &Arc<dyn Sink> {
        &self.shared.sink
    }

    /// Bytes of output since the last call, and the limit.
    pub fn drain_passed(&self) -> (u64, i64) {
        (self.shared.passed.swap(0, Ordering::Relaxed), self.shared.rate.lock().limit())
    }
}
