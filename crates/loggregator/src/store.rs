//! Everything in memory: sources by id, each behind its own lock, so that noisy ones do not slow the others.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::Timestamp;
use envelope::{Envelope, Message};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::Config;
use crate::query::Read;
use crate::ring::Ring;

const SHARDS: usize = 16;
/// A source keeps so many newest envelopes however noisy the others are.
const FLOOR: usize = 1_000;
/// Instances whose gauges are remembered per source; those not heard of for longest give way.
const INSTANCES_MAX: usize = 2_000;

/// The newest gauges of one instance, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latest {
    pub at: Timestamp,
    pub gauges: BTreeMap<String, f64>,
}

#[derive(Debug, Default)]
pub(crate) struct SourceLog {
    ring: Mutex<Ring>,
    /// By process and instance.
    latest: Mutex<HashMap<(String, Arc<str>), Latest>>,
    arrived: Notify,
}

type Shard = RwLock<HashMap<Arc<str>, Arc<SourceLog>>>;

#[derive(Debug)]
pub(crate) struct Store {
    hasher: RandomState,
    shards: Vec<Shard>,
    bytes: AtomicUsize,
    max_per_source: usize,
    max_bytes: usize,
}

/// What `/api/v1/meta` tells of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) source_id: Arc<str>,
    pub(crate) count: usize,
    pub(crate) expired: u64,
    pub(crate) oldest: Timestamp,
    pub(crate) newest: Timestamp,
}

impl Store {
    pub(crate) fn new(config: &Config) -> Store {
        Store {
            hasher: RandomState::new(),
            shards: std::iter::repeat_with(RwLock::default).take(SHARDS).collect(),
            bytes: AtomicUsize::new(0),
            max_per_source: config.max_per_source,
            max_bytes: config.max_bytes,
        }
    }

    pub(crate) fn insert(&self, envelope: Envelope) {
        let source = self.source(&envelope.source_id);
        if let Message::Gauge(metrics) = &envelope.message {
            remember(
                &mut source.latest.lock(),
                &envelope,
                metrics.iter().map(|(name, gauge)| (name.clone(), gauge.value)),
            );
        }
        {
            let mut ring = source.ring.lock();
            let before = ring.bytes;
            ring.insert(envelope);
            while ring.len() > self.max_per_source {
                ring.pop();
            }
            self.account(before, ring.bytes);
        }
        source.arrived.notify_waiters();
        while self.bytes.load(Ordering::Relaxed) > self.max_bytes && self.shrink() {}
    }

    pub(crate) fn read(&self, source_id: &str, read: &Read) -> Vec<Envelope> {
        self.find(source_id).map_or_else(Vec::new, |source| source.ring.lock().read(read))
    }

    /// As `read`, but when there is nothing yet it waits for something until `patience` is over.
    pub(crate) async fn read_or_wait(
        &self,
        source_id: &str,
        read: &Read,
        patience: std::time::Duration,
    ) -> Vec<Envelope> {
        let Some(source) = self.find(source_id) else { return Vec::new() };
        let wait = async {
            loop {
                let arrived = source.arrived.notified();
                tokio::pin!(arrived);
                // From here on no arrival is missed.
                arrived.as_mut().enable();
                let found = source.ring.lock().read(read);
                if !found.is_empty() {
                    return found;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(patience, wait).await.unwrap_or_default()
    }

    pub(crate) fn latest(
        &self,
        source_id: &str,
        process_id: &str,
        instance: u32,
    ) -> Option<Latest> {
        let key = (process_id.to_owned(), Arc::from(instance.to_string()));
        self.find(source_id)?.latest.lock().get(&key).cloned()
    }

    pub(crate) fn meta(&self) -> Vec<Meta> {
        let meta = |(source_id, source): (Arc<str>, Arc<SourceLog>)| {
            let ring = source.ring.lock();
            let (oldest, newest) = ring.span()?;
            Some(Meta { source_id, count: ring.len(), expired: ring.expired, oldest, newest })
        };
        self.all().into_iter().filter_map(meta).collect()
    }

    fn shard(&self, source_id: &str) -> &Shard {
        let hash = usize::try_from(self.hasher.hash_one(source_id) % SHARDS as u64).unwrap_or(0);
        &self.shards[hash]
    }

    fn find(&self, source_id: &str) -> Option<Arc<SourceLog>> {
        self.shard(source_id).read().get(source_id).cloned()
    }

    fn source(&self, source_id: &Arc<str>) -> Arc<SourceLog> {
        match self.find(source_id) {
            Some(source) => source,
            None => self.shard(source_id).write().entry(source_id.clone()).or_default().clone(),
        }
    }

    fn all(&self) -> Vec<(Arc<str>, Arc<SourceLog>)> {
        let shards = self.shards.iter();
        shards
            .flat_map(|shard| {
                shard
                    .read()
                    .iter()
                    .map(|(id, source)| (id.clone(), source.clone()))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn account(&self, before: usize, after: usize) {
        if after >= before {
            self.bytes.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// The largest source gives a tenth of what it holds, so that this happens rarely. When all are at their floor, the
    /// largest gives all the same: the limit holds. `false` when nobody has anything to give.
    fn shrink(&self) -> bool {
        let size = |source: &SourceLog| {
            let ring = source.ring.lock();
            (ring.len() > FLOOR, ring.bytes)
        };
        let Some((_, largest)) = self.all().into_iter().max_by_key(|(_, source)| size(source))
        else {
            return false;
        };
        let mut ring = largest.ring.lock();
        let before = ring.bytes;
        for _ in 0..(ring.len() / 10).max(1) {
            ring.pop();
        }
        self.account(before, ring.bytes);
        before > ring.bytes
    }
}

fn remember(
    latest: &mut HashMap<(String, Arc<str>), Latest>,
    envelope: &Envelope,
    gauges: impl Iterator<Item = (String, f64)>,
) {
    let process = envelope.tags.get("process_id").cloned().unwrap_or_default();
    let entry = latest.entry((process, envelope.instance_id.clone())).or_default();
    entry.at = entry.at.max(envelope.timestamp);
    entry.gauges.extend(gauges);
    if latest.len() > INSTANCES_MAX
        && let Some(oldest) =
            latest.iter().min_by_key(|(_, known)| known.at).map(|(key, _)| key.clone())
    {
        latest.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use envelope::GaugeValue;
    use proptest::prelude::*;

    use super::*;
    use crate::ring::tests::{line, text};

    fn store(max_per_source: usize, max_bytes: usize) -> Store {
        Store::new(&Config { max_per_source, max_bytes, ..Config::new("unused".into()) })
    }

    proptest! {
        /// Nothing goes unseen: what came is there or counted as expired, and the limits hold.
        #[test]
        fn kept_and_expired_add_up(lines in prop::collection::vec((0..3_usize, 0..200_usize), 1..300)) {
            let store = store(20, 8_000);
            let mut sent = [0_u64; 3];
            for (n, (source, size)) in lines.iter().enumerate() {
                sent[*source] += 1;
                store.insert(line(&source.to_string(), &"x".repeat(*size), i64::try_from(n).unwrap()));
            }
            prop_assert!(store.bytes.load(Ordering::Relaxed) <= 8_000);
            for (id, source) in store.all() {
                let (source, ring) = (id.parse::<usize>().unwrap(), source.ring.lock());
                prop_assert_eq!(ring.len() as u64 + ring.expired, sent[source]);
                prop_assert!(ring.len() <= 20);
            }
        }
    }

    #[test]
    fn gauges_of_one_instance_come_together() {
        let store = store(100, 1 << 20);
        for (name, value, at) in [("cpu", 1.0, 1), ("memory", 5.0, 1), ("cpu", 2.0, 2)] {
            let gauge = GaugeValue { unit: String::new(), value };
            let message = Message::Gauge(BTreeMap::from([(name.to_owned(), gauge)]));
            store.insert(Envelope { message, ..line("app", "", at) });
        }
        let latest = store.latest("app", "", 0).unwrap();
        assert_eq!(
            (latest.at.as_nanos(), latest.gauges["cpu"], latest.gauges["memory"]),
            (2, 2.0, 5.0)
        );
        assert_eq!(store.latest("app", "other", 0), None);
    }

    #[tokio::test]
    async fn a_waiting_reader_gets_the_next_line() {
        let store = Arc::new(store(100, 1 << 20));
        store.insert(line("app", "old", 1));
        let read = Read { start: Timestamp::from_nanos(2), ..Read::default() };
        let (reader, patience) = (store.clone(), std::time::Duration::from_secs(60));
        let waiting =
            tokio::spawn(async move { reader.read_or_wait("app", &read, patience).await });
        tokio::task::yield_now().await;
        store.insert(line("app", "new", 3));
        assert_eq!(waiting.await.unwrap().iter().map(text).collect::<String>(), "new");
    }
}
