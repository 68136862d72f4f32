//! `/v3/resource_matches`: which files need not be sent again.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::response::Response;
use axum::routing::post;
use serde_json::{Value, json};

use crate::actions::packages::{LEAST_MATCHED, MOST_MATCHED};
use crate::auth::Caller;
use crate::db::feature_flags;
use crate::errors::{ApiError, ApiResult};
use crate::message::Body;
use crate::{Cc, db, respond};

const MOST: usize = 5000;
const MOST_BYTES: usize = 16 << 20;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/resource_matches", post(create).layer(DefaultBodyLimit::max(MOST_BYTES)))
}

async fn create(cc: Cc, caller: Caller, body: Body) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    feature_flags::require(&mut connection, &caller, "app_bits_upload").await?;
    let matching = feature_flags::is_enabled(&mut connection, "resource_matching").await?;
    drop(connection);
    let mut fields = body.fields();
    let resources = fields.value("resources").and_then(Value::as_array);
    let Some(resources) = resources else {
        return Err(ApiError::unprocessable("Resources must be an array"));
    };
    if resources.is_empty() {
        fields.error("Resources must have at least 1 resource");
    }
    if resources.len() > MOST {
        fields.error(format!("Resources is too many (maximum is {MOST})"));
    }
    fields.finish()?;
    let mut plausible = Vec::new();
    for resource in resources {
        let sha1 = resource.pointer("/checksum/value").and_then(Value::as_str).unwrap_or_default();
        let size = resource.get("size_in_bytes").and_then(Value::as_u64).unwrap_or_default();
        if sha1.len() != 40 || !sha1.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ApiError::unprocessable(
                "Resources must have a checksum with a sha1 value",
            ));
        }
        if matching && (LEAST_MATCHED..=MOST_MATCHED).contains(&size) {
            plausible.push((sha1.to_owned(), size, resource));
        }
    }
    let digests: Vec<String> = plausible.iter().map(|(sha1, ..)| sha1.clone()).collect();
    let kept = db::resources::sizes(&mut *cc.db.read().await?, &digests).await?;
    plausible.retain(|(sha1, size, _)| kept.get(sha1) == Some(size));
    if !plausible.is_empty() {
        // They are about to be used, so they must not be the next to go.
        let digests: Vec<String> = kept.into_keys().collect();
        let mut tx = cc.db.begin().await?;
        db::resources::used(&mut tx, cc.now(), &digests).await?;
        tx.commit().await?;
    }
    let matched: Vec<&Value> = plausible.into_iter().map(|(.., resource)| resource).collect();
    Ok(respond::created(json!({ "resources": matched })))
}
