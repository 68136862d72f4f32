//! The cell's HTTP API.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use diego::bbs::ErrorKind;
use diego::cell::LrpUpdate;
use diego::{BbsError, Work};
use executor::{LogTags, Usage};
use serde::Serialize;
use serde_json::json;

use crate::cell::Rep;
use crate::convert::instance_tags;
use crate::crashed;
use crate::owner::{Owner, handle};

/// Room for the work of a whole cell.
const MAX_BODY: usize = 32 * 1024 * 1024;

type Cell = State<Arc<Rep>>;

/// What one container uses.
#[derive(Debug, Serialize)]
struct Measured {
    #[serde(flatten)]
    whose: BTreeMap<&'static str, String>,
    #[serde(flatten)]
    usage: Usage,
}

impl Rep {
    /// The cell's API; all but `/ping` is for whoever shows the secret.
    pub fn router(self: &Arc<Self>) -> Router {
        let guarded = Router::new()
            .route("/state", get(state))
            .route("/container_metrics", get(container_metrics))
            .route("/work", post(work))
            .route("/v2/lrps/{process_guid}/instances/{instance_guid}", put(update))
            .route("/v1/lrps/{process_guid}/instances/{instance_guid}/stop", post(stop))
            .route("/v1/tasks/{task_guid}/cancel", post(cancel))
            .route("/evacuate", post(evacuate))
            .merge(crashed::routes())
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(self.clone());
        base::http::guarded(guarded, &self.config.secret)
            .merge(Router::new().route("/ping", get(async || StatusCode::OK)))
    }
}

async fn state(State(rep): Cell) -> Response {
    match rep.state() {
        Some(state) => Json(state).into_response(),
        None => {
            let error = BbsError::new(ErrorKind::Unreachable, "the cell is starting");
            (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response()
        }
    }
}

async fn container_metrics(State(rep): Cell) -> Response {
    let (mut lrps, mut tasks) = (vec![], vec![]);
    for container in rep.executor.list() {
        let Some(usage) = container.usage else { continue };
        match Owner::of(&container.owner) {
            Some(Owner::Lrp { key, instance_guid, .. }) => {
                let whose = [
                    ("process_guid", key.process_guid.to_string()),
                    ("index", key.index.to_string()),
                    ("instance_guid", instance_guid.to_string()),
                ];
                lrps.push(Measured { whose: whose.into(), usage });
            }
            Some(Owner::Task { guid, .. }) => {
                tasks.push(Measured { whose: [("task_guid", guid.to_string())].into(), usage });
            }
            None => {}
        }
    }
    Json(json!({ "cell_id": rep.config.cell_id, "lrps": lrps, "tasks": tasks })).into_response()
}

async fn work(State(rep): Cell, Json(work): Json<Work>) -> Response {
    Json(rep.perform(work)).into_response()
}

async fn update(
    State(rep): Cell,
    Path((_, instance)): Path<(String, String)>,
    Json(update): Json<LrpUpdate>,
) -> StatusCode {
    let guid = handle(instance);
    if let Some(owner) = rep.executor.get(&guid).and_then(|container| Owner::of(&container.owner)) {
        let tags = instance_tags(update.metric_tags, &owner);
        rep.executor.retag(&guid, &LogTags { tags, version: update.modification_tag });
    }
    StatusCode::NO_CONTENT
}

async fn stop(State(rep): Cell, Path((process, instance)): Path<(String, String)>) -> StatusCode {
    let guid = handle(instance);
    let owner = rep.executor.get(&guid).and_then(|container| Owner::of(&container.owner));
    if matches!(owner, Some(Owner::Lrp { key, .. }) if key.process_guid.as_str() == process) {
        rep.executor.stop(&guid);
    }
    StatusCode::ACCEPTED
}

async fn cancel(State(rep): Cell, Path(task): Path<String>) -> StatusCode {
    let guid = handle(task);
    let owner = rep.executor.get(&guid).and_then(|container| Owner::of(&container.owner));
    if matches!(owner, Some(Owner::Task { .. })) {
        rep.executor.stop(&guid);
    }
    StatusCode::ACCEPTED
}

async fn evacuate(State(rep): Cell) -> Response {
    rep.evacuate();
    (StatusCode::ACCEPTED, Json(json!({ "ping_path": "/ping" }))).into_response()
}
