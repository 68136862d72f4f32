//! What resources have in common: how one is shown, many of a page at once, and what there is of an app.

use axum::extract::Path;
use axum::response::Response;
use serde_json::Value;
use sql::Connection;

use std::collections::BTreeMap;

use crate::auth::Caller;
use crate::db::access::{self, DEVELOPERS, Rights};
use crate::db::apps::{self, App};
use crate::db::metadata::{self, Metadata};
use crate::db::{self, Stored};
use crate::errors::{ApiError, ApiResult};
use crate::message::Body;
use crate::query::{List, Listing, Params};
use crate::urls::Urls;
use crate::{Cc, respond};

/// A resource with labels and annotations.
pub trait Resource: Stored {
    /// What they are kept under.
    const KIND: &'static str;

    fn guid(&self) -> &str;
    fn present(&self, metadata: &Metadata, urls: &Urls) -> Value;
}

pub async fn present_one<R: Resource>(
    connection: &mut Connection,
    resource: &R,
    urls: &Urls,
) -> ApiResult<Value> {
    let metadata = metadata::load_one(connection, R::KIND, resource.guid()).await?;
    Ok(resource.present(&metadata, urls))
}

/// With one query for the labels and annotations of all.
pub async fn present_all<R: Resource>(
    connection: &mut Connection,
    resources: &[R],
    urls: &Urls,
) -> ApiResult<Vec<Value>> {
    let guids: Vec<String> = resources.iter().map(|one| one.guid().to_owned()).collect();
    let metadata = metadata::load(connection, R::KIND, &guids).await?;
    let none = Metadata::default();
    let show = |one: &R| one.present(metadata.get(one.guid()).unwrap_or(&none), urls);
    Ok(resources.iter().map(show).collect())
}

/// For `include`.
pub async fn by_guids<R: Resource>(
    connection: &mut Connection,
    guids: &[String],
    urls: &Urls,
) -> ApiResult<Vec<Value>> {
    let found: Vec<R> = db::find_many(connection, guids).await?;
    present_all(connection, &found, urls).await
}

/// One page: how many rows there are in all, the resources, and their documents.
pub async fn fetch<R: Resource>(
    connection: &mut Connection,
    listing: &Listing,
    urls: &Urls,
) -> ApiResult<(i64, Vec<R>, Vec<Value>)> {
    let page = listing.fetch(connection, R::COLUMNS, R::FROM).await?;
    let found = page.items.iter().map(R::read).collect::<db::Result<Vec<R>>>()?;
    let documents = present_all(connection, &found, urls).await?;
    Ok((page.total, found, documents))
}

/// The answer to a list that includes nothing.
pub async fn page<R: Resource>(
    connection: &mut Connection,
    listing: &Listing,
    urls: &Urls,
) -> ApiResult<Response> {
    let (total, _, documents) = fetch::<R>(connection, listing, urls).await?;
    Ok(respond::ok(listing.present(urls, total, documents, BTreeMap::new())))
}

/// Something that belongs to an app: who sees the app's space sees it. `FROM` joins the app as `a`.
pub trait OfApp: Resource + Send + Sync {
    /// As errors name it: `Package`.
    const WHAT: &'static str;
    const LIST: List;

    fn app_guid(&self) -> &str;

    /// Conditions that the list's own filters cannot say.
    fn narrow(_: &mut Listing) {}

    /// Takes out of a document what lists do not show.
    fn hide(_: &mut Value) {}
}

/// It, its app, and what the caller may do with them; 404 when that is nothing.
pub async fn visible<R: OfApp>(
    connection: &mut Connection,
    caller: &Caller,
    guid: &str,
) -> ApiResult<(R, App, Rights)> {
    let not_found = || ApiError::not_found(R::WHAT);
    let found: R = db::find(connection, guid).await?.ok_or_else(not_found)?;
    let app = apps::find(connection, found.app_guid()).await?.ok_or_else(not_found)?;
    let rights = access::in_space(connection, caller, &app.space_guid).await?;
    rights.see(R::WHAT)?;
    Ok((found, app, rights))
}

/// Of all apps that the caller sees.
pub async fn list<R: OfApp>(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    params: Params,
) -> ApiResult<Response> {
    let mut listing = R::LIST.read(params)?;
    listing.visible(|sql| access::visible_space(sql, &caller, "a.space_guid"));
    answer::<R>(&mut *cc.db.read().await?, listing, &urls).await
}

pub async fn list_of_app<R: OfApp>(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    params: Params,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut listing = R::LIST.read(params)?;
    let mut connection = cc.db.read().await?;
    super::apps::visible(&mut connection, &caller, &guid).await?;
    listing.equals(&format!("{}.app_guid", R::TABLE), &guid);
    answer::<R>(&mut connection, listing, &urls).await
}

pub async fn answer<R: OfApp>(
    connection: &mut Connection,
    mut listing: Listing,
    urls: &Urls,
) -> ApiResult<Response> {
    R::narrow(&mut listing);
    let (total, _, mut documents) = fetch::<R>(connection, &listing, urls).await?;
    documents.iter_mut().for_each(R::hide);
    Ok(respond::ok(listing.present(urls, total, documents, BTreeMap::new())))
}

/// `PATCH` of what has nothing to change but labels and annotations.
pub async fn update_metadata<R: OfApp>(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut fields = body.fields();
    let metadata = fields.metadata();
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let (found, _, rights) = visible::<R>(&mut tx, &caller, &guid).await?;
    rights.change(R::WHAT, DEVELOPERS)?;
    crate::v3::common::write_metadata(&mut tx, R::KIND, &guid, &metadata).await?;
    let document = present_one(&mut tx, &found, &urls).await?;
    tx.commit().await?;
    Ok(respond::ok(document))
}
