//! The internal API as it travels: where each call goes and what it carries. Bodies are JSON objects; an error is a
//! `BbsError` with a status to match.

use std::time::Duration;

use diego::bbs::ErrorKind;
use serde::{Deserialize, Serialize};

pub(crate) const UPSERT_DOMAIN: &str = "/v1/domains/upsert";
pub(crate) const DOMAINS: &str = "/v1/domains/list";
pub(crate) const DESIRE_LRP: &str = "/v1/desired_lrps/desire";
pub(crate) const UPDATE_LRP: &str = "/v1/desired_lrps/update";
pub(crate) const REMOVE_LRP: &str = "/v1/desired_lrps/remove";
pub(crate) const DESIRED_LRP: &str = "/v1/desired_lrps/get";
pub(crate) const DESIRED_LRPS: &str = "/v1/desired_lrps/list";
pub(crate) const SCHEDULING_INFOS: &str = "/v1/desired_lrps/scheduling_infos";
pub(crate) const ACTUAL_LRPS: &str = "/v1/actual_lrps/list";
pub(crate) const RETIRE: &str = "/v1/actual_lrps/retire";
pub(crate) const CLAIM: &str = "/v1/actual_lrps/claim";
pub(crate) const START: &str = "/v1/actual_lrps/start";
pub(crate) const CRASH: &str = "/v1/actual_lrps/crash";
pub(crate) const REMOVE: &str = "/v1/actual_lrps/remove";
pub(crate) const EVACUATE: &str = "/v1/actual_lrps/evacuate";
pub(crate) const DESIRE_TASK: &str = "/v1/tasks/desire";
pub(crate) const TASK: &str = "/v1/tasks/get";
pub(crate) const TASKS: &str = "/v1/tasks/list";
pub(crate) const START_TASK: &str = "/v1/tasks/start";
pub(crate) const COMPLETE_TASK: &str = "/v1/tasks/complete";
pub(crate) const REJECT_TASK: &str = "/v1/tasks/reject";
pub(crate) const CANCEL_TASK: &str = "/v1/tasks/cancel";
pub(crate) const RESOLVE_TASK: &str = "/v1/tasks/resolve";
pub(crate) const DELETE_TASK: &str = "/v1/tasks/delete";
pub(crate) const ANNOUNCE: &str = "/v1/cells/announce";
pub(crate) const RETRACT: &str = "/v1/cells/retract";
pub(crate) const CELLS: &str = "/v1/cells/list";
pub(crate) const LAYERS: &str = "/v1/cells/layers";
pub(crate) const EVENTS: &str = "/v1/events";

/// Answers 200 where a brain leads.
pub(crate) const LEADING: &str = "/v1/leading";

/// The text of the error (of kind `Unreachable`) that says: nothing was done, ask another brain.
pub(crate) const NOT_LEADING: &str = "this brain does not lead";

/// An event stream says at least this often that it is alive, by an empty line.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);

/// The largest request; a desired LRP is far smaller.
pub(crate) const MAX_BODY: usize = 8 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
pub(crate) struct Nothing {}

/// What a brain says that leads.
#[derive(Serialize, Deserialize)]
pub(crate) struct Leading {
    pub fence: i64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct UpsertDomain<D> {
    pub domain: D,
    /// Absent = for ever.
    pub ttl_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct InDomain<D> {
    pub domain: Option<D>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Guid<G> {
    pub guid: G,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct UpdateLrp<G, U> {
    pub guid: G,
    pub update: U,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct OfKey<K> {
    pub key: K,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct OfInstance<K, I> {
    pub key: K,
    pub instance: I,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Start<K, I, N> {
    pub key: K,
    pub instance: I,
    pub net: N,
    pub routable: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Crash<K, I, T> {
    pub key: K,
    pub instance: I,
    pub reason: T,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Evacuate<K, I, E> {
    pub key: K,
    pub instance: I,
    pub evacuation: E,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct DesireTask<G, D, T> {
    pub guid: G,
    pub domain: D,
    pub definition: T,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct StartTask<G, A> {
    pub guid: G,
    pub by: A,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct CompleteTask<G, A, T> {
    pub guid: G,
    pub by: A,
    pub failure: Option<T>,
    pub result: T,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RejectTask<G, A, T> {
    pub guid: G,
    pub by: A,
    pub reason: T,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Announce<P> {
    pub presence: P,
    pub ttl_ms: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Layers<C, L> {
    pub cell_id: C,
    pub layers: L,
}

/// The HTTP status that goes with an error.
pub(crate) fn status(kind: ErrorKind) -> http::StatusCode {
    use http::StatusCode;
    match kind {
        ErrorKind::InvalidRequest => StatusCode::BAD_REQUEST,
        ErrorKind::ResourceNotFound => StatusCode::NOT_FOUND,
        ErrorKind::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorKind::InvalidStateTransition
        | ErrorKind::ResourceExists
        | ErrorKind::RunningOnDifferentCell
        | ErrorKind::ActualLrpCannotBeClaimed
        | ErrorKind::ActualLrpCannotBeStarted
        | ErrorKind::ActualLrpCannotBeCrashed
        | ErrorKind::ActualLrpCannotBeRemoved
        | ErrorKind::ActualLrpCannotBeUnclaimed => StatusCode::CONFLICT,
    }
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
