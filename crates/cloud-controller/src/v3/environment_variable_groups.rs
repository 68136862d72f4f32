//! `/v3/environment_variable_groups`: variables that all running apps, or all builds, get.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use base::Timestamp;
use serde_json::{Map, Value, json};
use sql::Connection;

use crate::Cc;
use crate::auth::Caller;
use crate::db::{Columns as _, query};
use crate::errors::{ApiError, ApiResult};
use crate::message::Body;
use crate::respond;
use crate::urls::Urls;
use crate::v3::lifecycle;

pub fn routes() -> Router<Cc> {
    Router::new().route("/v3/environment_variable_groups/{name}", get(find).patch(update))
}

/// In bytes of JSON.
const LARGEST: usize = 64 * 1024;

fn known(name: &str) -> ApiResult<()> {
    if matches!(name, "running" | "staging") {
        Ok(())
    } else {
        Err(ApiError::not_found("Environment variable group"))
    }
}

async fn read(
    cc: &Cc,
    connection: &mut Connection,
    name: &str,
) -> ApiResult<(Value, Option<Timestamp>)> {
    let text = "SELECT sealed_env, updated_at FROM environment_variable_groups WHERE name = $1";
    match query(text, [name.into()]).optional(connection).await? {
        Some(row) => {
            let variables = cc.seal.open_json(row.maybe_text("sealed_env")?.as_deref())?;
            Ok((variables, Some(row.moment("updated_at")?)))
        }
        None => Ok((Value::Object(Map::new()), None)),
    }
}

async fn find(cc: Cc, _: Caller, urls: Urls, Path(name): Path<String>) -> ApiResult<Response> {
    known(&name)?;
    let (variables, updated_at) = read(&cc, &mut *cc.db.read().await?, &name).await?;
    Ok(respond::ok(present(&name, &variables, updated_at, &urls)))
}

/// Merges: null removes a variable.
async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(name): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    known(&name)?;
    caller.require_admin()?;
    let mut fields = body.fields();
    let changes = fields.object("var").cloned().unwrap_or_default();
    lifecycle::check_variables(&Value::Object(changes.clone()), |error| fields.error(error));
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let (mut variables, _) = read(&cc, &mut tx, &name).await?;
    if let Value::Object(object) = &mut variables {
        for (key, value) in changes {
            match value {
                Value::Null => drop(object.remove(&key)),
                value => drop(object.insert(key, value)),
            }
        }
    }
    if variables.to_string().len() > LARGEST {
        let detail = "Environment variable group is too large. Specify fewer variables or reduce key/value lengths.";
        return Err(ApiError::unprocessable(detail));
    }
    let text = "INSERT INTO environment_variable_groups (name, sealed_env, updated_at) VALUES ($1, $2, $3) \
                ON CONFLICT (name) DO UPDATE SET sealed_env = excluded.sealed_env, updated_at = excluded.updated_at";
    let args = [(&name).into(), cc.seal.seal_json(&variables).into(), cc.now().into()];
    query(text, args).run(&mut tx).await?;
    tx.commit().await?;
    Ok(respond::ok(present(&name, &variables, Some(cc.now()), &urls)))
}

fn present(name: &str, variables: &Value, updated_at: Option<Timestamp>, urls: &Urls) -> Value {
    json!({
        "name": name,
        "updated_at": updated_at.map(Timestamp::to_rfc3339),
        "var": variables,
        "links": { "self": urls.link(&format!("environment_variable_groups/{name}")) },
    })
}
