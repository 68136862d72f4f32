//! How the Routing API says what went wrong: a name and a message.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::error;

#[derive(Clone, Copy, Debug)]
pub enum Name {
    NotFound,
    ProcessRequest,
    Unauthorized,
    Database,
}

impl Name {
    fn text(self) -> &'static str {
        match self {
            Name::NotFound => "ResourceNotFoundError",
            Name::ProcessRequest => "ProcessRequestError",
            Name::Unauthorized => "UnauthorizedError",
            Name::Database => "DBCommunicationError",
        }
    }
}

#[derive(Debug)]
pub struct RoutingError {
    status: StatusCode,
    name: Name,
    message: String,
}

impl RoutingError {
    pub fn new(status: StatusCode, name: Name, message: impl Into<String>) -> RoutingError {
        RoutingError { status, name, message: message.into() }
    }

    /// 400 for a request that cannot be carried out.
    pub fn process(why: impl std::fmt::Display) -> RoutingError {
        let message = format!("Cannot process request: {why}");
        RoutingError::new(StatusCode::BAD_REQUEST, Name::ProcessRequest, message)
    }

    pub fn not_found(message: impl Into<String>) -> RoutingError {
        RoutingError::new(StatusCode::NOT_FOUND, Name::NotFound, message)
    }
}

impl From<sqlx::Error> for RoutingError {
    fn from(cause: sqlx::Error) -> RoutingError {
        anyhow::Error::new(cause).into()
    }
}

impl From<anyhow::Error> for RoutingError {
    fn from(cause: anyhow::Error) -> RoutingError {
        error!(error = %format!("{cause:#}"), "the Routing API could not ask the database");
        let message = "the database cannot be asked just now";
        RoutingError::new(StatusCode::SERVICE_UNAVAILABLE, Name::Database, message)
    }
}

impl IntoResponse for RoutingError {
    fn into_response(self) -> Response {
        let body = json!({ "name": self.name.text(), "message": self.message });
        (self.status, Json(body)).into_response()
    }
}
