//! A UAA on an empty database with a clock that tests move, and short ways to call it.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use base::{Clock, Timestamp};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use uaa::{ClientConfig, Config, Uaa};

pub const ADMIN_PASSWORD: &str = "correct horse";
pub const SERVICE: (&str, &str) = ("doppler", "doppler-secret");
pub const OPERATOR: (&str, &str) = ("admin", "admin-secret");
pub const CF: (&str, &str) = ("cf", "");

pub struct World {
    pub uaa: Uaa,
    pub db: sql::Db,
    pub clock: Clock,
    router: Router,
}

pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
    pub text: String,
    pub headers: axum::http::HeaderMap,
}

/// Runs a test on each engine.
pub async fn on_each_database(test: impl AsyncFn(World)) {
    for db in sql::testing::databases().await {
        test(World::open(db, Clock::manual(Timestamp::from_secs(1_800_000_000))).await).await;
    }
}

pub fn config() -> Config {
    let secret = |(id, secret): (&str, &str)| ClientConfig {
        client_id: id.to_owned(),
        secret: Some(secret.to_owned()),
        ..ClientConfig::default()
    };
    let proxy = secret(("ssh-proxy", "proxy-secret"));
    let lookup = secret(("cloud_controller_username_lookup", "lookup-secret"));
    let clients = vec![secret(SERVICE), secret(OPERATOR), proxy, lookup];
    Config { clients, ..Config::new("https://uaa.example.com", vec![7; 32], ADMIN_PASSWORD) }
}

impl World {
    pub async fn open(db: sql::Db, clock: Clock) -> World {
        let uaa = Uaa::open(db.clone(), config(), clock.clone()).await.unwrap();
        World { router: uaa.router(), uaa, db, clock }
    }

    pub fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text }
    }

    pub async fn call(&self, method: Method, path: &str, bearer: &str, body: Value) -> Answer {
        let request =
            Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
        let request = if bearer.is_empty() {
            request
        } else {
            request.header(header::AUTHORIZATION, format!("bearer {bearer}"))
        };
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(request.body(body).unwrap()).await
    }

    pub async fn get(&self, path: &str, bearer: &str) -> Answer {
        self.call(Method::GET, path, bearer, Value::Null).await
    }

    pub async fn post(&self, path: &str, bearer: &str, body: Value) -> Answer {
        self.call(Method::POST, path, bearer, body).await
    }

    /// A form with Basic credentials.
    pub async fn form(
        &self,
        path: &str,
        (id, secret): (&str, &str),
        form: &[(&str, &str)],
    ) -> Answer {
        use base64::Engine as _;
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{id}:{secret}"));
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = Request::post(path)
            .header(header::AUTHORIZATION, format!("Basic {basic}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    pub async fn log_in(&self, name: &str, password: &str) -> Answer {
        let form = [("grant_type", "password"), ("username", name), ("password", password)];
        self.form("/oauth/token", CF, &form).await
    }

    pub async fn admin(&self) -> String {
        self.log_in("admin", ADMIN_PASSWORD).await.ok()["access_token"].as_str().unwrap().to_owned()
    }

    /// A token of a client itself.
    pub async fn client(&self, client: (&str, &str)) -> String {
        let answer =
            self.form("/oauth/token", client, &[("grant_type", "client_credentials")]).await;
        answer.ok()["access_token"].as_str().unwrap().to_owned()
    }

    /// A user with a password, as `cf create-user` makes it; its guid.
    pub async fn user(&self, name: &str, password: &str) -> String {
        let body = json!({
            "userName": name, "password": password, "origin": "", "name": { "familyName": name, "givenName": name },
            "emails": [{ "value": name, "primary": true }],
        });
        let answer = self.post("/Users", &self.admin().await, body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        answer.body["id"].as_str().unwrap().to_owned()
    }
}

impl Answer {
    #[track_caller]
    pub fn ok(&self) -> &Value {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text);
        &self.body
    }

    #[track_caller]
    pub fn refused(&self, status: u16, error: &str) -> &str {
        assert_eq!(
            (self.status.as_u16(), self.body["error"].as_str()),
            (status, Some(error)),
            "{}",
            self.text
        );
        self.body["error_description"].as_str().unwrap()
    }
}

/// The claims of a token, unchecked.
pub fn claims(token: &Value) -> Value {
    use base64::Engine as _;
    let part = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap())
        .unwrap()
}
