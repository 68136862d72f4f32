//! `/v3/space_quotas`: how much of their organization's quota spaces may use.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};
use sql::Connection;

use super::{common, quotas as shared};
use crate::Cc;
use crate::auth::Caller;
use crate::db::access::{self, ORG_MANAGER};
use crate::db::quotas::{self, Level, Limits, Quota};
use crate::db::{self, Columns as _, Sql, spaces};
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
const WHAT: &str = "Space quota";

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
    let mut connection = cc.db.read().await?;
    let page = listing.fetch(&mut connection, "space_quotas.*", "space_quotas").await?;
    let found = page.items.iter().map(|row| LEVEL.read(row)).collect::<db::Result<Vec<_>>>()?;
    let resources = present_all(&mut connection, &caller, &urls, &found).await?;
    Ok(respond::ok(listing.present(&urls, page.total, resources, BTreeMap::new())))
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
    let taken = ApiError::unprocessable(format!("Space Quota '{name}' already exists."));
    let made = quotas::insert(&mut tx, cc.now(), LEVEL, &name, Some(&org), &limits).await;
    let guid = made.map_err(|cause| when_taken(cause, taken))?;
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
    put(&mut tx, &guid, &limits, &members).await?;
    let document = document(&mut tx, &caller, &urls, &guid).await?;
    tx.commit().await?;
    Ok(respond::created(document))
}

async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    seen(&mut connection, &caller, &guid).await?;
    Ok(respond::ok(document(&mut connection, &caller, &urls, &guid).await?))
}

async fn seen(connection: &mut Connection, caller: &Caller, guid: &str) -> ApiResult<Quota> {
    let mut sql = Sql::default();
    let guid = sql.arg(guid);
    let condition = visible(&mut sql, caller);
    let condition = condition.as_deref().unwrap_or("1 = 1");
    sql.push(&format!(
        "SELECT space_quotas.* FROM space_quotas WHERE space_quotas.guid = {guid} AND {condition}"
    ));
    let row = sql.optional(connection).await?.ok_or_else(|| ApiError::not_found(WHAT))?;
    Ok(LEVEL.read(&row)?)
}

/// The quota, when the caller manages its organization.
async fn change(tx: &mut Connection, caller: &Caller, guid: &str) -> ApiResult<Quota> {
    let quota = seen(tx, caller, guid).await?;
    let org = quota.org_guid.clone().unwrap_or_default();
    access::in_org(tx, caller, &org).await?.change(WHAT, &[ORG_MANAGER])?;
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
    let mut fields = body.fields();
    let (name, limits) = shared::read(&mut fields, LEVEL, &before.limits, false);
    fields.finish()?;
    let name = name.unwrap_or(before.name);
    if limits.log_rate.is_some() && before.limits.log_rate.is_none() {
        let all = members(&mut tx, &guid).await?;
        refuse_unlimited_logs(&mut tx, &limits, &all).await?;
    }
    let taken = ApiError::unprocessable(format!("Space Quota '{name}' already exists."));
    let updated = quotas::update(&mut tx, cc.now(), LEVEL, &guid, &name, &limits).await;
    updated.map_err(|cause| when_taken(cause, taken))?;
    let document = document(&mut tx, &caller, &urls, &guid).await?;
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
    change(&mut tx, &caller, &guid).await?;
    if quotas::is_in_use(&mut tx, LEVEL, &guid).await? {
        let detail = "This quota is applied to one or more spaces. Remove this quota from all spaces before deleting.";
        return Err(ApiError::unprocessable(detail));
    }
    quotas::delete(&mut tx, LEVEL, &guid).await?;
    let job =
        common::done_job(&mut tx, cc.now(), "space_quota.delete", ("space_quota", &guid)).await?;
    tx.commit().await?;
    Ok(respond::job(&urls, &job))
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
    put(&mut tx, &guid, &quota.limits, &wanted).await?;
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

async fn put(tx: &mut Connection, guid: &str, limits: &Limits, wanted: &[String]) -> ApiResult<()> {
    refuse_unlimited_logs(tx, limits, wanted).await?;
    for space in wanted {
        quotas::apply(tx, LEVEL, space, Some(guid)).await?;
    }
    Ok(())
}

async fn refuse_unlimited_logs(
    tx: &mut Connection,
    limits: &Limits,
    wanted: &[String],
) -> ApiResult<()> {
    if limits.log_rate.is_some()
        && !quotas::with_unlimited_logs(tx, LEVEL, wanted).await?.is_empty()
    {
        let detail = "Current usage exceeds new quota values. The space(s) being assigned this quota contain apps \
                      running with an unlimited log rate limit.";
        return Err(ApiError::unprocessable(detail));
    }
    Ok(())
}

async fn members(tx: &mut Connection, guid: &str) -> ApiResult<Vec<String>> {
    let rows =
        db::query("SELECT guid FROM spaces WHERE quota_guid = $1 ORDER BY id", [guid.into()])
            .all(tx)
            .await?;
    Ok(rows.iter().map(|row| row.text("guid")).collect::<db::Result<_>>()?)
}

async fn document(
    connection: &mut Connection,
    caller: &Caller,
    urls: &Urls,
    guid: &str,
) -> ApiResult<Value> {
    let quota =
        quotas::find(connection, LEVEL, guid).await?.ok_or_else(|| ApiError::not_found(WHAT))?;
    Ok(present_all(connection, caller, urls, &[quota]).await?.remove(0))
}

async fn present_all(
    connection: &mut Connection,
    caller: &Caller,
    urls: &Urls,
    found: &[Quota],
) -> ApiResult<Vec<Value>> {
    let guids: Vec<String> = found.iter().map(|quota| quota.guid.clone()).collect();
    let members = quotas::visible_members(connection, LEVEL, caller, &guids).await?;
    let none = Vec::new();
    Ok(found
        .iter()
        .map(|quota| present(quota, members.get(&quota.guid).unwrap_or(&none), urls))
        .collect())
}

fn present(quota: &Quota, members: &[String], urls: &Urls) -> Value {
    let org = quota.org_guid.as_deref().unwrap_or_default();
    let mut document = shared::present(quota);
    document["relationships"] =
        json!({ "organization": common::to_one(Some(org)), "spaces": common::to_many(members) });
    document["links"] = json!({
        "self": urls.link(&format!("space_quotas/{}", quota.guid)),
        "organization": urls.link(&format!("organizations/{org}")),
    });
    document
}
