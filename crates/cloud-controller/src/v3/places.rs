//! What organizations and spaces have in common: members, use of their quotas, and an isolation segment.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use sql::Connection;

use super::common;
use crate::auth::Caller;
use crate::db::access::{self, ORG_MANAGER, Rights};
use crate::db::quotas::Level;
use crate::db::{self, Columns as _, isolation_segments, query, usage};
use crate::errors::{ApiError, ApiResult};
use crate::message::{Body, to_one_body};
use crate::query::Params;
use crate::urls::Urls;
use crate::{Cc, respond};

/// What differs between the two.
struct Words {
    /// As errors name it.
    what: &'static str,
    /// Its link's name.
    link: &'static str,
    /// Who holds a role there.
    members: &'static str,
    /// The relationship's name, and its column.
    segment: (&'static str, &'static str),
    /// Where the segment must have been entitled.
    entitled: &'static str,
}

impl Words {
    fn of(level: Level) -> Words {
        match level {
            Level::Organization => Words {
                what: "Organization",
                link: "organization",
                members: "SELECT user_guid FROM roles WHERE org_guid = {}",
                segment: ("default_isolation_segment", "default_isolation_segment_guid"),
                entitled: "the organization",
            },
            Level::Space => Words {
                what: "Space",
                link: "space",
                members: "SELECT user_guid FROM roles WHERE space_guid = {}",
                segment: ("isolation_segment", "isolation_segment_guid"),
                entitled: "the organization that this space belongs to",
            },
        }
    }
}

/// The routes of one of the two, below `/v3/organizations/{guid}` or `/v3/spaces/{guid}`.
pub fn routes(level: Level) -> Router<Cc> {
    let own = format!("/v3/{}/{{guid}}", level.members());
    let segment = format!("{own}/relationships/{}", Words::of(level).segment.0);
    Router::new()
        .route(
            &format!("{own}/usage_summary"),
            get(move |cc, caller, urls, guid| usage_summary(level, cc, caller, urls, guid)),
        )
        .route(
            &format!("{own}/users"),
            get(move |cc, caller, urls, guid, params| users(level, cc, caller, urls, guid, params)),
        )
        .route(
            &segment,
            get(move |cc, caller, urls, guid| isolation_segment(level, cc, caller, urls, guid))
                .patch(move |cc, caller, urls, guid, body| {
                    set_isolation_segment(level, cc, caller, urls, guid, body)
                }),
        )
}

async fn rights(
    connection: &mut Connection,
    caller: &Caller,
    level: Level,
    guid: &str,
) -> ApiResult<Rights> {
    match level {
        Level::Organization => access::in_org(connection, caller, guid).await,
        Level::Space => access::in_space(connection, caller, guid).await,
    }
}

async fn see(
    connection: &mut Connection,
    caller: &Caller,
    level: Level,
    guid: &str,
) -> ApiResult<()> {
    rights(connection, caller, level, guid).await?.see(Words::of(level).what)
}

async fn usage_summary(
    level: Level,
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    see(&mut connection, &caller, level, &guid).await?;
    let summary = match level {
        Level::Organization => {
            let used = usage::of_org(&mut connection, &guid).await?;
            let mut summary = used.to_json();
            summary["domains"] = used.domains.into();
            summary
        }
        Level::Space => usage::of_space(&mut connection, &guid).await?.to_json(),
    };
    let own = format!("{}/{guid}", level.members());
    let mut links = json!({ "self": urls.link(&format!("{own}/usage_summary")) });
    links[Words::of(level).link] = urls.link(&own);
    Ok(respond::ok(json!({ "usage_summary": summary, "links": links })))
}

async fn users(
    level: Level,
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    see(&mut *cc.db.read().await?, &caller, level, &guid).await?;
    super::users::members(&cc, &urls, params, Words::of(level).members, &guid).await
}

async fn isolation_segment(
    level: Level,
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    see(&mut connection, &caller, level, &guid).await?;
    let column = Words::of(level).segment.1;
    let text = format!("SELECT {column} AS segment FROM {} WHERE guid = $1", level.members());
    let row = query(&text, [(&guid).into()]).one(&mut connection).await?;
    let segment = row.maybe_text("segment")?;
    Ok(respond::ok(segment_document(level, &urls, &guid, segment.as_deref())))
}

async fn set_isolation_segment(
    level: Level,
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let Words { what, segment: (_, column), entitled, .. } = Words::of(level);
    let segment = to_one_body(&body)?;
    let mut tx = cc.db.begin().await?;
    let rights = rights(&mut tx, &caller, level, &guid).await?;
    rights.change(what, &[ORG_MANAGER])?;
    if let Some(segment) = &segment
        && !isolation_segments::is_entitled(&mut tx, segment, &rights.org_guid).await?
    {
        return Err(ApiError::unprocessable(format!(
            "Unable to assign isolation segment with guid '{segment}'. Ensure it has been entitled to {entitled}."
        )));
    }
    let set = vec![(column, (&segment).into())];
    db::change(&mut tx, cc.now(), level.members(), &guid, set).await?;
    tx.commit().await?;
    Ok(respond::ok(segment_document(level, &urls, &guid, segment.as_deref())))
}

fn segment_document(level: Level, urls: &Urls, guid: &str, segment: Option<&str>) -> Value {
    let owner = format!("{}/{guid}", level.members());
    let name = Words::of(level).segment.0;
    common::to_one_document(urls, &owner, name, "isolation_segments", segment)
}
