//! `/v3/jobs`: how a 202 ended.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

use crate::Cc;
use crate::auth::Caller;
use crate::db::jobs::{self, Job};
use crate::errors::{ApiError, ApiResult};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new().route("/v3/jobs/{guid}", get(find))
}

async fn find(cc: Cc, _: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let job = cc
        .changes
        .hold(&guid, cc.config.limits.hold, || load(cc.clone(), guid.clone()), Job::is_final)
        .await?;
    Ok(respond::ok(present(&job, &urls)))
}

async fn load(cc: Cc, guid: String) -> ApiResult<Job> {
    let mut connection = cc.db.read().await?;
    jobs::find(&mut connection, &guid).await?.ok_or_else(|| ApiError::not_found("Job"))
}

fn present(job: &Job, urls: &Urls) -> Value {
    let mut links = json!({ "self": urls.link(&format!("jobs/{}", job.guid)) });
    let is_gone = job.operation.ends_with(".delete") && job.state == "COMPLETE";
    if !job.resource_type.is_empty() && !is_gone {
        let plural = if job.resource_type.ends_with('s') { "" } else { "s" };
        links[&job.resource_type] =
            urls.link(&format!("{}{plural}/{}", job.resource_type, job.resource_guid));
    }
    json!({
        "guid": job.guid,
        "created_at": job.created_at.to_rfc3339(),
        "updated_at": job.updated_at.to_rfc3339(),
        "operation": job.operation,
        "state": job.state,
        "errors": job.errors,
        "warnings": job.warnings,
        "links": links,
    })
}
