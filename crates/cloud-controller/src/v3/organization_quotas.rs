//! `/v3/organization_quotas`: how much organizations may use.

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
use crate::db::quotas::{self, Level, Limits, Quota};
use crate::db::{self, organizations};
use crate::errors::{ApiError, ApiResult, when_taken};
use crate::message::{Body, to_many_body};
use crate::query::{Filter, List, Params};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/organization_quotas", get(list).post(create))
        .route("/v3/organization_quotas/{guid}", get(find).patch(update).delete(delete))
        .route("/v3/organization_quotas/{guid}/relationships/organizations", post(apply))
}

const LEVEL: Level = Level::Organization;
const WHAT: &str = "Organization quota";

const LIST: List = List {
    table: "organization_quotas",
    filters: &[
        ("names", Filter::Text("organization_quotas.name")),
        (
            "organization_guids",
            Filter::Sql(
                "organization_quotas.guid IN (SELECT quota_guid FROM organizations WHERE guid IN ({}))",
            ),
        ),
    ],
    orders: &[("name", "organization_quotas.name")],
    includes: &[],
    labels: None,
};

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let listing = LIST.read(params)?;
    let mut connection = cc.db.read().await?;
    let page =
        listing.fetch(&mut connection, "organization_quotas.*", "organization_quotas").await?;
    let found = page.items.iter().map(|row| LEVEL.read(row)).collect::<db::Result<Vec<_>>>()?;
    let resources = present_all(&mut connection, &caller, &urls, &found).await?;
    Ok(respond::ok(listing.present(&urls, page.total, resources, BTreeMap::new())))
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    caller.require_admin()?;
    let mut fields = body.fields();
    let before = Limits { paid_services: true, ..Limits::default() };
    let (name, limits) = shared::read(&mut fields, LEVEL, &before, true);
    let orgs = fields
        .inside("relationships", |inner| inner.to_many("organizations"))
        .flatten()
        .unwrap_or_default();
    fields.finish()?;
    let name = name.unwrap_or_default();
    let mut tx = cc.db.begin().await?;
    let taken = ApiError::unprocessable(format!("Organization Quota '{name}' already exists."));
    let made = quotas::insert(&mut tx, cc.now(), LEVEL, &name, None, &limits).await;
    let guid = made.map_err(|cause| when_taken(cause, taken))?;
    let missing = missing(&mut tx, &orgs).await?;
    if !missing.is_empty() {
        let detail = format!(
            "Organizations with guids [{}] do not exist, or you do not have access to them.",
            common::quoted(&missing)
        );
        return Err(ApiError::unprocessable(detail));
    }
    put(&mut tx, &guid, &limits, &orgs).await?;
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
    caller.require_admin()?;
    let mut tx = cc.db.begin().await?;
    let before = expect(&mut tx, &guid).await?;
    let mut fields = body.fields();
    let (name, limits) = shared::read(&mut fields, LEVEL, &before.limits, false);
    fields.finish()?;
    let name = name.unwrap_or(before.name);
    if limits.log_rate.is_some() && before.limits.log_rate.is_none() {
        let all = members(&mut tx, &guid).await?;
        refuse_unlimited_logs(&mut tx, &limits, &all).await?;
    }
    let taken = ApiError::unprocessable(format!("Organization Quota '{name}' already exists."));
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
    caller.require_admin()?;
    let mut tx = cc.db.begin().await?;
    expect(&mut tx, &guid).await?;
    if quotas::is_in_use(&mut tx, LEVEL, &guid).await? {
        let detail = "This quota is applied to one or more organizations. Apply different quotas to those organizations before deleting.";
        return Err(ApiError::unprocessable(detail));
    }
    quotas::delete(&mut tx, LEVEL, &guid).await?;
    let job = common::done_job(
        &mut tx,
        cc.now(),
        "organization_quota.delete",
        ("organization_quota", &guid),
    )
    .await?;
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
    caller.require_admin()?;
    let orgs = to_many_body(&body)?;
    let mut tx = cc.db.begin().await?;
    let quota = expect(&mut tx, &guid).await?;
    let missing = missing(&mut tx, &orgs).await?;
    if !missing.is_empty() {
        let detail =
            format!("Organizations with guids [{}] do not exist", common::quoted(&missing));
        return Err(ApiError::unprocessable(detail));
    }
    put(&mut tx, &guid, &quota.limits, &orgs).await?;
    let all = members(&mut tx, &guid).await?;
    tx.commit().await?;
    let own = urls.link(&format!("organization_quotas/{guid}/relationships/organizations"));
    Ok(respond::ok(respond::to_many(&all, own)))
}

async fn put(tx: &mut Connection, guid: &str, limits: &Limits, orgs: &[String]) -> ApiResult<()> {
    refuse_unlimited_logs(tx, limits, orgs).await?;
    for org in orgs {
        quotas::apply(tx, LEVEL, org, Some(guid)).await?;
    }
    Ok(())
}

async fn refuse_unlimited_logs(
    tx: &mut Connection,
    limits: &Limits,
    orgs: &[String],
) -> ApiResult<()> {
    if limits.log_rate.is_some() && !quotas::with_unlimited_logs(tx, LEVEL, orgs).await?.is_empty()
    {
        let detail = "Current usage exceeds new quota values. The org(s) being assigned this quota contain apps running \
                      with an unlimited log rate limit.";
        return Err(ApiError::unprocessable(detail));
    }
    Ok(())
}

async fn missing(tx: &mut Connection, orgs: &[String]) -> ApiResult<Vec<String>> {
    let found = organizations::find_many(tx, orgs).await?;
    Ok(orgs.iter().filter(|guid| !found.iter().any(|org| org.guid == **guid)).cloned().collect())
}

async fn members(tx: &mut Connection, guid: &str) -> ApiResult<Vec<String>> {
    let rows = db::query(
        "SELECT guid FROM organizations WHERE quota_guid = $1 ORDER BY id",
        [guid.into()],
    )
    .all(tx)
    .await?;
    Ok(rows.iter().map(|row| db::Columns::text(row, "guid")).collect::<db::Result<_>>()?)
}

async fn expect(connection: &mut Connection, guid: &str) -> ApiResult<Quota> {
    quotas::find(connection, LEVEL, guid).await?.ok_or_else(|| ApiError::not_found(WHAT))
}

async fn document(
    connection: &mut Connection,
    caller: &Caller,
    urls: &Urls,
    guid: &str,
) -> ApiResult<Value> {
    let quota = expect(connection, guid).await?;
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

fn present(quota: &Quota, orgs: &[String], urls: &Urls) -> Value {
    let mut document = shared::present(quota);
    document["domains"] = json!({ "total_domains": quota.limits.domains });
    document["relationships"] = json!({ "organizations": common::to_many(orgs) });
    document["links"] =
        json!({ "self": urls.link(&format!("organization_quotas/{}", quota.guid)) });
    document
}
