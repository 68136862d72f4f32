//! `/v3/organizations`: who shares quota, domains and members.

use std::collections::BTreeSet;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use sql::Connection;

use super::resource::{self, Resource};
use super::{common, places};
use crate::Cc;
use crate::actions::delete_org;
use crate::auth::Caller;
use crate::db::access::{self, ORG_MANAGER, ORG_USER};
use crate::db::metadata::{Metadata, MetadataPatch};
use crate::db::organizations::{self, Organization};
use crate::db::quotas::Level;
use crate::db::{self, domains, feature_flags, isolation_segments, roles};
use crate::errors::{ApiError, ApiResult, when_taken};
use crate::message::Body;
use crate::query::{Filter, List, Params};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/organizations", get(list).post(create))
        .route("/v3/organizations/{guid}", get(find).patch(update).delete(delete))
        .route("/v3/organizations/{guid}/domains/default", get(default_domain))
        .route("/v3/isolation_segments/{guid}/organizations", get(of_isolation_segment))
        .merge(places::routes(Level::Organization))
}

const KIND: &str = "organization";

const LIST: List = List {
    table: "organizations",
    filters: &[("names", Filter::Text("organizations.name"))],
    orders: &[("name", "organizations.name")],
    includes: &[],
    labels: Some(KIND),
};

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    listing.visible(|sql| access::visible_org(sql, &caller, "organizations.guid"));
    resource::page::<Organization>(&mut *cc.db.read().await?, &listing, &urls).await
}

async fn of_isolation_segment(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    isolation_segments::visible(&mut *cc.db.read().await?, &caller, &guid).await?;
    listing.visible(|sql| access::visible_org(sql, &caller, "organizations.guid"));
    let segment = listing.sql().arg(&guid);
    listing.condition(format!(
        "organizations.guid IN (SELECT org_guid FROM isolation_segment_organizations WHERE isolation_segment_guid = {segment})"
    ));
    resource::page::<Organization>(&mut *cc.db.read().await?, &listing, &urls).await
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    let message = read_message(&body, true)?;
    let name = message.name.unwrap_or_default();
    let mut tx = cc.db.begin().await?;
    if !caller.is_admin() && !feature_flags::is_enabled(&mut tx, "user_org_creation").await? {
        return Err(ApiError::forbidden());
    }
    let taken = || ApiError::unprocessable(format!("Organization '{name}' already exists."));
    let made =
        organizations::insert(&mut tx, cc.now(), &name, message.suspended.unwrap_or(false)).await;
    let guid = made.map_err(|cause| when_taken(cause, taken()))?;
    common::write_metadata(&mut tx, KIND, &guid, &message.metadata).await?;
    if !caller.is_admin() {
        db::users::ensure(&mut tx, cc.now(), &caller.guid).await?;
        for role in [ORG_USER, ORG_MANAGER] {
            roles::insert(&mut tx, cc.now(), role, &caller.guid, (&guid, "")).await?;
        }
    }
    let target = (guid.as_str(), KIND, name.as_str());
    let data = json!({ "request": body.redacted(&[]) });
    common::audit(
        &mut tx,
        &cc,
        &caller,
        "audit.organization.create",
        target,
        (None, Some(&guid)),
        data,
    )
    .await?;
    let document = document(&mut tx, &urls, &guid).await?;
    tx.commit().await?;
    Ok(respond::created(document))
}

async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    access::in_org(&mut connection, &caller, &guid).await?.see("Organization")?;
    Ok(respond::ok(document(&mut connection, &urls, &guid).await?))
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    access::in_org(&mut tx, &caller, &guid).await?.change("Organization", &[ORG_MANAGER])?;
    let message = read_message(&body, false)?;
    let before = expect(&mut tx, &guid).await?;
    if message.suspended == Some(true) && !caller.is_admin() {
        return Err(ApiError::forbidden());
    }
    let mut set = Vec::new();
    set.extend(message.name.as_ref().map(|name| ("name", name.into())));
    set.extend(message.suspended.map(|suspended| ("suspended", suspended.into())));
    let name = message.name.clone().unwrap_or_default();
    let taken = ApiError::unprocessable(format!("Organization name '{name}' is already taken."));
    db::change(&mut tx, cc.now(), "organizations", &guid, set)
        .await
        .map_err(|cause| when_taken(cause, taken))?;
    common::write_metadata(&mut tx, KIND, &guid, &message.metadata).await?;
    let org = expect(&mut tx, &guid).await?;
    if org.name != before.name {
        db::processes::place_changed(&mut tx, &guid, "").await?;
    }
    let target = (guid.as_str(), KIND, org.name.as_str());
    let data = json!({ "request": body.redacted(&[]) });
    common::audit(
        &mut tx,
        &cc,
        &caller,
        "audit.organization.update",
        target,
        (None, Some(&guid)),
        data,
    )
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
    access::in_org(&mut *cc.db.read().await?, &caller, &guid).await?.see("Organization")?;
    caller.require_admin()?;
    let job = delete_org::org(&cc, &caller, &guid).await?;
    Ok(respond::job(&urls, &job))
}

async fn default_domain(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    let rights = access::in_org(&mut connection, &caller, &guid).await?;
    rights.see("Organization")?;
    let domain = domains::default_of(&mut connection, &guid).await?;
    let domain = domain
        .filter(|domain| domain.is_shared() || super::domains::sees_private(&caller, &rights));
    let domain = domain.ok_or_else(|| ApiError::not_found("Domain"))?;
    Ok(respond::ok(super::domains::document(&mut connection, &caller, &urls, &domain.guid).await?))
}

struct Message {
    name: Option<String>,
    suspended: Option<bool>,
    metadata: MetadataPatch,
}

fn read_message(body: &Body, creating: bool) -> ApiResult<Message> {
    let mut fields = body.fields();
    let name =
        if creating || fields.has("name") { Some(fields.required_text("name")) } else { None };
    if name.as_ref().is_some_and(|name| name.chars().count() > 250) {
        fields.error("Name is too long (maximum is 250 characters)");
    }
    let message =
        Message { name, suspended: fields.flag("suspended"), metadata: fields.metadata() };
    fields.finish()?;
    Ok(message)
}

async fn expect(connection: &mut Connection, guid: &str) -> ApiResult<Organization> {
    organizations::find(connection, guid).await?.ok_or_else(|| ApiError::not_found("Organization"))
}

async fn document(connection: &mut Connection, urls: &Urls, guid: &str) -> ApiResult<Value> {
    let org = expect(connection, guid).await?;
    resource::present_one(connection, &org, urls).await
}

/// For `include=space.organization`: the organizations that these spaces lie in.
pub async fn of_spaces(
    connection: &mut Connection,
    spaces: &[String],
    urls: &Urls,
) -> ApiResult<Vec<Value>> {
    let spaces = db::spaces::find_many(connection, spaces).await?;
    let guids: BTreeSet<String> = spaces.into_iter().map(|space| space.org_guid).collect();
    let guids: Vec<String> = guids.into_iter().collect();
    resource::by_guids::<Organization>(connection, &guids, urls).await
}

impl Resource for Organization {
    const KIND: &'static str = KIND;

    fn guid(&self) -> &str {
        &self.guid
    }

    fn present(&self, metadata: &Metadata, urls: &Urls) -> Value {
        let path = format!("organizations/{}", self.guid);
        json!({
            "guid": self.guid,
            "created_at": self.created_at.to_rfc3339(),
            "updated_at": self.updated_at.to_rfc3339(),
            "name": self.name,
            "suspended": self.suspended,
            "relationships": { "quota": { "data": { "guid": self.quota_guid } } },
            "metadata": metadata.to_json(),
            "links": {
                "self": urls.link(&path),
                "domains": urls.link(&format!("{path}/domains")),
                "default_domain": urls.link(&format!("{path}/domains/default")),
                "quota": urls.link(&format!("organization_quotas/{}", self.quota_guid)),
            },
        })
    }
}
