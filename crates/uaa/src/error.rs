//! What a caller is told: UAA's `error` and `error_description`, with their statuses.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use crate::claims::TokenError;
use crate::password::PasswordError;

pub(crate) type Result<T> = std::result::Result<T, Error>;

#[derive(Debug)]
pub(crate) struct Error {
    pub status: StatusCode,
    pub code: &'static str,
    pub description: String,
    more: Map<String, Value>,
}

/// What `cf` takes for a locked account, word for word.
pub(crate) const LOCKED: &str =
    "Your account has been locked because of too many failed attempts to login.";

impl Error {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        description: impl Into<String>,
    ) -> Error {
        Error { status, code, description: description.into(), more: Map::new() }
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Error {
        self.more.insert(key.to_owned(), value.into());
        self
    }

    pub(crate) fn code(self, code: &'static str) -> Error {
        Error { code, ..self }
    }

    pub(crate) fn status(self, status: StatusCode) -> Error {
        Error { status, ..self }
    }

    pub(crate) fn unauthorized(description: impl Into<String>) -> Error {
        Error::new(StatusCode::UNAUTHORIZED, "unauthorized", description)
    }

    pub(crate) fn bad_credentials() -> Error {
        Error::unauthorized("Bad credentials")
    }

    pub(crate) fn invalid_client(description: impl Into<String>) -> Error {
        Error::new(StatusCode::UNAUTHORIZED, "invalid_client", description)
    }

    pub(crate) fn invalid_token(description: impl Into<String>) -> Error {
        Error::new(StatusCode::UNAUTHORIZED, "invalid_token", description)
    }

    pub(crate) fn invalid_grant(description: impl Into<String>) -> Error {
        Error::new(StatusCode::BAD_REQUEST, "invalid_grant", description)
    }

    pub(crate) fn invalid_request(description: impl Into<String>) -> Error {
        Error::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    pub(crate) fn invalid_scope(description: impl Into<String>) -> Error {
        Error::new(StatusCode::BAD_REQUEST, "invalid_scope", description)
    }

    pub(crate) fn insufficient_scope(needed: &[&str]) -> Error {
        let error = Error::new(
            StatusCode::FORBIDDEN,
            "insufficient_scope",
            "Insufficient scope for this resource",
        );
        error.with("scope", needed.join(" "))
    }

    pub(crate) fn invalid_scim(description: impl Into<String>) -> Error {
        Error::new(StatusCode::BAD_REQUEST, "invalid_scim_resource", description).with_message()
    }

    pub(crate) fn scim_not_found(description: impl Into<String>) -> Error {
        Error::new(StatusCode::NOT_FOUND, "scim_resource_not_found", description).with_message()
    }

    pub(crate) fn taken(description: impl Into<String>) -> Error {
        Error::new(StatusCode::CONFLICT, "scim_resource_already_exists", description).with_message()
    }

    /// SCIM's errors say the description twice.
    fn with_message(self) -> Error {
        let description = self.description.clone();
        self.with("message", description)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut body = self.more;
        body.insert("error".to_owned(), self.code.into());
        body.insert("error_description".to_owned(), self.description.into());
        let mut response = (self.status, Json(Value::Object(body))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"oauth\""),
            );
        }
        response
    }
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Error {
        let is_full = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<sqlx::Error>().is_some_and(sql::is_full)
        };
        if error.chain().any(is_full) {
            return Error::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "server_error",
                "the platform's disk is full, so nothing was changed; its operator can see more with: cupola status",
            );
        }
        let is_away = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<sqlx::Error>().is_some_and(sql::is_away)
        };
        if error.chain().any(is_away) {
            tracing::error!(error = %format!("{error:#}"), "UAA's database is out of reach");
            return Error::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "server_error",
                "the platform's database is out of reach: try again in a moment; its operator can see more with: cupola status",
            );
        }
        tracing::error!(error = %format!("{error:#}"), "a request to UAA broke");
        Error::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "the server could not answer; its log says why",
        )
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Error {
        anyhow::Error::from(error).context("UAA's database").into()
    }
}

impl From<PasswordError> for Error {
    fn from(error: PasswordError) -> Error {
        match error {
            PasswordError::Busy => Error::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                "too many logins at once; try again",
            ),
            PasswordError::Other(error) => error.into(),
        }
    }
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Error {
        match error {
            TokenError::Missing => {
                Error::unauthorized("Full authentication is required to access this resource")
            }
            TokenError::Invalid => Error::invalid_token("Invalid access token"),
            TokenError::Expired => Error::invalid_token("Access token expired"),
        }
    }
}
