//! Keeps what apps and the platform say (log lines, metrics, events) and serves it as log-cache does. Knows sources by
//! their ids only.

mod api;
mod codec;
mod query;
mod ring;
mod segments;
mod store;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use base::{Clock, Timestamp};
use bytes::Bytes;
use envelope::{Envelope, Kept, Mark, Sink};

pub use query::Read;
pub use store::Latest;

use segments::Segments;
use store::Store;

#[derive(Clone, Debug)]
pub struct Config {
    /// Where lines are kept over a restart.
    pub dir: PathBuf,
    /// Envelopes in memory per source; the oldest of that source gives way.
    pub max_per_source: usize,
    /// Bytes in memory over all sources; the largest source gives way first.
    pub max_bytes: usize,
    /// Bytes on disk; the oldest segment gives way.
    pub max_disk_bytes: u64,
    /// Envelopes on their way to disk; when it is full they are kept in memory alone, and counted, unless whoever sends them
    /// waits.
    pub queue: usize,
}

impl Config {
    pub fn new(dir: PathBuf) -> Config {
        Config {
            dir,
            max_per_source: 10_000,
            max_bytes: 64 << 20,
            max_disk_bytes: 256 << 20,
            queue: 10_000,
        }
    }
}

/// Who may read what; asked for every request, so implementors remember answers for a while.
#[async_trait]
pub trait Access: Send + Sync {
    /// The sources among `source_ids` that whoever sent this `Authorization` header may read.
    async fn readable(&self, authorization: Option<&str>, source_ids: Vec<String>) -> Vec<String>;
}

/// Clones share everything. When the last one goes, what is queued is written and the writer ends.
#[derive(Clone)]
pub struct Loggregator {
    store: Arc<Store>,
    segments: Arc<Segments>,
    started: Timestamp,
    clock: Clock,
}

impl Loggregator {
    /// Reads back what an earlier life kept. A damaged end of a segment is left out.
    pub fn open(config: Config, clock: Clock) -> anyhow::Result<Loggregator> {
        let store = Arc::new(Store::new(&config));
        let segments = Arc::new(Segments::open(&config, |envelope| store.insert(envelope))?);
        let started = clock.now();
        Ok(Loggregator { store, segments, started, clock })
    }

    /// What is kept of one source; the same that `/api/v1/read` gives.
    pub fn read(&self, source_id: &str, read: &Read) -> Vec<Envelope> {
        self.store.read(source_id, read)
    }

    /// The newest gauges of one instance of a process.
    pub fn latest(&self, source_id: &str, process_id: &str, instance: u32) -> Option<Latest> {
        self.store.latest(source_id, process_id, instance)
    }

    /// Envelopes that did not get to disk, because the queue or the disk was full.
    pub fn dropped(&self) -> u64 {
        self.segments.dropped()
    }

    /// Log-cache's HTTP face: `/api/v1/info`, `/api/v1/read/{source_id}`, `/api/v1/meta`.
    pub fn router(&self, access: Arc<dyn Access>) -> axum::Router {
        api::router(self.clone(), access)
    }
}

impl Sink for Loggregator {
    fn emit(&self, envelope: Envelope) {
        self.segments.write(&envelope);
        self.store.insert(envelope);
    }

    fn keep(&self, envelopes: Vec<Envelope>, mark: Mark) -> Kept {
        let kept = self.segments.keep(&envelopes, &mark);
        envelopes.into_iter().for_each(|envelope| self.store.insert(envelope));
        kept
    }

    fn mark(&self, key: &str) -> Option<Bytes> {
        self.segments.mark(key)
    }
}
