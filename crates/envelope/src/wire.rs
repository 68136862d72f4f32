//! Envelopes as they travel between machines: Loggregator's protocol buffers (`package loggregator.v2`).

use std::collections::HashMap;
use std::sync::Arc;

use base::Timestamp;
use prost::Message as _;

use crate::{Envelope, GaugeValue, LogType, Message};

/// `loggregator.v2.EnvelopeBatch` of all of them.
pub fn encode(envelopes: &[Envelope]) -> Vec<u8> {
    proto::EnvelopeBatch { batch: envelopes.iter().map(to_wire).collect() }.encode_to_vec()
}

/// What `bytes` hold; envelopes of a kind nobody knows are left out.
///
/// # Errors
/// When `bytes` are no `loggregator.v2.EnvelopeBatch`.
pub fn decode(bytes: &[u8]) -> Result<Vec<Envelope>, prost::DecodeError> {
    let batch = proto::EnvelopeBatch::decode(bytes)?.batch;
    Ok(batch.into_iter().filter_map(from_wire).collect())
}

fn to_wire(envelope: &Envelope) -> proto::Envelope {
    use proto::Kind;
    let message = match &envelope.message {
        Message::Log { payload, stream } => {
            let stream = i32::from(*stream == LogType::Err);
            Kind::Log(proto::Log { payload: payload.clone(), stream })
        }
        Message::Counter { name, delta, total } => {
            Kind::Counter(proto::Counter { name: name.clone(), delta: *delta, total: *total })
        }
        Message::Gauge(metrics) => {
            let of = |(name, gauge): (&String, &GaugeValue)| {
                let value = proto::GaugeValue { unit: gauge.unit.clone(), value: gauge.value };
                (name.clone(), value)
            };
            Kind::Gauge(proto::Gauge { metrics: metrics.iter().map(of).collect() })
        }
        Message::Timer { name, start, stop } => Kind::Timer(proto::Timer {
            name: name.clone(),
            start: start.as_nanos(),
            stop: stop.as_nanos(),
        }),
        Message::Event { title, body } => {
            Kind::Event(proto::Event { title: title.clone(), body: body.clone() })
        }
    };
    let pair = |(name, value): (&String, &String)| (name.clone(), value.clone());
    proto::Envelope {
        timestamp: envelope.timestamp.as_nanos(),
        source_id: envelope.source_id.to_string(),
        instance_id: envelope.instance_id.to_string(),
        tags: envelope.tags.iter().map(pair).collect::<HashMap<_, _>>(),
        message: Some(message),
    }
}

fn from_wire(envelope: proto::Envelope) -> Option<Envelope> {
    use proto::Kind;
    let message = match envelope.message? {
        Kind::Log(log) => Message::Log {
            payload: log.payload,
            stream: if log.stream == 1 { LogType::Err } else { LogType::Out },
        },
        Kind::Counter(counter) => {
            Message::Counter { name: counter.name, delta: counter.delta, total: counter.total }
        }
        Kind::Gauge(gauge) => {
            let of = |(name, gauge): (String, proto::GaugeValue)| {
                (name, GaugeValue { unit: gauge.unit, value: gauge.value })
            };
            Message::Gauge(gauge.metrics.into_iter().map(of).collect())
        }
        Kind::Timer(timer) => Message::Timer {
            name: timer.name,
            start: Timestamp::from_nanos(timer.start),
            stop: Timestamp::from_nanos(timer.stop),
        },
        Kind::Event(event) => Message::Event { title: event.title, body: event.body },
    };
    Some(Envelope {
        timestamp: Timestamp::from_nanos(envelope.timestamp),
        source_id: envelope.source_id.into(),
        instance_id: envelope.instance_id.into(),
        tags: Arc::new(envelope.tags.into_iter().collect()),
        message,
    })
}

/// Numbers and names are Loggregator's.
mod proto {
    use std::collections::HashMap;

    use bytes::Bytes;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct EnvelopeBatch {
        #[prost(message, repeated, tag = "1")]
        pub batch: Vec<Envelope>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Envelope {
        #[prost(int64, tag = "1")]
        pub timestamp: i64,
        #[prost(string, tag = "2")]
        pub source_id: String,
        #[prost(string, tag = "8")]
        pub instance_id: String,
        #[prost(map = "string, string", tag = "9")]
        pub tags: HashMap<String, String>,
        #[prost(oneof = "Kind", tags = "4, 5, 6, 7, 10")]
        pub message: Option<Kind>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        #[prost(message, tag = "4")]
        Log(Log),
        #[prost(message, tag = "5")]
        Counter(Counter),
        #[prost(message, tag = "6")]
        Gauge(Gauge),
        #[prost(message, tag = "7")]
        Timer(Timer),
        #[prost(message, tag = "10")]
        Event(Event),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Log {
        #[prost(bytes = "bytes", tag = "1")]
        pub payload: Bytes,
        /// 0 is `OUT`, 1 is `ERR`.
        #[prost(int32, tag = "2")]
        pub stream: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Counter {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(uint64, tag = "2")]
        pub delta: u64,
        #[prost(uint64, tag = "3")]
        pub total: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Gauge {
        #[prost(map = "string, message", tag = "1")]
        pub metrics: HashMap<String, GaugeValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct GaugeValue {
        #[prost(string, tag = "1")]
        pub unit: String,
        #[prost(double, tag = "2")]
        pub value: f64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Timer {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(int64, tag = "2")]
        pub start: i64,
        #[prost(int64, tag = "3")]
        pub stop: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Event {
        #[prost(string, tag = "1")]
        pub title: String,
        #[prost(string, tag = "2")]
        pub body: String,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(message: Message) -> Envelope {
        Envelope {
            timestamp: Timestamp::from_nanos(1_700_000_000_000_000_001),
            source_id: "app".into(),
            instance_id: "3".into(),
            tags: Arc::new([("source_type".to_owned(), "APP".to_owned())].into()),
            message,
        }
    }

    #[test]
    fn every_kind_comes_back_as_it_went() {
        let at = Timestamp::from_nanos;
        let gauge = GaugeValue { unit: "percentage".into(), value: 12.5 };
        let all = [
            Message::Log { payload: "hi".into(), stream: LogType::Out },
            Message::Log { payload: vec![0xff, 0].into(), stream: LogType::Err },
            Message::Counter { name: "dropped".into(), delta: 1, total: u64::MAX },
            Message::Gauge([("cpu".to_owned(), gauge)].into()),
            Message::Timer { name: "http".into(), start: at(5), stop: at(7) },
            Message::Event { title: "t".into(), body: "b".into() },
        ]
        .map(envelope);
        assert_eq!(decode(&encode(&all)).unwrap(), all);
    }

    #[test]
    fn the_bytes_are_loggregators() {
        let mut log = envelope(Message::Log { payload: "hi".into(), stream: LogType::Err });
        log.timestamp = Timestamp::from_nanos(1);
        log.tags = Arc::default();
        // batch=1 { timestamp=1: 1, source_id=2: "app", log=4 { payload=1: "hi", type=2: 1 }, instance_id=8: "3" }
        let wire = b"\x0a\x12\x08\x01\x12\x03app\x22\x06\x0a\x02hi\x10\x01\x42\x013";
        let mut sorted = encode(&[log]);
        let mut wire = wire.to_vec();
        // Writers may order fields as they like.
        sorted.sort_unstable();
        wire.sort_unstable();
        assert_eq!(sorted, wire);
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        assert!(decode(b"\x0a\xff").is_err());
        assert_eq!(decode(b"").unwrap(), []);
    }
}
