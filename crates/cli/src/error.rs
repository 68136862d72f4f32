//! What goes wrong, in the sentences `cf` is known for: they are shown to people as they stand.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A whole sentence, said already in the right words.
    #[error("{0}")]
    Failed(String),
    /// What a command is about is not there; some commands can do without.
    #[error("{0}")]
    Missing(String),
    /// The command was called wrongly: its help follows.
    #[error("Incorrect Usage: {0}")]
    Usage(String),
    #[error(transparent)]
    Api(ApiError),
    #[error(transparent)]
    Uaa(UaaError),
    #[error(
        "Request error: {0}\nTIP: If you are behind a firewall and require an HTTP proxy, verify the https_proxy environment variable is correctly set. Else, check your network connection."
    )]
    Request(String),
    #[error(
        "Invalid SSL Cert for {url}\nTIP: Use 'cf {command} --skip-ssl-validation' to continue with an insecure API endpoint"
    )]
    Certificate { url: String, command: &'static str },
    #[error("The requested URL returned error: {0}")]
    CurlStatus(u16),
    #[error("Start unsuccessful\n\nTIP: use '{cf} logs {app} --recent' for more information")]
    Crashed { cf: String, app: String },
    #[error(
        "Start app timeout\n\nTIP: Application must be listening on the right port. Instead of hard coding the port, use the $PORT environment variable.\n\nUse '{cf} logs {app} --recent' for more information"
    )]
    StartTimeout { cf: String, app: String },
    /// A job of the server ended badly.
    #[error("Job ({guid}) failed: {detail}")]
    Job { guid: String, detail: String },
    #[error("EOF")]
    EndOfInput,
}

impl Error {
    /// Flags that exclude each other were given.
    pub fn together(flags: &[&str]) -> Error {
        Error::Usage(format!(
            "The following arguments cannot be used together: {}",
            flags.join(", ")
        ))
    }

    /// A flag was given without the one it needs.
    pub fn apart(flag: &str, needs: &str) -> Error {
        Error::Usage(format!("'{flag}' and '{needs}' must be used together."))
    }

    pub fn exit_code(&self) -> i32 {
        if let Error::CurlStatus(_) = self { 22 } else { 1 }
    }

    /// The sentence of a refusal by the Cloud Controller with this status, to decide what it means.
    pub fn api_detail(&self, status: u16) -> Option<&str> {
        match self {
            Error::Api(error) if error.status == status => {
                error.errors.first().map(|first| first.detail.as_str())
            }
            _ => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Api(error) if error.status == 404)
    }

    /// A thing of that name exists already: for most `create` commands that is as good as done.
    pub fn already_exists(&self) -> Option<&str> {
        self.api_detail(422)
            .filter(|detail| detail.contains("already exists") || detail.contains("must be unique"))
    }
}

/// A file that could not be made or read: which one, and why, as `open PATH: no such file or directory`.
pub fn unopened(path: &Path, error: &std::io::Error) -> String {
    let why = match error.kind() {
        ErrorKind::NotFound => "no such file or directory".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::IsADirectory => "is a directory".to_owned(),
        ErrorKind::StorageFull => "no space left on device".to_owned(),
        _ => error.to_string(),
    };
    format!("open {}: {why}", path.display())
}

pub fn failed<T>(sentence: impl Into<String>) -> Result<T> {
    Err(Error::Failed(sentence.into()))
}

#[derive(Clone, Debug, Deserialize)]
pub struct V3Error {
    #[serde(default)]
    pub code: i64,
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub detail: String,
}

/// A refusal by the Cloud Controller.
#[derive(Debug)]
pub struct ApiError {
    pub status: u16,
    pub url: String,
    pub request_id: Option<String>,
    pub errors: Vec<V3Error>,
    pub raw: String,
}

impl ApiError {
    pub fn new(status: u16, url: String, request_id: Option<String>, raw: &[u8]) -> ApiError {
        #[derive(Deserialize)]
        struct Body {
            errors: Vec<V3Error>,
        }
        let errors =
            serde_json::from_slice::<Body>(raw).map(|body| body.errors).unwrap_or_default();
        ApiError { status, url, request_id, errors, raw: String::from_utf8_lossy(raw).into_owned() }
    }

    pub fn is_invalid_token(&self) -> bool {
        self.status == 401
            && (self.errors.iter().any(|error| error.title == "CF-InvalidAuthToken")
                || self.message().as_deref() == Some("Token is expired"))
    }

    /// What the Routing API says, whose errors have a name and a message.
    pub fn message(&self) -> Option<String> {
        let body: serde_json::Value = serde_json::from_str(&self.raw).ok()?;
        body["name"].as_str()?;
        body["message"].as_str().map(str::to_owned)
    }
}

impl std::error::Error for ApiError {}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.errors.as_slice(), self.status) {
            ([], _) => {
                writeln!(f, "Unexpected Response\nResponse Code: {}", self.status)?;
                f.write_str(self.raw.trim())
            }
            ([one], 400 | 401 | 403 | 404 | 422 | 503) => f.write_str(&sentence(one, &self.url)),
            ([_, _, ..], 400..=499) => {
                let details: Vec<&str> =
                    self.errors.iter().map(|error| error.detail.as_str()).collect();
                write!(f, "Multiple errors occurred:\n- {}", details.join("\n- "))
            }
            (errors, status) => {
                write!(f, "Unexpected Response\nResponse Code: {status}")?;
                if let Some(id) = &self.request_id {
                    write!(f, "\nRequest ID:    {id}")?;
                }
                errors.iter().try_for_each(|V3Error { code, title, detail }| {
                    write!(f, "\nCode: {code}, Title: {title}, Detail: {detail}")
                })
            }
        }
    }
}

/// Details that the command line has better words for.
fn sentence(error: &V3Error, url: &str) -> String {
    let detail = error.detail.as_str();
    if detail == "Unknown request" {
        return format!("API endpoint not found at '{url}'");
    }
    let known = [
        ("Task must have a droplet", "Error running task: App is not staged."),
        (
            "Assign a droplet before starting this app.",
            "App cannot start without a package to stage or a droplet to run.",
        ),
        (
            "Cannot stage package whose state is not ready.",
            "Cannot stage package unless its state is 'READY'.",
        ),
    ];
    known
        .iter()
        .find(|(part, _)| detail.contains(part))
        .map_or(detail, |(_, better)| better)
        .to_owned()
}

/// A refusal by the UAA.
#[derive(Debug)]
pub struct UaaError {
    pub status: u16,
    pub kind: String,
    pub description: String,
    pub raw: String,
}

impl UaaError {
    pub fn new(status: u16, raw: &[u8]) -> UaaError {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Body {
            error: String,
            error_description: String,
        }
        let body: Body = serde_json::from_slice(raw).unwrap_or_default();
        let raw = String::from_utf8_lossy(raw).into_owned();
        UaaError { status, kind: body.error, description: body.error_description, raw }
    }

    pub fn is_locked(&self) -> bool {
        self.description.contains("locked")
    }
}

impl std::error::Error for UaaError {}

impl fmt::Display for UaaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status, self.kind.as_str()) {
            _ if self.is_locked() => f.write_str(&self.description),
            (_, "invalid_token") => f.write_str("The token expired, was revoked, or the token ID is incorrect. Please log back in to re-authenticate."),
            (_, "insufficient_scope") => f.write_str("You are not authorized to perform the requested action."),
            (401, _) => f.write_str("Credentials were rejected, please try again."),
            (_, "") => write!(f, "Error Code: {}\nRaw Response: {}", self.status, self.raw),
            (_, kind) => write!(f, "Error Type: {kind}\nDescription: {}", self.description),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, want: Expect) {
        let error = ApiError::new(
            status,
            "http://api/v3/x".to_owned(),
            Some("id-1".to_owned()),
            body.as_bytes(),
        );
        want.assert_eq(&error.to_string());
    }

    #[test]
    fn one_refusal_is_its_sentence() {
        check(
            422,
            r#"{"errors":[{"code":10008,"title":"CF-UnprocessableEntity","detail":"memory is too small"}]}"#,
            expect!["memory is too small"],
        );
        check(
            404,
            r#"{"errors":[{"code":10000,"title":"CF-NotFound","detail":"Unknown request"}]}"#,
            expect!["API endpoint not found at 'http://api/v3/x'"],
        );
    }

    #[test]
    fn many_refusals_are_listed() {
        check(
            422,
            r#"{"errors":[{"detail":"one"},{"detail":"two"}]}"#,
            expect![[r#"
            Multiple errors occurred:
            - one
            - two"#]],
        );
    }

    #[test]
    fn a_broken_server_shows_what_it_said() {
        check(
            500,
            r#"{"errors":[{"code":10001,"title":"UnknownError","detail":"boom"}]}"#,
            expect![[r#"
            Unexpected Response
            Response Code: 500
            Request ID:    id-1
            Code: 10001, Title: UnknownError, Detail: boom"#]],
        );
        check(
            502,
            "bad gateway\n",
            expect![[r#"
            Unexpected Response
            Response Code: 502
            bad gateway"#]],
        );
    }
}
