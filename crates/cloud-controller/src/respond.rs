//! The few shapes an answer has.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use crate::urls::Urls;

pub fn ok(value: Value) -> Response {
    Json(value).into_response()
}

pub fn created(value: Value) -> Response {
    (StatusCode::CREATED, Json(value)).into_response()
}

pub fn accepted(value: Value) -> Response {
    (StatusCode::ACCEPTED, Json(value)).into_response()
}

pub fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// 202 with the job's address and no body.
pub fn job(urls: &Urls, guid: &str) -> Response {
    (StatusCode::ACCEPTED, [(LOCATION, urls.v3(&format!("jobs/{guid}")))]).into_response()
}

/// 202 with the job's address and the resource it works on.
pub fn job_with(urls: &Urls, guid: &str, value: Value) -> Response {
    (StatusCode::ACCEPTED, [(LOCATION, urls.v3(&format!("jobs/{guid}")))], Json(value))
        .into_response()
}

/// `{"data": [{"guid": …}, …], "links": {"self": …}}` of a to-many relationship.
pub fn to_many(guids: &[String], self_link: Value) -> Value {
    let data: Vec<Value> = guids.iter().map(|guid| serde_json::json!({ "guid": guid })).collect();
    serde_json::json!({ "data": data, "links": { "self": self_link } })
}
