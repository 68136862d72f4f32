//! `/v3/service_credential_bindings`: apps bound to user-provided service instances.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use sql::Connection;

use super::common;
use super::resource::{self, Resource};
use crate::Cc;
use crate::actions::bindings as actions;
use crate::auth::Caller;
use crate::db::access::{self, DEVELOPERS, Rights};
use crate::db::apps::App;
use crate::db::metadata::Metadata;
use crate::db::service_bindings::{self as bindings, APP, Binding, KEY, SPACE};
use crate::db::service_instances::ServiceInstance;
use crate::db::{self, apps, service_instances as instances};
use crate::errors::{ApiError, ApiResult, Kind};
use crate::message::{Body, Change};
use crate::query::{Filter, List, Params};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/service_credential_bindings", get(list).post(create))
        .route("/v3/service_credential_bindings/{guid}", get(find).patch(update).delete(delete))
        .route("/v3/service_credential_bindings/{guid}/details", get(details))
        .route("/v3/service_credential_bindings/{guid}/parameters", get(parameters))
}

const KIND: &str = "service_credential_binding";
const WHAT: &str = "Service credential binding";
const INCLUDES: &[&str] = &["app", "service_instance"];

const LIST: List = List {
    table: "service_credential_bindings",
    filters: &[
        ("names", Filter::Text("service_credential_bindings.name")),
        ("type", Filter::Text("service_credential_bindings.type")),
        (
            "service_instance_guids",
            Filter::Text("service_credential_bindings.service_instance_guid"),
        ),
        ("service_instance_names", Filter::Text("si.name")),
        ("app_guids", Filter::Text("service_credential_bindings.app_guid")),
        ("app_names", Filter::Text("a.name")),
        // Only managed instances have plans, and with them offerings.
        ("service_plan_guids", Filter::Text("si.plan_guid")),
        ("service_plan_names", Filter::Text("si.plan_guid")),
        ("service_offering_guids", Filter::Text("si.plan_guid")),
        ("service_offering_names", Filter::Text("si.plan_guid")),
    ],
    orders: &[("name", "COALESCE(service_credential_bindings.name, '')")],
    includes: INCLUDES,
    labels: Some(KIND),
};

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    if listing.params.get("type").is_some_and(|kind| ![APP, KEY].contains(&kind)) {
        return Err(ApiError::bad_query("Type must be one of 'app', 'key'"));
    }
    listing.visible(|sql| access::visible_space(sql, &caller, SPACE));
    let mut connection = cc.db.read().await?;
    let (total, found, resources) = resource::fetch(&mut connection, &listing, &urls).await?;
    let included = included(&mut connection, &urls, &listing.includes, &found).await?;
    Ok(respond::ok(listing.present(&urls, total, resources, included)))
}

async fn included(
    connection: &mut Connection,
    urls: &Urls,
    wanted: &[String],
    found: &[Binding],
) -> ApiResult<BTreeMap<&'static str, Vec<Value>>> {
    let mut included = BTreeMap::new();
    for name in wanted {
        if name == "app" {
            let guids: BTreeSet<String> =
                found.iter().filter_map(|binding| binding.app_guid.clone()).collect();
            let guids: Vec<String> = guids.into_iter().collect();
            included.insert("apps", resource::by_guids::<App>(connection, &guids, urls).await?);
        } else {
            let guids: BTreeSet<String> =
                found.iter().map(|binding| binding.service_instance_guid.clone()).collect();
            let guids: Vec<String> = guids.into_iter().collect();
            included.insert(
                "service_instances",
                resource::by_guids::<ServiceInstance>(connection, &guids, urls).await?,
            );
        }
    }
    Ok(included)
}

/// The binding, the space it is seen through, and what the caller may do there.
async fn visible(
    connection: &mut Connection,
    caller: &Caller,
    guid: &str,
) -> ApiResult<(Binding, String, Rights)> {
    let found = bindings::find_visible_space(connection, guid).await?;
    let (binding, space) = found.ok_or_else(|| ApiError::not_found(WHAT))?;
    let rights = access::in_space(connection, caller, &space).await?;
    rights.see(WHAT)?;
    Ok((binding, space, rights))
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    let mut fields = body.fields();
    let kind = fields.required_text("type");
    if ![APP, KEY].contains(&kind.as_str()) {
        fields.error("Type must be 'app' or 'key'");
    }
    let name = fields.text("name");
    let parameters = fields.object("parameters").is_some_and(|parameters| !parameters.is_empty());
    fields.text("strategy");
    let related = fields
        .inside("relationships", |inner| (inner.to_one("app"), inner.to_one("service_instance")));
    let (app, instance) = related.unwrap_or_default();
    let guid = |change: Change<String>| match change {
        Change::Set(guid) => Some(guid),
        Change::Keep | Change::Clear => None,
    };
    let (app, instance) = (guid(app), guid(instance));
    if instance.is_none() {
        fields.error("Relationships Service instance can't be blank");
    }
    if kind == APP && app.is_none() {
        fields.error("Relationships App can't be blank");
    }
    let metadata = fields.metadata();
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let instance_guid = instance.unwrap_or_default();
    let missing = |what: &str, guid: &str| {
        ApiError::unprocessable(format!("The {what} could not be found: '{guid}'"))
    };
    let instance = instances::find(&mut tx, &instance_guid)
        .await?
        .ok_or_else(|| missing("service instance", &instance_guid))?;
    let rights = access::in_space(&mut tx, &caller, &instance.space_guid).await?;
    if !rights.can_read() {
        return Err(missing("service instance", &instance_guid));
    }
    rights.change(WHAT, DEVELOPERS)?;
    if kind == KEY {
        let detail = "Service credential bindings of type 'key' are not supported for user-provided service instances.";
        return Err(ApiError::unprocessable(detail));
    }
    let app_guid = app.unwrap_or_default();
    let app = apps::find(&mut tx, &app_guid).await?.ok_or_else(|| missing("app", &app_guid))?;
    if !access::in_space(&mut tx, &caller, &app.space_guid).await?.can_read() {
        return Err(missing("app", &app_guid));
    }
    if app.space_guid != instance.space_guid {
        let detail = "The service instance and the app are in different spaces";
        return Err(ApiError::unprocessable(detail));
    }
    if parameters {
        let detail = "Binding parameters are not supported for user-provided service instances";
        return Err(ApiError::unprocessable(detail));
    }
    let guid =
        actions::bind(&cc, &mut tx, &caller, &app, &instance, name.as_deref(), false).await?;
    common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
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
    let wanted = params.includes(INCLUDES)?;
    let mut connection = cc.db.read().await?;
    let (binding, _, _) = visible(&mut connection, &caller, &guid).await?;
    let mut document = document(&mut connection, &urls, &guid).await?;
    if !wanted.is_empty() {
        document["included"] = json!(included(&mut connection, &urls, &wanted, &[binding]).await?);
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
    let (_, _, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.change(WHAT, DEVELOPERS)?;
    let mut fields = body.fields();
    let metadata = fields.metadata();
    fields.finish()?;
    common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    db::change(&mut tx, cc.now(), "service_credential_bindings", &guid, Vec::new()).await?;
    let document = document(&mut tx, &urls, &guid).await?;
    tx.commit().await?;
    Ok(respond::ok(document))
}

async fn delete(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let (binding, space, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.change(WHAT, DEVELOPERS)?;
    bindings::delete(&mut tx, &guid).await?;
    let data = json!({ "request": {
        "app_guid": binding.app_guid,
        "service_instance_guid": binding.service_instance_guid,
    } });
    let target = (guid.as_str(), "service_binding", binding.name.as_deref().unwrap_or_default());
    common::audit(
        &mut tx,
        &cc,
        &caller,
        "audit.service_binding.delete",
        target,
        (Some(&space), None),
        data,
    )
    .await?;
    tx.commit().await?;
    Ok(respond::no_content())
}

async fn details(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let (binding, space, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.see_secrets(WHAT)?;
    let credentials = cc.seal.open_json(binding.sealed_credentials.as_deref())?;
    let target = (guid.as_str(), "service_binding", binding.name.as_deref().unwrap_or_default());
    common::audit(
        &mut tx,
        &cc,
        &caller,
        "audit.service_binding.show",
        target,
        (Some(&space), None),
        json!({}),
    )
    .await?;
    tx.commit().await?;
    let mut details = json!({ "credentials": credentials, "volume_mounts": [] });
    if let Some(drain) = binding.syslog_drain_url {
        details["syslog_drain_url"] = drain.into();
    }
    Ok(respond::ok(details))
}

async fn parameters(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    visible(&mut *cc.db.read().await?, &caller, &guid).await?;
    let detail = "This service does not support fetching service binding parameters.";
    Err(Kind::ServiceFetchBindingParametersNotSupported.with(detail))
}

async fn document(connection: &mut Connection, urls: &Urls, guid: &str) -> ApiResult<Value> {
    let binding =
        bindings::find(connection, guid).await?.ok_or_else(|| ApiError::not_found(WHAT))?;
    resource::present_one(connection, &binding, urls).await
}

impl Resource for Binding {
    const KIND: &'static str = KIND;

    fn guid(&self) -> &str {
        &self.guid
    }

    fn present(&self, metadata: &Metadata, urls: &Urls) -> Value {
        let path = format!("service_credential_bindings/{}", self.guid);
        let mut relationships =
            json!({ "service_instance": common::to_one(Some(&self.service_instance_guid)) });
        let mut links = json!({
            "self": urls.link(&path),
            "details": urls.link(&format!("{path}/details")),
            "parameters": urls.link(&format!("{path}/parameters")),
            "service_instance": urls.link(&format!("service_instances/{}", self.service_instance_guid)),
        });
        if let Some(app) = &self.app_guid {
            relationships["app"] = common::to_one(Some(app));
            links["app"] = urls.link(&format!("apps/{app}"));
        }
        json!({
            "guid": self.guid,
            "created_at": self.created_at.to_rfc3339(),
            "updated_at": self.updated_at.to_rfc3339(),
            "name": self.name,
            "type": self.kind,
            "last_operation": {
                "type": self.operation_type,
                "state": self.operation_state,
                "description": self.operation_description,
                "created_at": self.created_at.to_rfc3339(),
                "updated_at": self.updated_at.to_rfc3339(),
            },
            "relationships": relationships,
            "metadata": metadata.to_json(),
            "links": links,
        })
    }
}
