//! The router between real clients and real backends, on loopback.

mod tcp;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router as App;
use axum::body::Body;
use axum::extract::WebSocketUpgrade;
use axum::extract::ws::Message;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use base::{CancellationToken, Clock};
use diego::LrpKey;
use diego::routing::{Endpoint, Routers as _, TableUpdate};
use envelope::{Collect, Message as Payload};
use futures::{SinkExt as _, StreamExt as _};
use router::tls::Identity;
use router::{Config, Router};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite;

/// A router on a free port, stopped when dropped.
struct Rig {
    router: Router,
    address: SocketAddr,
    logs: Collect,
    stop: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn rig() -> Rig {
    let front = App::new().fallback(any(async |headers: HeaderMap| {
        format!("platform over {}", headers["x-forwarded-proto"].to_str().unwrap())
    }));
    let (logs, stop) = (Collect::default(), CancellationToken::new());
    let router = Router::new(Config::default(), front, Arc::new(logs.clone()), Clock::system());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (serving, end) = (router.clone(), stop.clone());
    tokio::spawn(async move { serving.serve_http(listener, end).await });
    Rig { router, address, logs, stop }
}

fn endpoint(index: u32, address: SocketAddr) -> Endpoint {
    Endpoint {
        address,
        key: LrpKey { process_guid: "process".into(), index, domain: "test".into() },
        instance_guid: format!("instance-{index}").into(),
        http2: false,
        route_service_url: String::new(),
        options: serde_json::Value::Null,
        log_guid: "app".into(),
        tags: Arc::new(BTreeMap::new()),
    }
}

impl Rig {
    async fn map(&self, route: &str, index: u32, address: SocketAddr) {
        let endpoint = endpoint(index, address);
        self.router
            .apply(TableUpdate::Delta { add: vec![(route.to_owned(), endpoint)], remove: vec![] })
            .await;
    }

    fn request(&self, method: reqwest::Method, host: &str, path: &str) -> reqwest::RequestBuilder {
        base::http::client(None)
            .request(method, format!("http://{}{path}", self.address))
            .header("host", host)
    }

    async fn get(&self, host: &str, path: &str) -> (StatusCode, String) {
        let response = self.request(reqwest::Method::GET, host, path).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }
}

impl Rig {
    /// The line is written when the server lets go of the body, which may be after the client has read it.
    async fn first_line(&self) -> String {
        let text = |payload: &Payload| match payload {
            Payload::Log { payload, .. } => Some(String::from_utf8_lossy(payload).into_owned()),
            _ => None,
        };
        loop {
            let found =
                self.logs.0.lock().unwrap().iter().find_map(|envelope| text(&envelope.message));
            match found {
                Some(line) => return line,
                None => tokio::task::yield_now().await,
            }
        }
    }
}

async fn backend(app: App) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Nobody listens there.
async fn dead() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn the_front_door_tells_the_platform_from_apps() {
    let rig = rig().await;
    rig.map("app.localhost", 0, backend(App::new().route("/", get(async || "app"))).await).await;
    assert_eq!(
        rig.get("localhost", "/v3").await,
        (StatusCode::OK, "platform over http".to_owned())
    );
    assert_eq!(rig.get("127.0.0.1:9", "/").await.1, "platform over http");
    assert_eq!(rig.get("app.localhost:8080", "/").await.1, "app");
    let (status, body) = rig.get("other.localhost", "/").await;
    assert_eq!(
        (status, body.as_str()),
        (
            StatusCode::NOT_FOUND,
            "404 Not Found: Requested route ('other.localhost') does not exist.\n"
        )
    );
}

#[tokio::test]
async fn the_app_learns_who_asked_and_the_log_what_it_answered() {
    let rig = rig().await;
    let echo = async |headers: HeaderMap| {
        let names = [
            "host",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-cf-applicationid",
            "x-cf-instanceindex",
        ];
        names.map(|name| headers[name].to_str().unwrap().to_owned()).join(" ")
    };
    rig.map("app.localhost", 3, backend(App::new().route("/", get(echo))).await).await;
    let response = rig
        .request(reqwest::Method::GET, "app.localhost", "/")
        .header("x-cf-instanceindex", "9")
        .send()
        .await
        .unwrap();
    assert!(response.headers().contains_key("x-vcap-request-id"));
    assert_eq!(response.text().await.unwrap(), "app.localhost 127.0.0.1 http app 3");
    let line = rig.first_line().await;
    assert!(
        line.starts_with("app.localhost - [") && line.contains("\"GET / HTTP/1.1\" 200 0 34 "),
        "{line}"
    );
}

#[tokio::test]
async fn a_dead_endpoint_costs_no_request_even_with_a_body() {
    let rig = rig().await;
    let echo = App::new().route("/", axum::routing::post(async |body: String| body));
    rig.map("app.localhost", 0, dead().await).await;
    rig.map("app.localhost", 1, backend(echo).await).await;
    for n in 0..20 {
        let response = rig
            .request(reqwest::Method::POST, "app.localhost", "/")
            .body(format!("body {n}"))
            .send()
            .await
            .unwrap();
        assert_eq!(response.text().await.unwrap(), format!("body {n}"));
    }
}

#[tokio::test]
async fn when_every_endpoint_is_dead_the_answer_is_502() {
    let rig = rig().await;
    rig.map("app.localhost", 0, dead().await).await;
    let response = rig.request(reqwest::Method::GET, "app.localhost", "/").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert!(
        response.headers()["x-cf-routererror"].to_str().unwrap().starts_with("endpoint_failure (")
    );
    assert_eq!(
        response.text().await.unwrap(),
        "502 Bad Gateway: Registered endpoint failed to handle the request.\n"
    );
}

#[tokio::test]
async fn an_instance_can_be_named() {
    let rig = rig().await;
    for index in 0..2 {
        rig.map(
            "app.localhost",
            index,
            backend(App::new().route("/", get(async move || index.to_string()))).await,
        )
        .await;
    }
    let ask = async |value: &str| {
        rig.request(reqwest::Method::GET, "app.localhost", "/")
            .header("x-cf-app-instance", value)
            .send()
            .await
            .unwrap()
    };
    for index in ["0", "1", "1", "0"] {
        assert_eq!(ask(&format!("app:{index}")).await.text().await.unwrap(), index);
    }
    let unknown = ask("app:7").await;
    assert_eq!(
        (unknown.status(), unknown.headers()["x-cf-routererror"].to_str().unwrap()),
        (StatusCode::BAD_REQUEST, "unknown_route")
    );
    assert_eq!(ask("nonsense").await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let rig = rig().await;
    let echo =
        async |request: Request<Body>| Body::from_stream(request.into_body().into_data_stream());
    rig.map("app.localhost", 0, backend(App::new().route("/", axum::routing::post(echo))).await)
        .await;
    let (mut send, receive) = futures::channel::mpsc::channel::<Result<String, std::io::Error>>(1);
    let body = reqwest::Body::wrap_stream(receive);
    send.send(Ok("one".to_owned())).await.unwrap();
    let response =
        rig.request(reqwest::Method::POST, "app.localhost", "/").body(body).send().await.unwrap();
    let mut answer = response.bytes_stream();
    assert_eq!(answer.next().await.unwrap().unwrap(), "one");
    // The first piece came back before the second was sent.
    send.send(Ok("two".to_owned())).await.unwrap();
    assert_eq!(answer.next().await.unwrap().unwrap(), "two");
    drop(send);
    assert!(answer.next().await.is_none());
}

#[tokio::test]
async fn websockets_pass() {
    let rig = rig().await;
    let echo = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| {
            while let Some(Ok(Message::Text(text))) = socket.recv().await {
                socket.send(Message::Text(text)).await.unwrap();
            }
        })
    };
    rig.map("app.localhost", 0, backend(App::new().route("/ws", get(echo))).await).await;
    let stream = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    let (mut socket, _) =
        tokio_tungstenite::client_async("ws://app.localhost/ws", stream).await.unwrap();
    for text in ["hello", "again"] {
        socket.send(tungstenite::Message::text(text)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), tungstenite::Message::text(text));
    }
}

#[tokio::test]
async fn clients_speak_http2_over_tls() {
    let rig = rig().await;
    let version = async |request: Request<Body>| {
        format!(
            "{:?} {}",
            request.version(),
            request.headers()["x-forwarded-proto"].to_str().unwrap()
        )
        .into_response()
    };
    rig.map("app.localhost", 0, backend(App::new().route("/", get(version))).await).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Identity::self_made(vec!["*.localhost".to_owned()]).unwrap().server_config().unwrap();
    let (serving, stop) = (rig.router.clone(), rig.stop.clone());
    tokio::spawn(async move { serving.serve_https(listener, tls, stop).await });
    base::http::install_crypto();
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .resolve("app.localhost", address)
        .no_proxy()
        .build()
        .unwrap();
    let response =
        client.get(format!("https://app.localhost:{}/", address.port())).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert_eq!(response.text().await.unwrap(), "HTTP/1.1 https");
}
