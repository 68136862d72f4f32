//! `/oauth/clients`, one by one and many at once.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Body, Caller};
use crate::Uaa;
use crate::db;
use crate::db::clients::Client;
use crate::error::{Error, Result};
use crate::password::EMPTY;
use crate::scim::SCHEMA;
use crate::scim::filter::Field;
use crate::scim::query::ListQuery;
use crate::tokens;

const WRITE: &[&str] = &["clients.write", "clients.admin"];
const READ: &[&str] = &["clients.read", "clients.write", "clients.admin"];

/// Clients that a list looks through.
const MOST: i64 = 10_000;
/// Clients that one transaction changes.
const MOST_AT_ONCE: usize = 200;

const GRANTS: &[&str] = &[
    "authorization_code",
    "client_credentials",
    "implicit",
    "password",
    "refresh_token",
    "urn:ietf:params:oauth:grant-type:jwt-bearer",
    "urn:ietf:params:oauth:grant-type:saml2-bearer",
    "user_token",
];

/// A client as a request describes it, with its secret in plain text.
struct Wanted {
    client: Client,
    secret: Option<String>,
    action: String,
}

pub(crate) async fn list(
    State(uaa): State<Uaa>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>> {
    caller.needs(READ)?;
    let filter = query.filter()?;
    let mut clients = db::clients::list(&mut *uaa.db().read().await?, MOST).await?;
    if let Some(filter) = filter {
        clients.retain(|client| {
            let shown = present(client);
            filter.matches(&|name| {
                let (_, value) =
                    shown.as_object()?.iter().find(|(key, _)| key.to_lowercase() == name)?;
                value.as_str().map(Field::Text).or_else(|| value.as_bool().map(Field::Truth))
            })
        });
    }
    if query.sort_by.as_deref().is_some_and(|by| by.eq_ignore_ascii_case("lastmodified")) {
        clients.sort_by_key(|client| client.updated_at);
    }
    if query.descends() {
        clients.reverse();
    }
    let total = clients.len();
    let (start, count) = (query.start(), query.count());
    let (skip, take) =
        (usize::try_from(start - 1).unwrap_or(0), usize::try_from(count).unwrap_or(0));
    let resources: Vec<Value> = clients.iter().skip(skip).take(take).map(present).collect();
    Ok(Json(json!({
        "resources": resources, "startIndex": start, "itemsPerPage": count, "totalResults": total, "schemas": [SCHEMA],
    })))
}

pub(crate) async fn find(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>> {
    caller.needs(READ)?;
    let client = uaa.client(&id).await?.ok_or_else(|| unknown(&id))?;
    Ok(Json(present(&client)))
}

pub(crate) async fn create(
    State(uaa): State<Uaa>,
    caller: Caller,
    Body(body): Body<Map<String, Value>>,
) -> Result<(StatusCode, Json<Value>)> {
    caller.needs(WRITE)?;
    let wanted = Wanted { action: "add".to_owned(), ..wanted(body)? };
    let mut shown = apply(&uaa, &caller, vec![wanted]).await?;
    Ok((StatusCode::CREATED, Json(shown.remove(0))))
}

pub(crate) async fn update(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(id): Path<String>,
    Body(mut body): Body<Map<String, Value>>,
) -> Result<Json<Value>> {
    caller.needs(WRITE)?;
    body.insert("client_id".to_owned(), id.into());
    let wanted = Wanted { action: "update".to_owned(), ..wanted(body)? };
    Ok(Json(apply(&uaa, &caller, vec![wanted]).await?.remove(0)))
}

pub(crate) async fn delete(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>> {
    caller.needs(WRITE)?;
    let client = uaa.client(&id).await?.ok_or_else(|| unknown(&id))?;
    uaa.delete_client(&id).await?;
    Ok(Json(present(&client)))
}

pub(crate) async fn create_many(
    state: State<Uaa>,
    caller: Caller,
    Body(list): Body<Vec<Map<String, Value>>>,
) -> Result<(StatusCode, Json<Value>)> {
    let shown = many(&state, &caller, list, Some("add")).await?;
    Ok((StatusCode::CREATED, Json(shown)))
}

pub(crate) async fn update_many(
    state: State<Uaa>,
    caller: Caller,
    Body(list): Body<Vec<Map<String, Value>>>,
) -> Result<Json<Value>> {
    many(&state, &caller, list, Some("update")).await.map(Json)
}

pub(crate) async fn delete_many(
    state: State<Uaa>,
    caller: Caller,
    Body(list): Body<Vec<Map<String, Value>>>,
) -> Result<Json<Value>> {
    many(&state, &caller, list, Some("delete")).await.map(Json)
}

/// Each says its own action.
pub(crate) async fn modify(
    state: State<Uaa>,
    caller: Caller,
    Body(list): Body<Vec<Map<String, Value>>>,
) -> Result<Json<Value>> {
    many(&state, &caller, list, None).await.map(Json)
}

async fn many(
    uaa: &Uaa,
    caller: &Caller,
    list: Vec<Map<String, Value>>,
    action: Option<&str>,
) -> Result<Value> {
    caller.needs(&["clients.admin"])?;
    if list.len() > MOST_AT_ONCE {
        return Err(refused(format!("more than {MOST_AT_ONCE} clients at once")));
    }
    let mut all = Vec::with_capacity(list.len());
    for body in list {
        let wanted = wanted(body)?;
        let action = action.map_or(wanted.action, str::to_owned);
        all.push(Wanted { action, ..wanted });
    }
    Ok(apply(uaa, caller, all).await?.into())
}

/// All or none.
async fn apply(uaa: &Uaa, caller: &Caller, all: Vec<Wanted>) -> Result<Vec<Value>> {
    let mut hashes = Vec::with_capacity(all.len());
    for wanted in &all {
        if !matches!(wanted.action.as_str(), "delete" | "secret") {
            check(&wanted.client, caller)?;
        }
        if wanted.action == "add" && wanted.secret.is_none() && needs_secret(&wanted.client) {
            return Err(refused(
                "Client secret is required for grant type client_credentials".to_owned(),
            ));
        }
        hashes.push(match &wanted.secret {
            Some(secret) if wanted.action != "delete" => {
                Some(uaa.0.passwords.hash_secret(Some(secret)).await?)
            }
            _ => None,
        });
    }
    let (mut shown, mut deleted) = (Vec::with_capacity(all.len()), Vec::new());
    let mut tx = uaa.db().begin().await?;
    for (wanted, hash) in all.into_iter().zip(hashes) {
        let Wanted { client, action, .. } = wanted;
        let id = client.client_id.clone();
        let known = db::clients::find(&mut tx, &id).await?;
        let stored = match (action.as_str(), known) {
            ("add", None) => {
                let client = Client {
                    secret_hash: hash.unwrap_or_else(|| EMPTY.to_owned()),
                    updated_at: uaa.now(),
                    ..client
                };
                db::clients::insert(&mut tx, &client, uaa.now()).await?;
                client
            }
            ("add", Some(_)) => {
                let description = format!("Client already exists: {id}");
                return Err(Error::new(StatusCode::CONFLICT, "invalid_client", description));
            }
            (_, None) => return Err(unknown(&id)),
            ("delete", Some(known)) => {
                db::clients::delete(&mut tx, &id).await?;
                deleted.push(id);
                known
            }
            ("update" | "secret" | "update,secret", Some(known)) => {
                let secret_hash = match hash {
                    Some(hash) if action != "update" => hash,
                    _ => known.secret_hash.clone(),
                };
                let base = if action == "secret" { known.clone() } else { client };
                let second_hash = known.second_hash;
                let client = Client { secret_hash, second_hash, updated_at: uaa.now(), ..base };
                db::clients::update(&mut tx, &client, uaa.now()).await?;
                client
            }
            (other, Some(_)) => return Err(refused(format!("Invalid action: {other}"))),
        };
        let mut body = present(&stored);
        body["action"] = action.into();
        shown.push(body);
    }
    tx.commit().await?;
    for id in deleted {
        uaa.revoke_all(tokens::client(&id), uaa.now().as_secs() + 1).await?;
    }
    Ok(shown)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SecretChange {
    secret: Option<String>,
    old_secret: Option<String>,
    #[serde(default)]
    change_mode: ChangeMode,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum ChangeMode {
    #[default]
    Update,
    /// Both secrets are good until one is deleted.
    Add,
    Delete,
}

pub(crate) async fn secret(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(id): Path<String>,
    Body(change): Body<SecretChange>,
) -> Result<Json<Value>> {
    caller.needs(&["clients.secret", "clients.admin"])?;
    let client = uaa.client(&id).await?.ok_or_else(|| unknown(&id))?;
    let admin = caller.needs(&["clients.admin"]).is_ok();
    if !admin {
        let own = caller.0.client_id == id && !caller.0.is_user();
        let old = change.old_secret.as_deref().unwrap_or("");
        if !own || !uaa.0.passwords.verify_secret(old, &client.secret_hash).await? {
            return Err(refused(
                "Bad request. Not permitted to change another client's secret".to_owned(),
            ));
        }
    }
    let hash = uaa.0.passwords.hash_secret(change.secret.as_deref()).await?;
    let told = change.secret.is_some();
    let (secret_hash, second_hash) = match (change.change_mode, client.second_hash.is_empty()) {
        (ChangeMode::Update, _) if told => (hash, client.second_hash.clone()),
        (ChangeMode::Add, true) if told => (hash, client.secret_hash.clone()),
        (ChangeMode::Add, false) => {
            return Err(refused("client secret is either empty or already has two".to_owned()));
        }
        (ChangeMode::Delete, false) => (client.secret_hash.clone(), String::new()),
        (ChangeMode::Delete, true) => {
            return Err(refused("client secret is the only one".to_owned()));
        }
        _ => return Err(refused("a secret is missing".to_owned())),
    };
    let mut tx = uaa.db().begin().await?;
    db::clients::update(&mut tx, &Client { secret_hash, second_hash, ..client }, uaa.now()).await?;
    tx.commit().await?;
    Ok(Json(json!({ "status": "ok", "message": "Secret is updated" })))
}

fn present(client: &Client) -> Value {
    let mut body = serde_json::to_value(client).unwrap_or_default();
    body["lastModified"] = client.updated_at.as_millis().into();
    if body["autoapprove"].is_null() {
        body["autoapprove"] = json!([]);
    }
    body
}

fn wanted(mut body: Map<String, Value>) -> Result<Wanted> {
    let mut text =
        |name: &str| body.remove(name).and_then(|value| value.as_str().map(str::to_owned));
    let secret = text("client_secret").or(text("secret"));
    let action = text("action").unwrap_or_default();
    body.remove("lastModified");
    // Lists may come as text with commas.
    for name in ["scope", "authorities", "authorized_grant_types", "redirect_uri", "resource_ids"] {
        if let Some(Value::String(text)) = body.get(name) {
            let list = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(Value::from)
                .collect();
            body.insert(name.to_owned(), Value::Array(list));
        }
    }
    let mut client: Client = serde_json::from_value(Value::Object(body))
        .map_err(|error| refused(format!("the client is not as expected: {error}")))?;
    for list in [&mut client.scope, &mut client.authorities] {
        if list.is_empty() {
            list.push("uaa.none".to_owned());
        }
    }
    if client.resource_ids.is_empty() {
        client.resource_ids.push("none".to_owned());
    }
    Ok(Wanted { client, secret, action })
}

fn needs_secret(client: &Client) -> bool {
    client.may("client_credentials") && client.more.get("allowpublic") != Some(&Value::Bool(true))
}

fn check(client: &Client, caller: &Caller) -> Result<()> {
    let id = &client.client_id;
    if id.is_empty()
        || id.len() > 255
        || id.chars().any(|c| c.is_control() || c == '/' || c == '\\')
    {
        return Err(refused("client_id must have 1 to 255 characters and no slashes".to_owned()));
    }
    if client.authorized_grant_types.is_empty() {
        return Err(refused(
            "An authorized grant type must be provided. Must be one of: ".to_owned()
                + &GRANTS.join(", "),
        ));
    }
    if let Some(grant) =
        client.authorized_grant_types.iter().find(|grant| !GRANTS.contains(&grant.as_str()))
    {
        return Err(refused(format!(
            "{grant} is not an allowed grant type. Must be one of: {}",
            GRANTS.join(", ")
        )));
    }
    if (client.may("authorization_code") || client.may("implicit"))
        && client.redirect_uri.is_empty()
    {
        return Err(refused("redirect_uri must be provided for authorization_code".to_owned()));
    }
    if client.access_token_validity.is_some_and(|validity| validity <= 0 || validity > 86_400 * 366)
    {
        return Err(refused(
            "access_token_validity must be between one second and a year".to_owned(),
        ));
    }
    if client
        .refresh_token_validity
        .is_some_and(|validity| validity <= 0 || validity > 86_400 * 366)
    {
        return Err(refused(
            "refresh_token_validity must be between one second and a year".to_owned(),
        ));
    }
    let free = |scope: &str| {
        matches!(scope, "uaa.none" | "openid") || scope.starts_with(&format!("{id}."))
    };
    if caller.needs(&["clients.admin"]).is_err() {
        // Nobody makes a client that may more than its maker.
        let scopes = client.scope.iter().chain(&client.authorities);
        if let Some(scope) =
            scopes.into_iter().find(|scope| !caller.0.has_scope(scope) && !free(scope))
        {
            return Err(refused(format!("{scope} is not an allowed scope for the caller")));
        }
    }
    Ok(())
}

fn refused(description: String) -> Error {
    Error::new(StatusCode::BAD_REQUEST, "invalid_client", description)
}

fn unknown(id: &str) -> Error {
    Error::new(StatusCode::NOT_FOUND, "not_found", format!("No client with requested id: {id}"))
}
