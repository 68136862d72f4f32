//! The listener that cells use: downloads, uploads, and what became of tasks. Every address carries a password that
//! opens that one path alone, so a container that learns one learns no other.

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use diego::task::TaskCallback;
use ring::hmac;
use tracing::warn;

use crate::actions::{bits, seed};
use crate::bridge::{staging, tasks};
use crate::config::Config;
use crate::db::builds::Build;
use crate::db::{self, droplets};
use crate::errors::{ApiError, ApiResult};
use crate::v3::packages::send_blob;
use crate::{Cc, blobstore};

const USER: &str = "cell";
const GZIP: &str = "application/gzip";

pub fn router(cc: Cc) -> Router {
    Router::new()
        .route("/internal/lifecycle", get(lifecycle))
        .route(
            "/internal/buildpacks/{sha256}",
            get(async |cc: Cc, key| blob(&cc, "buildpacks", key, "application/zip").await),
        )
        .route(
            "/internal/packages/{sha256}",
            get(async |cc: Cc, key| blob(&cc, "packages", key, "application/zip").await),
        )
        .route(
            "/internal/droplets/{sha256}",
            get(async |cc: Cc, key| blob(&cc, "droplets", key, GZIP).await),
        )
        .route(
            "/internal/caches/{sha256}",
            get(async |cc: Cc, key| blob(&cc, "caches", key, GZIP).await),
        )
        .route("/internal/builds/{guid}/droplet", post(upload_droplet))
        .route("/internal/builds/{guid}/cache", post(upload_cache))
        .route("/internal/builds/{guid}/completed", post(build_completed))
        .route("/internal/tasks/{guid}/completed", post(task_completed))
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(cc.clone(), guard))
        .fallback(async || ApiError::unknown_request())
        .with_state(cc)
}

/// The full address of `path` on the internal listener, with its password in it.
pub fn address(config: &Config, path: &str) -> String {
    let (scheme, rest) =
        config.internal_url.split_once("://").unwrap_or(("http", &config.internal_url));
    format!("{scheme}://{USER}:{}@{}{path}", password(config, path), rest.trim_end_matches('/'))
}

fn key(config: &Config) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, config.secret.expose().as_bytes())
}

fn password(config: &Config, path: &str) -> String {
    seed::hex(hmac::sign(&key(config), path.as_bytes()).as_ref())
}

async fn guard(
    axum::extract::State(cc): axum::extract::State<Cc>,
    request: Request,
    next: Next,
) -> Response {
    let shown = shown_password(request.headers()).and_then(|text| unhex(&text));
    let good = shown.is_some_and(|tag| {
        hmac::verify(&key(&cc.config), request.uri().path().as_bytes(), &tag).is_ok()
    });
    if good { next.run(request).await } else { StatusCode::UNAUTHORIZED.into_response() }
}

fn shown_password(headers: &HeaderMap) -> Option<String> {
    let encoded = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes()
        .chunks(2)
        .map(|pair| Some((digit(*pair.first()?)? << 4) | digit(*pair.get(1)?)?))
        .collect()
}

async fn lifecycle(cc: Cc) -> Response {
    ([(axum::http::header::CONTENT_TYPE, GZIP)], cc.config.lifecycle_bundle.clone()).into_response()
}

async fn blob(
    cc: &Cc,
    kind: &str,
    Path(sha256): Path<String>,
    content_type: &str,
) -> ApiResult<Response> {
    send_blob(cc, &blobstore::key(kind, &sha256), content_type).await
}

async fn upload_droplet(cc: Cc, Path(guid): Path<String>, body: Body) -> ApiResult<StatusCode> {
    let build = under_way(&cc, &guid).await?;
    let _gate = cc.blob_gate.read().await;
    let sha256 = take_in(&cc, &build, "droplets", body).await?;
    let Some(droplet) = build.droplet_guid else { return Err(ApiError::not_found("Droplet")) };
    let mut tx = cc.db.begin().await?;
    droplets::update(&mut tx, cc.now(), &droplet, vec![("sha256", (&sha256).into())]).await?;
    tx.commit().await?;
    Ok(StatusCode::OK)
}

async fn upload_cache(cc: Cc, Path(guid): Path<String>, body: Body) -> ApiResult<StatusCode> {
    let build = under_way(&cc, &guid).await?;
    let _gate = cc.blob_gate.read().await;
    let sha256 = take_in(&cc, &build, "caches", body).await?;
    let mut tx = cc.db.begin().await?;
    let before =
        db::apps::find(&mut tx, &build.app_guid).await?.and_then(|app| app.buildpack_cache);
    db::blobs::note(&mut tx, cc.now(), "caches", before.as_deref()).await?;
    db::update(&mut tx, "apps", &build.app_guid, vec![("buildpack_cache", (&sha256).into())])
        .await?;
    tx.commit().await?;
    Ok(StatusCode::OK)
}

async fn under_way(cc: &Cc, guid: &str) -> ApiResult<Build> {
    let build = db::builds::find(&mut *cc.db.read().await?, guid).await?;
    build.filter(|build| !build.is_final()).ok_or_else(|| ApiError::not_found("Build"))
}

/// From the body to the blob. Cells tell users no more than that an upload failed, so the reason is told here.
async fn take_in(cc: &Cc, build: &Build, kind: &str, body: Body) -> ApiResult<String> {
    let stored = async {
        let cut_off = |error: axum::Error| {
            ApiError::bad_request(&format!("The upload is not complete: {error}"))
        };
        let limit = cc.config.limits.droplet_bytes;
        let file = bits::to_disk(cc, body.into_data_stream(), limit, cut_off).await?;
        Ok(bits::store(cc, kind, &file).await?)
    };
    let stored: ApiResult<String> = stored.await;
    if let Err(error) = &stored {
        staging::upload_failed(cc, build, kind, error).await?;
    }
    stored
}

/// Diego counts any answer but 503 and 504 as heard, so what may succeed later says 503.
async fn build_completed(
    cc: Cc,
    Path(guid): Path<String>,
    Json(callback): Json<TaskCallback>,
) -> StatusCode {
    match staging::complete(&cc, &guid, &callback).await {
        Ok(()) => StatusCode::OK,
        Err(error) => {
            warn!(build.guid = guid, error = %format!("{error:#}"), "the end of a build could not be recorded yet");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// As [`build_completed`].
async fn task_completed(
    cc: Cc,
    Path(guid): Path<String>,
    Json(callback): Json<TaskCallback>,
) -> StatusCode {
    match tasks::complete(&cc, &guid, &callback).await {
        Ok(()) => StatusCode::OK,
        Err(error) => {
            warn!(task.guid = guid, error = %format!("{error:#}"), "the end of a task could not be recorded yet");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}
