//! The form of log lines and events on disk: short, and read back whole or not at all. Metrics are not kept: new ones
//! come every few seconds.

use std::sync::Arc;

use base::Timestamp;
use bytes::{Buf, BufMut, Bytes};
use envelope::{Envelope, LogType, Mark, Message, Tags};

/// What one record holds.
#[derive(Debug, PartialEq)]
pub(crate) enum Record {
    Envelope(Envelope),
    Mark(Mark),
}

const MARK: u8 = 3;

pub(crate) fn encode_mark(mark: &Mark, out: &mut Vec<u8>) {
    out.put_u8(MARK);
    put(out, mark.key.as_bytes());
    put(out, &mark.at);
}

/// Takes one record off `from`; `None` when what is there is none.
pub(crate) fn decode(from: &mut Bytes) -> Option<Record> {
    if from.first() != Some(&MARK) {
        return decode_envelope(from).map(Record::Envelope);
    }
    from.advance(1);
    Some(Record::Mark(Mark { key: text(from)?, at: take(from)? }))
}

/// Appends the envelope to `out`; `false` when its kind is not kept.
pub(crate) fn encode(envelope: &Envelope, out: &mut Vec<u8>) -> bool {
    let (kind, first, second): (u8, &[u8], &[u8]) = match &envelope.message {
        Message::Log { payload, stream: LogType::Out } => (0, payload, b""),
        Message::Log { payload, stream: LogType::Err } => (1, payload, b""),
        Message::Event { title, body } => (2, title.as_bytes(), body.as_bytes()),
        Message::Counter { .. } | Message::Gauge(_) | Message::Timer { .. } => return false,
    };
    out.put_u8(kind);
    out.put_i64(envelope.timestamp.as_nanos());
    put(out, envelope.source_id.as_bytes());
    put(out, envelope.instance_id.as_bytes());
    out.put_u32(u32::try_from(envelope.tags.len()).unwrap_or(u32::MAX));
    for (name, value) in envelope.tags.iter() {
        put(out, name.as_bytes());
        put(out, value.as_bytes());
    }
    put(out, first);
    put(out, second);
    true
}

fn decode_envelope(from: &mut Bytes) -> Option<Envelope> {
    let kind = from.try_get_u8().ok()?;
    let timestamp = Timestamp::from_nanos(from.try_get_i64().ok()?);
    let (source_id, instance_id) = (text(from)?, text(from)?);
    let mut tags = Tags::new();
    for _ in 0..from.try_get_u32().ok()? {
        tags.insert(text(from)?, text(from)?);
    }
    let (first, second) = (take(from)?, take(from)?);
    let message = match kind {
        0 => Message::Log { payload: first, stream: LogType::Out },
        1 => Message::Log { payload: first, stream: LogType::Err },
        2 => Message::Event { title: string(&first)?, body: string(&second)? },
        _ => return None,
    };
    Some(Envelope {
        timestamp,
        source_id: source_id.into(),
        instance_id: instance_id.into(),
        tags: Arc::new(tags),
        message,
    })
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

fn take(from: &mut Bytes) -> Option<Bytes> {
    let length = from.try_get_u32().ok()? as usize;
    (length <= from.len()).then(|| from.split_to(length))
}

fn text(from: &mut Bytes) -> Option<String> {
    string(&take(from)?)
}

fn string(bytes: &Bytes) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ring::tests::line;

    proptest! {
        #[test]
        fn what_was_written_is_read(payload in prop::collection::vec(any::<u8>(), 0..50), tags in prop::collection::btree_map(".{0,5}", ".{0,5}", 0..4), at: i64, err: bool) {
            let stream = if err { LogType::Err } else { LogType::Out };
            let envelope = Envelope { tags: Arc::new(tags), message: Message::Log { payload: payload.into(), stream }, ..line("app", "", at) };
            let mut out = Vec::new();
            prop_assert!(encode(&envelope, &mut out));
            let mut bytes = Bytes::from(out);
            prop_assert_eq!(decode(&mut bytes), Some(Record::Envelope(envelope)));
            prop_assert!(bytes.is_empty());
        }

        #[test]
        fn marks_are_read_too(key in ".{0,5}", at in prop::collection::vec(any::<u8>(), 0..50)) {
            let (mark, mut out) = (Mark { key, at: at.into() }, Vec::new());
            encode_mark(&mark, &mut out);
            prop_assert_eq!(decode(&mut Bytes::from(out)), Some(Record::Mark(mark)));
        }

        #[test]
        fn nonsense_is_no_envelope(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = Bytes::from(bytes);
            while decode(&mut bytes).is_some() {}
        }
    }
}
