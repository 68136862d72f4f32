//! `/v3/space_quotas`: how much of their organization's quota spaces may use.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use sql::Connection;

use super::{common, quotas as shared};
use crate::Cc;
use crate::auth::Caller;
use crate::db::access::{self, ORG_MANAGER};
use crate::db::quotas::{self, Level, Limits, Quota};
use crate::db::{Sql, spaces};
use crate::errors::{ApiError, ApiResult, when_taken};
use crate::message::{Body, Change, to_many_body};
use crate::query::{Filter, List, Params};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/space_quotas", get(list).post(create))
        .route("/v3/space_quotas/{guid}", get(find).patch(update).delete(delete))
        .route("/v3/space_quotas/{guid}/relationships/spaces", post(apply))
        .route(
            "/v3/space_quotas/{guid}/relationships/spaces/{space}",
            axum::routing::delete(unapply),
        )
}

const LEVEL: Level = Level::Space;

const LIST: List = List {
    table: "space_quotas",
    filters: &[
        ("names", Filter::Text("space_quotas.name")),
        ("organization_guids", Filter::Text("space_quotas.org_guid")),
        (
            "space_guids",
            Filter::Sql("space_quotas.guid IN (SELECT quota_guid FROM spaces WHERE guid IN ({}))"),
        ),
    ],
    orders: &[("name", "space_quotas.name")],
    includes: &[],
    labels: None,
};

/// Managers see all quotas of their organization, others those of their spaces.
fn visible(sql: &mut Sql, caller: &Caller) -> Option<String> {
    let spaces = access::visible_space(sql, caller, "sp.guid")?;
    let user = sql.arg(&caller.guid);
    Some(format!(
        "(space_quotas.org_guid IN (SELECT own.org_guid FROM roles own WHERE own.user_guid = {user} AND own.type = 'organization_manager') \
         OR space_quotas.guid IN (SELECT sp.quota_guid FROM spaces sp WHERE {spaces}))"
    ))
}

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    listing.visible(|sql| visible(sql, &caller));
    shared::page(&mut *cc.db.read().await?, LEVEL, &caller, &urls, &listing).await
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    let mut fields = body.fields();
    let before = Limits { paid_services: true, ..Limits::default() };
    let (name, limits) = shared::read(&mut fields, LEVEL, &before, true);
    let related = fields
        .inside("relationships", |inner| (inner.to_one("organization"), inner.to_many("spaces")));
    let (org, members) = related.unwrap_or_default();
    let Change::Set(org) = org else {
        fields.error("Relationships Organization can't be blank");
        return Err(fields.finish().err().unwrap_or_else(ApiError::parse));
    };
    fields.finish()?;
    let (name, members) = (name.unwrap_or_default(), members.unwrap_or_default());
    let mut tx = cc.db.begin().await?;
    let rights = access::in_org(&mut tx, &caller, &org).await?;
    if rights.org_guid.is_empty() || !rights.can_read() {
        let detail = format!(
            "Organization with guid '{org}' does not exist, or you do not have access to it."
        );
        return Err(ApiError::unprocessable(detail));
    }
    rights.change("Organization", &[ORG_MANAGER])?;
    shared::check_ports(&mut tx, &limits, Some(&org)).await?;
    let made = quotas::insert(&mut tx, cc.now(), LEVEL, &name, Some(&org), &limits).await;
    let guid = made.map_err(|cause| when_taken(cause, shared::taken(LEVEL, &name)))?;
    let found = spaces::find_many(&mut tx, &members).await?;
    let missing: Vec<String> = members
        .iter()
        .filter(|guid| !found.iter().any(|space| space.guid == **guid && space.org_guid == org))
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Err(ApiError::unprocessable(format!(
            "Spaces with guids [{}] do not exist within the organization specified, or you do not have access to them.",
            common::quoted(&missing)
        )));
    }
    shared::put(&mut tx, LEVEL, &guid, &limits, &members).await?;
    let document = shared::document(&mut tx, LEVEL, &caller, &urls, &guid).await?;
    tx.commit().await?;
    Ok(respond::created(document))
}

async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    seen(&mut connection, &caller, &guid).await?;
    Ok(respond::ok(shared::document(&mut connection, LEVEL, &caller, &urls, &guid).await?))
}

async fn seen(connection: &mut Connection, caller: &Caller, guid: &str) -> ApiResult<Quota> {
    let mut sql = Sql::default();
    let guid = sql.arg(guid);
    let condition = visible(&mut sql, caller);
    let condition = condition.as_deref().unwrap_or("1 = 1");
    sql.push(&format!(
        "SELECT space_quotas.* FROM space_quotas WHERE space_quotas.guid = {guid} AND {condition}"
    ));
    let row =
        sql.optional(connection).await?.ok_or_else(|| ApiError::not_found(shared::what(LEVEL)))?;
    Ok(LEVEL.read(&row)?)
}

/// The quota, when the caller manages its organization.
async fn change(tx: &mut Connection, caller: &Caller, guid: &str) -> ApiResult<Quota> {
    let quota = seen(tx, caller, guid).await?;
    let org = quota.org_guid.clone().unwrap_or_default();
    access::in_org(tx, caller, &org).await?.change(shared::what(LEVEL), &[ORG_MANAGER])?;
    Ok(quota)
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let before = change(&mut tx, &caller, &guid).await?;
    shared::update(&cc, tx, LEVEL, &caller, &urls, before, &body).await
}

async fn delete(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    change(&mut tx, &caller, &guid).await?;
    shared::delete(&cc, tx, LEVEL, &urls, &guid).await
}

async fn apply(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let wanted = to_many_body(&body)?;
    let mut tx = cc.db.begin().await?;
    let quota = change(&mut tx, &caller, &guid).await?;
    let found = spaces::find_many(&mut tx, &wanted).await?;
    let mut missing = Vec::new();
    for space in &wanted {
        if !access::in_space(&mut tx, &caller, space).await?.can_read()
            || !found.iter().any(|own| own.guid == *space)
        {
            missing.push(space.clone());
        }
    }
    if !missing.is_empty() {
        let detail = format!(
            "Spaces with guids [{}] do not exist, or you do not have access to them.",
            common::quoted(&missing)
        );
        return Err(ApiError::unprocessable(detail));
    }
    if found.iter().any(|space| Some(&space.org_guid) != quota.org_guid.as_ref()) {
        return Err(ApiError::unprocessable(
            "Space quotas cannot be applied outside of their owning organization.",
        ));
    }
    shared::put(&mut tx, LEVEL, &guid, &quota.limits, &wanted).await?;
    let guids = [guid.clone()];
    let all = quotas::visible_members(&mut tx, LEVEL, &caller, &guids)
        .await?
        .remove(&guid)
        .unwrap_or_default();
    tx.commit().await?;
    let own = urls.link(&format!("space_quotas/{guid}/relationships/spaces"));
    Ok(respond::ok(respond::to_many(&all, own)))
}

async fn unapply(
    cc: Cc,
    caller: Caller,
    Path((guid, space)): Path<(String, String)>,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    change(&mut tx, &caller, &guid).await?;
    let found = spaces::find(&mut tx, &space).await?;
    if found.is_none_or(|found| found.quota_guid.as_ref() != Some(&guid)) {
        return Err(ApiError::unprocessable(format!(
            "Unable to remove quota from space with guid '{space}'. Ensure the space quota is applied to this space."
        )));
    }
    quotas::apply(&mut tx, LEVEL, &space, None).await?;
    tx.commit().await?;
    Ok(respond::no_content())
}
