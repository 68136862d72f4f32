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
use futures::StreamExt as _;
use ring::hmac;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;
use tracing::warn;

use crate::actions::{bits, seed};
use crate::bridge::{staging, tasks};
use crate::config::Config;
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
    let (build, file) = receive(&cc, &guid, body, cc.config.limits.droplet_bytes).await?;
    let _gate = cc.blob_gate.read().await;
    let sha256 = store(&cc, "droplets", file).await?;
    let Some(droplet) = build.droplet_guid else { return Err(ApiError::not_found("Droplet")) };
    let mut tx = cc.db.begin().await?;
    droplets::update(&mut tx, cc.now(), &droplet, vec![("sha256", (&sha256).into())]).await?;
    tx.commit().await?;
    Ok(StatusCode::OK)
}

async fn upload_cache(cc: Cc, Path(guid): Path<String>, body: Body) -> ApiResult<StatusCode> {
    let (build, file) = receive(&cc, &guid, body, cc.config.limits.droplet_bytes).await?;
    let _gate = cc.blob_gate.read().await;
    let sha256 = store(&cc, "caches", file).await?;
    let mut tx = cc.db.begin().await?;
    let before =
        db::apps::find(&mut tx, &build.app_guid).await?.and_then(|app| app.buildpack_cache);
    db::blobs::note(&mut tx, cc.now(), "caches", before.as_deref()).await?;
    db::update(&mut tx, "apps", &build.app_guid, vec![("buildpack_cache", (&sha256).into())])
        .await?;
    tx.commit().await?;
    Ok(StatusCode::OK)
}

/// The build, when it is still under way, and the body on disk.
async fn receive(
    cc: &Cc,
    guid: &str,
    body: Body,
    limit: u64,
) -> ApiResult<(db::builds::Build, NamedTempFile)> {
    let build =
        db::builds::find(&mut *cc.db.read().await?, guid).await?.filter(|build| !build.is_final());
    let build = build.ok_or_else(|| ApiError::not_found("Build"))?;
    let file = NamedTempFile::new().map_err(anyhow::Error::from)?;
    let mut writer = tokio::fs::File::from_std(file.reopen().map_err(anyhow::Error::from)?);
    let (mut pieces, mut size) = (body.into_data_stream(), 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(anyhow::Error::from)?;
        size += piece.len() as u64;
        if size > limit {
            return Err(ApiError::bad_request("The upload is too large"));
        }
        writer.write_all(&piece).await.map_err(anyhow::Error::from)?;
    }
    writer.flush().await.map_err(anyhow::Error::from)?;
    Ok((build, file))
}

async fn store(cc: &Cc, kind: &str, file: NamedTempFile) -> anyhow::Result<String> {
    let path = file.path().to_owned();
    let sha256 = tokio::task::spawn_blocking(move || bits::sha256(&path)).await??;
    let key = blobstore::key(kind, &sha256);
    cc.blobs.put_file(&key, file.path()).await?;
    Ok(sha256)
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
