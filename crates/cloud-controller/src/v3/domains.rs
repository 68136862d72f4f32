//! `/v3/domains`: names under which routes are made, shared by all or owned by an organization.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Map, Value, json};
use sql::Connection;

use super::{common, domain_shares};
use crate::Cc;
use crate::auth::Caller;
use crate::db::access::{self, ORG_AUDITOR, ORG_MANAGER, Rights};
use crate::db::domains::{self, Domain, NewDomain};
use crate::db::metadata::{self, Metadata};
use crate::db::{self, Sql, Stored as _, feature_flags, organizations, routes as route_rows};
use crate::errors::{ApiError, ApiResult, when_taken};
use crate::message::{Body, Change, Fields};
use crate::query::{Filter, List, Listing, Params};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/domains", get(list).post(create))
        .route("/v3/domains/{guid}", get(find).patch(update).delete(delete))
        .route("/v3/domains/{guid}/route_reservations", get(route_reservations))
        .route("/v3/organizations/{guid}/domains", get(of_organization))
}

const KIND: &str = "domain";

const LIST: List = List {
    table: "domains",
    filters: &[
        ("names", Filter::Lower("domains.name")),
        ("organization_guids", Filter::Sql("domains.org_guid IN ({})")),
    ],
    orders: &[("name", "domains.name")],
    includes: &[],
    labels: Some(KIND),
};

/// Roles of an organization that show its own domains; being a mere user or billing manager of it does not.
const SEES_PRIVATE: &str = "own.type NOT IN ('organization_user', 'organization_billing_manager')";

fn visible(sql: &mut Sql, caller: &Caller) -> Option<String> {
    if caller.reads_all() {
        return None;
    }
    let user = sql.arg(&caller.guid);
    let orgs = format!(
        "SELECT own.org_guid FROM roles own WHERE own.user_guid = {user} AND {SEES_PRIVATE}"
    );
    Some(format!(
        "(domains.org_guid IS NULL OR domains.org_guid IN ({orgs}) \
         OR EXISTS (SELECT 1 FROM domain_shares ds WHERE ds.domain_guid = domains.guid AND ds.org_guid IN ({orgs})))"
    ))
}

/// Whether these rights in an organization show its own domains. A role in one of its spaces does.
pub fn sees_private(caller: &Caller, rights: &Rights) -> bool {
    caller.reads_all()
        || rights.has(&[ORG_MANAGER, ORG_AUDITOR])
        || rights.has(&[
            access::SPACE_MANAGER,
            access::SPACE_DEVELOPER,
            access::SPACE_AUDITOR,
            access::SPACE_SUPPORTER,
        ])
}

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    listing.visible(|sql| visible(sql, &caller));
    page(&cc, &caller, &urls, &listing).await
}

async fn of_organization(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    access::in_org(&mut *cc.db.read().await?, &caller, &guid).await?.see("Organization")?;
    let mut listing = LIST.read(params)?;
    listing.visible(|sql| visible(sql, &caller));
    let org = listing.sql().arg(&guid);
    listing.condition(format!(
        "(domains.org_guid IS NULL OR domains.org_guid = {org} \
         OR EXISTS (SELECT 1 FROM domain_shares ds WHERE ds.domain_guid = domains.guid AND ds.org_guid = {org}))"
    ));
    page(&cc, &caller, &urls, &listing).await
}

async fn page(cc: &Cc, caller: &Caller, urls: &Urls, listing: &Listing) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    let page = listing.fetch(&mut connection, "domains.*", "domains").await?;
    let found = page.items.iter().map(Domain::read).collect::<db::Result<Vec<_>>>()?;
    let resources = present_all(&mut connection, caller, urls, &found).await?;
    Ok(respond::ok(listing.present(urls, page.total, resources, BTreeMap::new())))
}

/// The domain when the caller sees it.
pub async fn seen(connection: &mut Connection, caller: &Caller, guid: &str) -> ApiResult<Domain> {
    let mut sql = Sql::default();
    let guid = sql.arg(guid);
    let condition = visible(&mut sql, caller);
    let condition = condition.as_deref().unwrap_or("1 = 1");
    sql.push(&format!("SELECT domains.* FROM domains WHERE domains.guid = {guid} AND {condition}"));
    let row = sql.optional(connection).await?.ok_or_else(|| ApiError::not_found("Domain"))?;
    Ok(Domain::read(&row)?)
}

struct Message {
    new: NewDomain,
    shared: Vec<String>,
    metadata: metadata::MetadataPatch,
}

fn read_message(body: &Body) -> ApiResult<Message> {
    let mut fields = body.fields();
    let name = fields.required_text("name").to_lowercase();
    if !name.is_empty() {
        check_name(&name, &mut fields);
    }
    let internal = fields.flag("internal").unwrap_or(false);
    let router_group =
        fields.object("router_group").and_then(|group| read_group(group, &mut fields));
    let enforce = fields.flag("enforce_route_policies").unwrap_or(false);
    let scope = fields.text("route_policies_scope");
    if scope.as_deref().is_some_and(|scope| !["any", "org", "space"].contains(&scope)) {
        fields.error("Route policies scope must be one of 'any', 'org', 'space'");
    }
    if enforce && scope.is_none() {
        fields.error("Route policies scope is required when enforce_route_policies is true");
    }
    let scoped = fields.has("relationships");
    let related = fields.inside("relationships", |inner| {
        (inner.to_one("organization"), inner.to_many("shared_organizations").unwrap_or_default())
    });
    let (org, shared) = related.unwrap_or_default();
    let org_guid = match org {
        Change::Set(guid) => Some(guid),
        Change::Clear | Change::Keep => None,
    };
    if scoped && org_guid.is_none() {
        let what = if shared.is_empty() {
            "must include an organization"
        } else {
            "cannot contain shared_organizations without an owning organization."
        };
        fields.error(format!("Relationships {what}"));
    }
    if internal && scoped {
        fields.error("Cannot associate an internal domain with an organization");
    }
    if internal && router_group.is_some() {
        fields.error("Internal domains cannot be associated to a router group.");
    }
    if internal && enforce {
        fields.error("Internal domains cannot have route policy enforcement. Internal routes bypass GoRouter.");
    }
    if router_group.is_some() && enforce {
        fields.error("Domains with a router group cannot have route policy enforcement. TCP routes do not support mTLS policy enforcement.");
    }
    if scoped && router_group.is_some() {
        fields.error("Domains scoped to an organization cannot be associated to a router group.");
    }
    let metadata = fields.metadata();
    fields.finish()?;
    let new = NewDomain {
        name,
        org_guid,
        internal,
        router_group_guid: router_group,
        tcp: false,
        enforce_route_policies: enforce,
        route_policies_scope: scope,
    };
    Ok(Message { new, shared, metadata })
}

fn read_group(group: &Map<String, Value>, fields: &mut Fields<'_>) -> Option<String> {
    let unknown: Vec<String> =
        group.keys().filter(|key| *key != "guid").map(|key| format!("'{key}'")).collect();
    if !unknown.is_empty() {
        fields.error(format!("Router group Unknown field(s): {}", unknown.join(", ")));
    }
    let guid = group.get("guid").and_then(Value::as_str);
    if guid.is_none() {
        fields.error("Router group guid must be a string");
    }
    guid.map(str::to_owned)
}

fn check_name(name: &str, fields: &mut Fields<'_>) {
    let labels: Vec<&str> = name.split('.').collect();
    let foreign = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
    let wrong = |label: &&str| {
        let ends = label.is_empty() || label.starts_with('-') || label.ends_with('-');
        ends || label.len() > 63 || label.contains(foreign)
    };
    if name.len() < 3 {
        fields.error("Name is too short (minimum is 3 characters)");
    } else if name.len() > 253 {
        fields.error("Name is too long (maximum is 253 characters)");
    }
    if labels.len() < 2 || labels.iter().any(wrong) {
        fields.error("Name does not comply with RFC 1035 standards");
    }
    if labels.len() < 2 {
        fields.error("Name must contain at least one \".\"");
    }
    if labels.iter().any(|label| label.len() > 63) {
        fields.error("Name subdomains must each be at most 63 characters");
    }
    if name.split('.').any(|label| label.contains(foreign)) {
        fields.error("Name must consist of alphanumeric characters and hyphens");
    }
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    let mut message = read_message(&body)?;
    let new = &mut message.new;
    let mut tx = cc.db.begin().await?;
    match &new.org_guid {
        Some(org) => {
            may_own(&mut tx, &caller, org).await?;
            domain_shares::check(&mut tx, &caller, org, &message.shared).await?;
            let (used, most) = db::quotas::private_domains(&mut tx, org).await?;
            if most.is_some_and(|most| used >= most) {
                let org = organizations::find(&mut tx, org)
                    .await?
                    .map(|org| org.name)
                    .unwrap_or_default();
                let detail = format!(
                    "The number of private domains exceeds the quota for organization \"{org}\""
                );
                return Err(ApiError::unprocessable(detail));
            }
        }
        None => caller.require_admin()?,
    }
    if let Some(guid) = &new.router_group_guid {
        let group = db::router_groups::find(&mut tx, guid).await?.ok_or_else(|| {
            ApiError::unprocessable(format!("Router group with guid '{guid}' not found."))
        })?;
        new.tcp = group.is_tcp();
    }
    check_free(&mut tx, &cc, new).await?;
    let taken =
        ApiError::unprocessable(format!("The domain name \"{}\" is already in use", new.name));
    let guid =
        domains::insert(&mut tx, cc.now(), new).await.map_err(|cause| when_taken(cause, taken))?;
    for org in &message.shared {
        domains::share(&mut tx, &guid, org).await?;
    }
    common::write_metadata(&mut tx, KIND, &guid, &message.metadata).await?;
    let document = document(&mut tx, &caller, &urls, &guid).await?;
    tx.commit().await?;
    Ok(respond::created(document))
}

/// Whether a name is free. Nobody gets one of the platform's own, nor one below what is another organization's alone
/// or a route's whole name.
///
/// # Errors
/// 422 in Cloud Foundry's words.
async fn check_free(tx: &mut Connection, cc: &Cc, new: &NewDomain) -> ApiResult<()> {
    let name = &new.name;
    if domains::is_name_taken(tx, name).await? || route_rows::is_whole_name(tx, name).await? {
        let detail = format!("The domain name \"{name}\" is already in use");
        return Err(ApiError::unprocessable(detail));
    }
    let scoped = new.org_guid.is_some();
    if scoped && cc.config.system_domain.as_deref() == Some(name)
        || cc.config.reserved_names.contains(name)
    {
        let what = if scoped { "org-scoped" } else { "shared" };
        let detail =
            format!("The \"{name}\" domain is reserved and cannot be used for {what} domains.");
        return Err(ApiError::unprocessable(detail));
    }
    for above in names_above(name) {
        let reserved = |by: &str| {
            ApiError::unprocessable(format!(
                "The domain name \"{name}\" cannot be created because \"{above}\" is already reserved by {by}"
            ))
        };
        let domain = domains::find_by_name(tx, above).await?;
        if domain.is_some_and(|domain| !domain.is_shared() && domain.org_guid != new.org_guid) {
            return Err(reserved("another domain"));
        }
        if route_rows::is_whole_name(tx, above).await? {
            return Err(reserved("a route"));
        }
    }
    Ok(())
}

/// Pure: `b.c.d` and `c.d` stand above `a.b.c.d`. A name has at most 126 parts, as its length allows.
fn names_above(name: &str) -> impl Iterator<Item = &str> {
    let first = name.split_once('.').map(|(_, rest)| rest);
    let above = std::iter::successors(first, |name| name.split_once('.').map(|(_, rest)| rest));
    above.filter(|name| name.contains('.'))
}

async fn may_own(tx: &mut Connection, caller: &Caller, org: &str) -> ApiResult<()> {
    let rights = access::in_org(tx, caller, org).await?;
    if rights.org_guid.is_empty() || !rights.can_read() {
        let detail = format!(
            "Organization with guid '{org}' does not exist or you do not have access to it."
        );
        return Err(ApiError::unprocessable(detail));
    }
    rights.change("Organization", &[ORG_MANAGER])?;
    feature_flags::require(tx, caller, "private_domain_creation").await
}

async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    seen(&mut connection, &caller, &guid).await?;
    Ok(respond::ok(document(&mut connection, &caller, &urls, &guid).await?))
}

/// Who may change a domain: managers of the owning organization, administrators for shared ones.
pub async fn change(tx: &mut Connection, caller: &Caller, guid: &str) -> ApiResult<Domain> {
    let domain = seen(tx, caller, guid).await?;
    match &domain.org_guid {
        None => caller.require_admin()?,
        Some(org) => {
            let rights = access::in_org(tx, caller, org).await?;
            if !rights.can_write(&[ORG_MANAGER]) {
                return Err(ApiError::forbidden());
            }
        }
    }
    Ok(domain)
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut fields = body.fields();
    let metadata = fields.metadata();
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    change(&mut tx, &caller, &guid).await?;
    db::change(&mut tx, cc.now(), "domains", &guid, Vec::new()).await?;
    common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
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
    if !domains::shared_with(&mut tx, &guid).await?.is_empty() {
        let detail = "This domain is shared with other organizations. Unshare before deleting.";
        return Err(ApiError::unprocessable(detail));
    }
    domains::delete(&mut tx, &guid).await?;
    let job = common::done_job(&mut tx, cc.now(), "domain.delete", (KIND, &guid)).await?;
    tx.commit().await?;
    cc.nsync.poke();
    Ok(respond::job(&urls, &job))
}

async fn route_reservations(
    cc: Cc,
    caller: Caller,
    Path(guid): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    params.only(&["host", "path", "port"])?;
    let port = match params.get("port") {
        None => 0,
        Some(text) => {
            text.parse::<i64>().map_err(|_| ApiError::bad_query("Port must be an integer"))?
        }
    };
    let (host, path) =
        (params.get("host").unwrap_or_default(), params.get("path").unwrap_or_default());
    let mut connection = cc.db.read().await?;
    seen(&mut connection, &caller, &guid).await?;
    let route =
        route_rows::find_by_address(&mut connection, &guid, &host.to_lowercase(), path, port)
            .await?;
    Ok(respond::ok(json!({ "matching_route": route.is_some() })))
}

/// The document of one domain, as the caller may see it.
pub async fn document(
    connection: &mut Connection,
    caller: &Caller,
    urls: &Urls,
    guid: &str,
) -> ApiResult<Value> {
    let domain =
        domains::find(connection, guid).await?.ok_or_else(|| ApiError::not_found("Domain"))?;
    let mut documents = present_all(connection, caller, urls, &[domain]).await?;
    Ok(documents.remove(0))
}

/// For `include=domain`.
pub async fn by_guids(
    connection: &mut Connection,
    caller: &Caller,
    guids: &[String],
    urls: &Urls,
) -> ApiResult<Vec<Value>> {
    let found = domains::find_many(connection, guids).await?;
    present_all(connection, caller, urls, &found).await
}

async fn present_all(
    connection: &mut Connection,
    caller: &Caller,
    urls: &Urls,
    found: &[Domain],
) -> ApiResult<Vec<Value>> {
    let guids: Vec<String> = found.iter().map(|domain| domain.guid.clone()).collect();
    let metadata = metadata::load(connection, KIND, &guids).await?;
    let shares = domains::visible_shares(connection, caller, &guids).await?;
    let (no_metadata, no_shares) = (Metadata::default(), Vec::new());
    let one = |domain: &Domain| {
        let metadata = metadata.get(&domain.guid).unwrap_or(&no_metadata);
        present(domain, shares.get(&domain.guid).unwrap_or(&no_shares), metadata, urls)
    };
    Ok(found.iter().map(one).collect())
}

fn present(domain: &Domain, shares: &[String], metadata: &Metadata, urls: &Urls) -> Value {
    let path = format!("domains/{}", domain.guid);
    let mut links = json!({
        "self": urls.link(&path),
        "route_reservations": urls.link(&format!("{path}/route_reservations")),
    });
    if let Some(org) = &domain.org_guid {
        links["organization"] = urls.link(&format!("organizations/{org}"));
        links["shared_organizations"] =
            urls.link(&format!("{path}/relationships/shared_organizations"));
    }
    let router_group = domain.router_group_guid.as_ref().map(|guid| json!({ "guid": guid }));
    if let Some(group) = &domain.router_group_guid {
        links["router_group"] =
            json!({ "href": format!("{}/routing/v1/router_groups/{group}", urls.base()) });
    }
    let mut document = json!({
        "guid": domain.guid,
        "created_at": domain.created_at.to_rfc3339(),
        "updated_at": domain.updated_at.to_rfc3339(),
        "name": domain.name,
        "internal": domain.internal,
        "router_group": router_group,
        "supported_protocols": [if domain.is_tcp() { "tcp" } else { "http" }],
        "relationships": {
            "organization": common::to_one(domain.org_guid.as_deref()),
            "shared_organizations": common::to_many(shares),
        },
        "metadata": metadata.to_json(),
        "links": links,
    });
    if domain.enforce_route_policies {
        document["enforce_route_policies"] = true.into();
        document["route_policies_scope"] = domain.route_policies_scope.clone().into();
    }
    document
}
