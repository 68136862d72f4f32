//! A small Cloud Foundry that plays its part by heart, and a person's directory and terminal.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base::{CancellationToken, Clock, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cli::{Io, Terminal};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// The time it is in every test.
pub const NOW: i64 = 1_769_860_800;

/// An answer; a 202 names its job.
#[derive(Clone)]
pub struct Answer {
    status: u16,
    body: Value,
    headers: Vec<(&'static str, String)>,
}

impl Answer {
    pub fn ok(body: Value) -> Answer {
        Answer { status: 200, body, headers: Vec::new() }
    }

    pub fn status(status: u16, body: Value) -> Answer {
        Answer { status, body, headers: Vec::new() }
    }

    pub fn refusal(status: u16, title: &str, detail: &str) -> Answer {
        Answer::status(
            status,
            json!({ "errors": [{ "code": 1, "title": title, "detail": detail }] }),
        )
    }

    pub fn job(location: &str) -> Answer {
        Answer { status: 202, body: Value::Null, headers: vec![("location", location.to_owned())] }
    }

    pub fn list(resources: Value) -> Answer {
        Answer::ok(json!({ "pagination": { "next": null }, "resources": resources }))
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Answer {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// What was asked of the server.
#[derive(Clone, Debug)]
pub struct Asked {
    pub call: String,
    pub query: String,
    pub token: String,
    pub body: Bytes,
}

impl Asked {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn is_change(&self) -> bool {
        !self.call.starts_with("GET")
    }
}

#[derive(Default)]
struct Script {
    /// By call; the last answer is given again and again.
    answers: BTreeMap<String, VecDeque<Answer>>,
    asked: Vec<Asked>,
}

/// The server, a home for the configuration, a directory to push from.
pub struct World {
    pub url: String,
    pub dir: tempfile::TempDir,
    home: tempfile::TempDir,
    script: Arc<Mutex<Script>>,
    pub env: BTreeMap<String, String>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// A way in over TLS, as long as it lives.
pub struct Secure {
    pub url: String,
    task: JoinHandle<()>,
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a command went.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A token of this user that expires at that second.
pub fn token(user: &str, expires: i64) -> String {
    let claims = json!({ "user_name": user, "user_id": format!("{user}-guid"), "origin": "uaa", "exp": expires });
    format!("{}.{}.sign", URL_SAFE_NO_PAD.encode("{}"), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

impl World {
    pub async fn start() -> World {
        let script = Arc::new(Mutex::new(Script::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let router = Router::new().fallback(answer).with_state(script.clone());
        let task = tokio::spawn({
            let stop = stop.clone();
            async move { base::http::serve(listener, router, stop).await.unwrap() }
        });
        let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let env =
            BTreeMap::from([("CF_HOME".to_owned(), home.path().to_string_lossy().into_owned())]);
        let world = World { url: url.clone(), dir, home, script, env, stop, task };
        let link = |href: &str| json!({ "href": href });
        let root = json!({ "links": {
            "self": link(&url), "cloud_controller_v3": { "href": format!("{url}/v3"), "meta": { "version": "3.228.0" } },
            "login": link(&url), "uaa": link(&url), "log_cache": link(&url), "logging": null,
        } });
        world.on("GET /", Answer::ok(root));
        world.on("GET /login", Answer::ok(json!({ "prompts": { "username": ["text", "Email"], "password": ["password", "Password"] } })));
        world.on("POST /oauth/token", Answer::ok(json!({ "access_token": token("ada", NOW + 600), "refresh_token": "refresh", "token_type": "bearer" })));
        world.on(
            "GET /v3/organizations",
            Answer::list(json!([{ "guid": "org-guid", "name": "acme" }])),
        );
        world.on("GET /v3/spaces", Answer::list(json!([{ "guid": "space-guid", "name": "dev" }])));
        world
    }

    /// A world where somebody is logged in and has chosen a space.
    pub async fn targeted() -> World {
        let world = World::start().await;
        let ran = world.cf(&["login", "-a", &world.url, "-u", "ada", "-p", "secret"]).await;
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        world.forget();
        world
    }

    /// The same server under a certificate that it made itself.
    pub async fn behind_tls(&self) -> Secure {
        base::http::install_crypto();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let plain = self.url.trim_start_matches("http://").to_owned();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // A client that dislikes the certificate hangs up.
                let Ok(mut secure) = acceptor.accept(stream).await else { continue };
                let mut inner = tokio::net::TcpStream::connect(&plain).await.unwrap();
                connections.spawn(async move {
                    tokio::io::copy_bidirectional(&mut secure, &mut inner).await
                });
            }
        });
        Secure { url, task }
    }

    /// What was asked until now is of no interest.
    pub fn forget(&self) {
        self.script.lock().unwrap().asked.clear();
    }

    /// Adds an answer to a call; several are given one after the other.
    pub fn on(&self, call: &str, answer: Answer) {
        self.script.lock().unwrap().answers.entry(call.to_owned()).or_default().push_back(answer);
    }

    /// Forgets what was scripted for a call.
    pub fn replace(&self, call: &str, answer: Answer) {
        self.script.lock().unwrap().answers.insert(call.to_owned(), VecDeque::from([answer]));
    }

    pub fn file(&self, path: &str, content: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub async fn cf(&self, args: &[&str]) -> Ran {
        self.cf_with(args, "").await
    }

    /// Runs a command for one who types `input`.
    pub async fn cf_with(&self, args: &[&str], input: &str) -> Ran {
        let (out, err) = (Shared::default(), Shared::default());
        let mut io = Io {
            stdin: Box::new(io::Cursor::new(input.as_bytes().to_vec())),
            stdout: Box::new(out.clone()),
            stderr: Box::new(err.clone()),
            terminal: Terminal::default(),
            env: self.env.clone(),
            dir: self.dir.path().to_owned(),
            clock: Clock::manual(Timestamp::from_secs(NOW)),
            program: "cf".to_owned(),
        };
        let code = cli::run(args.iter().map(Into::into).collect(), &mut io).await;
        // The server's port and the directory differ from run to run.
        let dir = self.dir.path().canonicalize().unwrap();
        let plain = |text: String| {
            text.replace(&self.url, "http://api").replace(&*dir.to_string_lossy(), "DIR")
        };
        Ran { code, out: plain(out.text()), err: plain(err.text()) }
    }

    pub fn config(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.home.path().join(".cf/config.json")).unwrap())
            .unwrap()
    }

    pub fn asked_where(&self, is_wanted: impl Fn(&Asked) -> bool) -> Vec<Asked> {
        let script = self.script.lock().unwrap();
        script.asked.iter().filter(|asked| is_wanted(asked)).cloned().collect()
    }

    pub fn asked(&self, call: &str) -> Vec<Asked> {
        self.asked_where(|asked| asked.call == call)
    }

    /// Every call so far that changes something, in order.
    pub fn changes(&self) -> String {
        let changes = self.asked_where(Asked::is_change);
        changes.iter().map(|asked| asked.call.as_str()).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response {
    let call = format!("{} {}", request.method(), request.uri().path());
    let query = request.uri().query().unwrap_or_default().to_owned();
    let token = request
        .headers()
        .get("authorization")
        .map(|value| value.to_str().unwrap().to_owned())
        .unwrap_or_default();
    let body = to_bytes(request.into_body(), 64 << 20).await.unwrap();
    let mut script = script.lock().unwrap();
    script.asked.push(Asked { call: call.clone(), query: query.clone(), token, body });
    let Some(answers) = script.answers.get_mut(&call) else {
        // A list nobody scripted is empty, as in a new installation.
        let known_empty = ["/sidecars", "/v3/deployments", "/api/v1/read/"]
            .iter()
            .any(|part| call.contains(part));
        let empty = json!({ "pagination": { "next": null }, "resources": [], "envelopes": { "batch": [] } });
        let missing = json!({ "errors": [{ "code": 10000, "title": "CF-NotFound", "detail": "Unknown request" }] });
        let (status, body) =
            if known_empty { (StatusCode::OK, empty) } else { (StatusCode::NOT_FOUND, missing) };
        return (status, axum::Json(body)).into_response();
    };
    let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
    let mut answer = answer.unwrap();
    if call.starts_with("GET /api/v1/read/") {
        from_start_on(&mut answer.body, &query);
    }
    let mut response =
        (StatusCode::from_u16(answer.status).unwrap(), axum::Json(answer.body)).into_response();
    for (name, value) in answer.headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// Log-cache gives what is not older than it was asked for.
fn from_start_on(body: &mut Value, query: &str) {
    let start = query.split('&').find_map(|pair| pair.strip_prefix("start_time="));
    let start: i64 = start.map_or(0, |text| text.parse().unwrap());
    let nanos = |envelope: &Value| envelope["timestamp"].as_str().unwrap().parse::<i64>().unwrap();
    if let Some(batch) = body["envelopes"]["batch"].as_array_mut() {
        batch.retain(|envelope| nanos(envelope) >= start);
    }
}
