//! One line per request into the app's own log stream, in the form of Cloud Foundry's router.

use std::fmt::Write as _;
use std::sync::Arc;

use base::{Clock, Timestamp};
use diego::routing::Endpoint;
use envelope::{Envelope, LogType, Sink, Source};
use http::{HeaderMap, Method, Uri, Version};

use crate::headers::{FORWARDED_FOR, FORWARDED_PROTO, VCAP_REQUEST_ID, version_name};

/// What is known of a request when it comes in.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    host: String,
    start: Timestamp,
    method: Method,
    uri: String,
    version: Version,
    client: String,
    referer: String,
    user_agent: String,
    forwarded_for: String,
    forwarded_proto: String,
    request_id: String,
}

/// How it went on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) status: u16,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) backend_nanos: i64,
    pub(crate) error: String,
}

/// A header's share of the line, in bytes; the rest is cut.
const HEADER_MAX: usize = 1000;
const URI_MAX: usize = 20_000;

impl Record {
    pub(crate) fn new(
        host: &str,
        client: String,
        method: &Method,
        uri: &Uri,
        version: Version,
        headers: &HeaderMap,
        start: Timestamp,
    ) -> Record {
        let header = |name: &str| {
            cut(
                headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default(),
                HEADER_MAX,
            )
        };
        Record {
            host: headers
                .get(http::header::HOST)
                .and_then(|value| value.to_str().ok())
                .unwrap_or(host)
                .to_owned(),
            start,
            method: method.clone(),
            uri: cut(uri.path_and_query().map_or("/", |path| path.as_str()), URI_MAX),
            version,
            client,
            referer: header("referer"),
            user_agent: header("user-agent"),
            forwarded_for: header(FORWARDED_FOR.as_str()),
            forwarded_proto: header(FORWARDED_PROTO.as_str()),
            request_id: header(VCAP_REQUEST_ID.as_str()),
        }
    }

    fn line(&self, outcome: &Outcome, endpoint: &Endpoint, end: Timestamp) -> String {
        let response = end.as_nanos() - self.start.as_nanos();
        let seconds = |nanos: i64| nanos.max(0) as f64 / 1e9;
        let mut line = String::with_capacity(512);
        // Writing to a string cannot fail.
        let _ = write!(
            line,
            "{} - [{}] \"{} {} {}\" {} {} {} {} {} \"{}\" \"{}\" x_forwarded_for:{} x_forwarded_proto:{} vcap_request_id:{} \
             response_time:{:.6} gorouter_time:{:.6} app_id:{} app_index:\"{}\" instance_id:{} x_cf_routererror:{}",
            self.host,
            Nanos(self.start),
            self.method,
            self.uri,
            version_name(self.version),
            outcome.status,
            outcome.request_bytes,
            outcome.response_bytes,
            quoted(&self.referer),
            quoted(&self.user_agent),
            self.client,
            endpoint.address,
            quoted(&self.forwarded_for),
            quoted(&self.forwarded_proto),
            quoted(&self.request_id),
            seconds(response),
            seconds(response - outcome.backend_nanos),
            quoted(&endpoint.log_guid),
            endpoint.key.index,
            quoted(endpoint.instance_guid.as_str()),
            quoted(&outcome.error),
        );
        line
    }
}

/// RFC 3339 with nine digits, as the router's log has it.
struct Nanos(Timestamp);

impl std::fmt::Display for Nanos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole = self.0.to_rfc3339();
        write!(
            f,
            "{}.{:09}Z",
            whole.trim_end_matches('Z'),
            self.0.as_nanos().rem_euclid(1_000_000_000)
        )
    }
}

fn quoted(text: &str) -> String {
    if text.is_empty() { "\"-\"".to_owned() } else { format!("{text:?}") }
}

fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = (0..=max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}...", &text[..end])
}

/// A line that is written when the last byte has gone, or the client has.
pub(crate) struct Pending {
    pub(crate) record: Record,
    pub(crate) outcome: Outcome,
    pub(crate) endpoint: Endpoint,
    pub(crate) index: u32,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) clock: Clock,
}

impl Pending {
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.outcome.response_bytes += bytes as u64;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let now = self.clock.now();
        let line = self.record.line(&self.outcome, &self.endpoint, now);
        let source = Source {
            id: self.endpoint.log_guid.clone(),
            instance: self.index.to_string().into(),
            tags: self.endpoint.tags.clone(),
        };
        self.sink.emit(Envelope::log(&source, "RTR", LogType::Out, line, now));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use http::HeaderValue;

    use super::*;
    use crate::table::tests::endpoint;

    #[test]
    fn the_line_reads_as_gorouters() {
        let headers = HeaderMap::from_iter([
            (http::header::HOST, HeaderValue::from_static("app.localhost:8080")),
            (http::header::USER_AGENT, HeaderValue::from_static("curl/8 \"x\"")),
            (FORWARDED_FOR, HeaderValue::from_static("127.0.0.1")),
        ]);
        let uri = "/a?b=c".parse().unwrap();
        let record = Record::new(
            "app.localhost",
            "127.0.0.1:5".into(),
            &Method::GET,
            &uri,
            Version::HTTP_11,
            &headers,
            Timestamp::from_nanos(1_769_860_800_123_456_789),
        );
        let outcome = Outcome {
            status: 200,
            request_bytes: 1,
            response_bytes: 2,
            backend_nanos: 1_000_000,
            error: String::new(),
        };
        let line = record.line(
            &outcome,
            &endpoint("i0", 0),
            Timestamp::from_nanos(1_769_860_800_125_456_789),
        );
        expect![[r#"app.localhost:8080 - [2026-01-31T12:00:00.123456789Z] "GET /a?b=c HTTP/1.1" 200 1 2 "-" "curl/8 \"x\"" "127.0.0.1:5" "127.0.0.1:1000" x_forwarded_for:"127.0.0.1" x_forwarded_proto:"-" vcap_request_id:"-" response_time:0.002000 gorouter_time:0.001000 app_id:"app" app_index:"0" instance_id:"i0" x_cf_routererror:"-""#]]
            .assert_eq(&line);
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        assert_eq!(cut("aé", 2), "a...");
        assert_eq!(cut("ab", 2), "ab");
    }
}
