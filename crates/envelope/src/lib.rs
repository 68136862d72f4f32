//! Loggregator's envelope (v2): one log line, counter, gauge, timer or event, its JSON form, and where it is sent.

mod json;
pub mod wire;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use base::Timestamp;
use bytes::Bytes;

pub use json::Spelling;

pub type Tags = BTreeMap<String, String>;

/// Tag sets repeat from line to line, so they are shared.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    pub timestamp: Timestamp,
    /// Whom it is about: an app guid, a service instance guid, or a component's name.
    pub source_id: Arc<str>,
    /// The instance index for apps.
    pub instance_id: Arc<str>,
    pub tags: Arc<Tags>,
    pub message: Message,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    Log { payload: Bytes, stream: LogType },
    Counter { name: String, delta: u64, total: u64 },
    Gauge(BTreeMap<String, GaugeValue>),
    Timer { name: String, start: Timestamp, stop: Timestamp },
    Event { title: String, body: String },
}

#[derive(Clone, Debug, PartialEq)]
pub struct GaugeValue {
    pub unit: String,
    pub value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogType {
    Out,
    Err,
}

/// The kinds a reader can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Log,
    Counter,
    Gauge,
    Timer,
    Event,
}

impl Message {
    pub fn kind(&self) -> Kind {
        match self {
            Message::Log { .. } => Kind::Log,
            Message::Counter { .. } => Kind::Counter,
            Message::Gauge(_) => Kind::Gauge,
            Message::Timer { .. } => Kind::Timer,
            Message::Event { .. } => Kind::Event,
        }
    }
}

impl Envelope {
    /// One log line of `source_type` (`API`, `STG`, `CELL`, `RTR`, `APP/PROC/WEB`) about `source_id`.
    pub fn log(
        source: &Source,
        source_type: &str,
        stream: LogType,
        line: impl Into<Bytes>,
        at: Timestamp,
    ) -> Envelope {
        let mut tags = (*source.tags).clone();
        tags.insert("source_type".to_owned(), source_type.to_owned());
        Envelope {
            timestamp: at,
            source_id: source.id.clone(),
            instance_id: source.instance.clone(),
            tags: Arc::new(tags),
            message: Message::Log { payload: line.into(), stream },
        }
    }
}

/// Whom envelopes are about, made once and used for many.
#[derive(Clone, Debug)]
pub struct Source {
    pub id: Arc<str>,
    pub instance: Arc<str>,
    pub tags: Arc<Tags>,
}

/// How far somebody has read what it makes log lines of, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Whose; no two readers have the same.
    pub key: String,
    pub at: Bytes,
}

/// Where components put envelopes.
pub trait Sink: Send + Sync {
    /// Never blocks and never fails: what cannot be kept is dropped and counted, and readers are told how much.
    fn emit(&self, envelope: Envelope);

    /// Takes envelopes together with how far their source was read: a crash of this program loses both or neither. When
    /// the future completes it loses them no more; whoever waits for that goes at the pace of the disk.
    fn keep(&self, envelopes: Vec<Envelope>, mark: Mark) -> Kept {
        let _ = mark;
        envelopes.into_iter().for_each(|envelope| self.emit(envelope));
        Box::pin(std::future::ready(()))
    }

    /// The last mark of an earlier life of this program, answered once; `None` when there is none or nobody keeps them.
    fn mark(&self, key: &str) -> Option<Bytes> {
        let _ = key;
        None
    }
}

pub type Kept = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl Sink for Discard {
    fn emit(&self, _: Envelope) {}
}

/// Keeps everything in memory, for tests.
#[derive(Clone, Debug, Default)]
pub struct Collect(pub Arc<std::sync::Mutex<Vec<Envelope>>>);

impl Sink for Collect {
    fn emit(&self, envelope: Envelope) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(envelope);
    }
}
