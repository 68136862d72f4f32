//! A Cloud Controller on an empty database, and callers that speak to it.

mod fake_bbs;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use base::http::Secret;
use base::{CancellationToken, Clock, TaskTracker, Timestamp};
use cloud_controller::blobstore::Memory;
use cloud_controller::config::{StackConfig, SystemBuildpack};
use cloud_controller::testing::{FakeIdentity, NoMetrics};
use cloud_controller::{Blobstore, CloudController, Config, Deps};
use envelope::{Envelope, Message, Sink};
use serde_json::{Value, json};
use sqlx::Executor as _;
use tokio::sync::watch;
use tower::ServiceExt as _;

pub use fake_bbs::FakeBbs;

/// The moment at which every test begins.
pub const START: Timestamp = Timestamp::from_secs(1_769_860_800);

pub struct Harness {
    pub cc: CloudController,
    pub db: sql::Db,
    pub bbs: Arc<FakeBbs>,
    pub identity: Arc<FakeIdentity>,
    pub blobs: Arc<Memory>,
    pub logs: Arc<Lines>,
    pub clock: Clock,
    tasks: TaskTracker,
    loops: usize,
    stop: CancellationToken,
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One harness per database engine: `for harness in harness::all().await { … }`.
pub async fn all() -> Vec<Harness> {
    let mut harnesses = Vec::new();
    for db in sql::testing::databases().await {
        harnesses.push(Harness::open(db).await);
    }
    harnesses
}

pub fn config() -> Config {
    let mut config = Config::new(Secret::new("internal secret"), Secret::new("database key"));
    config.internal_url = "http://cc.internal:9090".to_owned();
    config.app_domains = vec!["apps.test".to_owned()];
    config.reserved_names = ["api.apps.test".to_owned()].into();
    config.stacks =
        vec![StackConfig { name: "cflinuxfs4".to_owned(), description: "Linux".to_owned() }];
    config.buildpacks = ["binary_buildpack", "ruby_buildpack"]
        .map(|name| SystemBuildpack {
            name: name.to_owned(),
            filename: format!("{name}.zip"),
            zip: name.as_bytes().into(),
        })
        .into();
    config.lifecycle_bundle = b"lifecycle".as_slice().into();
    config.limits.hold_failure = std::time::Duration::ZERO;
    config
}

impl Harness {
    pub async fn open(db: sql::Db) -> Harness {
        Harness::open_with(db, config()).await
    }

    pub async fn open_with(db: sql::Db, config: Config) -> Harness {
        Harness::open_on(db, config, Arc::new(Memory::default())).await
    }

    /// As after a restart: on a database and blobs that are there already.
    pub async fn open_on(db: sql::Db, config: Config, blobs: Arc<Memory>) -> Harness {
        Harness::open_over(db, config, blobs.clone(), blobs).await
    }

    /// With blobs that are kept elsewhere than in `memory`.
    pub async fn open_over(
        db: sql::Db,
        config: Config,
        blobs: Arc<dyn Blobstore>,
        memory: Arc<Memory>,
    ) -> Harness {
        Harness::open_all(db, config, blobs, memory, Arc::default()).await
    }

    /// As [`Harness::open_on`], with a brain that knows something already.
    pub async fn open_again(
        db: sql::Db,
        config: Config,
        blobs: Arc<Memory>,
        bbs: Arc<FakeBbs>,
    ) -> Harness {
        Harness::open_all(db, config, blobs.clone(), blobs, bbs).await
    }

    async fn open_all(
        db: sql::Db,
        config: Config,
        blobs: Arc<dyn Blobstore>,
        memory: Arc<Memory>,
        bbs: Arc<FakeBbs>,
    ) -> Harness {
        let (stop, clock, logs) =
            (CancellationToken::new(), Clock::manual(START), Arc::new(Lines::default()));
        let identity = Arc::new(FakeIdentity::default());
        let tasks = TaskTracker::new();
        let deps = Deps {
            db: db.clone(),
            identity: identity.clone(),
            bbs: bbs.clone(),
            blobs,
            sink: logs.clone(),
            metrics: Arc::new(NoMetrics),
            clock: clock.clone(),
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        let cc = CloudController::open(config, deps).await.expect("the Cloud Controller opens");
        let loops = tasks.len();
        Harness { cc, db, bbs, identity, blobs: memory, logs, clock, tasks, loops, stop }
    }

    pub fn admin(&self) -> Client {
        self.user("admin")
    }

    /// `token` as `FakeIdentity` reads it: a user's guid, or `GUID:scope,scope`.
    pub fn user(&self, token: &str) -> Client {
        Client { router: self.cc.router(), authorization: Some(format!("bearer {token}")) }
    }

    pub fn nobody(&self) -> Client {
        Client { router: self.cc.router(), authorization: None }
    }

    /// Runs one statement; for what has no API (yet).
    pub async fn sql(&self, text: &str) {
        let mut tx = self.db.begin().await.expect("a transaction");
        tx.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(text.to_owned()))).await.expect(text);
        tx.commit().await.expect("a commit");
    }

    /// Makes an organization and a space, `("org", "space")` giving guids `org-org` and `space-space`.
    pub async fn space(&self, org: &str, space: &str) -> String {
        self.sql(&format!(
            "INSERT INTO organizations (guid, name, quota_guid, created_at, updated_at) SELECT 'org-{org}', '{org}', guid, 1, 1 \
             FROM organization_quotas WHERE name = 'default' AND NOT EXISTS (SELECT 1 FROM organizations WHERE guid = 'org-{org}')"
        ))
        .await;
        self.sql(&format!(
            "INSERT INTO spaces (guid, name, org_guid, created_at, updated_at) VALUES ('space-{space}', '{space}', 'org-{org}', 1, 1)"
        ))
        .await;
        format!("space-{space}")
    }

    /// Gives a role: `role("alice", "space_developer", "org-o", "space-s")`; an empty space for organization roles.
    pub async fn role(&self, user: &str, kind: &str, org: &str, space: &str) {
        self.sql(&format!(
            "INSERT INTO roles (guid, type, user_guid, org_guid, space_guid, created_at, updated_at) \
             VALUES ('role-{user}-{kind}-{org}-{space}', '{kind}', '{user}', '{org}', '{space}', 1, 1)"
        ))
        .await;
    }

    /// Waits until what requests left to be done beside them is done.
    pub async fn settled(&self) {
        let idle = async {
            // The bridge's loops never end; everything beyond them does.
            while self.tasks.len() > self.loops {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), idle)
            .await
            .expect("work beside the requests never ended");
    }

    /// Waits for a log line that holds `text`.
    pub async fn line_when(&self, text: &str) {
        let mut lines = self.logs.0.subscribe();
        let look = lines.wait_for(|lines| lines.iter().any(|line| line.contains(text)));
        tokio::time::timeout(Duration::from_secs(20), look)
            .await
            .expect("the line never came")
            .expect("the sink lives");
    }

    /// The log lines so far, as `[API] Created app …`.
    pub fn lines(&self) -> Vec<String> {
        self.logs.0.borrow().clone()
    }
}

/// Log lines as they come, for whoever waits for one.
#[derive(Debug, Default)]
pub struct Lines(watch::Sender<Vec<String>>);

impl Sink for Lines {
    fn emit(&self, envelope: Envelope) {
        if let Message::Log { payload, .. } = &envelope.message {
            let source = envelope.tags.get("source_type").map_or("", String::as_str);
            let line = format!("[{source}] {}", String::from_utf8_lossy(payload));
            self.0.send_modify(|lines| lines.push(line));
        }
    }
}

/// Somebody who asks.
pub struct Client {
    router: Router,
    authorization: Option<String>,
}

/// What came back. `body` is null when there was none or it was no JSON.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
    pub bytes: Vec<u8>,
}

impl Client {
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body)).await
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| ("application/json".to_owned(), body.to_string().into_bytes()));
        self.raw(method, path, body).await
    }

    /// One multipart field of a file, and text fields beside it.
    pub async fn upload(
        &self,
        path: &str,
        field: &str,
        content: &[u8],
        texts: &[(&str, &str)],
    ) -> Answer {
        let mut body = Vec::new();
        for (name, text) in texts {
            body.extend(
                format!(
                    "--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n"
                )
                .into_bytes(),
            );
        }
        let head = format!(
            "--XX\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"f\"\r\n\r\n"
        );
        body.extend(head.into_bytes());
        body.extend_from_slice(content);
        body.extend(b"\r\n--XX--\r\n");
        self.raw(Method::POST, path, Some(("multipart/form-data; boundary=XX".to_owned(), body)))
            .await
    }

    pub async fn raw(&self, method: Method, path: &str, body: Option<(String, Vec<u8>)>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header(HOST, "api.test");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let body = match body {
            Some((kind, bytes)) => {
                request = request.header(CONTENT_TYPE, kind);
                Body::from(bytes)
            }
            None => Body::empty(),
        };
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 64 << 20).await.unwrap().to_vec();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body, bytes }
    }

    /// Makes an app and answers its guid.
    pub async fn app(&self, name: &str, space: &str) -> String {
        let body =
            json!({ "name": name, "relationships": { "space": { "data": { "guid": space } } } });
        self.post("/v3/apps", body).await.expect(201)["guid"].as_str().unwrap().to_owned()
    }
}

impl Answer {
    /// The body, when the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.bytes));
        self.body
    }

    /// `404 CF-ResourceNotFound: App not found`.
    pub fn error(&self) -> String {
        let error = &self.body["errors"][0];
        format!(
            "{} {}: {}",
            self.status.as_u16(),
            error["title"].as_str().unwrap_or("?"),
            error["detail"].as_str().unwrap_or("?")
        )
    }

    /// The job's path, from a 202's `Location`.
    #[track_caller]
    pub fn job(&self) -> String {
        assert_eq!(self.status, StatusCode::ACCEPTED, "{}", String::from_utf8_lossy(&self.bytes));
        let location = self.headers[LOCATION].to_str().unwrap();
        location.strip_prefix("http://api.test").unwrap().to_owned()
    }

    /// What stands under `key` of each resource, joined by spaces.
    #[track_caller]
    pub fn column(&self, key: &str) -> String {
        let resources =
            self.body["resources"].as_array().unwrap_or_else(|| panic!("no list: {}", self.body));
        let text =
            |item: &Value| item[key].as_str().map_or_else(|| item[key].to_string(), str::to_owned);
        resources.iter().map(text).collect::<Vec<_>>().join(" ")
    }
}
