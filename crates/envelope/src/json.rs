//! The JSON that log-cache and the gateway answer with: protobuf's JSON mapping, 64-bit numbers as text, payloads in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::{Envelope, LogType, Message};

/// How field names are spelled: log-cache keeps protobuf's names, the gateway writes camel case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    SnakeCase,
    CamelCase,
}

impl Envelope {
    pub fn to_json(&self, spelling: Spelling) -> Value {
        let name = |snake: &str, camel: &str| match spelling {
            Spelling::SnakeCase => snake.to_owned(),
            Spelling::CamelCase => camel.to_owned(),
        };
        let mut object = Map::new();
        object.insert("timestamp".into(), self.timestamp.as_nanos().to_string().into());
        object.insert(name("source_id", "sourceId"), (*self.source_id).into());
        object.insert(name("instance_id", "instanceId"), (*self.instance_id).into());
        object.insert(name("deprecated_tags", "deprecatedTags"), json!({}));
        object.insert("tags".into(), json!(*self.tags));
        let (key, value) = message(&self.message);
        object.insert(key.into(), value);
        Value::Object(object)
    }
}

fn message(message: &Message) -> (&'static str, Value) {
    match message {
        Message::Log { payload, stream } => {
            let kind = match stream {
                LogType::Out => "OUT",
                LogType::Err => "ERR",
            };
            ("log", json!({ "payload": STANDARD.encode(payload), "type": kind }))
        }
        Message::Counter { name, delta, total } => (
            "counter",
            json!({ "name": name, "delta": delta.to_string(), "total": total.to_string() }),
        ),
        Message::Gauge(metrics) => {
            let metrics: Map<String, Value> = metrics
                .iter()
                .map(|(name, gauge)| {
                    (name.clone(), json!({ "unit": gauge.unit, "value": gauge.value }))
                })
                .collect();
            ("gauge", json!({ "metrics": metrics }))
        }
        Message::Timer { name, start, stop } => (
            "timer",
            json!({ "name": name, "start": start.as_nanos().to_string(), "stop": stop.as_nanos().to_string() }),
        ),
        Message::Event { title, body } => ("event", json!({ "title": title, "body": body })),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::Timestamp;
    use expect_test::expect;

    use super::*;
    use crate::{Source, Tags};

    #[test]
    fn a_log_line_reads_as_log_cache_writes_it() {
        let source = Source { id: "app".into(), instance: "0".into(), tags: Arc::new(Tags::new()) };
        let line = Envelope::log(&source, "RTR", LogType::Out, "hi", Timestamp::from_nanos(7));
        expect![[r#"{"deprecated_tags":{},"instance_id":"0","log":{"payload":"aGk=","type":"OUT"},"source_id":"app","tags":{"source_type":"RTR"},"timestamp":"7"}"#]]
            .assert_eq(&line.to_json(Spelling::SnakeCase).to_string());
    }
}
