//! One source's envelopes in memory, by time, the oldest giving way.

use std::collections::VecDeque;

use base::Timestamp;
use envelope::{Envelope, Message};

use crate::query::Read;

#[derive(Debug, Default)]
pub(crate) struct Ring {
    /// By strictly growing timestamps.
    envelopes: VecDeque<Envelope>,
    pub(crate) bytes: usize,
    /// How many gave way.
    pub(crate) expired: u64,
}

impl Ring {
    /// Two envelopes never share a timestamp: a later arrival moves on by a nanosecond, so order of arrival is kept and
    /// readers who go on at "last timestamp + 1" miss nothing.
    pub(crate) fn insert(&mut self, mut envelope: Envelope) {
        let mut at = self.envelopes.len();
        if self.envelopes.back().is_some_and(|last| last.timestamp >= envelope.timestamp) {
            at = self.envelopes.partition_point(|known| known.timestamp <= envelope.timestamp);
            if at > 0 && self.envelopes[at - 1].timestamp == envelope.timestamp {
                while let Some(taken) =
                    self.envelopes.get(at - 1).filter(|known| known.timestamp >= envelope.timestamp)
                {
                    envelope.timestamp =
                        Timestamp::from_nanos(taken.timestamp.as_nanos().saturating_add(1));
                    if self.envelopes.get(at).is_none_or(|next| next.timestamp > envelope.timestamp)
                    {
                        break;
                    }
                    at += 1;
                }
            }
        }
        self.bytes += weight(&envelope);
        self.envelopes.insert(at, envelope);
    }

    pub(crate) fn pop(&mut self) {
        if let Some(oldest) = self.envelopes.pop_front() {
            self.bytes -= weight(&oldest);
            self.expired += 1;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.envelopes.len()
    }

    pub(crate) fn span(&self) -> Option<(Timestamp, Timestamp)> {
        Some((self.envelopes.front()?.timestamp, self.envelopes.back()?.timestamp))
    }

    pub(crate) fn read(&self, read: &Read) -> Vec<Envelope> {
        let from = self.envelopes.partition_point(|envelope| envelope.timestamp < read.start);
        let to = read.end.map_or(self.envelopes.len(), |end| {
            self.envelopes.partition_point(|envelope| envelope.timestamp < end)
        });
        let range = self.envelopes.range(from..to.max(from));
        if read.descending {
            range.rev().filter_map(|envelope| read.select(envelope)).take(read.limit).collect()
        } else {
            range.filter_map(|envelope| read.select(envelope)).take(read.limit).collect()
        }
    }
}

/// Bytes in memory, nearly: tags are shared between envelopes.
fn weight(envelope: &Envelope) -> usize {
    let message = match &envelope.message {
        Message::Log { payload, .. } => payload.len(),
        Message::Counter { name, .. } | Message::Timer { name, .. } => name.len(),
        Message::Gauge(metrics) => metrics.keys().map(|name| name.len() + 80).sum(),
        Message::Event { title, body } => title.len() + body.len(),
    };
    size_of::<Envelope>() + message
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use envelope::{LogType, Source, Tags};
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn line(source: &str, text: &str, at: i64) -> Envelope {
        let source =
            Source { id: source.into(), instance: "0".into(), tags: Arc::new(Tags::new()) };
        Envelope::log(
            &source,
            "APP/PROC/WEB",
            LogType::Out,
            text.to_owned(),
            Timestamp::from_nanos(at),
        )
    }

    pub(crate) fn text(envelope: &Envelope) -> String {
        match &envelope.message {
            Message::Log { payload, .. } => String::from_utf8_lossy(payload).into_owned(),
            other => format!("{other:?}"),
        }
    }

    proptest! {
        /// Whatever the order of arrival: sorted, no two at one time, nothing lost, and pages put together are the whole.
        #[test]
        fn pages_are_the_whole(times in prop::collection::vec(0..30_i64, 0..80), limit in 1..9_usize) {
            let mut ring = Ring::default();
            for (n, at) in times.iter().enumerate() {
                ring.insert(line("a", &n.to_string(), *at));
            }
            prop_assert_eq!(ring.len(), times.len());
            prop_assert_eq!(ring.bytes, ring.envelopes.iter().map(weight).sum::<usize>());
            let stamps: Vec<_> = ring.envelopes.iter().map(|envelope| envelope.timestamp).collect();
            prop_assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", stamps);
            let (mut read, mut all) = (Read { limit, ..Read::default() }, Vec::new());
            loop {
                let page = ring.read(&read);
                let Some(last) = page.last() else { break };
                read.start = Timestamp::from_nanos(last.timestamp.as_nanos() + 1);
                all.extend(page.iter().map(text));
            }
            prop_assert_eq!(all, ring.envelopes.iter().map(text).collect::<Vec<_>>());
        }
    }

    #[test]
    fn lines_of_one_moment_keep_their_order() {
        let mut ring = Ring::default();
        ["a", "b", "c", "d"].iter().for_each(|name| ring.insert(line("x", name, 5)));
        let read = Read::default();
        assert_eq!(ring.read(&read).iter().map(text).collect::<String>(), "abcd");
        assert_eq!(
            ring.read(&Read { descending: true, limit: 2, ..read })
                .iter()
                .map(text)
                .collect::<String>(),
            "dc"
        );
    }
}
