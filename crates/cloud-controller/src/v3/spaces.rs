//! `/v3/spaces`: where apps live, inside an organization.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, patch};
use serde_json::{Value, json};
use sql::Connection;

use super::resource::{self, Resource};
use super::{common, places};
use crate::Cc;
use crate::actions::delete_org;
use crate::auth::Caller;
use crate::db::access::{self, ORG_MANAGER, SPACE_MANAGER};
use crate::db::metadata::{Metadata, MetadataPatch};
use crate::db::organizations::Organization;
use crate::db::quotas::Level;
use crate::db::spaces::{self, Space};
use crate::db::{self};
use crate::errors::{ApiError, ApiResult, when_taken};
use crate::message::{Body, Fields};
use crate::query::{Filter, List, Params};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/spaces", get(list).post(create))
        .route("/v3/spaces/{guid}", get(find).patch(update).delete(delete))
        .route("/v3/spaces/{guid}/features", get(features))
        .route("/v3/spaces/{guid}/features/{name}", get(feature).merge(patch(set_feature)))
        .merge(places::routes(Level::Space))
}

const KIND: &str = "space";
const INCLUDES: &[&str] = &["org", "organization"];

const LIST: List = List {
    table: "spaces",
    filters: &[
        ("names", Filter::Text("spaces.name")),
        ("organization_guids", Filter::Text("spaces.org_guid")),
    ],
    orders: &[("name", "spaces.name")],
    includes: INCLUDES,
    labels: Some(KIND),
};

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    listing.visible(|sql| access::visible_space(sql, &caller, "spaces.guid"));
    let mut connection = cc.db.read().await?;
    let (total, found, resources) = resource::fetch(&mut connection, &listing, &urls).await?;
    let mut included = BTreeMap::new();
    if !listing.includes.is_empty() {
        included.insert("organizations", organizations_of(&mut connection, &urls, &found).await?);
    }
    Ok(respond::ok(listing.present(&urls, total, resources, included)))
}

async fn organizations_of(
    connection: &mut Connection,
    urls: &Urls,
    found: &[Space],
) -> ApiResult<Vec<Value>> {
    let guids: BTreeSet<String> = found.iter().map(|space| space.org_guid.clone()).collect();
    let guids: Vec<String> = guids.into_iter().collect();
    resource::by_guids::<Organization>(connection, &guids, urls).await
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    let mut fields = body.fields();
    let [org] = fields.relationships(["organization"]);
    let message = read_message(&mut fields, true);
    fields.finish()?;
    let name = message.name.unwrap_or_default();
    let mut tx = cc.db.begin().await?;
    let rights = access::in_org(&mut tx, &caller, &org).await?;
    if rights.org_guid.is_empty() || !rights.can_read() {
        let detail =
            "Invalid organization. Ensure the organization exists and you have access to it.";
        return Err(ApiError::unprocessable(detail));
    }
    rights.change("Organization", &[ORG_MANAGER])?;
    let taken = ApiError::unprocessable("Name must be unique per organization");
    let made =
        spaces::insert(&mut tx, cc.now(), &org, &name, message.suspended.unwrap_or(false)).await;
    let guid = made.map_err(|cause| when_taken(cause, taken))?;
    common::write_metadata(&mut tx, KIND, &guid, &message.metadata).await?;
    let target = (guid.as_str(), KIND, name.as_str());
    let data = json!({ "request": body.redacted(&[]) });
    common::audit(
        &mut tx,
        &cc,
        &caller,
        "audit.space.create",
        target,
        (Some(&guid), Some(&org)),
        data,
    )
    .await?;
    let document = document(&mut tx, &urls, &guid).await?;
    tx.commit().await?;
    Ok(respond::created(document))
}

async fn find(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    params.only(&["include"])?;
    let includes = params.includes(INCLUDES)?;
    let mut connection = cc.db.read().await?;
    access::in_space(&mut connection, &caller, &guid).await?.see("Space")?;
    let mut document = document(&mut connection, &urls, &guid).await?;
    if !includes.is_empty() {
        let space = expect(&mut connection, &guid).await?;
        document["included"] =
            json!({ "organizations": organizations_of(&mut connection, &urls, &[space]).await? });
    }
    Ok(respond::ok(document))
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let rights = access::in_space(&mut tx, &caller, &guid).await?;
    rights.change("Space", &[ORG_MANAGER, SPACE_MANAGER])?;
    let mut fields = body.fields();
    let message = read_message(&mut fields, false);
    fields.finish()?;
    if message.suspended.is_some() && !rights.can_write(&[ORG_MANAGER]) {
        return Err(ApiError::forbidden());
    }
    let before = expect(&mut tx, &guid).await?;
    let mut set = Vec::new();
    set.extend(message.name.as_ref().map(|name| ("name", name.into())));
    set.extend(message.suspended.map(|suspended| ("suspended", suspended.into())));
    if let Err(cause) = db::change(&mut tx, cc.now(), "spaces", &guid, set).await {
        drop(tx);
        let org = db::organizations::find(&mut *cc.db.read().await?, &before.org_guid).await?;
        let (org, name) =
            (org.map(|org| org.name).unwrap_or_default(), message.name.unwrap_or_default());
        let detail = format!("Organization '{org}' already contains a space with name '{name}'.");
        return Err(when_taken(cause, ApiError::unprocessable(detail)));
    }
    common::write_metadata(&mut tx, KIND, &guid, &message.metadata).await?;
    let name = message.name.unwrap_or_else(|| before.name.clone());
    if name != before.name {
        db::processes::place_changed(&mut tx, &before.org_guid, &guid).await?;
    }
    let target = (guid.as_str(), KIND, name.as_str());
    let data = json!({ "request": body.redacted(&[]) });
    common::audit(&mut tx, &cc, &caller, "audit.space.update", target, (Some(&guid), None), data)
        .await?;
    let document = document(&mut tx, &urls, &guid).await?;
    tx.commit().await?;
    cc.nsync.poke();
    Ok(respond::ok(document))
}

async fn delete(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    access::in_space(&mut *cc.db.read().await?, &caller, &guid)
        .await?
        .change("Space", &[ORG_MANAGER])?;
    let job = delete_org::space(&cc, &caller, &guid).await?;
    Ok(respond::job(&urls, &job))
}

async fn features(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    access::in_space(&mut connection, &caller, &guid).await?.see("Space")?;
    let space = expect(&mut connection, &guid).await?;
    Ok(respond::ok(json!({ "features": [present_ssh(&space)] })))
}

async fn feature(
    cc: Cc,
    caller: Caller,
    Path((guid, name)): Path<(String, String)>,
) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    access::in_space(&mut connection, &caller, &guid).await?.see("Space")?;
    known_feature(&name)?;
    Ok(respond::ok(present_ssh(&expect(&mut connection, &guid).await?)))
}

async fn set_feature(
    cc: Cc,
    caller: Caller,
    Path((guid, name)): Path<(String, String)>,
    body: Body,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    access::in_space(&mut tx, &caller, &guid)
        .await?
        .change("Space", &[ORG_MANAGER, SPACE_MANAGER])?;
    known_feature(&name)?;
    let mut fields = body.fields();
    let enabled = fields.flag("enabled");
    if enabled.is_none() {
        fields.error("Enabled must be a boolean");
    }
    fields.finish()?;
    let set = vec![("allow_ssh", enabled.unwrap_or(false).into())];
    db::change(&mut tx, cc.now(), "spaces", &guid, set).await?;
    let space = expect(&mut tx, &guid).await?;
    let target = (guid.as_str(), KIND, space.name.as_str());
    let data = json!({ "request": body.redacted(&[]) });
    common::audit(&mut tx, &cc, &caller, "audit.space.update", target, (Some(&guid), None), data)
        .await?;
    tx.commit().await?;
    Ok(respond::ok(present_ssh(&space)))
}

fn known_feature(name: &str) -> ApiResult<()> {
    if name == "ssh" { Ok(()) } else { Err(ApiError::not_found("Feature")) }
}

fn present_ssh(space: &Space) -> Value {
    json!({ "name": "ssh", "description": "Enable SSHing into apps in the space.", "enabled": space.allow_ssh })
}

struct Message {
    name: Option<String>,
    suspended: Option<bool>,
    metadata: MetadataPatch,
}

fn read_message(fields: &mut Fields<'_>, creating: bool) -> Message {
    let name =
        if creating || fields.has("name") { Some(fields.required_text("name")) } else { None };
    if name.as_ref().is_some_and(|name| name.chars().count() > 255) {
        fields.error("Name is too long (maximum is 255 characters)");
    }
    Message { name, suspended: fields.flag("suspended"), metadata: fields.metadata() }
}

async fn expect(connection: &mut Connection, guid: &str) -> ApiResult<Space> {
    spaces::find(connection, guid).await?.ok_or_else(|| ApiError::not_found("Space"))
}

async fn document(connection: &mut Connection, urls: &Urls, guid: &str) -> ApiResult<Value> {
    let space = expect(connection, guid).await?;
    resource::present_one(connection, &space, urls).await
}

impl Resource for Space {
    const KIND: &'static str = KIND;

    fn guid(&self) -> &str {
        &self.guid
    }

    fn present(&self, metadata: &Metadata, urls: &Urls) -> Value {
        let path = format!("spaces/{}", self.guid);
        let mut links = json!({
            "self": urls.link(&path),
            "organization": urls.link(&format!("organizations/{}", self.org_guid)),
            "features": urls.link(&format!("{path}/features")),
            "apply_manifest": urls.action(&format!("{path}/actions/apply_manifest"), "POST"),
        });
        if let Some(quota) = &self.quota_guid {
            links["quota"] = urls.link(&format!("space_quotas/{quota}"));
        }
        json!({
            "guid": self.guid,
            "created_at": self.created_at.to_rfc3339(),
            "updated_at": self.updated_at.to_rfc3339(),
            "name": self.name,
            "suspended": self.suspended,
            "relationships": {
                "organization": common::to_one(Some(&self.org_guid)),
                "quota": common::to_one(self.quota_guid.as_deref()),
            },
            "metadata": metadata.to_json(),
            "links": links,
        })
    }
}
