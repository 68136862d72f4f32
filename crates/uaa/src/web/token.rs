//! Giving, checking and ending tokens.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Caller, Parameters, authorization};
use crate::claims::Claims;
use crate::error::{Error, Result};
use crate::grants::text;
use crate::tokens::{self, Revocation};
use crate::{Uaa, jti};

pub(crate) async fn token(State(uaa): State<Uaa>, parameters: Parameters) -> Result<Response> {
    let body = uaa.grant_token(parameters.credentials(), &parameters.form).await?;
    Ok(([(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")], Json(body))
        .into_response())
}

pub(crate) async fn check(State(uaa): State<Uaa>, parameters: Parameters) -> Result<Json<Value>> {
    resource_server(&uaa, &parameters).await?;
    let token = text(&parameters.form, "token")
        .ok_or_else(|| Error::invalid_request("A token must be provided"))?;
    let bad = |error: Error| {
        if error.status.is_client_error() { error.status(StatusCode::BAD_REQUEST) } else { error }
    };
    let claims = active(&uaa, token).await.map_err(bad)?;
    for scope in text(&parameters.form, "scopes").into_iter().flat_map(|scopes| scopes.split(',')) {
        if !claims.has_scope(scope.trim()) {
            return Err(Error::invalid_scope(format!(
                "Some requested scopes are missing: {scope}"
            )));
        }
    }
    Ok(Json(shown(&claims)?))
}

pub(crate) async fn introspect(
    State(uaa): State<Uaa>,
    parameters: Parameters,
) -> Result<Json<Value>> {
    resource_server(&uaa, &parameters).await?;
    let token = text(&parameters.form, "token").unwrap_or("");
    let mut body = match active(&uaa, token).await {
        Ok(claims) => shown(&claims)?,
        Err(error) if error.status.is_server_error() => return Err(error),
        Err(_) => return Ok(Json(json!({ "active": false }))),
    };
    body["active"] = true.into();
    Ok(Json(body))
}

fn shown(claims: &Claims) -> Result<Value> {
    Ok(serde_json::to_value(claims).map_err(anyhow::Error::from)?)
}

/// The claims of a token that no process has revoked and whose user is still there.
async fn active(uaa: &Uaa, token: &str) -> Result<std::sync::Arc<Claims>> {
    let claims = uaa.verify(token)?;
    let revoked = uaa.0.tokens.is_revoked_anywhere(uaa.db(), &claims).await?;
    let gone = match &claims.user_id {
        Some(user) => uaa.active_account(user).await?.is_none(),
        None => false,
    };
    if revoked || gone { Err(Error::invalid_token("The token was revoked")) } else { Ok(claims) }
}

async fn resource_server(uaa: &Uaa, parameters: &Parameters) -> Result<()> {
    const NEEDED: &str = "uaa.resource";
    if authorization(&parameters.headers).to_lowercase().starts_with("bearer") {
        return Caller(uaa.verify(authorization(&parameters.headers))?).needs(&[NEEDED]);
    }
    let client = uaa.authenticate_client(parameters.credentials().as_ref()).await?;
    match client.authorities.iter().any(|authority| authority == NEEDED) {
        true => Ok(()),
        false => Err(Error::insufficient_scope(&[NEEDED])),
    }
}

/// A caller's own token, by its id alone: an id tells its subject.
pub(crate) async fn revoke(
    State(uaa): State<Uaa>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>> {
    let caller = Caller(uaa.verify(authorization(&headers))?);
    if !jti::belongs_to(&id, &caller.0.sub) {
        caller.needs(&["tokens.revoke"])?;
    }
    let now = uaa.now();
    let config = &uaa.0.config;
    let life = if jti::is_refresh(&id) {
        config.refresh_token_seconds.max(2_592_000)
    } else {
        config.access_token_seconds.max(86_400)
    };
    let revocation = Revocation { before: i64::MAX, until: now.as_secs() + life };
    uaa.0.tokens.revoke(uaa.db(), id, revocation, now).await?;
    Ok(done("token revoked"))
}

pub(crate) async fn revoke_user(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(user): Path<String>,
) -> Result<Json<Value>> {
    caller.is_user_or_needs(&user, &["tokens.revoke"])?;
    uaa.revoke_all(tokens::subject(&user), uaa.now().as_secs() + 1).await?;
    Ok(done("tokens revoked"))
}

pub(crate) async fn revoke_client(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(client): Path<String>,
) -> Result<Json<Value>> {
    caller.needs(&["tokens.revoke"])?;
    uaa.revoke_all(tokens::client(&client), uaa.now().as_secs() + 1).await?;
    Ok(done("tokens revoked"))
}

fn done(message: &str) -> Json<Value> {
    Json(json!({ "status": "ok", "message": message }))
}
