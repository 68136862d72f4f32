//! Errors as the Receptor names them: `{"name": …, "message": …}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use diego::BbsError;
use serde_json::json;

#[derive(Debug)]
pub(super) struct ReceptorError {
    status: StatusCode,
    name: &'static str,
    message: String,
}

pub(super) type Result<T = Response> = std::result::Result<T, ReceptorError>;

impl ReceptorError {
    pub fn new(
        status: StatusCode,
        name: &'static str,
        message: impl Into<String>,
    ) -> ReceptorError {
        ReceptorError { status, name, message: message.into() }
    }

    pub fn unknown(error: &BbsError) -> ReceptorError {
        ReceptorError::new(StatusCode::INTERNAL_SERVER_ERROR, "UnknownError", &error.message)
    }

    pub fn invalid_json(error: &serde_json::Error) -> ReceptorError {
        ReceptorError::new(StatusCode::BAD_REQUEST, "InvalidJSON", error.to_string())
    }

    pub fn invalid_request(message: impl Into<String>) -> ReceptorError {
        ReceptorError::new(StatusCode::BAD_REQUEST, "InvalidRequest", message)
    }
}

impl IntoResponse for ReceptorError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "name": self.name, "message": self.message }))).into_response()
    }
}
