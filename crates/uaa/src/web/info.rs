//! What anybody may know: prompts, links, keys, OpenID's description; and what a token's user may know of itself.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Caller, origin};
use crate::error::{Error, Result};
use crate::{Uaa, jti};

/// The prompts for a program, a form for a person.
pub(crate) async fn login(
    State(uaa): State<Uaa>,
    headers: HeaderMap,
    uri: axum::http::Uri,
) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    if accept.contains("text/html") {
        return super::browser::login_page(&uaa, &headers, uri.query().unwrap_or(""));
    }
    login_info(State(uaa), headers).await.into_response()
}

pub(crate) async fn login_info(State(uaa): State<Uaa>, headers: HeaderMap) -> Json<Value> {
    let origin = origin(&headers, &uaa);
    Json(json!({
        "app": { "version": uaa.0.config.version },
        "links": {
            "uaa": origin,
            "login": origin,
            "passwd": format!("{origin}/forgot_password"),
            "register": format!("{origin}/create_account"),
        },
        "zone_name": "uaa",
        "entityID": origin,
        "commit_id": env!("CARGO_PKG_VERSION"),
        "timestamp": uaa.now().to_rfc3339(),
        "idpDefinitions": {},
        "showLoginLinks": true,
        "prompts": {
            "username": ["text", "Email"],
            "password": ["password", "Password"],
            "passcode": ["password", format!("Temporary Authentication Code ( Get one at {origin}/passcode )")],
        },
    }))
}

pub(crate) async fn token_keys(State(uaa): State<Uaa>, headers: HeaderMap) -> Response {
    let keys = uaa.0.tokens.keys.jwks().to_string();
    let tag = format!("\"{}\"", jti::hex(&Sha256::digest(keys.as_bytes())[..8]));
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    ([(header::ETAG, tag), (header::CONTENT_TYPE, "application/json".to_owned())], keys)
        .into_response()
}

pub(crate) async fn token_key(State(uaa): State<Uaa>) -> Json<Value> {
    Json(uaa.0.tokens.keys.jwk().clone())
}

pub(crate) async fn openid_configuration(
    State(uaa): State<Uaa>,
    headers: HeaderMap,
) -> Json<Value> {
    let origin = origin(&headers, &uaa);
    Json(json!({
        "issuer": uaa.0.tokens.issuer(),
        "authorization_endpoint": format!("{origin}/oauth/authorize"),
        "token_endpoint": format!("{origin}/oauth/token"),
        "userinfo_endpoint": format!("{origin}/userinfo"),
        "jwks_uri": format!("{origin}/token_keys"),
        "end_session_endpoint": format!("{origin}/logout.do"),
        "scopes_supported": ["openid", "profile", "email", "phone", "roles", "user_attributes"],
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "claim_types_supported": ["normal"],
        "claims_supported": ["sub", "user_name", "origin", "iss", "auth_time", "amr", "acr", "client_id", "aud", "zid",
            "grant_type", "user_id", "azp", "scope", "exp", "iat", "jti", "rev_sig", "cid", "given_name", "family_name",
            "phone_number", "email"],
        "claims_parameter_supported": false,
        "id_token_signing_alg_values_supported": ["RS256"],
        "id_token_encryption_alg_values_supported": ["none"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256", "plain"],
        "ui_locales_supported": ["en-US"],
    }))
}

pub(crate) async fn userinfo(State(uaa): State<Uaa>, caller: Caller) -> Result<Json<Value>> {
    caller.needs(&["openid"])?;
    let user = caller.0.user_id.as_deref().ok_or_else(|| Error::insufficient_scope(&["openid"]))?;
    let account = uaa
        .active_account(user)
        .await?
        .ok_or_else(|| Error::invalid_token("The user no longer exists"))?;
    let mut body = json!({
        "user_id": account.guid,
        "sub": account.guid,
        "user_name": account.user_name,
        "name": format!("{} {}", account.given_name, account.family_name).trim(),
        "given_name": account.given_name,
        "family_name": account.family_name,
        "email": account.email,
        "email_verified": account.verified,
        "previous_logon_time": account.previous_logon_at.as_millis(),
    });
    if !account.phone_number.is_empty() {
        body["phone_number"] = account.phone_number.into();
    }
    Ok(Json(body))
}
