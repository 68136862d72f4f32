//! `/Users` and `/ids/Users`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Body, Caller};
use crate::Uaa;
use crate::db;
use crate::db::users::Account;
use crate::defaults::USER_GROUPS;
use crate::error::{Error, Result};
use crate::lockout::Lockout;
use crate::password::UNUSABLE;
use crate::scim::SCHEMA;
use crate::scim::filter::Invalid;
use crate::scim::query::{ListQuery, Search};
use crate::scim::user::{self, Membership, Message, OWN_ORIGIN};
use crate::users::AccountError;

pub(crate) async fn list(
    State(uaa): State<Uaa>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>> {
    caller.needs(&["scim.read"])?;
    let search = Search::new(&query, user::columns)?;
    let mut connection = uaa.db().read().await?;
    let (accounts, total) = db::users::search(&mut connection, &search).await?;
    let guids: Vec<String> = accounts.iter().map(|account| account.guid.clone()).collect();
    let mut groups = memberships(&mut connection, &guids).await?;
    let resources = accounts.iter().map(|account| {
        let groups = groups.remove(&account.guid).unwrap_or_default();
        user::restrict(user::present(account, &groups), query.attributes.as_deref())
    });
    Ok(Json(page(resources.collect(), &search, total)))
}

pub(crate) async fn ids(
    State(uaa): State<Uaa>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>> {
    caller.needs(&["scim.userids"])?;
    if query.filter()?.is_none() {
        return Err(Error::invalid_scim("a filter is needed").code("scim"));
    }
    let mut search = Search::new(&query, user::id_columns)?;
    if !query.include_inactive.unwrap_or(false) {
        search = search.and("active = 1");
    }
    let (accounts, total) = db::users::search(&mut *uaa.db().read().await?, &search).await?;
    let resources =
        accounts.iter().map(|account| json!({ "id": account.guid, "userName": account.user_name, "origin": account.origin }));
    Ok(Json(page(resources.collect(), &search, total)))
}

pub(crate) async fn create(
    State(uaa): State<Uaa>,
    caller: Caller,
    Body(message): Body<Message>,
) -> Result<(StatusCode, Json<Value>)> {
    caller.needs(&["scim.write", "scim.create"])?;
    // Everything that can be refused is refused before the password costs anything.
    let account = message.create(UNUSABLE.to_owned(), uaa.now())?;
    let password = message.password.as_deref().filter(|password| !password.is_empty());
    let password_hash = match password.filter(|_| account.origin == OWN_ORIGIN) {
        Some(password) => hash(&uaa, password).await?,
        None => UNUSABLE.to_owned(),
    };
    let account = Account { password_hash, ..account };
    match uaa.insert_user(&account).await {
        Ok(()) => Ok((StatusCode::CREATED, Json(shown(&uaa, &account).await?))),
        Err(AccountError::Taken { guid }) => {
            Err(Error::taken(format!("Username already in use: {}", account.user_name))
                .with("user_id", guid))
        }
        Err(error) => Err(anyhow::Error::from(error).into()),
    }
}

pub(crate) async fn find(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>> {
    caller.is_user_or_needs(&id, &["scim.read"])?;
    Ok(Json(shown(&uaa, &existing(&uaa, &id).await?).await?))
}

pub(crate) async fn replace(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(message): Body<Message>,
) -> Result<Json<Value>> {
    change(&uaa, &caller, &id, &headers, message, Message::replace).await
}

pub(crate) async fn patch(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(message): Body<Message>,
) -> Result<Json<Value>> {
    change(&uaa, &caller, &id, &headers, message, Message::patch).await
}

async fn change(
    uaa: &Uaa,
    caller: &Caller,
    id: &str,
    headers: &HeaderMap,
    mut message: Message,
    apply: impl Fn(&Message, Account) -> Result<Account>,
) -> Result<Json<Value>> {
    caller.is_user_or_needs(id, &["scim.write"])?;
    if caller.needs(&["scim.write"]).is_err() {
        // Users may describe themselves, but not say that they are who they say they are.
        (message.active, message.verified, message.user_name) = (None, None, None);
    }
    let account = existing(uaa, id).await?;
    expect_version(headers, account.version)?;
    if message.user_name.is_none() {
        message.user_name = Some(account.user_name.clone());
    }
    let account = save(uaa, apply(&message, account)?).await?;
    Ok(Json(shown(uaa, &account).await?))
}

/// The account as it is afterwards.
async fn save(uaa: &Uaa, account: Account) -> Result<Account> {
    let mut tx = uaa.db().begin().await?;
    let saved = match db::users::update(&mut tx, &account, uaa.now()).await {
        Err(error) if sql::is_taken(&error) => {
            return Err(Error::taken(format!("Username already in use: {}", account.user_name)));
        }
        result => result?,
    };
    if !saved {
        return Err(wrong_version());
    }
    tx.commit().await?;
    existing(uaa, &account.guid).await
}

pub(crate) async fn delete(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>> {
    caller.needs(&["scim.write"])?;
    if caller.is_user(&id) {
        return Err(Error::invalid_scim("A user cannot delete itself").code("scim"));
    }
    let account = existing(&uaa, &id).await?;
    expect_version(&headers, account.version)?;
    let body = shown(&uaa, &account).await?;
    uaa.delete_user(&id).await?;
    Ok(Json(body))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PasswordChange {
    old_password: Option<String>,
    password: String,
}

pub(crate) async fn password(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(id): Path<String>,
    Body(change): Body<PasswordChange>,
) -> Result<Json<Value>> {
    let own = caller.is_user(&id);
    let operator = caller.0.has_scope("uaa.admin")
        || (!caller.0.is_user() && caller.0.has_scope("password.write"));
    if !operator {
        caller.needs(&["password.write"])?;
        if !own {
            return Err(Error::insufficient_scope(&["uaa.admin"]));
        }
    }
    let account = existing(&uaa, &id).await?;
    let verify =
        async |password: &str| uaa.0.passwords.verify(password, &account.password_hash).await;
    if own || !operator {
        if account.lockout.is_locked(uaa.now()) {
            return Err(Error::unauthorized(crate::error::LOCKED));
        }
        if !verify(change.old_password.as_deref().unwrap_or("")).await? {
            let mut tx = uaa.db().begin().await?;
            let lockout = account.lockout.after_failure(uaa.lockout_policy(), uaa.now());
            db::users::set_lockout(&mut tx, &id, lockout).await?;
            tx.commit().await?;
            return Err(Error::unauthorized("Old password is incorrect"));
        }
    }
    if verify(&change.password).await? {
        return Err(refused_password("Your new password cannot be the same as the old password."));
    }
    let password_hash = hash(&uaa, &change.password).await?;
    let changed = Account {
        password_hash,
        password_changed_at: uaa.now(),
        password_change_required: false,
        lockout: Lockout::default(),
        ..account
    };
    save(&uaa, changed).await?;
    Ok(Json(json!({ "status": "ok", "message": "password updated" })))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    locked: Option<bool>,
    password_change_required: Option<bool>,
}

pub(crate) async fn status(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(id): Path<String>,
    Body(status): Body<Status>,
) -> Result<Json<Value>> {
    caller.needs(&["scim.write", "uaa.account_status.write"])?;
    if status.locked == Some(true) || status.password_change_required == Some(false) {
        return Err(Error::invalid_scim(
            "Cannot set user account to locked. User accounts only become locked through exceeding the allowed failed login attempts.",
        ));
    }
    let mut account = existing(&uaa, &id).await?;
    let mut body = json!({});
    if status.locked == Some(false) {
        account.lockout = Lockout::default();
        body["locked"] = false.into();
    }
    if status.password_change_required == Some(true) {
        account.password_change_required = true;
        body["passwordChangeRequired"] = true.into();
    }
    save(&uaa, account).await?;
    Ok(Json(body))
}

async fn hash(uaa: &Uaa, password: &str) -> Result<String> {
    if password.is_empty() || password.chars().count() > 255 {
        return Err(refused_password("Password must have between 1 and 255 characters."));
    }
    Ok(uaa.0.passwords.hash(password).await?)
}

fn refused_password(why: &str) -> Error {
    Error::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_password", why).with("message", why)
}

async fn existing(uaa: &Uaa, id: &str) -> Result<Account> {
    let account = db::users::find(&mut *uaa.db().read().await?, id).await?;
    account.ok_or_else(|| Error::scim_not_found(format!("User {id} does not exist")))
}

async fn shown(uaa: &Uaa, account: &Account) -> Result<Value> {
    let mut groups =
        memberships(&mut *uaa.db().read().await?, std::slice::from_ref(&account.guid)).await?;
    Ok(user::present(account, &groups.remove(&account.guid).unwrap_or_default()))
}

/// The groups of each of these users, with those that everybody has; two queries however many there are.
async fn memberships(
    connection: &mut sql::Connection,
    users: &[String],
) -> Result<BTreeMap<String, Vec<Membership>>> {
    if users.is_empty() {
        return Ok(BTreeMap::new());
    }
    let everybody = db::groups::by_names(connection, USER_GROUPS).await?;
    let mut groups: BTreeMap<String, Vec<Membership>> =
        users.iter().map(|user| (user.clone(), everybody.clone())).collect();
    for (user, guid, name) in db::groups::of_members(connection, users).await? {
        let held = groups.entry(user).or_default();
        if held.iter().all(|(known, _)| *known != guid) {
            held.push((guid, name));
        }
    }
    Ok(groups)
}

pub(crate) fn page(resources: Vec<Value>, search: &Search, total: i64) -> Value {
    json!({
        "resources": resources,
        "startIndex": search.start,
        "itemsPerPage": search.count,
        "totalResults": total,
        "schemas": [SCHEMA],
    })
}

/// `If-Match` names the version that the caller saw; without it, or with `*`, any will do.
pub(crate) fn expect_version(headers: &HeaderMap, version: i64) -> Result<()> {
    let Some(wanted) = headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok()) else {
        return Ok(());
    };
    let wanted = wanted.trim().trim_matches('"');
    if wanted == "*" || wanted == version.to_string() { Ok(()) } else { Err(wrong_version()) }
}

pub(crate) fn wrong_version() -> Error {
    Error::new(
        StatusCode::PRECONDITION_FAILED,
        "scim_resource_conflict",
        "it was changed since this version was read",
    )
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Error {
        Error::invalid_scim(invalid.to_string()).code("scim")
    }
}
