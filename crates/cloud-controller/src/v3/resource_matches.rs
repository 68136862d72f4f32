//! `/v3/resource_matches`: which files need not be sent again.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::response::Response;
use axum::routing::post;
use serde_json::{Value, json};

use crate::actions::bits::{LEAST_MATCHED, MOST_MATCHED};
use crate::auth::Caller;
use crate::errors::{ApiError, ApiResult};
use crate::message::Body;
use crate::{Cc, blobstore, respond};

const MOST: usize = 5000;
const MOST_BYTES: usize = 16 << 20;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/resource_matches", post(create).layer(DefaultBodyLimit::max(MOST_BYTES)))
}

async fn create(cc: Cc, _: Caller, body: Body) -> ApiResult<Response> {
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
    let mut matched = Vec::new();
    for resource in resources {
        let sha1 = resource.pointer("/checksum/value").and_then(Value::as_str).unwrap_or_default();
        let size = resource.get("size_in_bytes").and_then(Value::as_u64).unwrap_or_default();
        let plausible = sha1.len() == 40 && sha1.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !plausible {
            return Err(ApiError::unprocessable(
                "Resources must have a checksum with a sha1 value",
            ));
        }
        let worth = (LEAST_MATCHED..=MOST_MATCHED).contains(&size);
        if worth && cc.blobs.exists(&blobstore::key("resources", sha1)).await? {
            matched.push(resource);
        }
    }
    Ok(respond::created(json!({ "resources": matched })))
}
