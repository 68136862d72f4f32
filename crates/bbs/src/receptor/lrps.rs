//! `/v1/desired_lrps` and `/v1/actual_lrps`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use diego::bbs::ErrorKind;
use diego::desired_lrp::DesiredLrpUpdate;
use diego::{ActualLrp, Bbs as _, BbsError, DesiredLrp, LrpKey, ProcessGuid};
use serde::Deserialize;

use super::error::{ReceptorError, Result};
use super::shape;
use super::tasks::InDomain;
use crate::BbsServer;
use crate::state::Process;

/// All fields may be absent, and then are found wrong by name.
#[derive(Deserialize)]
struct Create {
    #[serde(default)]
    process_guid: String,
    #[serde(default)]
    domain: String,
    #[serde(default)]
    instances: u32,
    #[serde(default)]
    routes: diego::desired_lrp::Routes,
    #[serde(default)]
    annotation: String,
    #[serde(flatten)]
    run: diego::desired_lrp::RunInfo,
}

pub(super) async fn create(State(bbs): State<BbsServer>, body: Bytes) -> Result {
    let Create { process_guid, domain, instances, routes, annotation, run } =
        shape::read_desired(&body, "InvalidLRP")?;
    let lrp = DesiredLrp {
        process_guid: process_guid.into(),
        domain: domain.into(),
        instances,
        run,
        routes,
        annotation,
        metric_tags: Default::default(),
        modification_tag: Default::default(),
    };
    let guid = lrp.process_guid.clone();
    let desired = bbs.desire_lrp(lrp).await;
    desired.map(|()| StatusCode::CREATED.into_response()).map_err(|error| match error.kind {
        ErrorKind::InvalidRequest => {
            ReceptorError::new(StatusCode::BAD_REQUEST, "InvalidLRP", error.message)
        }
        ErrorKind::ResourceExists => {
            let message = format!("Desired LRP with guid '{guid}' already exists");
            ReceptorError::new(StatusCode::CONFLICT, "DesiredLRPAlreadyExists", message)
        }
        _ => ReceptorError::unknown(&error),
    })
}

pub(super) async fn list(State(bbs): State<BbsServer>, Query(query): Query<InDomain>) -> Result {
    let lrps = bbs
        .desired_lrps(query.domain().as_ref())
        .await
        .map_err(|error| ReceptorError::unknown(&error))?;
    Ok(Json(lrps.iter().map(shape::desired).collect::<Vec<_>>()).into_response())
}

pub(super) async fn find(State(bbs): State<BbsServer>, Path(guid): Path<ProcessGuid>) -> Result {
    let lrp = bbs.desired_lrp(&guid).await.map_err(|error| not_found(&guid, &error))?;
    Ok(Json(shape::desired(&lrp)).into_response())
}

pub(super) async fn update(
    State(bbs): State<BbsServer>,
    Path(guid): Path<ProcessGuid>,
    body: Bytes,
) -> Result {
    #[derive(Deserialize)]
    struct Update {
        instances: Option<i64>,
        routes: Option<diego::desired_lrp::Routes>,
        annotation: Option<String>,
    }
    let Update { instances, routes, annotation } = shape::read(&body)?;
    let wrong = |_| BbsError::new(ErrorKind::InvalidRequest, "Invalid field: instances");
    let instances = instances
        .map(u32::try_from)
        .transpose()
        .map_err(wrong)
        .map_err(|error| ReceptorError::unknown(&error))?;
    let update = DesiredLrpUpdate { instances, routes, annotation, metric_tags: None };
    bbs.update_lrp(&guid, update).await.map_err(|error| not_found(&guid, &error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn delete(State(bbs): State<BbsServer>, Path(guid): Path<ProcessGuid>) -> Result {
    bbs.remove_lrp(&guid).await.map_err(|error| not_found(&guid, &error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn not_found(guid: &ProcessGuid, error: &BbsError) -> ReceptorError {
    match error.kind {
        ErrorKind::ResourceNotFound => {
            let message = format!("Desired LRP with guid '{guid}' not found");
            ReceptorError::new(StatusCode::NOT_FOUND, "DesiredLRPNotFound", message)
        }
        _ => ReceptorError::unknown(error),
    }
}

/// One row per index: the record that counts.
pub(super) async fn all_actual(
    State(bbs): State<BbsServer>,
    Query(query): Query<InDomain>,
) -> Result {
    let domain = query.domain();
    let look = |state: &crate::state::State| -> Vec<Arc<ActualLrp>> {
        let right =
            |process: &Process| domain.as_ref().is_none_or(|domain| process.domain == *domain);
        let groups = state.processes().map(|(_, process)| process).filter(|process| right(process));
        groups
            .flat_map(|process| process.groups.values())
            .filter_map(|group| group.shown().cloned())
            .collect()
    };
    rows(bbs.read(look).await)
}

pub(super) async fn actual_of(
    State(bbs): State<BbsServer>,
    Path(guid): Path<ProcessGuid>,
) -> Result {
    let look = |state: &crate::state::State| -> Vec<Arc<ActualLrp>> {
        let groups = state.process(&guid).into_iter().flat_map(|process| process.groups.values());
        groups.filter_map(|group| group.shown().cloned()).collect()
    };
    rows(bbs.read(look).await)
}

fn rows(shown: diego::bbs::Result<Vec<Arc<ActualLrp>>>) -> Result {
    let shown = shown.map_err(|error| ReceptorError::unknown(&error))?;
    Ok(Json(shown.iter().map(|lrp| shape::actual(lrp)).collect::<Vec<_>>()).into_response())
}

pub(super) async fn actual(
    State(bbs): State<BbsServer>,
    Path((guid, index)): Path<(ProcessGuid, String)>,
) -> Result {
    Ok(match shown(&bbs, &guid, number(&index)?).await? {
        Some(lrp) => Json(shape::actual(&lrp)).into_response(),
        None => (StatusCode::NOT_FOUND, Json(serde_json::Value::Null)).into_response(),
    })
}

async fn shown(bbs: &BbsServer, guid: &ProcessGuid, index: u32) -> Result<Option<Arc<ActualLrp>>> {
    let shown =
        bbs.read(|state| state.group(guid, index).and_then(|group| group.shown().cloned())).await;
    shown.map_err(|error| ReceptorError::unknown(&error))
}

/// Stops one instance; a new one starts in its place as long as it is desired.
pub(super) async fn stop(
    State(bbs): State<BbsServer>,
    Path((guid, index)): Path<(ProcessGuid, String)>,
) -> Result {
    let index = number(&index)?;
    let found = shown(&bbs, &guid, index).await?;
    let missing = || {
        let message =
            format!("process-guid '{guid}' does not exist or has no instance at index {index}");
        ReceptorError::new(StatusCode::NOT_FOUND, "ActualLRPIndexNotFound", message)
    };
    let domain = found.ok_or_else(missing)?.key.domain.clone();
    let key = LrpKey { process_guid: guid.clone(), index, domain };
    bbs.retire(&key).await.map_err(|error| {
        if error.is_not_found() { missing() } else { ReceptorError::unknown(&error) }
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn number(text: &str) -> Result<u32> {
    text.parse().map_err(|_| ReceptorError::invalid_request("index not a number"))
}
