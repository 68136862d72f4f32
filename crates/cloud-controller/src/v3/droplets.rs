//! `/v3/droplets`, and the one an app runs.

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};
use sql::Connection;

use crate::actions::bits;
use crate::auth::Caller;
use crate::blobstore;
use crate::db::access::{self, DEVELOPERS, OPERATORS, Rights};
use crate::db::apps::{self};
use crate::db::blobs;
use crate::db::droplets::{self, Droplet, STAGED};
use crate::db::jobs::{self, Outcome};
use crate::db::metadata::{self, Metadata};
use crate::db::packages::Package;
use crate::errors::{ApiError, ApiResult, Kind};
use crate::message::{Body, to_one_body};
use crate::query::{Filter, List, Listing, Params};
use crate::urls::Urls;
use crate::v3::apps::visible as visible_app;
use crate::v3::packages::send_blob;
use crate::v3::resource::{self, OfApp, Resource, present_one, visible};
use crate::{Cc, actions, respond};

const KIND: &str = "droplet";
const AWAITING_UPLOAD: &str = "AWAITING_UPLOAD";
/// What lists show in place of commands.
const HIDDEN: &str = "[PRIVATE DATA HIDDEN IN LISTS]";

const LIST: List = List {
    table: "droplets",
    filters: &[
        ("states", Filter::Text("droplets.state")),
        ("app_guids", Filter::Text("droplets.app_guid")),
        ("space_guids", Filter::Text("a.space_guid")),
        (
            "organization_guids",
            Filter::Sql("a.space_guid IN (SELECT guid FROM spaces WHERE org_guid IN ({}))"),
        ),
        ("current", Filter::Own),
    ],
    orders: &[],
    includes: &[],
    labels: Some(KIND),
};

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/droplets", get(resource::list::<Droplet>).post(create))
        .route(
            "/v3/droplets/{guid}",
            get(find).patch(resource::update_metadata::<Droplet>).delete(delete),
        )
        .route("/v3/droplets/{guid}/upload", post(upload).layer(DefaultBodyLimit::disable()))
        .route("/v3/droplets/{guid}/download", get(download))
        .route("/v3/apps/{guid}/droplets", get(resource::list_of_app::<Droplet>))
        .route("/v3/packages/{guid}/droplets", get(list_of_package))
        .route("/v3/apps/{guid}/droplets/current", get(current))
        .route(
            "/v3/apps/{guid}/relationships/current_droplet",
            get(current_relationship).patch(assign),
        )
}

async fn list_of_package(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    params: Params,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    let mut connection = cc.db.read().await?;
    visible::<Package>(&mut connection, &caller, &guid).await?;
    listing.equals("droplets.package_guid", &guid);
    resource::answer::<Droplet>(&mut connection, listing, &urls).await
}

/// Commands may hold secrets.
fn hide(document: &mut Value, with: &str) {
    for key in ["execution_metadata", "process_types"] {
        if document[key].is_object() {
            document[key] = json!({ "redacted_message": with });
        } else if document[key].is_string() {
            document[key] = with.into();
        }
    }
}

async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    let (droplet, _, rights) = visible::<Droplet>(&mut connection, &caller, &guid).await?;
    show(&mut connection, &droplet, &rights, &urls).await
}

async fn show(
    connection: &mut Connection,
    droplet: &Droplet,
    rights: &Rights,
    urls: &Urls,
) -> ApiResult<Response> {
    let mut document = present_one(connection, droplet, urls).await?;
    if !rights.can_read_secrets() {
        hide(&mut document, crate::REDACTED);
    }
    Ok(respond::ok(document))
}

async fn current(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    let (app, rights) = visible_app(&mut connection, &caller, &guid).await?;
    let droplet =
        droplets::find(&mut connection, app.droplet_guid.as_deref().unwrap_or_default()).await?;
    show(&mut connection, &droplet.ok_or_else(|| ApiError::not_found("Droplet"))?, &rights, &urls)
        .await
}

async fn current_relationship(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    let (app, _) = visible_app(&mut connection, &caller, &guid).await?;
    let droplet = app.droplet_guid.ok_or_else(|| ApiError::not_found("Droplet"))?;
    Ok(respond::ok(relationship(&guid, &droplet, &urls)))
}

fn relationship(app: &str, droplet: &str, urls: &Urls) -> Value {
    json!({
        "data": { "guid": droplet },
        "links": {
            "self": urls.link(&format!("apps/{app}/relationships/current_droplet")),
            "related": urls.link(&format!("apps/{app}/droplets/current")),
        },
    })
}

async fn assign(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let wanted = to_one_body(&body)?;
    let mut tx = cc.db.begin().await?;
    let (app, rights) = visible_app(&mut tx, &caller, &guid).await?;
    rights.change("App", OPERATORS)?;
    let Some(wanted) = wanted else {
        return Err(ApiError::unprocessable("Current droplet cannot be cleared"));
    };
    let unusable = || {
        ApiError::unprocessable(
            "Unable to assign current droplet. Ensure the droplet exists and belongs to this app.",
        )
    };
    let droplet = droplets::find(&mut tx, &wanted).await?.ok_or_else(unusable)?;
    if droplet.app_guid != app.guid || droplet.state != STAGED {
        return Err(unusable());
    }
    actions::apps::assign_droplet(&cc, &mut tx, &(&caller).into(), &app, &droplet).await?;
    let names = apps::names(&mut tx, &guid).await?;
    tx.commit().await?;
    cc.api_log(
        &names,
        &format!("Updated app with guid {guid} ({})", json!({ "droplet_guid": wanted })),
    );
    Ok(respond::ok(relationship(&guid, &wanted, &urls)))
}

async fn create(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    params: Params,
    body: Body,
) -> ApiResult<Response> {
    params.only(&["source_guid"])?;
    let mut fields = body.fields();
    let [app] = fields.relationships(["app"]);
    let process_types = if params.get("source_guid").is_some() {
        None
    } else {
        fields.object("process_types").cloned()
    };
    let metadata = fields.metadata();
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let unknown = || {
        ApiError::unprocessable(
            "App with guid \"".to_owned()
                + &app
                + "\" does not exist, or you do not have access to it.",
        )
    };
    let app = apps::find(&mut tx, &app).await?.ok_or_else(unknown)?;
    let rights = access::in_space(&mut tx, &caller, &app.space_guid).await?;
    if !rights.can_read() {
        return Err(unknown());
    }
    rights.change("App", DEVELOPERS)?;
    let guid = match params.get("source_guid") {
        None => {
            let types = process_types.map_or_else(|| json!({ "web": "" }), Value::Object);
            let columns = vec![("process_types", (&types).into())];
            droplets::insert(&mut tx, cc.now(), &app.guid, AWAITING_UPLOAD, "buildpack", columns)
                .await?
        }
        Some(source) => {
            let (from, _, rights) = visible::<Droplet>(&mut tx, &caller, source).await?;
            rights.change("Droplet", DEVELOPERS)?;
            if from.state != STAGED {
                return Err(ApiError::unprocessable("source droplet is not staged"));
            }
            // Content is addressed by its digest, so a copy is a row.
            droplets::insert(
                &mut tx,
                cc.now(),
                &app.guid,
                STAGED,
                &from.lifecycle,
                droplets::copied(&from),
            )
            .await?
        }
    };
    crate::v3::common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    let data = json!({ "droplet_guid": guid, "request": body.redacted(&["process_types"]) });
    actions::apps::audit(&cc, &mut tx, &caller, "audit.app.droplet.create", &app, data).await?;
    let (droplet, _, _) = visible::<Droplet>(&mut tx, &caller, &guid).await?;
    let document = present_one(&mut tx, &droplet, &urls).await?;
    tx.commit().await?;
    Ok(respond::created(document))
}

async fn upload(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    upload: bits::Upload,
) -> ApiResult<Response> {
    let (droplet, app, rights) =
        visible::<Droplet>(&mut *cc.db.read().await?, &caller, &guid).await?;
    rights.change("Droplet", DEVELOPERS)?;
    if droplet.state != AWAITING_UPLOAD {
        return Err(ApiError::unprocessable(
            "Droplet may be uploaded only once. Create a new droplet to upload bits.",
        ));
    }
    let received = bits::receive(&cc, upload, cc.config.limits.droplet_bytes).await?;
    let Some(file) = received.bits else {
        return Err(ApiError::unprocessable("A droplet tgz file must be uploaded as 'bits'"));
    };
    let path = file.path().to_owned();
    let limit = cc.config.limits.unpacked_bytes;
    let work = tokio::task::spawn_blocking(move || bits::check_droplet(&path, limit));
    work.await.map_err(anyhow::Error::from)??;
    let _gate = cc.blob_gate.read().await;
    let sha256 = bits::store(&cc, "droplets", &file).await?;
    let mut tx = cc.db.begin().await?;
    droplets::update(
        &mut tx,
        cc.now(),
        &guid,
        vec![("sha256", (&sha256).into()), ("state", STAGED.into())],
    )
    .await?;
    actions::apps::audit(
        &cc,
        &mut tx,
        &caller,
        "audit.app.droplet.upload",
        &app,
        json!({ "droplet_guid": guid }),
    )
    .await?;
    let job =
        jobs::insert(&mut tx, cc.now(), "droplet.upload", ("droplets", &guid), &Outcome::Complete)
            .await?;
    let (droplet, _, _) = visible::<Droplet>(&mut tx, &caller, &guid).await?;
    let document = present_one(&mut tx, &droplet, &urls).await?;
    tx.commit().await?;
    cc.changes.tell(&guid);
    Ok(respond::job_with(&urls, &job, document))
}

async fn download(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    let (droplet, app, _) = visible::<Droplet>(&mut *cc.db.read().await?, &caller, &guid).await?;
    if droplet.state != STAGED {
        return Err(ApiError::unprocessable("Only staged droplets can be downloaded."));
    }
    let Some(sha256) = droplet.sha256 else {
        return Err(ApiError::unprocessable("Cannot download droplets with 'docker' lifecycle."));
    };
    let mut tx = cc.db.begin().await?;
    actions::apps::audit(
        &cc,
        &mut tx,
        &caller,
        "audit.app.droplet.download",
        &app,
        json!({ "droplet_guid": guid }),
    )
    .await?;
    tx.commit().await?;
    send_blob(&cc, &blobstore::key("droplets", &sha256), "application/gzip").await
}

async fn delete(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let (droplet, app, rights) = visible::<Droplet>(&mut tx, &caller, &guid).await?;
    rights.change("Droplet", DEVELOPERS)?;
    blobs::note(&mut tx, cc.now(), "droplets", droplet.sha256.as_deref()).await?;
    if app.droplet_guid.as_deref() == Some(&guid) && app.is_started() {
        return Err(Kind::UnprocessableEntity.with("The droplet is in use by a started app"));
    }
    metadata::remove(&mut tx, KIND, &guid).await?;
    crate::db::delete(&mut tx, "droplets", "guid", &guid).await?;
    if app.droplet_guid.as_deref() == Some(&guid) {
        apps::update(&mut tx, cc.now(), &app.guid, vec![("droplet_guid", None::<String>.into())])
            .await?;
    }
    actions::apps::audit(
        &cc,
        &mut tx,
        &caller,
        "audit.app.droplet.delete",
        &app,
        json!({ "droplet_guid": guid }),
    )
    .await?;
    let job =
        jobs::insert(&mut tx, cc.now(), "droplet.delete", ("droplets", &guid), &Outcome::Complete)
            .await?;
    tx.commit().await?;
    Ok(respond::job(&urls, &job))
}

impl Resource for Droplet {
    const KIND: &'static str = KIND;

    fn guid(&self) -> &str {
        &self.guid
    }

    fn present(&self, metadata: &Metadata, urls: &Urls) -> Value {
        let own = format!("droplets/{}", self.guid);
        let app = format!("apps/{}", self.app_guid);
        let mut links = json!({
            "self": urls.link(&own),
            "app": urls.link(&app),
            "assign_current_droplet": urls.action(&format!("{app}/relationships/current_droplet"), "PATCH"),
        });
        if let Some(package) = &self.package_guid {
            links["package"] = urls.link(&format!("packages/{package}"));
        }
        if self.state == AWAITING_UPLOAD {
            links["upload"] = urls.action(&format!("{own}/upload"), "POST");
        }
        if self.state == STAGED && self.sha256.is_some() {
            links["download"] = urls.link(&format!("{own}/download"));
        }
        let checksum =
            self.sha256.as_ref().map(|value| json!({ "type": "sha256", "value": value }));
        json!({
            "guid": self.guid,
            "created_at": self.created_at.to_rfc3339(),
            "updated_at": self.updated_at.to_rfc3339(),
            "state": self.state,
            "error": self.error,
            "lifecycle": { "type": self.lifecycle, "data": {} },
            "checksum": checksum,
            "buildpacks": self.buildpacks,
            "stack": self.stack,
            "image": self.docker_image,
            "execution_metadata": self.execution_metadata,
            "process_types": self.process_types,
            "relationships": { "app": { "data": { "guid": self.app_guid } } },
            "metadata": metadata.to_json(),
            "links": links,
        })
    }
}

impl OfApp for Droplet {
    const WHAT: &'static str = "Droplet";
    const LIST: List = LIST;

    fn app_guid(&self) -> &str {
        &self.app_guid
    }

    fn narrow(listing: &mut Listing) {
        match listing.params.get("current") {
            Some("true") => listing.condition("a.droplet_guid = droplets.guid"),
            Some("false") => listing.condition("COALESCE(a.droplet_guid, '') <> droplets.guid"),
            _ => {}
        }
    }

    fn hide(document: &mut Value) {
        hide(document, HIDDEN);
    }
}
