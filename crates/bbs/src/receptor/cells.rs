//! `/v1/cells`, `/v1/domains`, `/v1/version`, `/v1/sync`.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use diego::bbs::ErrorKind;
use diego::{Bbs as _, CellPresence, Domain};
use serde_json::{Value, json};

use super::error::{ReceptorError, Result};
use super::shape;
use crate::BbsServer;

pub(super) async fn list(State(bbs): State<BbsServer>) -> Result {
    let cells = bbs.cells().await.map_err(|error| ReceptorError::unknown(&error))?;
    Ok(Json(cells.iter().map(present).collect::<Vec<_>>()).into_response())
}

fn present(cell: &CellPresence) -> Value {
    let stacks: Vec<_> =
        cell.stacks.iter().map(|stack| stack.strip_prefix("preloaded:").unwrap_or(stack)).collect();
    let mut fields = shape::object(json!({
        "cell_id": cell.cell_id,
        "zone": cell.zone,
        "capacity": cell.capacity,
        "rootfs_providers": { "preloaded": stacks, "docker": [] },
    }));
    // The Receptor never knew these; its clients pass over them, and whoever asks why nothing is placed sees them.
    let lists = [
        ("placement_tags", &cell.placement_tags),
        ("optional_placement_tags", &cell.optional_placement_tags),
        ("volume_drivers", &cell.volume_drivers),
    ];
    let given = lists.into_iter().filter(|(_, list)| !list.is_empty());
    fields.extend(given.map(|(name, list)| (name.to_owned(), json!(list))));
    if cell.evacuating {
        fields.insert("evacuating".to_owned(), json!(true));
    }
    Value::Object(fields)
}

pub(super) async fn domains(State(bbs): State<BbsServer>) -> Result {
    let domains = bbs.domains().await.map_err(|error| ReceptorError::unknown(&error))?;
    Ok(Json(domains).into_response())
}

pub(super) async fn upsert_domain(
    State(bbs): State<BbsServer>,
    Path(domain): Path<Domain>,
    headers: HeaderMap,
) -> Result {
    let ttl = max_age(&headers)?;
    bbs.upsert_domain(&domain, ttl).await.map_err(|error| match error.kind {
        ErrorKind::InvalidRequest => {
            ReceptorError::new(StatusCode::BAD_REQUEST, "InvalidDomain", error.message)
        }
        _ => ReceptorError::unknown(&error),
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// No header and zero seconds both mean for ever.
fn max_age(headers: &HeaderMap) -> Result<Option<Duration>> {
    if !headers.contains_key(CACHE_CONTROL) {
        return Ok(None);
    }
    let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    let seconds = lines
        .filter_map(|line| line.strip_prefix("max-age="))
        .find_map(|text| text.parse::<u64>().ok());
    let seconds = seconds.ok_or_else(|| {
        ReceptorError::invalid_request("invalid Cache-Control: max-age=SECONDS is wanted")
    })?;
    Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
}

pub(super) async fn version() -> Json<Value> {
    Json(json!({ "receptor": env!("CARGO_PKG_VERSION") }))
}

/// No client binaries are kept here.
pub(super) async fn no_artifact() -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn freshness_is_read_from_max_age() {
        let read = |line: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.extend(line.map(|line| (CACHE_CONTROL, HeaderValue::from_static(line))));
            max_age(&headers)
        };
        assert_eq!(read(None).unwrap(), None);
        assert_eq!(read(Some("max-age=0")).unwrap(), None);
        assert_eq!(read(Some("max-age=60")).unwrap(), Some(Duration::from_secs(60)));
        assert!(read(Some("no-cache, max-age=5")).is_err());
        assert!(read(Some("max-age=soon")).is_err());
    }
}
