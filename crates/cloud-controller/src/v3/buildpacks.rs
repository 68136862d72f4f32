//! `/v3/buildpacks`: installed for all, tried in the order of their positions.

use std::fs::File;
use std::io::Read as _;
use std::path::Path as FilePath;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sql::Connection;

use super::common;
use super::resource::{self, Resource};
use crate::actions::bits;
use crate::actions::seed::hex;
use crate::actions::zips::{self, Depth, Refused};
use crate::auth::Caller;
use crate::db::buildpacks::{self, Buildpack, NewBuildpack};
use crate::db::jobs::{self, Outcome};
use crate::db::metadata::Metadata;
use crate::db::{self, apps};
use crate::errors::{ApiError, ApiResult, Kind};
use crate::message::Body;
use crate::query::{Filter, List, Params};
use crate::urls::Urls;
use crate::{Cc, blobstore, respond};

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/buildpacks", get(list).post(create))
        .route("/v3/buildpacks/{guid}", get(find).patch(update).delete(delete))
        .route("/v3/buildpacks/{guid}/upload", post(upload).layer(DefaultBodyLimit::disable()))
}

const KIND: &str = "buildpack";
const MOST_POSITION: i64 = i32::MAX as i64;

const LIST: List = List {
    table: "buildpacks",
    filters: &[
        ("names", Filter::Text("buildpacks.name")),
        ("stacks", Filter::Text("buildpacks.stack")),
        ("lifecycle", Filter::Text("buildpacks.lifecycle")),
    ],
    orders: &[
        ("position", "buildpacks.position"),
        ("lifecycle", "buildpacks.lifecycle"),
        ("name", "buildpacks.name"),
    ],
    includes: &[],
    labels: Some(KIND),
};

async fn list(cc: Cc, _: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let ordered = params.get("order_by").is_some();
    let mut listing = LIST.read(params)?;
    if !ordered {
        listing.order_by("buildpacks.position, buildpacks.id");
    }
    resource::page::<Buildpack>(&mut *cc.db.read().await?, &listing, &urls).await
}

async fn expect(connection: &mut Connection, guid: &str) -> ApiResult<Buildpack> {
    buildpacks::find(connection, guid).await?.ok_or_else(|| ApiError::not_found("Buildpack"))
}

async fn find(cc: Cc, _: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    Ok(respond::ok(document(&mut *cc.db.read().await?, &urls, &guid).await?))
}

/// What somebody who wants a name that exists is told.
fn taken(name: &str, stack: &str, lifecycle: &str) -> ApiError {
    ApiError::unprocessable(if stack.is_empty() {
        format!("Buildpack with name '{name}' and an unassigned stack already exists")
    } else {
        format!(
            "Buildpack with name '{name}', stack '{stack}' and lifecycle '{lifecycle}' already exists"
        )
    })
}

async fn known_stack(connection: &mut Connection, stack: &str) -> ApiResult<()> {
    if stack.is_empty() || apps::stack_exists(connection, stack).await? {
        return Ok(());
    }
    Err(ApiError::unprocessable(format!("Stack '{stack}' does not exist")))
}

fn check_name(name: &str) -> Option<&'static str> {
    if name.chars().count() > 250 {
        Some("Name is too long (maximum is 250 characters)")
    } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        Some("Name must only contain alphanumeric characters, hyphens or underscores")
    } else {
        None
    }
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    caller.require_admin()?;
    let mut fields = body.fields();
    let name = fields.required_text("name");
    if let Some(problem) = check_name(&name) {
        fields.error(problem);
    }
    let lifecycle = fields.text("lifecycle").unwrap_or_else(|| "buildpack".to_owned());
    if !["buildpack", "cnb"].contains(&lifecycle.as_str()) {
        fields.error("Lifecycle must be either 'buildpack' or 'cnb'");
    }
    let new = NewBuildpack {
        name,
        stack: fields.text("stack").unwrap_or_default(),
        lifecycle,
        position: fields.int("position", 1..=MOST_POSITION).unwrap_or(1),
        enabled: fields.flag("enabled").unwrap_or(true),
        locked: fields.flag("locked").unwrap_or(false),
    };
    let metadata = fields.metadata();
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    known_stack(&mut tx, &new.stack).await?;
    if buildpacks::is_taken(&mut tx, &new.name, &new.stack, &new.lifecycle, "").await? {
        return Err(taken(&new.name, &new.stack, &new.lifecycle));
    }
    let guid = buildpacks::insert(&mut tx, cc.now(), &new).await?;
    common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    audit(&cc, &mut tx, &caller, "audit.buildpack.create", (&guid, &new.name), &body).await?;
    let document = document(&mut tx, &urls, &guid).await?;
    tx.commit().await?;
    Ok(respond::created(document))
}

async fn audit(
    cc: &Cc,
    tx: &mut Connection,
    caller: &Caller,
    kind: &str,
    target: (&str, &str),
    body: &Body,
) -> ApiResult<()> {
    let data = json!({ "request": body.redacted(&[]) });
    common::audit(tx, cc, caller, kind, (target.0, KIND, target.1), (None, None), data).await
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let before = expect(&mut tx, &guid).await?;
    caller.require_admin()?;
    let mut fields = body.fields();
    let name = fields.text("name").unwrap_or_else(|| before.name.clone());
    if let Some(problem) = check_name(&name) {
        fields.error(problem);
    }
    let stack = fields.text("stack").unwrap_or_else(|| before.stack.clone());
    let position = fields.int("position", 1..=MOST_POSITION);
    let enabled = fields.flag("enabled").unwrap_or(before.enabled);
    let locked = fields.flag("locked").unwrap_or(before.locked);
    let metadata = fields.metadata();
    fields.finish()?;
    known_stack(&mut tx, &stack).await?;
    if !before.stack.is_empty() && stack != before.stack {
        return Err(ApiError::unprocessable("Buildpack stack cannot be changed"));
    }
    if buildpacks::is_taken(&mut tx, &name, &stack, &before.lifecycle, &guid).await? {
        return Err(taken(&name, &stack, &before.lifecycle));
    }
    let set = vec![
        ("name", (&name).into()),
        ("stack", stack.into()),
        ("enabled", enabled.into()),
        ("locked", locked.into()),
    ];
    db::change(&mut tx, cc.now(), "buildpacks", &guid, set).await?;
    if let Some(position) = position {
        buildpacks::move_to(&mut tx, &before.lifecycle, &guid, Some(position)).await?;
    }
    common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    audit(&cc, &mut tx, &caller, "audit.buildpack.update", (&guid, &name), &body).await?;
    let document = document(&mut tx, &urls, &guid).await?;
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
    let buildpack = expect(&mut tx, &guid).await?;
    caller.require_admin()?;
    buildpacks::delete(&mut tx, &buildpack).await?;
    audit(
        &cc,
        &mut tx,
        &caller,
        "audit.buildpack.delete",
        (&guid, &buildpack.name),
        &Body::default(),
    )
    .await?;
    let job = common::done_job(&mut tx, cc.now(), "buildpack.delete", (KIND, &guid)).await?;
    tx.commit().await?;
    forget_bits(&cc, buildpack.sha256.as_deref()).await?;
    Ok(respond::job(&urls, &job))
}

/// Deletes bits that no buildpack has any more. Builds under way hold their own copy on the cell or fail and are
/// pushed again.
async fn forget_bits(cc: &Cc, sha256: Option<&str>) -> ApiResult<()> {
    let Some(sha256) = sha256 else { return Ok(()) };
    if !buildpacks::uses_bits(&mut *cc.db.read().await?, sha256).await? {
        cc.blobs.delete(&blobstore::key("buildpacks", sha256)).await?;
    }
    Ok(())
}

/// The upload is checked and stored before the answer; the job tells how it went.
async fn upload(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    upload: bits::Upload,
) -> ApiResult<Response> {
    let buildpack = expect(&mut *cc.db.read().await?, &guid).await?;
    caller.require_admin()?;
    let received = bits::receive(&cc, upload, cc.config.limits.buildpack_bytes).await?;
    let invalid =
        |why: &str| ApiError::unprocessable(format!("Uploaded buildpack file is invalid: {why}"));
    let file = received.bits.ok_or_else(|| {
        ApiError::unprocessable("A buildpack zip file must be uploaded as 'bits'")
    })?;
    let filename = received.filename.unwrap_or_else(|| format!("{}.zip", buildpack.name));
    if buildpack.locked {
        return Err(ApiError::unprocessable("Buildpack is locked"));
    }
    let path = file.path().to_owned();
    let is_zip = buildpack.lifecycle == "buildpack";
    let limit = cc.config.limits.unpacked_bytes;
    let work = tokio::task::spawn_blocking(move || inspect(&path, is_zip, limit));
    let (digest, stack) = match work.await.context("inspecting a buildpack")?? {
        Inspected::Good { digest, stack } => (digest, stack),
        Inspected::Empty => return Err(invalid("bits cannot be empty")),
        Inspected::NoZip => return Err(invalid(&format!("{filename} is not a zip"))),
        Inspected::Harmful(why) => return Err(invalid(&why)),
    };
    let key = blobstore::key("buildpacks", &digest);
    cc.blobs.put_file(&key, file.path()).await?;
    let mut tx = cc.db.begin().await?;
    let before = expect(&mut tx, &guid).await?;
    let outcome = match stack_after(&mut tx, &before, stack).await {
        Ok(stack) => {
            let set = vec![
                ("state", "READY".into()),
                ("filename", filename.into()),
                ("sha256", (&digest).into()),
                ("stack", stack.into()),
            ];
            db::change(&mut tx, cc.now(), "buildpacks", &guid, set).await?;
            audit(
                &cc,
                &mut tx,
                &caller,
                "audit.buildpack.upload",
                (&guid, &before.name),
                &Body::default(),
            )
            .await?;
            Outcome::Complete
        }
        Err(error) => Outcome::Failed(error),
    };
    let job = jobs::insert(&mut tx, cc.now(), "buildpack.upload", (KIND, &guid), &outcome).await?;
    let document = document(&mut tx, &urls, &guid).await?;
    tx.commit().await?;
    let old = before.sha256.filter(|old| *old != digest);
    forget_bits(&cc, old.as_deref()).await?;
    Ok(respond::job_with(&urls, &job, document))
}

enum Inspected {
    Good { digest: String, stack: Option<String> },
    Empty,
    NoZip,
    Harmful(String),
}

/// The digest, and the stack that the buildpack's own `manifest.yml` names.
fn inspect(path: &FilePath, is_zip: bool, limit: u64) -> anyhow::Result<Inspected> {
    let mut file = File::open(path).context("opening an uploaded buildpack")?;
    let mut digest = Sha256::new();
    let size = std::io::copy(&mut file, &mut digest).context("reading an uploaded buildpack")?;
    if size == 0 {
        return Ok(Inspected::Empty);
    }
    let digest = hex(&digest.finalize());
    if !is_zip {
        return Ok(Inspected::Good { digest, stack: None });
    }
    let Ok(mut archive) =
        zip::ZipArchive::new(File::open(path).context("opening an uploaded buildpack")?)
    else {
        return Ok(Inspected::NoZip);
    };
    let opened = File::open(path).context("opening an uploaded buildpack")?;
    match zips::inspect(opened, limit, Depth::Contents) {
        Ok(()) => {}
        Err(Refused::Bad(why)) => return Ok(Inspected::Harmful(why)),
        Err(Refused::Failed(error)) => return Err(error),
    }
    let mut text = String::new();
    if let Ok(manifest) = archive.by_name("manifest.yml") {
        const MOST: u64 = 1 << 20;
        // A manifest that is no text names no stack.
        let _ = manifest.take(MOST).read_to_string(&mut text);
    }
    let named = crate::yaml::from_str::<Value>(&text).ok();
    let stack = named
        .as_ref()
        .and_then(|manifest| manifest.get("stack"))
        .and_then(Value::as_str)
        .map(str::to_owned);
    Ok(Inspected::Good { digest, stack })
}

/// The buildpack's stack once it has these bits.
async fn stack_after(
    tx: &mut Connection,
    before: &Buildpack,
    named: Option<String>,
) -> ApiResult<String> {
    let Some(stack) = named.filter(|stack| !stack.is_empty()) else {
        return Ok(before.stack.clone());
    };
    if !before.stack.is_empty() && before.stack != stack {
        let detail = format!("Uploaded buildpack stack ({stack}) does not match {}", before.stack);
        return Err(Kind::BuildpackStacksDontMatch.with(detail));
    }
    if !apps::stack_exists(tx, &stack).await? {
        let detail = format!("Uploaded buildpack stack ({stack}) does not exist");
        return Err(Kind::BuildpackStackDoesNotExist.with(detail));
    }
    if buildpacks::is_taken(tx, &before.name, &stack, &before.lifecycle, &before.guid).await? {
        let detail = format!(
            "The buildpack name {} with lifecycle {} is already in use for the stack {stack}",
            before.name, before.lifecycle
        );
        return Err(Kind::BuildpackNameStackLifecycleTaken.with(detail));
    }
    Ok(stack)
}

async fn document(connection: &mut Connection, urls: &Urls, guid: &str) -> ApiResult<Value> {
    let buildpack = expect(connection, guid).await?;
    resource::present_one(connection, &buildpack, urls).await
}

impl Resource for Buildpack {
    const KIND: &'static str = KIND;

    fn guid(&self) -> &str {
        &self.guid
    }

    fn present(&self, metadata: &Metadata, urls: &Urls) -> Value {
        let path = format!("buildpacks/{}", self.guid);
        json!({
            "guid": self.guid,
            "created_at": self.created_at.to_rfc3339(),
            "updated_at": self.updated_at.to_rfc3339(),
            "name": self.name,
            "stack": Some(self.stack.as_str()).filter(|stack| !stack.is_empty()),
            "state": self.state,
            "filename": self.filename,
            "position": self.position,
            "lifecycle": self.lifecycle,
            "enabled": self.enabled,
            "locked": self.locked,
            "metadata": metadata.to_json(),
            "links": { "self": urls.link(&path), "upload": urls.action(&format!("{path}/upload"), "POST") },
        })
    }
}
