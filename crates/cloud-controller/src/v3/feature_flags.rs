//! `/v3/feature_flags`: switches for the whole platform.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use base::Timestamp;
use serde_json::{Value, json};

use crate::Cc;
use crate::auth::Caller;
use crate::db::feature_flags::{self, FeatureFlag};
use crate::errors::{ApiError, ApiResult};
use crate::message::{Body, Change};
use crate::query::Params;
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/feature_flags", get(list))
        .route("/v3/feature_flags/{name}", get(find).patch(update))
}

const NOT_FOUND: &str = "Feature flag";

/// The flags come from the program, not from a table: pages are cut here.
async fn list(cc: Cc, _: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    params.only(&["page", "per_page", "order_by", "updated_ats"])?;
    let number =
        |name: &str, default: usize, most: usize| match params.get(name).map(str::parse::<usize>) {
            None => Ok(default),
            Some(Ok(value)) if (1..=most).contains(&value) => Ok(value),
            Some(_) => Err(ApiError::bad_query(&format!("{name} must be between 1 and {most}"))),
        };
    let (page, per_page) = (number("page", 1, usize::MAX / 5000)?, number("per_page", 50, 5000)?);
    let mut flags = feature_flags::all(&mut *cc.db.read().await?).await?;
    match params.get("order_by").map(|order| order.trim_start_matches(['+', ' '])) {
        None | Some("name") => {}
        Some("-name") => flags.reverse(),
        Some(_) => return Err(ApiError::bad_query("Order by can only be: 'name'")),
    }
    keep_updated(&mut flags, &params)?;
    let (total, pages) = (flags.len(), flags.len().div_ceil(per_page).max(1));
    let shown: Vec<Value> = flags
        .iter()
        .skip((page - 1) * per_page)
        .take(per_page)
        .map(|flag| present(flag, &urls))
        .collect();
    let link = |page: usize| json!({ "href": format!("{}?page={page}&per_page={per_page}", urls.v3("feature_flags")) });
    Ok(respond::ok(json!({
        "pagination": {
            "total_results": total,
            "total_pages": pages,
            "first": link(1),
            "last": link(pages),
            "next": (page < pages).then(|| link(page + 1)),
            "previous": (page > 1).then(|| link(page - 1)),
        },
        "resources": shown,
    })))
}

/// `updated_ats[gt]=…` and its like; a flag nobody turned matches none of them.
fn keep_updated(flags: &mut Vec<FeatureFlag>, params: &Params) -> ApiResult<()> {
    let wrong = || {
        ApiError::bad_query(
            "Updated ats has an invalid timestamp format. Timestamps should be formatted as 'YYYY-MM-DDThh:mm:ssZ'",
        )
    };
    let seconds = |flag: &FeatureFlag| flag.updated_at.map(Timestamp::as_secs);
    for operator in ["lt", "lte", "gt", "gte"] {
        let Some(text) = params.get(&format!("updated_ats[{operator}]")) else { continue };
        let limit = Timestamp::parse_rfc3339(text).ok_or_else(wrong)?.as_secs();
        let fits = |at: i64| match operator {
            "lt" => at < limit,
            "lte" => at <= limit,
            "gt" => at > limit,
            _ => at >= limit,
        };
        flags.retain(|flag| seconds(flag).is_some_and(fits));
    }
    if let Some(texts) = params.list("updated_ats") {
        let moments: Option<Vec<i64>> = texts
            .iter()
            .map(|text| Timestamp::parse_rfc3339(text).map(Timestamp::as_secs))
            .collect();
        let moments = moments.ok_or_else(wrong)?;
        flags.retain(|flag| seconds(flag).is_some_and(|at| moments.contains(&at)));
    }
    Ok(())
}

async fn find(cc: Cc, _: Caller, urls: Urls, Path(name): Path<String>) -> ApiResult<Response> {
    let flag = feature_flags::find(&mut *cc.db.read().await?, &name).await?;
    Ok(respond::ok(present(&flag.ok_or_else(|| ApiError::not_found(NOT_FOUND))?, &urls)))
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(name): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    caller.require_admin()?;
    let mut tx = cc.db.begin().await?;
    let flag = feature_flags::find(&mut tx, &name).await?;
    let flag = flag.ok_or_else(|| ApiError::not_found(NOT_FOUND))?;
    let mut fields = body.fields();
    let enabled = fields.flag("enabled");
    let words = fields.change_text("custom_error_message");
    if matches!(&words, Change::Set(words) if words.chars().count() > 250) {
        fields.error("Custom error message is too long (maximum is 250 characters)");
    }
    fields.finish()?;
    let flag = FeatureFlag {
        enabled: enabled.unwrap_or(flag.enabled),
        custom_error_message: words.over(flag.custom_error_message),
        updated_at: Some(cc.now()),
        name,
    };
    feature_flags::set(&mut tx, cc.now(), &flag).await?;
    tx.commit().await?;
    Ok(respond::ok(present(&flag, &urls)))
}

fn present(flag: &FeatureFlag, urls: &Urls) -> Value {
    json!({
        "name": flag.name,
        "enabled": flag.enabled,
        "updated_at": flag.updated_at.map(Timestamp::to_rfc3339),
        "custom_error_message": flag.custom_error_message,
        "links": { "self": urls.link(&format!("feature_flags/{}", flag.name)) },
    })
}
