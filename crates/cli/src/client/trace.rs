//! Requests and answers as `-v` shows them, without secrets.

use base::Timestamp;
use reqwest::Request;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::Value;

use super::Answer;

const HIDDEN: &str = "[PRIVATE DATA HIDDEN]";
/// Keys whose values are nobody's business.
const SECRET: &[&str] = &["token", "password", "secret", "passcode", "assertion", "credential"];

#[derive(Clone, Default)]
pub struct Tracer;

impl Tracer {
    pub fn request(&self, request: &Request, body: &str, now: Timestamp) -> String {
        let url = request.url();
        let path = url
            .query()
            .map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let host = url.host_str().unwrap_or_default();
        let headers = show_headers(request.headers());
        format!(
            "REQUEST: [{}]\n{} {path} HTTP/1.1\nHost: {host}\n{headers}{}\n",
            now.to_rfc3339(),
            request.method(),
            show_body(body)
        )
    }

    pub fn response(&self, answer: &Answer, body: &[u8], now: Timestamp) -> String {
        let headers = show_headers(&answer.headers);
        let body = show_body(&String::from_utf8_lossy(body));
        format!(
            "RESPONSE: [{}]\n{:?} {}\n{headers}{body}\n",
            now.to_rfc3339(),
            answer.version,
            answer.status
        )
    }
}

fn show_headers(headers: &HeaderMap) -> String {
    let line = |name: &str, value: &str| format!("{name}: {value}\n");
    headers
        .iter()
        .map(|(name, value)| {
            let hidden = *name == AUTHORIZATION || name == "set-cookie" || name == "cookie";
            line(name.as_str(), if hidden { HIDDEN } else { value.to_str().unwrap_or("?") })
        })
        .collect()
}

fn show_body(body: &str) -> String {
    match serde_json::from_str::<Value>(body) {
        Ok(mut value) => {
            hide(&mut value);
            format!("{value:#}\n")
        }
        Err(_) if body.is_empty() => String::new(),
        Err(_) if SECRET.iter().any(|word| body.contains(word)) => format!("{HIDDEN}\n"),
        Err(_) => format!("{body}\n"),
    }
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.to_lowercase();
                if value.is_string() && SECRET.iter().any(|word| key.contains(word)) {
                    *value = HIDDEN.into();
                } else {
                    hide(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_hidden() {
        assert!(
            !show_body(r#"{"access_token":"abc","deep":[{"password":"abc"}]}"#).contains("abc")
        );
        assert!(!show_body("grant_type=password&password=abc").contains("abc"));
        assert!(show_body(r#"{"name":"abc"}"#).contains("abc"));
    }
}
