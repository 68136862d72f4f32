//! `/v3/apps/:guid/env` and `/v3/apps/:guid/environment_variables`.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Map, Value, json};

use crate::auth::Caller;
use crate::bridge::environment::Limits;
use crate::db::access::OPERATORS;
use crate::db::apps::{self, App};
use crate::db::feature_flags;
use crate::db::recipes::{self, Phase};
use crate::db::routing;
use crate::errors::{ApiError, ApiResult};
use crate::message::Body;
use crate::urls::Urls;
use crate::v3::apps::visible;
use crate::v3::lifecycle::check_variables;
use crate::{Cc, actions, respond};

/// All variables of an app together.
const MOST_BYTES: usize = 1 << 20;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/apps/{guid}/env", get(all))
        .route("/v3/apps/{guid}/environment_variables", get(find).patch(update))
}

async fn all(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let (app, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.see_secrets("App")?;
    feature_flags::demand(&mut tx, "env_var_visibility").await?;
    if !caller.reads_all_secrets() {
        feature_flags::demand(&mut tx, "space_developer_env_var_visibility").await?;
    }
    let mappings = routing::of_apps(&mut tx, std::slice::from_ref(&guid))
        .await?
        .remove(&guid)
        .unwrap_or_default();
    let running =
        recipes::view(&mut tx, &cc.seal, &cc.config.cf_api(), &app, &mappings, Phase::Running)
            .await?;
    let staging = apps::variable_group(&mut tx, "staging").await?;
    actions::apps::audit(&cc, &mut tx, &caller, "audit.app.environment.show", &app, json!({}))
        .await?;
    tx.commit().await?;
    let limits = Limits { memory_mb: 0, disk_mb: None, fds: Some(cc.config.limits.app_fds) };
    let mut application = running.vcap_application(limits, None);
    application["limits"] = json!({ "fds": cc.config.limits.app_fds });
    Ok(respond::ok(json!({
        "staging_env_json": cc.seal.open_json(staging.as_deref())?,
        "running_env_json": running.group,
        "environment_variables": running.own,
        "system_env_json": { "VCAP_SERVICES": running.services },
        "application_env_json": { "VCAP_APPLICATION": application },
    })))
}

async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let (app, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.see_secrets("App")?;
    actions::apps::audit(
        &cc,
        &mut tx,
        &caller,
        "audit.app.environment_variables.show",
        &app,
        json!({}),
    )
    .await?;
    tx.commit().await?;
    Ok(respond::ok(present(&cc, &app, &urls)?))
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut fields = body.fields();
    let change = fields.object("var").cloned().unwrap_or_default();
    check_variables(&Value::Object(change.clone()), |error| fields.error(error));
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let (app, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.change("App", OPERATORS)?;
    merge(&cc, &mut tx, &app, change).await?;
    let app = apps::find(&mut tx, &guid).await?.ok_or_else(|| ApiError::not_found("App"))?;
    let data = json!({ "request": { "environment_variables": crate::REDACTED } });
    actions::apps::audit(&cc, &mut tx, &caller, "audit.app.update", &app, data).await?;
    let document = present(&cc, &app, &urls)?;
    let names = apps::names(&mut tx, &guid).await?;
    tx.commit().await?;
    cc.api_log(
        &names,
        &format!(
            "Updated app with guid {guid} ({{\"environment_variables\"=>\"{}\"}})",
            crate::REDACTED
        ),
    );
    Ok(respond::ok(document))
}

/// Merges variables into an app's own; null takes one away.
pub async fn merge(
    cc: &Cc,
    connection: &mut sql::Connection,
    app: &App,
    change: Map<String, Value>,
) -> ApiResult<()> {
    let mut variables = cc.seal.open_json(app.sealed_env.as_deref())?;
    if let Some(variables) = variables.as_object_mut() {
        for (name, value) in change {
            match value {
                Value::Null => drop(variables.remove(&name)),
                value => drop(variables.insert(name, value)),
            }
        }
    }
    if variables.to_string().len() > MOST_BYTES {
        return Err(ApiError::unprocessable("Environment variables exceed the maximum of 1 MB"));
    }
    apps::update(
        connection,
        cc.now(),
        &app.guid,
        vec![("sealed_env", cc.seal.seal_json(&variables).into())],
    )
    .await?;
    Ok(())
}

fn present(cc: &Cc, app: &App, urls: &Urls) -> ApiResult<Value> {
    let own = format!("apps/{}", app.guid);
    Ok(json!({
        "var": cc.seal.open_json(app.sealed_env.as_deref())?,
        "links": { "self": urls.link(&format!("{own}/environment_variables")), "app": urls.link(&own) },
    }))
}
