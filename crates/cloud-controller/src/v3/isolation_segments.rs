//! `/v3/isolation_segments`: groups of cells kept for some organizations.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use sql::Connection;

use super::common;
use super::resource::{self, Resource};
use crate::Cc;
use crate::auth::Caller;
use crate::db::isolation_segments::{self as segments, IsolationSegment, SHARED};
use crate::db::metadata::Metadata;
use crate::db::{self, access, organizations};
use crate::errors::{ApiError, ApiResult, when_taken};
use crate::message::{Body, to_many_body};
use crate::query::{Filter, List, Params};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/isolation_segments", get(list).post(create))
        .route("/v3/isolation_segments/{guid}", get(find).patch(update).delete(delete))
        .route(
            "/v3/isolation_segments/{guid}/relationships/organizations",
            get(organizations_of).post(entitle),
        )
        .route(
            "/v3/isolation_segments/{guid}/relationships/organizations/{org}",
            axum::routing::delete(revoke),
        )
        .route("/v3/isolation_segments/{guid}/relationships/spaces", get(spaces_of))
}

const KIND: &str = "isolation_segment";
const TAKEN: &str = "Isolation Segment names are case insensitive and must be unique";

const LIST: List = List {
    table: "isolation_segments",
    filters: &[
        ("names", Filter::Text("isolation_segments.name")),
        (
            "organization_guids",
            Filter::Sql(
                "isolation_segments.guid IN (SELECT e.isolation_segment_guid FROM isolation_segment_organizations e WHERE e.org_guid IN ({}))",
            ),
        ),
    ],
    orders: &[("name", "isolation_segments.name")],
    includes: &[],
    labels: Some(KIND),
};

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    listing.visible(|sql| segments::seen(sql, &caller));
    resource::page::<IsolationSegment>(&mut *cc.db.read().await?, &listing, &urls).await
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    caller.require_admin()?;
    let mut fields = body.fields();
    let name = fields.required_text("name");
    let metadata = fields.metadata();
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let guid = base::new_guid();
    if segments::is_name_taken(&mut tx, &name, "").await? {
        return Err(ApiError::unprocessable(TAKEN));
    }
    let made = segments::insert(&mut tx, cc.now(), &guid, &name).await;
    made.map_err(|cause| when_taken(cause, ApiError::unprocessable(TAKEN)))?;
    common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    let document = document(&mut tx, &caller, &urls, &guid).await?;
    tx.commit().await?;
    Ok(respond::created(document))
}

async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    Ok(respond::ok(document(&mut *cc.db.read().await?, &caller, &urls, &guid).await?))
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut fields = body.fields();
    let name = fields.has("name").then(|| fields.required_text("name"));
    let metadata = fields.metadata();
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    segments::visible(&mut tx, &caller, &guid).await?;
    caller.require_admin()?;
    if guid == SHARED {
        return Err(ApiError::unprocessable("Cannot update the shared Isolation Segment"));
    }
    let mut set = Vec::new();
    if let Some(name) = &name {
        let used = segments::is_default(&mut tx, &guid, None).await?;
        if used || !segments::spaces(&mut tx, &guid, None).await?.is_empty() {
            let detail = "Cannot update Isolation Segments that are assigned as the default for an Organization or Space.";
            return Err(ApiError::unprocessable(detail));
        }
        if segments::is_name_taken(&mut tx, name, &guid).await? {
            return Err(ApiError::unprocessable(TAKEN));
        }
        set.push(("name", name.into()));
    }
    db::change(&mut tx, cc.now(), "isolation_segments", &guid, set).await?;
    common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    let document = document(&mut tx, &caller, &urls, &guid).await?;
    tx.commit().await?;
    Ok(respond::ok(document))
}

async fn delete(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let segment = segments::visible(&mut tx, &caller, &guid).await?;
    caller.require_admin()?;
    if guid == SHARED {
        return Err(ApiError::unprocessable(format!(
            "Cannot delete the {} Isolation Segment",
            segment.name
        )));
    }
    if !segments::organizations(&mut tx, &guid).await?.is_empty() {
        return Err(ApiError::unprocessable(
            "Revoke the Organization entitlements for your Isolation Segment.",
        ));
    }
    segments::delete(&mut tx, &guid).await?;
    tx.commit().await?;
    Ok(respond::no_content())
}

async fn organizations_of(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    segments::visible(&mut connection, &caller, &guid).await?;
    let mut seen = Vec::new();
    for org in segments::organizations(&mut connection, &guid).await? {
        if access::in_org(&mut connection, &caller, &org).await?.can_read() {
            seen.push(org);
        }
    }
    Ok(respond::ok(entitled(&seen, &guid, &urls)))
}

fn entitled(orgs: &[String], guid: &str, urls: &Urls) -> Value {
    let own = format!("isolation_segments/{guid}");
    let mut document =
        respond::to_many(orgs, urls.link(&format!("{own}/relationships/organizations")));
    document["links"]["related"] = urls.link(&format!("{own}/organizations"));
    document
}

async fn entitle(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    caller.require_admin()?;
    let orgs = to_many_body(&body)?;
    let mut tx = cc.db.begin().await?;
    segments::visible(&mut tx, &caller, &guid).await?;
    let found = organizations::find_many(&mut tx, &orgs).await?;
    let missing: Vec<String> =
        orgs.iter().filter(|guid| !found.iter().any(|org| org.guid == **guid)).cloned().collect();
    if !missing.is_empty() {
        return Err(ApiError::unprocessable(format!(
            "Unable to entitle organizations [{}] for the isolation segment. Ensure the organizations exist.",
            common::quoted(&missing)
        )));
    }
    for org in &orgs {
        segments::entitle(&mut tx, &guid, org).await?;
    }
    let all = segments::organizations(&mut tx, &guid).await?;
    tx.commit().await?;
    Ok(respond::ok(entitled(&all, &guid, &urls)))
}

async fn revoke(
    cc: Cc,
    caller: Caller,
    Path((guid, org)): Path<(String, String)>,
) -> ApiResult<Response> {
    caller.require_admin()?;
    let mut tx = cc.db.begin().await?;
    segments::visible(&mut tx, &caller, &guid).await?;
    if organizations::find(&mut tx, &org).await?.is_none() {
        return Err(ApiError::not_found("Org"));
    }
    if segments::is_default(&mut tx, &guid, Some(&org)).await? {
        let detail = "Cannot remove the entitlement while this Isolation Segment is assigned as the Default Isolation Segment for the Organization.";
        return Err(ApiError::unprocessable(detail));
    }
    let spaces = segments::spaces(&mut tx, &guid, Some(&org)).await?;
    if !spaces.is_empty() {
        let names =
            spaces.iter().map(|(_, name)| format!("'{name}'")).collect::<Vec<_>>().join(", ");
        return Err(ApiError::unprocessable(format!(
            "Cannot remove the entitlement while this Isolation Segment is assigned to any Spaces. Currently assigned to: {names}"
        )));
    }
    segments::revoke(&mut tx, &guid, &org).await?;
    tx.commit().await?;
    Ok(respond::no_content())
}

async fn spaces_of(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    segments::visible(&mut connection, &caller, &guid).await?;
    let mut seen = Vec::new();
    for (space, _) in segments::spaces(&mut connection, &guid, None).await? {
        if access::in_space(&mut connection, &caller, &space).await?.can_read() {
            seen.push(space);
        }
    }
    let own = urls.link(&format!("isolation_segments/{guid}/relationships/spaces"));
    Ok(respond::ok(respond::to_many(&seen, own)))
}

async fn document(
    connection: &mut Connection,
    caller: &Caller,
    urls: &Urls,
    guid: &str,
) -> ApiResult<Value> {
    let segment = segments::visible(connection, caller, guid).await?;
    resource::present_one(connection, &segment, urls).await
}

impl Resource for IsolationSegment {
    const KIND: &'static str = KIND;

    fn guid(&self) -> &str {
        &self.guid
    }

    fn present(&self, metadata: &Metadata, urls: &Urls) -> Value {
        let path = format!("isolation_segments/{}", self.guid);
        json!({
            "guid": self.guid,
            "created_at": self.created_at.to_rfc3339(),
            "updated_at": self.updated_at.to_rfc3339(),
            "name": self.name,
            "metadata": metadata.to_json(),
            "links": { "self": urls.link(&path), "organizations": urls.link(&format!("{path}/organizations")) },
        })
    }
}
