//! Requests and answers as `-v` shows them, without secrets.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base::Timestamp;
use reqwest::Request;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::Value;

use super::Answer;

const HIDDEN: &str = "[PRIVATE DATA HIDDEN]";
/// Keys whose values are nobody's business.
const SECRET: &[&str] = &["token", "password", "secret", "passcode", "assertion", "credential"];

/// Where requests and answers are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub screen: bool,
    pub file: Option<PathBuf>,
}

impl Trace {
    /// As people wish for it: `true` means the screen, `false` nothing, all else is a file's name.
    pub fn add(&mut self, wish: &str, dir: &Path) {
        match wish {
            "true" | "1" => self.screen = true,
            "" | "false" | "0" => {}
            path => self.file = Some(dir.join(path)),
        }
    }

    pub fn is_wanted(&self) -> bool {
        self.screen || self.file.is_some()
    }
}

/// Adds to the file, which only its owner may read: tokens are hidden, but names and data are not.
pub fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")
}

pub fn request(request: &Request, body: &str, now: Timestamp) -> String {
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

pub fn response(answer: &Answer, body: &[u8], now: Timestamp) -> String {
    let headers = show_headers(&answer.headers);
    let body = show_body(&String::from_utf8_lossy(body));
    format!(
        "RESPONSE: [{}]\n{:?} {}\n{headers}{body}\n",
        now.to_rfc3339(),
        answer.version,
        answer.status
    )
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
    fn a_wish_is_the_screen_or_a_file() {
        let of = |wish: &str| {
            let mut trace = Trace::default();
            trace.add(wish, Path::new("/home"));
            trace
        };
        assert!(of("true").screen && !of("false").is_wanted() && !of("").is_wanted());
        assert_eq!(of("log/trace").file.as_deref(), Some(Path::new("/home/log/trace")));
    }

    #[test]
    fn secrets_stay_hidden() {
        assert!(
            !show_body(r#"{"access_token":"abc","deep":[{"password":"abc"}]}"#).contains("abc")
        );
        assert!(!show_body("grant_type=password&password=abc").contains("abc"));
        assert!(show_body(r#"{"name":"abc"}"#).contains("abc"));
    }
}
