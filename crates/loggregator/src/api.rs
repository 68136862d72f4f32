//! Log-cache's HTTP face.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use envelope::Spelling;
use serde_json::{Map, Value, json};

use crate::query::Read;
use crate::{Access, Loggregator};

/// How long a reader who follows a source is kept waiting for the next line, rather than sent away to ask again.
const HOLD: Duration = Duration::from_secs(1);
/// What clients look for to know which API this is.
const VERSION: &str = "3.0.11";

#[derive(Clone)]
struct Face {
    logs: Loggregator,
    access: Arc<dyn Access>,
}

pub(crate) fn router(logs: Loggregator, access: Arc<dyn Access>) -> axum::Router {
    axum::Router::new()
        .route("/api/v1/info", get(info))
        .route("/api/v1/meta", get(meta))
        .route("/api/v1/read/{*source_id}", get(read))
        .with_state(Face { logs, access })
}

async fn info(State(face): State<Face>) -> Response {
    let uptime = face.logs.clock.now().since(face.logs.started).as_secs();
    answer(&json!({ "version": VERSION, "vm_uptime": uptime.to_string() }))
}

async fn read(
    State(face): State<Face>,
    Path(source_id): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    if face.access.readable(authorization(&headers), vec![source_id.clone()]).await.is_empty() {
        return not_found();
    }
    let read = match Read::parse(&pairs) {
        Ok(read) => read,
        Err(message) => {
            return (
                StatusCode::BAD_REQUEST,
                answer(&json!({ "code": 3, "message": message, "details": [] })),
            )
                .into_response();
        }
    };
    let follows = !read.descending && read.end.is_none();
    let found = if follows {
        face.logs.store.read_or_wait(&source_id, &read, HOLD).await
    } else {
        face.logs.store.read(&source_id, &read)
    };
    let batch: Vec<Value> =
        found.iter().map(|envelope| envelope.to_json(Spelling::SnakeCase)).collect();
    answer(&json!({ "envelopes": { "batch": batch } }))
}

async fn meta(State(face): State<Face>, headers: HeaderMap) -> Response {
    let all = face.logs.store.meta();
    let ids = all.iter().map(|meta| meta.source_id.to_string()).collect();
    let readable = face.access.readable(authorization(&headers), ids).await;
    let told = all.into_iter().filter(|meta| readable.iter().any(|id| **id == *meta.source_id));
    let meta: Map<String, Value> = told
        .map(|meta| {
            let mut value = json!({
                "count": meta.count.to_string(),
                "oldestTimestamp": meta.oldest.as_nanos().to_string(),
                "newestTimestamp": meta.newest.as_nanos().to_string(),
            });
            if meta.expired > 0 {
                value["expired"] = meta.expired.to_string().into();
            }
            (meta.source_id.to_string(), value)
        })
        .collect();
    answer(&json!({ "meta": meta }))
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()
}

/// Whether a source exists is told to nobody who may not read it.
fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "").into_response()
}

fn answer(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use base::Clock;
    use envelope::Sink as _;
    use expect_test::expect;

    use super::*;
    use crate::Config;
    use crate::ring::tests::line;

    /// The token is the source that may be read.
    struct Named;

    #[async_trait]
    impl Access for Named {
        async fn readable(
            &self,
            authorization: Option<&str>,
            source_ids: Vec<String>,
        ) -> Vec<String> {
            source_ids.into_iter().filter(|id| authorization == Some(id)).collect()
        }
    }

    struct Server {
        url: String,
        logs: Loggregator,
        _folder: tempfile::TempDir,
    }

    async fn server() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let logs =
            Loggregator::open(Config::new(folder.path().to_owned()), Clock::system()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = logs.router(Arc::new(Named));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Server { url, logs, _folder: folder }
    }

    impl Server {
        async fn get(&self, path: &str, token: &str) -> (u16, String) {
            let response = base::http::client(None)
                .get(format!("{}{path}", self.url))
                .header("authorization", token)
                .send()
                .await
                .unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        }
    }

    #[tokio::test]
    async fn lines_are_read_by_those_who_may() {
        let server = server().await;
        for n in 1..=3 {
            server.logs.emit(line("app", &n.to_string(), n));
        }
        let (status, body) =
            server.get("/api/v1/read/app?descending=true&limit=1&envelope_types=LOG", "app").await;
        assert_eq!(status, 200);
        expect![[r#"
            {"envelopes":{"batch":[{"deprecated_tags":{},"instance_id":"0","log":{"payload":"Mw==","type":"OUT"},"source_id":"app","tags":{"source_type":"APP/PROC/WEB"},"timestamp":"3"}]}}
        "#]].assert_eq(&body);
        assert_eq!(server.get("/api/v1/read/app", "other").await, (404, String::new()));
        assert_eq!(server.get("/api/v1/read/app?limit=1001", "app").await.0, 400);
        assert_eq!(
            server.get("/api/v1/read/a/b?descending=true", "a/b").await,
            (200, "{\"envelopes\":{\"batch\":[]}}\n".to_owned())
        );
    }

    #[tokio::test]
    async fn a_follower_is_held_until_the_next_line() {
        let server = server().await;
        server.logs.emit(line("app", "old", 1));
        let logs = server.logs.clone();
        let (answer, ()) =
            tokio::join!(server.get("/api/v1/read/app?start_time=2", "app"), async {
                tokio::task::yield_now().await;
                logs.emit(line("app", "new", 2));
            });
        assert!(answer.1.contains("bmV3"), "{}", answer.1);
    }

    #[tokio::test]
    async fn meta_tells_of_what_may_be_read() {
        let server = server().await;
        server.logs.emit(line("app", "x", 5));
        server.logs.emit(line("secret", "x", 5));
        let (_, body) = server.get("/api/v1/meta", "app").await;
        expect![[r#"
            {"meta":{"app":{"count":"1","newestTimestamp":"5","oldestTimestamp":"5"}}}
        "#]]
        .assert_eq(&body);
    }

    #[tokio::test]
    async fn info_needs_no_token() {
        let (status, body) = server().await.get("/api/v1/info", "").await;
        assert_eq!(status, 200);
        assert!(body.starts_with("{\"version\":\"3."), "{body}");
    }
}
