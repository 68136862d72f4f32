//! `/v3/service_instances`: user-provided ones. No broker is spoken to yet, so there are no managed ones.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Map, Value, json};
use sql::Connection;

use super::common;
use super::resource::{self, Resource};
use crate::Cc;
use crate::auth::Caller;
use crate::db::access::{self, DEVELOPERS, Rights};
use crate::db::metadata::Metadata;
use crate::db::service_instances::{self as instances, ServiceInstance, USER_PROVIDED};
use crate::db::{self, Arg, feature_flags};
use crate::errors::{ApiError, ApiResult, Kind, when_taken};
use crate::message::{Body, Change, Fields};
use crate::query::{Filter, List, Listing, Params};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/service_instances", get(list).post(create))
        .route("/v3/service_instances/{guid}", get(find).patch(update).delete(delete))
        .route("/v3/service_instances/{guid}/credentials", get(credentials))
        .route("/v3/service_instances/{guid}/parameters", get(parameters))
        .route("/v3/service_instances/{guid}/permissions", get(permissions))
        .route(
            "/v3/service_instances/{guid}/relationships/shared_spaces",
            get(shared_spaces).post(share),
        )
        .route(
            "/v3/service_instances/{guid}/relationships/shared_spaces/usage_summary",
            get(usage_summary),
        )
}

const KIND: &str = "service_instance";
const WHAT: &str = "Service instance";

const LIST: List = List {
    table: "service_instances",
    filters: &[
        ("names", Filter::Text("service_instances.name")),
        ("type", Filter::Text("service_instances.type")),
        ("space_guids", Filter::Text("service_instances.space_guid")),
        (
            "organization_guids",
            Filter::Sql(
                "service_instances.space_guid IN (SELECT guid FROM spaces WHERE org_guid IN ({}))",
            ),
        ),
        ("service_plan_guids", Filter::Text("service_instances.plan_guid")),
        // Plans have names only where there are brokers.
        ("service_plan_names", Filter::Text("service_instances.plan_guid")),
        ("fields", Filter::Own),
    ],
    orders: &[("name", "service_instances.name")],
    includes: &[],
    labels: Some(KIND),
};

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    if listing.params.get("type").is_some_and(|kind| !["managed", USER_PROVIDED].contains(&kind)) {
        return Err(ApiError::bad_query("Type must be one of 'managed', 'user-provided'"));
    }
    listing.visible(|sql| access::visible_space(sql, &caller, "service_instances.space_guid"));
    let mut connection = cc.db.read().await?;
    let (total, found, resources) = resource::fetch(&mut connection, &listing, &urls).await?;
    let included = fields(&mut connection, &listing, &found).await?;
    Ok(respond::ok(listing.present(&urls, total, resources, included)))
}

/// `fields[space]` and its like: parts of what the instances belong to.
async fn fields(
    connection: &mut Connection,
    listing: &Listing,
    found: &[ServiceInstance],
) -> ApiResult<BTreeMap<&'static str, Vec<Value>>> {
    let mut included = BTreeMap::new();
    for (path, keys) in listing.params.fields() {
        let wanted = |key: &str| keys.iter().any(|own| own == key);
        let guids: Vec<String> = found.iter().map(|instance| instance.space_guid.clone()).collect();
        let spaces = db::spaces::find_many(connection, &guids).await?;
        match path.as_str() {
            "space" => {
                let one = |space: &db::spaces::Space| {
                    let mut shown = Map::new();
                    if wanted("guid") {
                        shown.insert("guid".to_owned(), space.guid.as_str().into());
                    }
                    if wanted("name") {
                        shown.insert("name".to_owned(), space.name.as_str().into());
                    }
                    if wanted("relationships.organization") {
                        let org = json!({ "organization": common::to_one(Some(&space.org_guid)) });
                        shown.insert("relationships".to_owned(), org);
                    }
                    Value::Object(shown)
                };
                included.insert("spaces", spaces.iter().map(one).collect());
            }
            "space.organization" => {
                let mut guids: Vec<String> =
                    spaces.into_iter().map(|space| space.org_guid).collect();
                guids.sort();
                guids.dedup();
                let orgs = db::organizations::find_many(connection, &guids).await?;
                let one = |org: &db::organizations::Organization| {
                    let both = [("guid", &org.guid), ("name", &org.name)];
                    let shown = both.into_iter().filter(|(key, _)| wanted(key));
                    shown
                        .map(|(key, value)| (key.to_owned(), Value::from(value.as_str())))
                        .collect::<Value>()
                };
                included.insert("organizations", orgs.iter().map(one).collect());
            }
            // User-provided instances have none of these.
            "service_plan" => drop(included.insert("service_plans", Vec::new())),
            "service_plan.service_offering" => {
                drop(included.insert("service_offerings", Vec::new()))
            }
            "service_plan.service_offering.service_broker" => {
                drop(included.insert("service_brokers", Vec::new()))
            }
            other => {
                let valid = "'space', 'space.organization', 'service_plan', 'service_plan.service_offering', 'service_plan.service_offering.service_broker'";
                return Err(ApiError::bad_query(&format!(
                    "Fields '{other}' is not a valid resource. Valid resources are: {valid}"
                )));
            }
        }
    }
    Ok(included)
}

/// The instance, and what the caller may do in its space.
pub async fn visible(
    connection: &mut Connection,
    caller: &Caller,
    guid: &str,
) -> ApiResult<(ServiceInstance, Rights)> {
    let instance =
        instances::find(connection, guid).await?.ok_or_else(|| ApiError::not_found(WHAT))?;
    let rights = access::in_space(connection, caller, &instance.space_guid).await?;
    rights.see(WHAT)?;
    Ok((instance, rights))
}

struct Message {
    name: Option<String>,
    tags: Option<Vec<String>>,
    credentials: Option<Value>,
    syslog_drain_url: Change<String>,
    route_service_url: Change<String>,
}

fn read_message(fields: &mut Fields<'_>, creating: bool) -> Message {
    let name =
        if creating || fields.has("name") { Some(fields.required_text("name")) } else { None };
    if name.as_ref().is_some_and(|name| name.chars().count() > 255) {
        fields.error("Name is too long (maximum is 255 characters)");
    }
    let tags = fields.texts("tags");
    if tags.iter().flatten().map(String::len).sum::<usize>() > 2048 {
        fields.error("Tags combined length cannot exceed 2048 characters");
    }
    let credentials = fields.object("credentials").cloned().map(Value::Object);
    let message = Message {
        name,
        tags,
        credentials,
        syslog_drain_url: fields.change_text("syslog_drain_url"),
        route_service_url: fields.change_text("route_service_url"),
    };
    let is_url = |text: &str| url::Url::parse(text).is_ok_and(|url| url.has_host());
    if matches!(&message.syslog_drain_url, Change::Set(text) if !text.is_empty() && !is_url(text)) {
        fields.error("Syslog drain url must be a valid URI");
    }
    if matches!(&message.route_service_url, Change::Set(text) if !(text.is_empty() || is_url(text) && text.starts_with("https://")))
    {
        fields.error("Route service url must be https");
    }
    message
}

impl Message {
    fn columns(self, cc: &Cc) -> Vec<(&'static str, Arg)> {
        let mut columns: Vec<(&'static str, Arg)> = Vec::new();
        columns.extend(self.name.map(|name| ("name", name.into())));
        columns.extend(self.tags.map(|tags| ("tags", (&tags).into())));
        columns.extend(
            self.credentials.map(|value| ("sealed_credentials", cc.seal.seal_json(&value).into())),
        );
        for (column, change) in [
            ("syslog_drain_url", self.syslog_drain_url),
            ("route_service_url", self.route_service_url),
        ] {
            match change {
                Change::Keep => {}
                // An empty text clears, as a null does.
                change => {
                    columns.push((column, change.over(None).filter(|text| !text.is_empty()).into()))
                }
            }
        }
        columns
    }
}

fn taken(name: &str) -> ApiError {
    ApiError::unprocessable(format!("The service instance name is taken: {name}"))
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    let mut fields = body.fields();
    let kind = fields.required_text("type");
    if kind == "managed" {
        let detail = "Invalid service plan. Ensure that the service plan exists, is available, and you have access to it.";
        return Err(ApiError::unprocessable(detail));
    }
    if kind != USER_PROVIDED {
        fields.error("Type must be one of 'managed', 'user-provided'");
    }
    let [space] = fields.relationships(["space"]);
    let message = read_message(&mut fields, true);
    let metadata = fields.metadata();
    fields.finish()?;
    let name = message.name.clone().unwrap_or_default();
    let mut tx = cc.db.begin().await?;
    let rights = access::in_space(&mut tx, &caller, &space).await?;
    if rights.org_guid.is_empty() || !rights.can_read() {
        let detail = "Invalid space. Ensure that the space exists and you have access to it.";
        return Err(ApiError::unprocessable(detail));
    }
    rights.change("Space", DEVELOPERS)?;
    feature_flags::require(&mut tx, &caller, "service_instance_creation").await?;
    let mut columns = message.columns(&cc);
    columns.extend([("space_guid", (&space).into()), ("type", USER_PROVIDED.into())]);
    columns.push(("operation_description", "Operation succeeded".into()));
    let made = instances::insert(&mut tx, cc.now(), columns).await;
    let guid = made.map_err(|cause| when_taken(cause, taken(&name)))?;
    common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    audit(&cc, &mut tx, &caller, "create", (&guid, &name), &space, &body).await?;
    let document = document(&mut tx, &urls, &guid).await?;
    tx.commit().await?;
    Ok(respond::created(document))
}

async fn audit(
    cc: &Cc,
    tx: &mut Connection,
    caller: &Caller,
    what: &str,
    target: (&str, &str),
    space: &str,
    body: &Body,
) -> ApiResult<()> {
    let kind = format!("audit.user_provided_service_instance.{what}");
    let data = json!({ "request": body.redacted(&["credentials"]) });
    let target = (target.0, "user_provided_service_instance", target.1);
    common::audit(tx, cc, caller, &kind, target, (Some(space), None), data).await
}

async fn find(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    params.only(&["fields"])?;
    let mut connection = cc.db.read().await?;
    visible(&mut connection, &caller, &guid).await?;
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
    let (before, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.change(WHAT, DEVELOPERS)?;
    let mut fields = body.fields();
    let message = read_message(&mut fields, false);
    let metadata = fields.metadata();
    fields.finish()?;
    let name = message.name.clone().unwrap_or_else(|| before.name.clone());
    let mut columns = message.columns(&cc);
    columns.push(("operation_type", "update".into()));
    let updated = db::change(&mut tx, cc.now(), "service_instances", &guid, columns).await;
    updated.map_err(|cause| when_taken(cause, taken(&name)))?;
    common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    instances::refresh_bindings(&mut tx, &guid).await?;
    audit(&cc, &mut tx, &caller, "update", (&guid, &name), &before.space_guid, &body).await?;
    let document = document(&mut tx, &urls, &guid).await?;
    tx.commit().await?;
    cc.nsync.poke();
    Ok(respond::ok(document))
}

async fn delete(
    cc: Cc,
    caller: Caller,
    Path(guid): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    params.only(&["purge"])?;
    let mut tx = cc.db.begin().await?;
    let (instance, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.change(WHAT, DEVELOPERS)?;
    instances::routes_changed(&mut tx, &guid).await?;
    instances::delete(&mut tx, &guid).await?;
    audit(
        &cc,
        &mut tx,
        &caller,
        "delete",
        (&guid, &instance.name),
        &instance.space_guid,
        &Body::default(),
    )
    .await?;
    tx.commit().await?;
    cc.nsync.poke();
    Ok(respond::no_content())
}

async fn credentials(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let (instance, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.see_secrets(WHAT)?;
    let credentials = cc.seal.open_json(instance.sealed_credentials.as_deref())?;
    audit(
        &cc,
        &mut tx,
        &caller,
        "show",
        (&guid, &instance.name),
        &instance.space_guid,
        &Body::default(),
    )
    .await?;
    tx.commit().await?;
    Ok(respond::ok(credentials))
}

async fn parameters(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    visible(&mut *cc.db.read().await?, &caller, &guid).await?;
    let detail = "This service does not support fetching service instance parameters.";
    Err(Kind::ServiceFetchInstanceParametersNotSupported.with(detail))
}

async fn permissions(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    let instance =
        instances::find(&mut connection, &guid).await?.ok_or_else(|| ApiError::not_found(WHAT))?;
    let rights = access::in_space(&mut connection, &caller, &instance.space_guid).await?;
    Ok(respond::ok(json!({ "read": rights.can_read(), "manage": rights.can_write(DEVELOPERS) })))
}

async fn shared_spaces(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    visible(&mut *cc.db.read().await?, &caller, &guid).await?;
    let own = urls.link(&format!("service_instances/{guid}/relationships/shared_spaces"));
    Ok(respond::ok(respond::to_many(&[], own)))
}

async fn share(cc: Cc, caller: Caller, Path(guid): Path<String>, _: Body) -> ApiResult<Response> {
    let (_, rights) = visible(&mut *cc.db.read().await?, &caller, &guid).await?;
    rights.change(WHAT, DEVELOPERS)?;
    Err(ApiError::unprocessable("User-provided services cannot be shared."))
}

async fn usage_summary(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    visible(&mut *cc.db.read().await?, &caller, &guid).await?;
    let own = format!("service_instances/{guid}/relationships/shared_spaces");
    Ok(respond::ok(json!({
        "usage_summary": [],
        "links": {
            "self": urls.link(&format!("{own}/usage_summary")),
            "shared_spaces": urls.link(&own),
            "service_instance": urls.link(&format!("service_instances/{guid}")),
        },
    })))
}

async fn document(connection: &mut Connection, urls: &Urls, guid: &str) -> ApiResult<Value> {
    let instance =
        instances::find(connection, guid).await?.ok_or_else(|| ApiError::not_found(WHAT))?;
    resource::present_one(connection, &instance, urls).await
}

impl Resource for ServiceInstance {
    const KIND: &'static str = KIND;

    fn guid(&self) -> &str {
        &self.guid
    }

    fn present(&self, metadata: &Metadata, urls: &Urls) -> Value {
        let path = format!("service_instances/{}", self.guid);
        let by_instance =
            |list: &str| urls.link(&format!("{list}?service_instance_guids={}", self.guid));
        json!({
            "guid": self.guid,
            "created_at": self.created_at.to_rfc3339(),
            "updated_at": self.updated_at.to_rfc3339(),
            "name": self.name,
            "tags": self.tags,
            "type": self.kind,
            "syslog_drain_url": self.syslog_drain_url,
            "route_service_url": self.route_service_url,
            "last_operation": {
                "type": self.operation_type,
                "state": self.operation_state,
                "description": self.operation_description,
                "created_at": self.created_at.to_rfc3339(),
                "updated_at": self.updated_at.to_rfc3339(),
            },
            "relationships": { "space": common::to_one(Some(&self.space_guid)) },
            "metadata": metadata.to_json(),
            "links": {
                "self": urls.link(&path),
                "space": urls.link(&format!("spaces/{}", self.space_guid)),
                "credentials": urls.link(&format!("{path}/credentials")),
                "service_credential_bindings": by_instance("service_credential_bindings"),
                "service_route_bindings": by_instance("service_route_bindings"),
            },
        })
    }
}
