//! The HTTP side: v3 requests with tokens that refresh themselves, pagination, jobs, and errors as `cf` words them.

mod body;
mod download;
mod jobs;
mod lookup;
mod pace;
mod trace;
mod uaa;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::Clock;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, USER_AGENT};
use reqwest::{Method, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use body::{Body, File, Upload};
pub use download::fetch;
pub use pace::Pace;
pub use trace::Trace;
pub use uaa::Grant;

use crate::config::Config;
use crate::error::{ApiError, Error, Result};
use crate::ui::Notices;

/// A token that lasts less than this is renewed before it is used.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// An upload may take long, and its body is sent once.
const RENEW_BEFORE_UPLOAD: Duration = Duration::from_secs(300);
/// Servers hold an answer for some seconds; one that takes this long will not come.
/// Less than what servers and what stands before them keep a silent connection for.
const IDLE_CONNECTION: Duration = Duration::from_secs(10);
const LONGEST_ANSWER: Duration = Duration::from_secs(120);
const LONGEST_UPLOAD: Duration = Duration::from_secs(3600);
/// What `cf curl` asks for may be anything, also a large download.
const LONGEST_CURL: Duration = Duration::from_secs(600);
/// The largest page the API gives.
const PER_PAGE: &str = "5000";
/// A list longer than this many pages is a server that goes in circles.
const MOST_PAGES: usize = 1000;
const RETRIES: usize = 2;
const MOST_BODY: usize = 256 << 20;

/// Clones share connections, configuration and warnings.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub config: Arc<Mutex<Config>>,
    notices: Notices,
    clock: Clock,
    trace: Trace,
    renewing: Arc<tokio::sync::Mutex<()>>,
}

/// An answer that is no refusal.
pub struct Reply {
    pub status: StatusCode,
    pub location: Option<String>,
    pub body: Vec<u8>,
    /// How long the server took: a long answer was held until something changed.
    pub took: Duration,
}

impl Reply {
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::Failed(format!("Invalid JSON content from server: {error}")))
    }
}

/// A whole list, all its pages, with what was included.
#[derive(Debug)]
pub struct List<T> {
    pub resources: Vec<T>,
    pub included: Value,
}

/// What one client of one API needs to know.
pub struct Settings {
    pub config: Arc<Mutex<Config>>,
    pub notices: Notices,
    pub clock: Clock,
    pub trace: Trace,
}

impl Client {
    /// For the API in `config`; made anew when another is targeted.
    pub fn new(settings: Settings) -> Result<Client> {
        let Settings { config, notices, clock, trace } = settings;
        base::http::install_crypto();
        let (skip, target, speaks_tls) = {
            let config = config.lock().expect("no holder of this lock panics");
            (config.skip_ssl_validation, config.target.clone(), config.speaks_tls())
        };
        let builder = || {
            let builder = reqwest::Client::builder()
                .connect_timeout(Duration::from_secs(10))
                // Packing may take minutes; a server has closed by then what it still looks open.
                .pool_idle_timeout(IDLE_CONNECTION)
                .tls_danger_accept_invalid_certs(skip)
                .redirect(reqwest::redirect::Policy::none());
            // A proxy cannot reach this machine's own loopback.
            if Url::parse(&target).ok().is_some_and(|url| is_loopback(&url)) {
                builder.no_proxy()
            } else {
                builder
            }
        };
        // Plain HTTP needs none of the machine's many certificates, and a machine may have none.
        let plain = || builder().tls_certs_only([]).build();
        let http = if speaks_tls { builder().build().or_else(|_| plain()) } else { plain() };
        let http =
            http.map_err(|error| Error::Failed(format!("preparing HTTP: {}", chain(&error))))?;
        Ok(Client { http, config, notices, clock, trace, renewing: Arc::default() })
    }

    fn config(&self) -> std::sync::MutexGuard<'_, Config> {
        self.config.lock().expect("no holder of this lock panics")
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send(Method::GET, path, &[], Body::None).await?.json()
    }

    pub async fn post(&self, path: &str, body: Value) -> Result<Reply> {
        self.send(Method::POST, path, &[], Body::Json(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Result<Reply> {
        self.send(Method::PATCH, path, &[], Body::Json(body)).await
    }

    /// Deletes, and waits for the job that does it when the server made one.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let reply = self.send(Method::DELETE, path, &[], Body::None).await?;
        self.finish(&reply).await
    }

    /// All pages of a list.
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<List<T>> {
        #[derive(serde::Deserialize)]
        struct Page<T> {
            pagination: Pagination,
            resources: Vec<T>,
            #[serde(default)]
            included: Value,
        }
        #[derive(serde::Deserialize)]
        struct Pagination {
            next: Option<Link>,
        }
        #[derive(serde::Deserialize)]
        struct Link {
            href: String,
        }
        let query: Vec<(&str, &str)> =
            query.iter().copied().chain([("per_page", PER_PAGE)]).collect();
        let mut reply = self.send(Method::GET, path, &query, Body::None).await?;
        let mut list = List { resources: Vec::new(), included: json!({}) };
        for _ in 0..MOST_PAGES {
            let page: Page<T> = reply.json()?;
            list.resources.extend(page.resources);
            merge_included(&mut list.included, page.included);
            let Some(next) = page.pagination.next else { return Ok(list) };
            reply = self.send(Method::GET, &next.href, &[], Body::None).await?;
        }
        Err(Error::Failed(format!("the list {path} has more than {MOST_PAGES} pages")))
    }

    /// One request with a fresh token. A token the server rejects is renewed once; a server that stumbles is asked again.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Body,
    ) -> Result<Reply> {
        let uploads = matches!(body, Body::Upload(_));
        self.renew_when_due(if uploads { RENEW_BEFORE_UPLOAD } else { RENEW_BEFORE }).await?;
        let url = self.url(path, query)?;
        let mut renewed = false;
        let mut tries = 0;
        loop {
            match self.attempt(&method, &url, &body).await {
                Err(Error::Api(error)) if error.is_invalid_token() && !renewed && !uploads => {
                    renewed = true;
                    self.renew().await?;
                }
                Err(Error::Api(error))
                    if method != Method::POST
                        && matches!(error.status, 500 | 502..=504)
                        && tries < RETRIES =>
                {
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    async fn attempt(&self, method: &Method, url: &Url, body: &Body) -> Result<Reply> {
        let token = self.config().access_token.clone();
        let mut request =
            self.http.request(method.clone(), url.clone()).headers(self.headers(&token));
        let longest = if matches!(body, Body::Upload(_)) { LONGEST_UPLOAD } else { LONGEST_ANSWER };
        request = request.timeout(longest);
        let mut shown = String::new();
        request = match body {
            Body::None => request,
            Body::Json(value) => {
                shown = value.to_string();
                request.header(CONTENT_TYPE, "application/json").body(shown.clone())
            }
            Body::Yaml(text) => {
                shown.clone_from(text);
                request.header(CONTENT_TYPE, "application/x-yaml").body(text.clone())
            }
            Body::Upload(upload) => {
                "[MULTIPART/FORM-DATA CONTENT HIDDEN]".clone_into(&mut shown);
                request.multipart(upload.form().await?)
            }
        };
        let start = tokio::time::Instant::now();
        let (response, body) = self.exchange(request, &shown).await?;
        self.take_warnings(&response);
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let request_id = header(response.headers(), "x-vcap-request-id");
            return Err(Error::Api(ApiError::new(
                status.as_u16(),
                url.to_string(),
                request_id,
                &body,
            )));
        }
        let location = header(response.headers(), LOCATION.as_str());
        Ok(Reply { status, location, body, took: start.elapsed() })
    }

    /// Sends, reads the whole answer, and shows both when asked to.
    async fn exchange(
        &self,
        request: reqwest::RequestBuilder,
        shown: &str,
    ) -> Result<(Answer, Vec<u8>)> {
        let request = request.build().map_err(|error| self.request_error(&error))?;
        if self.trace.is_wanted() {
            self.trace(&trace::request(&request, shown, self.clock.now()));
        }
        let mut response =
            self.http.execute(request).await.map_err(|error| self.request_error(&error))?;
        let mut body = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| self.request_error(&error))?
        {
            if body.len() + chunk.len() > MOST_BODY {
                return Err(Error::Failed(format!(
                    "the answer of {} is larger than {MOST_BODY} bytes",
                    response.url()
                )));
            }
            body.extend_from_slice(&chunk);
        }
        let answer = Answer::of(&response);
        if self.trace.is_wanted() {
            self.trace(&trace::response(&answer, &body, self.clock.now()));
        }
        Ok((answer, body))
    }

    /// A request as `cf curl` makes it: the answer is shown, whatever it says.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<(Answer, Vec<u8>)> {
        if self.config().is_logged_in() {
            self.renew_when_due(RENEW_BEFORE).await?;
        }
        let token = self.config().access_token.clone();
        let url = self.url(path, &[])?;
        let mut all = self.headers(&token);
        if !body.is_empty() {
            all.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        all.extend(headers);
        let shown = String::from_utf8_lossy(&body).into_owned();
        let answer = self
            .exchange(
                self.http.request(method, url).headers(all).body(body).timeout(LONGEST_CURL),
                &shown,
            )
            .await?;
        self.take_warnings(&answer.0);
        Ok(answer)
    }

    fn headers(&self, token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("cf/8 (cupola ", env!("CARGO_PKG_VERSION"), ")")),
        );
        headers.insert("accept", HeaderValue::from_static("application/json"));
        if let Ok(mut value) = HeaderValue::from_str(token)
            && !token.is_empty()
        {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        headers
    }

    /// A path is the API's; an absolute URL (a link the API gave) stays as it is.
    fn url(&self, path: &str, query: &[(&str, &str)]) -> Result<Url> {
        let target = self.config().target.clone();
        let text = if path.starts_with("http://") || path.starts_with("https://") {
            path.to_owned()
        } else {
            format!("{}/{}", target.trim_end_matches('/'), path.trim_start_matches('/'))
        };
        let mut url =
            Url::parse(&text).map_err(|error| Error::Request(format!("{text}: {error}")))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    fn take_warnings(&self, answer: &Answer) {
        let Some(warnings) = header(&answer.headers, "x-cf-warnings") else { return };
        for warning in warnings.split(',') {
            let text: String =
                url::form_urlencoded::parse(format!("w={}", warning.trim()).as_bytes())
                    .map(|(_, value)| value.into_owned())
                    .collect();
            self.note(text);
        }
    }

    fn trace(&self, text: &str) {
        if self.trace.screen {
            self.note(text.to_owned());
        }
        if let Some(Err(error)) = self.trace.file.as_ref().map(|path| trace::append(path, text)) {
            self.note(format!("Error writing the trace: {error}"));
        }
    }

    fn note(&self, text: String) {
        self.notices.lock().expect("no holder of this lock panics").push(text);
    }

    fn request_error(&self, error: &reqwest::Error) -> Error {
        let text = chain(error);
        if text.contains("certificate") {
            let url = self.config().target.clone();
            return Error::Certificate { url, command: "api" };
        }
        Error::Request(text)
    }
}

/// The head of an answer.
pub struct Answer {
    status: StatusCode,
    pub version: reqwest::Version,
    pub headers: HeaderMap,
}

impl Answer {
    fn of(response: &Response) -> Answer {
        Answer {
            status: response.status(),
            version: response.version(),
            headers: response.headers().clone(),
        }
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

/// Adds what a page included to what earlier pages did.
fn merge_included(all: &mut Value, page: Value) {
    let (Some(all), Value::Object(page)) = (all.as_object_mut(), page) else { return };
    for (kind, items) in page {
        match (all.get_mut(&kind).and_then(Value::as_array_mut), items) {
            (Some(have), Value::Array(more)) => have.extend(more),
            (_, items) => {
                all.insert(kind, items);
            }
        }
    }
}

pub fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// An error with its causes, outermost first.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A comma separates values in a filter; one inside a value is encoded once more.
pub fn filter_value(text: &str) -> String {
    text.replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_add_up() {
        let mut all = json!({});
        merge_included(&mut all, json!({"spaces": [1]}));
        merge_included(&mut all, json!({"spaces": [2], "organizations": [3]}));
        assert_eq!(all, json!({"spaces": [1, 2], "organizations": [3]}));
        merge_included(&mut all, Value::Null);
        assert_eq!(all["spaces"], json!([1, 2]));
    }

    #[test]
    fn loopback_needs_no_proxy() {
        for (url, want) in [
            ("http://127.0.0.1:8080", true),
            ("http://localhost", true),
            ("http://[::1]:1", true),
            ("https://api.example.com", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), want, "{url}");
        }
    }
}
