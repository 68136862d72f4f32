//! An app's log lines out of log-cache: the recent ones, and those to come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base::Backoff;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::tz::TimeZone;
use reqwest::Method;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::ui::{Ui, say};

/// `cf logs --recent` shows this many lines.
const RECENT: usize = 1000;
/// The most log-cache gives at once.
const PAGE: usize = 1000;
/// Lines waiting for a slow terminal; beyond it the reading waits too.
const WAITING: usize = 1000;
/// A tail starts this much before the newest line there is.
const OVERLAP_NANOS: i64 = 1_000_000_000;
const MOST_FAILURES: usize = 5;
/// The last lines are worth a short wait, no more.
const LONGEST_FINISH: Duration = Duration::from_secs(3);

/// One line an app, or the platform about it, wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub nanos: i64,
    pub source: String,
    pub instance: String,
    pub is_error: bool,
    pub text: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    envelopes: Batch,
}

#[derive(Default, Deserialize)]
struct Batch {
    #[serde(default)]
    batch: Vec<Envelope>,
}

#[derive(Deserialize)]
struct Envelope {
    timestamp: String,
    #[serde(default)]
    instance_id: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    log: Option<Log>,
}

#[derive(Deserialize)]
struct Log {
    #[serde(default)]
    payload: String,
    #[serde(rename = "type", default)]
    kind: String,
}

/// Pure: the line in an envelope, if it is one.
fn line(envelope: Envelope) -> Option<Line> {
    let log = envelope.log?;
    let payload = STANDARD.decode(&log.payload).ok()?;
    Some(Line {
        nanos: envelope.timestamp.parse().ok()?,
        source: envelope.tags.get("source_type").cloned().unwrap_or_default(),
        instance: envelope.instance_id,
        is_error: log.kind == "ERR",
        text: String::from_utf8_lossy(&payload).into_owned(),
    })
}

/// Shows a line; its head is left out while staging.
pub fn show(ui: &mut Ui, line: &Line, head: bool) {
    let head = if head { head_of(line, &TimeZone::system()) } else { String::new() };
    for text in line.text.split('\n') {
        let text = format!("{head}{}", text.trim_end_matches('\r'));
        let text = if line.is_error { ui.red(text) } else { text };
        say!(ui, "   {text}");
    }
}

fn head_of(line: &Line, zone: &TimeZone) -> String {
    let moment = jiff::Timestamp::from_nanosecond(i128::from(line.nanos)).unwrap_or_default();
    let time = moment.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S.%2f%z").to_string();
    let kind = if line.is_error { "ERR" } else { "OUT" };
    format!("{time} [{}/{}] {kind} ", line.source, line.instance)
}

/// The newest lines, oldest first. A server that is asked for too much is asked for less.
pub async fn recent(client: &Client, app: &str) -> Result<Vec<Line>> {
    let mut limit = RECENT;
    loop {
        match read(
            client,
            app,
            &[("envelope_types", "LOG"), ("limit", &limit.to_string()), ("descending", "true")],
        )
        .await
        {
            Err(Error::Api(error)) if error.status == 429 && limit > 1 => limit /= 2,
            Err(error) => {
                return Err(Error::Failed(format!(
                    "Failed to retrieve logs from Log Cache: {error}"
                )));
            }
            Ok(envelopes) => {
                let mut lines: Vec<Line> = envelopes.into_iter().filter_map(line).collect();
                lines.reverse();
                return Ok(lines);
            }
        }
    }
}

/// Where a tail begins.
#[derive(Clone, Copy, Debug)]
pub enum Since {
    /// A little before the newest line.
    Now,
    /// After everything that is there already.
    New,
}

/// Lines as they come. Dropping it ends the reading.
pub struct Tail {
    lines: mpsc::Receiver<Result<Line>>,
    client: Client,
    app: String,
    next: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Tail {
    /// Looks where the log stands, then reads on in the background.
    pub async fn start(client: &Client, app: &str, since: Since) -> Tail {
        let newest = read(client, app, &[("limit", "1"), ("descending", "true")]).await.ok();
        let newest = newest.and_then(|found| {
            found.first().and_then(|envelope| envelope.timestamp.parse::<i64>().ok())
        });
        let start: i64 = match (newest, since) {
            (None, _) => 0,
            (Some(newest), Since::New) => newest + 1,
            (Some(newest), Since::Now) => newest - OVERLAP_NANOS,
        };
        let (send, lines) = mpsc::channel(WAITING);
        let next = Arc::new(AtomicI64::new(start));
        let task = tokio::spawn({
            let (client, app, next) = (client.clone(), app.to_owned(), next.clone());
            async move {
                let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
                let mut failures = 0;
                loop {
                    match page(&client, &app, next.load(Ordering::Relaxed)).await {
                        Ok((found, then)) => {
                            failures = 0;
                            if !found.is_empty() {
                                backoff.reset();
                            }
                            for line in found {
                                let at = line.nanos + 1;
                                if send.send(Ok(line)).await.is_err() {
                                    return;
                                }
                                next.fetch_max(at, Ordering::Relaxed);
                            }
                            next.fetch_max(then, Ordering::Relaxed);
                        }
                        Err(error) => {
                            failures += 1;
                            if failures >= MOST_FAILURES {
                                // The reader may be gone; then nobody is left to tell.
                                let _ = send.send(Err(error)).await;
                                return;
                            }
                        }
                    }
                    tokio::time::sleep(backoff.step()).await;
                }
            }
        });
        Tail { lines, client: client.clone(), app: app.to_owned(), next, task }
    }

    /// The next line, or why there will be none; `None` when the reading has ended.
    pub async fn next(&mut self) -> Option<Result<Line>> {
        self.lines.recv().await
    }

    /// Ends the reading; what is written but not yet read comes last.
    pub async fn finish(mut self) -> Vec<Line> {
        self.task.abort();
        let mut rest: Vec<Line> = Vec::new();
        while let Ok(line) = self.lines.try_recv() {
            rest.extend(line.ok());
        }
        let start = rest.last().map_or(0, |line| line.nanos + 1);
        let start = start.max(self.next.load(Ordering::Relaxed));
        let last = tokio::time::timeout(LONGEST_FINISH, page(&self.client, &self.app, start)).await;
        if let Ok(Ok((found, _))) = last {
            rest.extend(found);
        }
        rest
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One page from `start` on, oldest first, and where the next one starts.
async fn page(client: &Client, app: &str, start: i64) -> Result<(Vec<Line>, i64)> {
    let query = [
        ("start_time", start.to_string()),
        ("envelope_types", "LOG".to_owned()),
        ("limit", PAGE.to_string()),
    ];
    let query: Vec<(&str, &str)> =
        query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let lines: Vec<Line> = read(client, app, &query).await?.into_iter().filter_map(line).collect();
    let next = lines.last().map_or(start, |line| line.nanos + 1);
    Ok((lines, next))
}

async fn read(client: &Client, app: &str, query: &[(&str, &str)]) -> Result<Vec<Envelope>> {
    let base =
        client.config.lock().expect("no holder of this lock panics").log_cache_endpoint.clone();
    if base.is_empty() {
        return Err(Error::Failed("the API names no log-cache".to_owned()));
    }
    let url = format!("{}/api/v1/read/{app}", base.trim_end_matches('/'));
    let answer: Answer =
        client.send(Method::GET, &url, query, crate::client::Body::None).await?.json()?;
    Ok(answer.envelopes.batch)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn envelope(text: &str) -> Envelope {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_log_envelope_is_a_line() {
        let found = line(envelope(
            r#"{"timestamp":"1769860800120000000","source_id":"a","instance_id":"0","tags":{"source_type":"APP/PROC/WEB"},"log":{"payload":"aGVsbG8=","type":"ERR"}}"#,
        ))
        .unwrap();
        expect!["2026-01-31T12:00:00.12+0000 [APP/PROC/WEB/0] ERR hello"].assert_eq(&format!(
            "{}{}",
            head_of(&found, &TimeZone::UTC),
            found.text
        ));
    }

    #[test]
    fn other_envelopes_are_none() {
        assert_eq!(line(envelope(r#"{"timestamp":"1","tags":{},"gauge":{"metrics":{}}}"#)), None);
        assert_eq!(line(envelope(r#"{"timestamp":"soon","log":{"payload":"aA=="}}"#)), None);
    }
}
