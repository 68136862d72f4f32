//! `/v3/users`: who is known here. Names come from the identity, many at once.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use sql::Connection;

use super::common;
use crate::Cc;
use crate::auth::{self, Caller, User};
use crate::db::metadata::{self, Metadata};
use crate::db::users::{self, UserRow};
use crate::db::{self};
use crate::errors::{ApiError, ApiResult, when_taken};
use crate::message::Body;
use crate::query::{Filter, List, Listing, Params};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/users", get(list).post(create))
        .route("/v3/users/{guid}", get(find).patch(update).delete(delete))
}

const KIND: &str = "user";

const LIST: List = List {
    table: "users",
    filters: &[
        ("usernames", Filter::Own),
        ("partial_usernames", Filter::Own),
        ("origins", Filter::Own),
    ],
    orders: &[],
    includes: &[],
    labels: Some(KIND),
};

/// How many users a search by parts of names may find before it must say more.
const MOST_FOUND: usize = 5000;

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    listing.visible(|sql| users::visible(sql, &caller));
    page(&cc, &urls, listing).await
}

/// A list of those whose guids `query` selects; `{}` in it stands for `guid`.
pub async fn members(
    cc: &Cc,
    urls: &Urls,
    params: Params,
    query: &str,
    guid: &str,
) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    let guid = listing.sql().arg(guid);
    listing.condition(format!("users.guid IN ({})", query.replace("{}", &guid)));
    page(cc, urls, listing).await
}

async fn page(cc: &Cc, urls: &Urls, mut listing: Listing) -> ApiResult<Response> {
    by_names(cc, &mut listing).await?;
    let mut connection = cc.db.read().await?;
    let page = listing.fetch(&mut connection, "users.*", "users").await?;
    let rows = page.items.iter().map(users::read).collect::<db::Result<Vec<_>>>()?;
    let resources = present_all(cc, &mut connection, urls, &rows).await?;
    Ok(respond::ok(listing.present(urls, page.total, resources, BTreeMap::new())))
}

/// Names and origins are not in this database: the identity says who they are.
async fn by_names(cc: &Cc, listing: &mut Listing) -> ApiResult<()> {
    let names = listing.params.list("usernames");
    let parts = listing.params.list("partial_usernames");
    let origins = listing.params.list("origins").unwrap_or_default();
    let found = match (names, parts) {
        (Some(_), Some(_)) => {
            return Err(ApiError::bad_query(
                "Only one of usernames and partial_usernames can be used",
            ));
        }
        (Some(names), None) => cc.identity.users_by_names(&names, &origins).await?,
        (None, Some(parts)) => cc.identity.users_by_parts(&parts, &origins, MOST_FOUND).await?,
        (None, None) if origins.is_empty() => return Ok(()),
        (None, None) => {
            return Err(ApiError::bad_query(
                "Origins filter can be used only with usernames or partial_usernames filter.",
            ));
        }
    };
    let list = listing.sql().list(found.into_iter().map(|user| user.guid));
    listing.condition(format!("users.guid IN ({list})"));
    Ok(())
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    caller.require_admin()?;
    let mut fields = body.fields();
    let (guid, username, origin) =
        (fields.text("guid"), fields.text("username"), fields.text("origin"));
    if guid.is_some() && (username.is_some() || origin.is_some()) {
        fields.error("'guid' cannot be provided together with 'username' and 'origin'");
    } else if guid.is_none() {
        match (&username, &origin) {
            (Some(_), Some(origin)) if origin == "uaa" => {
                fields.error("Origin cannot be 'uaa' when creating a user by username")
            }
            (Some(_), Some(_)) => {}
            _ => fields.error("Guid or 'username' and 'origin' must be provided"),
        }
    }
    if guid.as_ref().is_some_and(|guid| guid.is_empty() || guid.chars().count() > 200) {
        fields.error("Guid must be between 1 and 200 characters");
    }
    let metadata = fields.metadata();
    fields.finish()?;
    let (guid, taken) = match (guid, username, origin) {
        (Some(guid), ..) => {
            let taken = format!("User with guid '{guid}' already exists.");
            (guid, taken)
        }
        (None, username, origin) => {
            let (username, origin) = (username.unwrap_or_default(), origin.unwrap_or_default());
            let taken =
                format!("User with username '{username}' and origin '{origin}' already exists.");
            (shadow(&cc, &username, &origin).await?, taken)
        }
    };
    let mut tx = cc.db.begin().await?;
    users::insert(&mut tx, cc.now(), &guid)
        .await
        .map_err(|cause| when_taken(cause, ApiError::unprocessable(taken)))?;
    common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    tx.commit().await?;
    let document = document(&cc, &mut *cc.db.read().await?, &urls, &guid).await?;
    Ok(respond::created(document))
}

/// The identity's user of that name and origin, made when there is none.
pub async fn shadow(cc: &Cc, username: &str, origin: &str) -> ApiResult<String> {
    let found = cc.identity.users_by_names(&[username.to_owned()], &[origin.to_owned()]).await?;
    match found.into_iter().next() {
        Some(user) => Ok(user.guid),
        None => Ok(cc.identity.create_user(username, origin).await?.guid),
    }
}

async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    visible(&mut connection, &caller, &guid).await?;
    Ok(respond::ok(document(&cc, &mut connection, &urls, &guid).await?))
}

async fn visible(connection: &mut Connection, caller: &Caller, guid: &str) -> ApiResult<UserRow> {
    users::find_visible(connection, caller, guid).await?.ok_or_else(|| ApiError::not_found("User"))
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    visible(&mut tx, &caller, &guid).await?;
    caller.require_admin()?;
    let mut fields = body.fields();
    let metadata = fields.metadata();
    fields.finish()?;
    db::change(&mut tx, cc.now(), "users", &guid, Vec::new()).await?;
    common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    tx.commit().await?;
    Ok(respond::ok(document(&cc, &mut *cc.db.read().await?, &urls, &guid).await?))
}

async fn delete(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    visible(&mut tx, &caller, &guid).await?;
    caller.require_admin()?;
    users::delete(&mut tx, &guid).await?;
    let job = common::done_job(&mut tx, cc.now(), "user.delete", (KIND, &guid)).await?;
    tx.commit().await?;
    Ok(respond::job(&urls, &job))
}

async fn document(
    cc: &Cc,
    connection: &mut Connection,
    urls: &Urls,
    guid: &str,
) -> ApiResult<Value> {
    let mut documents = by_guids(cc, connection, &[guid.to_owned()], urls).await?;
    if documents.is_empty() { Err(ApiError::not_found("User")) } else { Ok(documents.remove(0)) }
}

/// For `include=user`.
pub async fn by_guids(
    cc: &Cc,
    connection: &mut Connection,
    guids: &[String],
    urls: &Urls,
) -> ApiResult<Vec<Value>> {
    let rows = users::find_many(connection, guids).await?;
    present_all(cc, connection, urls, &rows).await
}

async fn present_all(
    cc: &Cc,
    connection: &mut Connection,
    urls: &Urls,
    rows: &[UserRow],
) -> ApiResult<Vec<Value>> {
    let guids: Vec<String> = rows.iter().map(|row| row.guid.clone()).collect();
    let metadata = metadata::load(connection, KIND, &guids).await?;
    let names = auth::users(cc, &guids).await?;
    let none = Metadata::default();
    let one = |row: &UserRow| {
        present(row, names.get(&row.guid), metadata.get(&row.guid).unwrap_or(&none), urls)
    };
    Ok(rows.iter().map(one).collect())
}

/// A user unknown to the identity is a client.
fn present(row: &UserRow, user: Option<&User>, metadata: &Metadata, urls: &Urls) -> Value {
    json!({
        "guid": row.guid,
        "created_at": row.created_at.to_rfc3339(),
        "updated_at": row.updated_at.to_rfc3339(),
        "username": user.map(|user| &user.username),
        "presentation_name": user.map_or(&row.guid, |user| &user.username),
        "origin": user.map(|user| &user.origin),
        "metadata": metadata.to_json(),
        "links": { "self": urls.link(&format!("users/{}", row.guid)) },
    })
}
