//! The internal API: each call of [`diego::Bbs`] under a path of its own.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use diego::bbs::{ActualLrpFilter, ErrorKind, Evacuation, Result, TaskFilter};
use diego::desired_lrp::DesiredLrpUpdate;
use diego::task::Attempt;
use diego::{
    Bbs as _, BbsError, CellId, CellPresence, DesiredLrp, Domain, InstanceKey, LrpKey, NetInfo,
    ProcessGuid, TaskDefinition, TaskGuid,
};
use futures::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::BbsServer;
use crate::wire::{self, *};

type Brain = State<BbsServer>;

impl BbsServer {
    /// The internal API, for whoever shows the secret.
    pub fn router(&self) -> Router {
        let open = Router::new()
            .route(UPSERT_DOMAIN, post(upsert_domain))
            .route(DOMAINS, post(domains))
            .route(DESIRE_LRP, post(desire_lrp))
            .route(UPDATE_LRP, post(update_lrp))
            .route(REMOVE_LRP, post(remove_lrp))
            .route(DESIRED_LRP, post(desired_lrp))
            .route(DESIRED_LRPS, post(desired_lrps))
            .route(SCHEDULING_INFOS, post(scheduling_infos))
            .route(ACTUAL_LRPS, post(actual_lrps))
            .route(RETIRE, post(retire))
            .route(CLAIM, post(claim))
            .route(START, post(start))
            .route(CRASH, post(crash))
            .route(REMOVE, post(remove))
            .route(EVACUATE, post(evacuate))
            .route(DESIRE_TASK, post(desire_task))
            .route(TASK, post(task))
            .route(TASKS, post(tasks))
            .route(START_TASK, post(start_task))
            .route(COMPLETE_TASK, post(complete_task))
            .route(REJECT_TASK, post(reject_task))
            .route(CANCEL_TASK, post(cancel_task))
            .route(RESOLVE_TASK, post(resolve_task))
            .route(DELETE_TASK, post(delete_task))
            .route(ANNOUNCE, post(announce))
            .route(LAYERS, post(hold_layers))
            .route(RETRACT, post(retract))
            .route(CELLS, post(cells))
            .route(EVENTS, get(events))
            .route(LEADING, get(leading))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(self.clone());
        base::http::guarded(open, &self.config().secret)
    }
}

/// A JSON body, whatever its content type says; a wrong one is answered as a `BbsError`.
struct Json<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> std::result::Result<Json<T>, Response> {
        let body =
            Bytes::from_request(request, state).await.map_err(IntoResponse::into_response)?;
        let parsed = serde_json::from_slice(&body);
        let wrong = |error: serde_json::Error| {
            refuse(&BbsError::new(ErrorKind::InvalidRequest, error.to_string()))
        };
        parsed.map(Json).map_err(wrong)
    }
}

pub(crate) fn refuse(error: &BbsError) -> Response {
    (wire::status(error.kind), axum::Json(error)).into_response()
}

fn answer<T: Serialize>(result: Result<T>) -> Response {
    match result {
        Ok(value) => axum::Json(value).into_response(),
        Err(error) => refuse(&error),
    }
}

async fn upsert_domain(State(bbs): Brain, Json(body): Json<UpsertDomain<Domain>>) -> Response {
    answer(bbs.upsert_domain(&body.domain, body.ttl_ms.map(Duration::from_millis)).await)
}

async fn domains(State(bbs): Brain) -> Response {
    answer(bbs.domains().await)
}

async fn desire_lrp(State(bbs): Brain, Json(lrp): Json<DesiredLrp>) -> Response {
    answer(bbs.desire_lrp(lrp).await)
}

async fn update_lrp(
    State(bbs): Brain,
    Json(body): Json<UpdateLrp<ProcessGuid, DesiredLrpUpdate>>,
) -> Response {
    answer(bbs.update_lrp(&body.guid, body.update).await)
}

async fn remove_lrp(State(bbs): Brain, Json(body): Json<Guid<ProcessGuid>>) -> Response {
    answer(bbs.remove_lrp(&body.guid).await)
}

async fn desired_lrp(State(bbs): Brain, Json(body): Json<Guid<ProcessGuid>>) -> Response {
    answer(bbs.desired_lrp(&body.guid).await)
}

async fn desired_lrps(State(bbs): Brain, Json(body): Json<InDomain<Domain>>) -> Response {
    answer(bbs.desired_lrps(body.domain.as_ref()).await)
}

async fn scheduling_infos(State(bbs): Brain, Json(body): Json<InDomain<Domain>>) -> Response {
    answer(bbs.scheduling_infos(body.domain.as_ref()).await)
}

async fn actual_lrps(State(bbs): Brain, Json(filter): Json<ActualLrpFilter>) -> Response {
    answer(bbs.actual_lrps(&filter).await)
}

async fn retire(State(bbs): Brain, Json(body): Json<OfKey<LrpKey>>) -> Response {
    answer(bbs.retire(&body.key).await)
}

async fn claim(State(bbs): Brain, Json(body): Json<OfInstance<LrpKey, InstanceKey>>) -> Response {
    answer(bbs.claim(&body.key, &body.instance).await)
}

async fn start(
    State(bbs): Brain,
    Json(body): Json<Start<LrpKey, InstanceKey, NetInfo>>,
) -> Response {
    answer(bbs.start(&body.key, &body.instance, &body.net, body.routable).await)
}

async fn crash(
    State(bbs): Brain,
    Json(body): Json<Crash<LrpKey, InstanceKey, String>>,
) -> Response {
    answer(bbs.crash(&body.key, &body.instance, &body.reason).await)
}

async fn remove(State(bbs): Brain, Json(body): Json<OfInstance<LrpKey, InstanceKey>>) -> Response {
    answer(bbs.remove(&body.key, &body.instance).await)
}

async fn evacuate(
    State(bbs): Brain,
    Json(body): Json<Evacuate<LrpKey, InstanceKey, Evacuation>>,
) -> Response {
    answer(bbs.evacuate(&body.key, &body.instance, body.evacuation).await)
}

async fn desire_task(
    State(bbs): Brain,
    Json(body): Json<DesireTask<TaskGuid, Domain, TaskDefinition>>,
) -> Response {
    answer(bbs.desire_task(&body.guid, &body.domain, body.definition).await)
}

async fn task(State(bbs): Brain, Json(body): Json<Guid<TaskGuid>>) -> Response {
    answer(bbs.task(&body.guid).await)
}

async fn tasks(State(bbs): Brain, Json(filter): Json<TaskFilter>) -> Response {
    answer(bbs.tasks(&filter).await)
}

async fn start_task(State(bbs): Brain, Json(body): Json<StartTask<TaskGuid, Attempt>>) -> Response {
    answer(bbs.start_task(&body.guid, &body.by).await)
}

async fn complete_task(
    State(bbs): Brain,
    Json(body): Json<CompleteTask<TaskGuid, Attempt, String>>,
) -> Response {
    answer(bbs.complete_task(&body.guid, &body.by, body.failure.as_deref(), &body.result).await)
}

async fn reject_task(
    State(bbs): Brain,
    Json(body): Json<RejectTask<TaskGuid, Attempt, String>>,
) -> Response {
    answer(bbs.reject_task(&body.guid, &body.by, &body.reason).await)
}

async fn cancel_task(State(bbs): Brain, Json(body): Json<Guid<TaskGuid>>) -> Response {
    answer(bbs.cancel_task(&body.guid).await)
}

async fn resolve_task(State(bbs): Brain, Json(body): Json<Guid<TaskGuid>>) -> Response {
    answer(bbs.resolve_task(&body.guid).await)
}

async fn delete_task(State(bbs): Brain, Json(body): Json<Guid<TaskGuid>>) -> Response {
    answer(bbs.delete_task(&body.guid).await)
}

async fn announce(State(bbs): Brain, Json(body): Json<Announce<CellPresence>>) -> Response {
    answer(bbs.announce(&body.presence, Duration::from_millis(body.ttl_ms)).await)
}

async fn hold_layers(State(bbs): Brain, Json(body): Json<Layers<CellId, Vec<String>>>) -> Response {
    answer(bbs.hold_layers(&body.cell_id, &body.layers).await)
}

async fn retract(State(bbs): Brain, Json(body): Json<Guid<CellId>>) -> Response {
    answer(bbs.retract(&body.guid).await)
}

async fn cells(State(bbs): Brain) -> Response {
    answer(bbs.cells().await)
}

async fn leading(State(bbs): Brain) -> Response {
    answer(bbs.leads().map(|()| Leading { fence: bbs.fence() }))
}

/// One event a line; an empty line says only that the stream is alive.
async fn events(State(bbs): Brain) -> Response {
    let events = match bbs.events().await {
        Ok(events) => events,
        Err(error) => return refuse(&error),
    };
    let lines = futures::stream::unfold(events, async |mut events| {
        let line = match tokio::time::timeout(HEARTBEAT, events.next()).await {
            Ok(Some(event)) => {
                let mut line =
                    serde_json::to_vec(&event).expect("events have text keys and no failing parts");
                line.push(b'\n');
                Bytes::from(line)
            }
            Ok(None) => return None,
            Err(_) => Bytes::from_static(b"\n"),
        };
        Some((Ok::<_, Infallible>(line), events))
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
