//! Manifests: applied to a space, compared with it, and made from an app.

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use sql::Connection;

use crate::Cc;
use crate::actions::{apply_manifest, show_manifest};
use crate::auth::Caller;
use crate::db::access::{self, DEVELOPERS};
use crate::db::jobs::{self, Outcome};
use crate::db::spaces::Space;
use crate::db::{apps, spaces};
use crate::errors::{ApiError, ApiResult};
use crate::manifest;
use crate::respond;
use crate::urls::Urls;
use crate::v3::lifecycle;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/spaces/{guid}/actions/apply_manifest", post(apply))
        .route("/v3/spaces/{guid}/manifest_diff", post(diff))
        .route("/v3/apps/{guid}/manifest", get(find))
}

/// The space, when the caller may push to it.
async fn writable(connection: &mut Connection, caller: &Caller, guid: &str) -> ApiResult<Space> {
    access::in_space(connection, caller, guid).await?.change("Space", DEVELOPERS)?;
    spaces::find(connection, guid).await?.ok_or_else(|| ApiError::not_found("Space"))
}

fn applications(headers: &HeaderMap, body: &Bytes) -> ApiResult<Vec<Value>> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !["application/x-yaml", "application/yaml", "text/yaml", "text/x-yaml"].contains(&kind) {
        return Err(ApiError::bad_request("Content-Type must be yaml"));
    }
    manifest::applications(std::str::from_utf8(body).map_err(|_| ApiError::parse())?)
}

/// Everything is done before the answer; the job tells how it went.
async fn apply(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let space = writable(&mut tx, &caller, &guid).await?;
    let manifests = manifest::parse(&applications(&headers, &body)?)?;
    if manifests.iter().any(|manifest| manifest.docker) {
        lifecycle::check_kind(&mut tx, lifecycle::DOCKER).await?;
    }
    let (outcome, applied) =
        match apply_manifest::run(&cc, &mut tx, &caller, &space, &manifests).await {
            Ok(applied) => (Outcome::Complete, applied),
            Err(error) => {
                // What was begun is undone; only the job that tells of it stays.
                drop(tx);
                tx = cc.db.begin().await?;
                (Outcome::Failed(error), Vec::new())
            }
        };
    let job =
        jobs::insert(&mut tx, cc.now(), "space.apply_manifest", ("space", &guid), &outcome).await?;
    let mut names = Vec::new();
    for one in &applied {
        names.push((apps::names(&mut tx, &one.app_guid).await?, one.created));
    }
    tx.commit().await?;
    cc.nsync.poke();
    for (names, created) in names {
        if created {
            cc.api_log(&names, &format!("Created app with guid {}", names.app_guid));
        }
        cc.api_log(&names, &format!("Applied manifest to app with guid {}", names.app_guid));
    }
    Ok(respond::job(&urls, &job))
}

async fn diff(
    cc: Cc,
    caller: Caller,
    Path(guid): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    writable(&mut connection, &caller, &guid).await?;
    let applications = applications(&headers, &body)?;
    let manifests = manifest::parse(&applications)?;
    let mut entries = Vec::new();
    for (at, (wanted, manifest)) in applications.iter().zip(&manifests).enumerate() {
        let existing = match apps::find_by_name(&mut connection, &guid, &manifest.name).await? {
            Some(app) => Value::Object(show_manifest::app(&cc, &mut connection, &app).await?),
            None => Value::Null,
        };
        entries.extend(manifest::diff::diff(&existing, wanted, at));
    }
    Ok(respond::created(json!({ "diff": entries })))
}

async fn find(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    let (app, rights) = super::apps::visible(&mut connection, &caller, &guid).await?;
    rights.see_secrets("App")?;
    let manifest = show_manifest::app(&cc, &mut connection, &app).await?;
    Ok(([(CONTENT_TYPE, "application/x-yaml")], show_manifest::yaml(&manifest)?).into_response())
}
