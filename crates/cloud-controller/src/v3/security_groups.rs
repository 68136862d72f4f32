//! `/v3/security_groups`: what containers may reach, for all or for the apps and builds of some spaces.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};
use sql::Connection;

use super::{common, security_group_rules};
use crate::Cc;
use crate::auth::Caller;
use crate::db::access::{self, ORG_MANAGER, SPACE_MANAGER};
use crate::db::security_groups::{self as groups, Phase, SecurityGroup};
use crate::db::{self, Columns as _};
use crate::errors::{ApiError, ApiResult, when_taken};
use crate::message::{Body, Fields, to_many_body};
use crate::query::{Filter, List, Listing, Params};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/security_groups", get(list).post(create))
        .route("/v3/security_groups/{guid}", get(find).patch(update).delete(delete))
        .route("/v3/security_groups/{guid}/relationships/{relation}", post(bind))
        .route(
            "/v3/security_groups/{guid}/relationships/{relation}/{space}",
            axum::routing::delete(unbind),
        )
        .route("/v3/spaces/{guid}/running_security_groups", get(running))
        .route("/v3/spaces/{guid}/staging_security_groups", get(staging))
}

const KIND: &str = "security_group";

const LIST: List = List {
    table: "security_groups",
    filters: &[
        ("names", Filter::Text("security_groups.name")),
        ("globally_enabled_running", Filter::Flag("security_groups.running_default")),
        ("globally_enabled_staging", Filter::Flag("security_groups.staging_default")),
        (
            "running_space_guids",
            Filter::Sql(
                "security_groups.guid IN (SELECT b.security_group_guid FROM security_group_spaces b WHERE b.phase = 'running' AND b.space_guid IN ({}))",
            ),
        ),
        (
            "staging_space_guids",
            Filter::Sql(
                "security_groups.guid IN (SELECT b.security_group_guid FROM security_group_spaces b WHERE b.phase = 'staging' AND b.space_guid IN ({}))",
            ),
        ),
    ],
    orders: &[("name", "security_groups.name")],
    includes: &[],
    labels: None,
};

const OF_SPACE: List = List {
    table: "security_groups",
    filters: &[("names", Filter::Text("security_groups.name"))],
    orders: &[("name", "security_groups.name")],
    includes: &[],
    labels: None,
};

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    listing.visible(|sql| groups::visible(sql, &caller));
    page(&cc, &caller, &urls, &listing).await
}

async fn page(cc: &Cc, caller: &Caller, urls: &Urls, listing: &Listing) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    let page = listing.fetch(&mut connection, "security_groups.*", "security_groups").await?;
    let found = page
        .items
        .iter()
        .map(<SecurityGroup as db::Stored>::read)
        .collect::<db::Result<Vec<_>>>()?;
    let resources = present_all(&mut connection, caller, urls, &found).await?;
    Ok(respond::ok(listing.present(urls, page.total, resources, BTreeMap::new())))
}

async fn running(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    of_space(&cc, &caller, &urls, &guid, params, Phase::Running).await
}

async fn staging(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    of_space(&cc, &caller, &urls, &guid, params, Phase::Staging).await
}

/// All that hold in a space: bound to it, or enabled everywhere.
async fn of_space(
    cc: &Cc,
    caller: &Caller,
    urls: &Urls,
    guid: &str,
    params: Params,
    phase: Phase,
) -> ApiResult<Response> {
    let mut listing = OF_SPACE.read(params)?;
    access::in_space(&mut *cc.db.read().await?, caller, guid).await?.see("Space")?;
    let (space, name) = (listing.sql().arg(guid), phase.name());
    listing.condition(format!(
        "(security_groups.{name}_default = 1 OR security_groups.guid IN (SELECT b.security_group_guid \
         FROM security_group_spaces b WHERE b.phase = '{name}' AND b.space_guid = {space}))"
    ));
    page(cc, caller, urls, &listing).await
}

struct Message {
    name: Option<String>,
    running: Option<bool>,
    staging: Option<bool>,
    rules: Option<Value>,
}

fn read_message(fields: &mut Fields<'_>, creating: bool) -> Message {
    let name =
        if creating || fields.has("name") { Some(fields.required_text("name")) } else { None };
    if name.as_ref().is_some_and(|name| name.chars().count() > 250) {
        fields.error("Name is too long (maximum is 250 characters)");
    }
    let enabled =
        fields.inside("globally_enabled", |inner| (inner.flag("running"), inner.flag("staging")));
    let (running, staging) = enabled.unwrap_or_default();
    let rules = fields.value("rules").cloned();
    for problem in rules.iter().flat_map(security_group_rules::problems) {
        fields.error(problem);
    }
    Message { name, running, staging, rules }
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    caller.require_admin()?;
    let mut fields = body.fields();
    let message = read_message(&mut fields, true);
    let bound = fields.inside("relationships", |inner| {
        [
            (Phase::Running, inner.to_many("running_spaces")),
            (Phase::Staging, inner.to_many("staging_spaces")),
        ]
    });
    fields.finish()?;
    let name = message.name.unwrap_or_default();
    let mut tx = cc.db.begin().await?;
    let columns = vec![
        ("name", (&name).into()),
        ("rules", (&message.rules.unwrap_or_else(|| json!([]))).into()),
        ("running_default", message.running.unwrap_or(false).into()),
        ("staging_default", message.staging.unwrap_or(false).into()),
    ];
    let made = groups::insert(&mut tx, cc.now(), columns).await;
    let guid = made.map_err(|cause| when_taken(cause, taken(&name)))?;
    for (phase, spaces) in bound.into_iter().flatten() {
        let spaces = spaces.unwrap_or_default();
        let missing = missing(&mut tx, &spaces).await?;
        if !missing.is_empty() {
            let detail = format!("Spaces with guids [{}] do not exist.", common::quoted(&missing));
            return Err(ApiError::unprocessable(detail));
        }
        for space in spaces {
            groups::bind(&mut tx, &guid, &space, phase).await?;
        }
    }
    groups::apps_changed(&mut tx, &guid).await?;
    let document = document(&mut tx, &caller, &urls, &guid).await?;
    tx.commit().await?;
    cc.nsync.poke();
    Ok(respond::created(document))
}

fn taken(name: &str) -> ApiError {
    ApiError::unprocessable(format!("Security group with name '{name}' already exists."))
}

async fn missing(tx: &mut Connection, spaces: &[String]) -> ApiResult<Vec<String>> {
    let found = db::spaces::find_many(tx, spaces).await?;
    Ok(spaces
        .iter()
        .filter(|guid| !found.iter().any(|space| space.guid == **guid))
        .cloned()
        .collect())
}

async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    seen(&mut connection, &caller, &guid).await?;
    Ok(respond::ok(document(&mut connection, &caller, &urls, &guid).await?))
}

async fn seen(
    connection: &mut Connection,
    caller: &Caller,
    guid: &str,
) -> ApiResult<SecurityGroup> {
    groups::find_visible(connection, caller, guid)
        .await?
        .ok_or_else(|| ApiError::not_found("Security group"))
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    seen(&mut tx, &caller, &guid).await?;
    caller.require_admin()?;
    let mut fields = body.fields();
    let message = read_message(&mut fields, false);
    fields.finish()?;
    // Both who had it and who has it now must hear of it.
    groups::apps_changed(&mut tx, &guid).await?;
    let mut set = Vec::new();
    set.extend(message.name.as_ref().map(|name| ("name", name.into())));
    set.extend(message.rules.as_ref().map(|rules| ("rules", rules.into())));
    set.extend(message.running.map(|on| ("running_default", on.into())));
    set.extend(message.staging.map(|on| ("staging_default", on.into())));
    let updated = db::change(&mut tx, cc.now(), "security_groups", &guid, set).await;
    updated
        .map_err(|cause| when_taken(cause, taken(message.name.as_deref().unwrap_or_default())))?;
    groups::apps_changed(&mut tx, &guid).await?;
    let document = document(&mut tx, &caller, &urls, &guid).await?;
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
    let mut tx = cc.db.begin().await?;
    seen(&mut tx, &caller, &guid).await?;
    caller.require_admin()?;
    groups::apps_changed(&mut tx, &guid).await?;
    groups::delete(&mut tx, &guid).await?;
    let job = common::done_job(&mut tx, cc.now(), "security_group.delete", (KIND, &guid)).await?;
    tx.commit().await?;
    cc.nsync.poke();
    Ok(respond::job(&urls, &job))
}

/// `running_spaces` or `staging_spaces`.
fn phase(relation: &str) -> ApiResult<Phase> {
    match relation {
        "running_spaces" => Ok(Phase::Running),
        "staging_spaces" => Ok(Phase::Staging),
        _ => Err(ApiError::unknown_request()),
    }
}

async fn bind(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path((guid, relation)): Path<(String, String)>,
    body: Body,
) -> ApiResult<Response> {
    let phase = phase(&relation)?;
    let spaces = to_many_body(&body)?;
    let mut tx = cc.db.begin().await?;
    seen(&mut tx, &caller, &guid).await?;
    let mut hidden = Vec::new();
    for space in &spaces {
        let rights = access::in_space(&mut tx, &caller, space).await?;
        if rights.org_guid.is_empty() || !rights.can_read() {
            hidden.push(space.clone());
        } else {
            rights.change("Space", &[ORG_MANAGER, SPACE_MANAGER])?;
        }
    }
    if !hidden.is_empty() {
        let detail = format!(
            "Spaces with guids [{}] do not exist, or you do not have access to them.",
            common::quoted(&hidden)
        );
        return Err(ApiError::unprocessable(detail));
    }
    for space in &spaces {
        groups::bind(&mut tx, &guid, space, phase).await?;
        groups::apps_in_changed(&mut tx, space).await?;
    }
    let all = groups::spaces(&mut tx, &guid, phase).await?;
    tx.commit().await?;
    cc.nsync.poke();
    let own = urls.link(&format!("security_groups/{guid}/relationships/{relation}"));
    Ok(respond::ok(respond::to_many(&all, own)))
}

async fn unbind(
    cc: Cc,
    caller: Caller,
    Path((guid, relation, space)): Path<(String, String, String)>,
) -> ApiResult<Response> {
    let phase = phase(&relation)?;
    let mut tx = cc.db.begin().await?;
    seen(&mut tx, &caller, &guid).await?;
    let not_bound = || {
        ApiError::unprocessable(format!(
            "Unable to unbind security group from space with guid '{space}'. Ensure the space is bound to this security group."
        ))
    };
    let rights = access::in_space(&mut tx, &caller, &space).await?;
    if rights.org_guid.is_empty() {
        return Err(not_bound());
    }
    if !rights.can_read() {
        return Err(ApiError::forbidden());
    }
    rights.change("Space", &[ORG_MANAGER, SPACE_MANAGER])?;
    if !groups::spaces(&mut tx, &guid, phase).await?.contains(&space) {
        return Err(not_bound());
    }
    groups::unbind(&mut tx, &guid, &space, phase).await?;
    groups::apps_in_changed(&mut tx, &space).await?;
    tx.commit().await?;
    cc.nsync.poke();
    Ok(respond::no_content())
}

async fn document(
    connection: &mut Connection,
    caller: &Caller,
    urls: &Urls,
    guid: &str,
) -> ApiResult<Value> {
    let group = groups::find(connection, guid)
        .await?
        .ok_or_else(|| ApiError::not_found("Security group"))?;
    Ok(present_all(connection, caller, urls, &[group]).await?.remove(0))
}

async fn present_all(
    connection: &mut Connection,
    caller: &Caller,
    urls: &Urls,
    found: &[SecurityGroup],
) -> ApiResult<Vec<Value>> {
    let guids: Vec<String> = found.iter().map(|group| group.guid.clone()).collect();
    let mut bound: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for row in groups::visible_spaces(connection, caller, &guids).await? {
        let key = (row.text("security_group_guid")?, row.text("phase")?);
        bound.entry(key).or_default().push(row.text("space_guid")?);
    }
    let one = |group: &SecurityGroup| {
        let spaces = |phase: Phase| {
            let key = (group.guid.clone(), phase.name().to_owned());
            common::to_many(bound.get(&key).map_or(&[], Vec::as_slice))
        };
        json!({
            "guid": group.guid,
            "created_at": group.created_at.to_rfc3339(),
            "updated_at": group.updated_at.to_rfc3339(),
            "name": group.name,
            "rules": group.rules,
            "globally_enabled": { "running": group.running_default, "staging": group.staging_default },
            "relationships": {
                "running_spaces": spaces(Phase::Running),
                "staging_spaces": spaces(Phase::Staging),
            },
            "links": { "self": urls.link(&format!("security_groups/{}", group.guid)) },
        })
    };
    Ok(found.iter().map(one).collect())
}
