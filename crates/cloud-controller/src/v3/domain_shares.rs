//! Sharing an organization's domain with others.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::post;
use sql::Connection;

use super::domains::{change, seen};
use crate::Cc;
use crate::auth::Caller;
use crate::db::access::{self, ORG_MANAGER};
use crate::db::{domains, organizations};
use crate::errors::{ApiError, ApiResult};
use crate::message::{Body, to_many_body};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new().route("/v3/domains/{guid}/relationships/shared_organizations", post(share)).route(
        "/v3/domains/{guid}/relationships/shared_organizations/{org}",
        axum::routing::delete(unshare),
    )
}

/// Whether a domain of `owner` may be shared with all of `orgs`.
pub async fn check(
    tx: &mut Connection,
    caller: &Caller,
    owner: &str,
    orgs: &[String],
) -> ApiResult<()> {
    for org in orgs {
        let rights = access::in_org(tx, caller, org).await?;
        if rights.org_guid.is_empty() || !rights.can_read() {
            let detail = format!(
                "Organization with guid '{org}' either does not exist, or you do not have access to it."
            );
            return Err(ApiError::unprocessable(detail));
        }
        if !rights.can_write(&[ORG_MANAGER]) {
            let name = organizations::find(tx, org).await?.map(|org| org.name).unwrap_or_default();
            let detail = if rights.has(&[ORG_MANAGER]) {
                format!("Organization '{name}' is suspended.")
            } else {
                format!(
                    "You do not have sufficient permissions for organization '{name}' to share domain."
                )
            };
            return Err(ApiError::unprocessable(detail));
        }
        if org == owner {
            return Err(ApiError::unprocessable(
                "Domain cannot be shared with owning organization.",
            ));
        }
    }
    Ok(())
}

async fn share(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let orgs = to_many_body(&body)?;
    let mut tx = cc.db.begin().await?;
    let domain = seen(&mut tx, &caller, &guid).await?;
    let Some(owner) = &domain.org_guid else {
        let detail = "Domains cannot be shared with other organizations unless they are scoped to an organization.";
        return Err(ApiError::unprocessable(detail));
    };
    check(&mut tx, &caller, owner, &orgs).await?;
    change(&mut tx, &caller, &guid).await?;
    for org in &orgs {
        domains::share(&mut tx, &guid, org).await?;
    }
    let guids = [guid.clone()];
    let shares =
        domains::visible_shares(&mut tx, &caller, &guids).await?.remove(&guid).unwrap_or_default();
    tx.commit().await?;
    let own = urls.link(&format!("domains/{guid}/relationships/shared_organizations"));
    Ok(respond::ok(respond::to_many(&shares, own)))
}

async fn unshare(
    cc: Cc,
    caller: Caller,
    Path((guid, org)): Path<(String, String)>,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let domain = seen(&mut tx, &caller, &guid).await?;
    let theirs = access::in_org(&mut tx, &caller, &org).await?;
    if theirs.org_guid.is_empty() || !theirs.can_read() {
        let detail = format!(
            "Organization with guid '{org}' does not exist or you do not have access to it."
        );
        return Err(ApiError::unprocessable(detail));
    }
    let owns = match &domain.org_guid {
        Some(owner) => access::in_org(&mut tx, &caller, owner).await?.can_write(&[ORG_MANAGER]),
        None => caller.is_admin(),
    };
    if !owns && !theirs.can_write(&[ORG_MANAGER]) {
        return Err(ApiError::forbidden());
    }
    if !domains::shared_with(&mut tx, &guid).await?.contains(&org) {
        let name =
            organizations::find(&mut tx, &org).await?.map(|org| org.name).unwrap_or_default();
        return Err(ApiError::unprocessable(format!(
            "Unable to unshare domain from organization with name '{name}'. Ensure the domain is shared to this organization."
        )));
    }
    if domains::has_routes_in(&mut tx, &guid, &org).await? {
        let detail = "This domain has associated routes in this organization. Delete the routes before unsharing.";
        return Err(ApiError::unprocessable(detail));
    }
    domains::unshare(&mut tx, &guid, &org).await?;
    tx.commit().await?;
    Ok(respond::no_content())
}
