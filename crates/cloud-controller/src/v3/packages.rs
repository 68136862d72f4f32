//! `/v3/packages`: create, upload, download, copy, list.

use axum::Router;
use axum::body::Body as HttpBody;
use axum::extract::{DefaultBodyLimit, Path};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use envelope::LogType;
use serde_json::{Value, json};
use sql::Connection;

use crate::actions::bits;
use crate::auth::Caller;
use crate::blobstore;
use crate::db::access::{self, DEVELOPERS};
use crate::db::apps::{self, App};
use crate::db::jobs::{self, Outcome};
use crate::db::metadata::{self, Metadata};
use crate::db::packages::{self, AWAITING_UPLOAD, FAILED, Package, READY};
use crate::db::{blobs, feature_flags};
use crate::errors::{ApiError, ApiResult, Kind};
use crate::message::Body;
use crate::query::{Filter, List, Params};
use crate::urls::Urls;
use crate::v3::resource::{self, OfApp, Resource, present_one, visible};
use crate::{Cc, actions, respond};

const KIND: &str = "package";

const LIST: List = List {
    table: "packages",
    filters: &[
        ("states", Filter::Text("packages.state")),
        ("types", Filter::Text("packages.type")),
        ("app_guids", Filter::Text("packages.app_guid")),
        ("space_guids", Filter::Text("a.space_guid")),
        (
            "organization_guids",
            Filter::Sql("a.space_guid IN (SELECT guid FROM spaces WHERE org_guid IN ({}))"),
        ),
    ],
    orders: &[],
    includes: &[],
    labels: Some(KIND),
};

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/packages", get(resource::list::<Package>).post(create))
        .route("/v3/packages/{guid}", get(find).patch(update).delete(delete))
        .route("/v3/packages/{guid}/upload", post(upload).layer(DefaultBodyLimit::disable()))
        .route("/v3/packages/{guid}/download", get(download))
        .route("/v3/apps/{guid}/packages", get(resource::list_of_app::<Package>))
}

async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    let (package, _, _) = visible::<Package>(&mut connection, &caller, &guid).await?;
    Ok(respond::ok(present_one(&mut connection, &package, &urls).await?))
}

async fn create(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    params: Params,
    body: Body,
) -> ApiResult<Response> {
    params.only(&["source_guid"])?;
    if let Some(source) = params.get("source_guid") {
        return copy(&cc, &caller, &urls, source, &body).await;
    }
    let mut fields = body.fields();
    let kind = fields.text("type").unwrap_or_default();
    if !["bits", "docker"].contains(&kind.as_str()) {
        fields.error("Type must be one of 'bits, docker'");
    }
    let [app] = fields.relationships(["app"]);
    let docker = kind == "docker";
    let data = fields.inside("data", |data| {
        if docker {
            let credentials = (data.text("username"), data.text("password"));
            return (data.required_text("image"), credentials.0, credentials.1);
        }
        (String::new(), None, None)
    });
    if docker && data.is_none() {
        fields.error("Data Image required");
    }
    let metadata = fields.metadata();
    fields.finish()?;

    let mut tx = cc.db.begin().await?;
    let app = usable_app(&mut tx, &caller, &app).await?;
    let (image, username, password) = data.unwrap_or_default();
    let docker_app = app.lifecycle == crate::v3::lifecycle::DOCKER;
    if docker && !docker_app {
        return Err(ApiError::unprocessable("Cannot create Docker package for a buildpack app."));
    }
    if !docker && docker_app {
        return Err(ApiError::unprocessable("Cannot create bits package for a Docker app."));
    }
    let state = if docker { READY } else { AWAITING_UPLOAD };
    let columns = vec![
        ("docker_image", docker.then_some(image).into()),
        ("docker_username", username.into()),
        ("sealed_docker_password", password.map(|password| cc.seal.seal(&password)).into()),
    ];
    let guid = packages::insert(&mut tx, cc.now(), &app.guid, &kind, state, columns).await?;
    crate::v3::common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    let request = body.redacted(&["data"]);
    let data = json!({ "package_guid": guid, "request": request });
    actions::apps::audit(&cc, &mut tx, &caller, "audit.app.package.create", &app, data).await?;
    finish(tx, &caller, &urls, &guid).await
}

/// The app a message names; 422 when the caller cannot see it.
async fn usable_app(connection: &mut Connection, caller: &Caller, guid: &str) -> ApiResult<App> {
    let unknown =
        || ApiError::unprocessable("App is invalid. Ensure it exists and you have access to it.");
    let app = apps::find(connection, guid).await?.ok_or_else(unknown)?;
    let rights = access::in_space(connection, caller, &app.space_guid).await?;
    if !rights.can_read() {
        return Err(unknown());
    }
    rights.change("App", DEVELOPERS)?;
    Ok(app)
}

async fn finish(mut tx: sql::Tx, caller: &Caller, urls: &Urls, guid: &str) -> ApiResult<Response> {
    let (package, _, _) = visible::<Package>(&mut tx, caller, guid).await?;
    let document = present_one(&mut tx, &package, urls).await?;
    tx.commit().await?;
    Ok(respond::created(document))
}

async fn copy(
    cc: &Cc,
    caller: &Caller,
    urls: &Urls,
    source: &str,
    body: &Body,
) -> ApiResult<Response> {
    let mut fields = body.fields();
    let [app] = fields.relationships(["app"]);
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let (from, _, rights) = visible::<Package>(&mut tx, caller, source).await.map_err(|_| {
        ApiError::unprocessable(
            "Source package is invalid. Ensure it exists and you have access to it.",
        )
    })?;
    rights.change("Package", DEVELOPERS)?;
    let app = usable_app(&mut tx, caller, &app).await?;
    if from.app_guid == app.guid {
        return Err(ApiError::unprocessable("Source and destination app cannot be the same"));
    }
    // Content is addressed by its digest, so a copy is a row.
    let columns = vec![
        ("sha256", (&from.sha256).into()),
        ("docker_image", (&from.docker_image).into()),
        ("docker_username", (&from.docker_username).into()),
        ("sealed_docker_password", (&from.sealed_docker_password).into()),
    ];
    let guid =
        packages::insert(&mut tx, cc.now(), &app.guid, &from.kind, &from.state, columns).await?;
    let data = json!({ "package_guid": guid, "request": { "source_package_guid": source } });
    actions::apps::audit(cc, &mut tx, caller, "audit.app.package.create", &app, data).await?;
    finish(tx, caller, urls, &guid).await
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut fields = body.fields();
    let (username, password) = (fields.text("username"), fields.text("password"));
    let metadata = fields.metadata();
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let (package, _, rights) = visible::<Package>(&mut tx, &caller, &guid).await?;
    rights.change("Package", DEVELOPERS)?;
    if (username.is_some() || password.is_some()) && package.kind != "docker" {
        return Err(ApiError::unprocessable("Package type must be docker to update credentials"));
    }
    let mut set = Vec::new();
    set.extend(username.map(|name| ("docker_username", name.into())));
    set.extend(password.map(|word| ("sealed_docker_password", cc.seal.seal(&word).into())));
    packages::update(&mut tx, cc.now(), &guid, set).await?;
    crate::v3::common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    let (package, _, _) = visible::<Package>(&mut tx, &caller, &guid).await?;
    let document = present_one(&mut tx, &package, &urls).await?;
    tx.commit().await?;
    Ok(respond::ok(document))
}

async fn delete(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let (package, app, rights) = visible::<Package>(&mut tx, &caller, &guid).await?;
    rights.change("Package", DEVELOPERS)?;
    blobs::note(&mut tx, cc.now(), "packages", package.sha256.as_deref()).await?;
    metadata::remove(&mut tx, KIND, &guid).await?;
    crate::db::delete(&mut tx, "packages", "guid", &guid).await?;
    actions::apps::audit(
        &cc,
        &mut tx,
        &caller,
        "audit.app.package.delete",
        &app,
        json!({ "package_guid": guid }),
    )
    .await?;
    let job =
        jobs::insert(&mut tx, cc.now(), "package.delete", ("package", &guid), &Outcome::Complete)
            .await?;
    tx.commit().await?;
    Ok(respond::job(&urls, &job))
}

/// Takes the files in and answers when they are ready: clients sleep before they would ask again.
async fn upload(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    upload: bits::Upload,
) -> ApiResult<Response> {
    let (package, app, rights) =
        visible::<Package>(&mut *cc.db.read().await?, &caller, &guid).await?;
    rights.change("Package", DEVELOPERS)?;
    feature_flags::require(&mut *cc.db.read().await?, &caller, "app_bits_upload").await?;
    if package.kind != "bits" {
        return Err(ApiError::unprocessable("Package type must be bits."));
    }
    if package.state != AWAITING_UPLOAD {
        return Err(uploaded_already());
    }
    let outcome = take_in(&cc, &caller, &urls, &guid, &app, upload).await;
    let names = apps::names(&mut *cc.db.read().await?, &app.guid).await?;
    match outcome {
        Ok(document) => {
            cc.changes.tell(&guid);
            cc.api_log(&names, &format!("Uploading bits for package with guid {guid}"));
            Ok(respond::ok(document))
        }
        Err(error) => {
            let next = if error.is(Kind::AppBitsUploadInvalid) {
                refuse(&cc, &guid, &error).await?;
                "Correct the app's files and push again."
            } else {
                "Nothing was kept of it: push again."
            };
            let line =
                format!("Uploading bits for package with guid {guid} failed: {error}. {next}");
            cc.app_log(&names, "API", LogType::Err, &line);
            Err(error)
        }
    }
}

/// From the body to the blob and the row that names it.
async fn take_in(
    cc: &Cc,
    caller: &Caller,
    urls: &Urls,
    guid: &str,
    app: &App,
    upload: bits::Upload,
) -> ApiResult<Value> {
    let received = bits::receive(cc, upload, cc.config.limits.package_bytes).await?;
    if received.bits.is_none() && received.resources.is_empty() {
        return Err(ApiError::unprocessable("Upload must include either resources or bits"));
    }
    let _gate = cc.blob_gate.read().await;
    let sha256 = actions::packages::store(cc, received).await?;
    let mut tx = cc.db.begin().await?;
    let columns = vec![("sha256", (&sha256).into()), ("state", READY.into())];
    if !packages::receive(&mut tx, cc.now(), guid, columns).await? {
        // Another upload was faster, or the package is gone.
        blobs::note(&mut tx, cc.now(), "packages", Some(&sha256)).await?;
        tx.commit().await?;
        return Err(uploaded_already());
    }
    let data = json!({ "package_guid": guid });
    actions::apps::audit(cc, &mut tx, caller, "audit.app.package.upload", app, data).await?;
    let (package, _, _) = visible::<Package>(&mut tx, caller, guid).await?;
    let document = present_one(&mut tx, &package, urls).await?;
    tx.commit().await?;
    Ok(document)
}

fn uploaded_already() -> ApiError {
    let detail = "Bits may be uploaded only once. Create a new package to upload different bits.";
    Kind::PackageBitsAlreadyUploaded.with(detail)
}

/// These bits will not be better for being sent again.
async fn refuse(cc: &Cc, guid: &str, error: &ApiError) -> ApiResult<()> {
    let mut tx = cc.db.begin().await?;
    let columns = vec![("state", FAILED.into()), ("error", error.to_string().into())];
    packages::receive(&mut tx, cc.now(), guid, columns).await?;
    tx.commit().await?;
    cc.changes.tell(guid);
    Ok(())
}

async fn download(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    let (package, app, rights) =
        visible::<Package>(&mut *cc.db.read().await?, &caller, &guid).await?;
    rights.see_secrets("Package")?;
    if package.kind != "bits" {
        return Err(ApiError::unprocessable("Package type must be bits."));
    }
    let Some(sha256) = package.sha256.filter(|_| package.state == READY) else {
        return Err(ApiError::unprocessable("Package has no bits to download."));
    };
    let mut tx = cc.db.begin().await?;
    actions::apps::audit(
        &cc,
        &mut tx,
        &caller,
        "audit.app.package.download",
        &app,
        json!({ "package_guid": guid }),
    )
    .await?;
    tx.commit().await?;
    send_blob(&cc, &blobstore::key("packages", &sha256), "application/zip").await
}

/// Streams a blob; 404 when it is gone.
pub async fn send_blob(cc: &Cc, key: &str, kind: &str) -> ApiResult<Response> {
    let blob = cc.blobs.get(key).await?.ok_or_else(|| ApiError::not_found("Blob"))?;
    let headers = [(CONTENT_TYPE, kind.to_owned()), (CONTENT_LENGTH, blob.size.to_string())];
    Ok((headers, HttpBody::from_stream(blob.content)).into_response())
}

impl Resource for Package {
    const KIND: &'static str = KIND;

    fn guid(&self) -> &str {
        &self.guid
    }

    fn present(&self, metadata: &Metadata, urls: &Urls) -> Value {
        let own = format!("packages/{}", self.guid);
        let mut links = json!({ "self": urls.link(&own), "app": urls.link(&format!("apps/{}", self.app_guid)) });
        let data = if self.kind == "docker" {
            let password = self.docker_username.as_ref().map(|_| "***");
            json!({ "image": self.docker_image, "username": self.docker_username, "password": password })
        } else {
            links["upload"] = urls.action(&format!("{own}/upload"), "POST");
            links["download"] = urls.action(&format!("{own}/download"), "GET");
            json!({ "error": self.error, "checksum": { "type": "sha256", "value": self.sha256 } })
        };
        json!({
            "guid": self.guid,
            "created_at": self.created_at.to_rfc3339(),
            "updated_at": self.updated_at.to_rfc3339(),
            "type": self.kind,
            "data": data,
            "state": self.state,
            "relationships": { "app": { "data": { "guid": self.app_guid } } },
            "metadata": metadata.to_json(),
            "links": links,
        })
    }
}

impl OfApp for Package {
    const WHAT: &'static str = "Package";
    const LIST: List = LIST;

    fn app_guid(&self) -> &str {
        &self.app_guid
    }
}
