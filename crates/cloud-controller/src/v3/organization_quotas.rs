//! `/v3/organization_quotas`: how much organizations may use.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use sql::Connection;

use super::{common, quotas as shared};
use crate::Cc;
use crate::auth::Caller;
use crate::db::organizations;
use crate::db::quotas::{self, Level, Limits};
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
    shared::page(&mut *cc.db.read().await?, LEVEL, &caller, &urls, &listing).await
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
    shared::check_ports(&mut tx, &limits, None).await?;
    let made = quotas::insert(&mut tx, cc.now(), LEVEL, &name, None, &limits).await;
    let guid = made.map_err(|cause| when_taken(cause, shared::taken(LEVEL, &name)))?;
    let missing = missing(&mut tx, &orgs).await?;
    if !missing.is_empty() {
        let detail = format!(
            "Organizations with guids [{}] do not exist, or you do not have access to them.",
            common::quoted(&missing)
        );
        return Err(ApiError::unprocessable(detail));
    }
    shared::put(&mut tx, LEVEL, &guid, &limits, &orgs).await?;
    let document = shared::document(&mut tx, LEVEL, &caller, &urls, &guid).await?;
    tx.commit().await?;
    Ok(respond::created(document))
}

async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    Ok(respond::ok(
        shared::document(&mut *cc.db.read().await?, LEVEL, &caller, &urls, &guid).await?,
    ))
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
    let before = shared::expect(&mut tx, LEVEL, &guid).await?;
    shared::update(&cc, tx, LEVEL, &caller, &urls, before, &body).await
}

async fn delete(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    caller.require_admin()?;
    let mut tx = cc.db.begin().await?;
    shared::expect(&mut tx, LEVEL, &guid).await?;
    shared::delete(&cc, tx, LEVEL, &urls, &guid).await
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
    let quota = shared::expect(&mut tx, LEVEL, &guid).await?;
    let missing = missing(&mut tx, &orgs).await?;
    if !missing.is_empty() {
        let detail =
            format!("Organizations with guids [{}] do not exist", common::quoted(&missing));
        return Err(ApiError::unprocessable(detail));
    }
    shared::put(&mut tx, LEVEL, &guid, &quota.limits, &orgs).await?;
    let all = quotas::members(&mut tx, LEVEL, &guid).await?;
    tx.commit().await?;
    let own = urls.link(&format!("organization_quotas/{guid}/relationships/organizations"));
    Ok(respond::ok(respond::to_many(&all, own)))
}

async fn missing(tx: &mut Connection, orgs: &[String]) -> ApiResult<Vec<String>> {
    let found = organizations::find_many(tx, orgs).await?;
    Ok(orgs.iter().filter(|guid| !found.iter().any(|org| org.guid == **guid)).cloned().collect())
}
