//! `/v1/tasks`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use diego::bbs::{ErrorKind, TaskFilter};
use diego::task::State as TaskState;
use diego::{Bbs as _, BbsError, Domain, TaskDefinition, TaskGuid};
use serde::Deserialize;

use super::error::{ReceptorError, Result};
use super::shape;
use crate::BbsServer;

/// `?domain=`
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct InDomain {
    pub domain: Option<String>,
}

impl InDomain {
    /// An empty name is no condition.
    pub fn domain(&self) -> Option<Domain> {
        self.domain.as_deref().filter(|name| !name.is_empty()).map(Domain::from)
    }
}

#[derive(Deserialize)]
struct Create {
    #[serde(default)]
    task_guid: String,
    #[serde(default)]
    domain: String,
    #[serde(flatten)]
    definition: TaskDefinition,
}

pub(super) async fn create(State(bbs): State<BbsServer>, body: Bytes) -> Result {
    let Create { task_guid, domain, definition } = shape::read_desired(&body, "InvalidTask")?;
    let desired = bbs.desire_task(&task_guid.into(), &domain.into(), definition).await;
    desired.map(|()| StatusCode::CREATED.into_response()).map_err(|error| match error.kind {
        ErrorKind::InvalidRequest => {
            ReceptorError::new(StatusCode::BAD_REQUEST, "InvalidTask", error.message)
        }
        ErrorKind::ResourceExists => {
            ReceptorError::new(StatusCode::CONFLICT, "TaskGuidAlreadyExists", "task already exists")
        }
        _ => ReceptorError::unknown(&error),
    })
}

pub(super) async fn list(State(bbs): State<BbsServer>, Query(query): Query<InDomain>) -> Result {
    let filter = TaskFilter { domain: query.domain(), ..TaskFilter::default() };
    let tasks = bbs.tasks(&filter).await.map_err(|error| ReceptorError::unknown(&error))?;
    Ok(Json(tasks.iter().map(shape::task).collect::<Vec<_>>()).into_response())
}

pub(super) async fn find(State(bbs): State<BbsServer>, Path(guid): Path<TaskGuid>) -> Result {
    let task = bbs.task(&guid).await.map_err(|error| not_found(&guid, &error))?;
    Ok(Json(shape::task(&task)).into_response())
}

/// Resolves and deletes a task that is over.
pub(super) async fn delete(State(bbs): State<BbsServer>, Path(guid): Path<TaskGuid>) -> Result {
    let task = bbs.task(&guid).await.map_err(|error| not_found(&guid, &error))?;
    if !matches!(task.state, TaskState::Completed { .. }) {
        return Err(not_over());
    }
    bbs.resolve_task(&guid).await.map_err(|error| match error.kind {
        ErrorKind::InvalidStateTransition => not_over(),
        _ => not_found(&guid, &error),
    })?;
    bbs.delete_task(&guid).await.map_err(|error| ReceptorError::unknown(&error))?;
    Ok(ok())
}

pub(super) async fn cancel(State(bbs): State<BbsServer>, Path(guid): Path<TaskGuid>) -> Result {
    bbs.cancel_task(&guid).await.map_err(|error| not_found(&guid, &error))?;
    Ok(ok())
}

fn ok() -> Response {
    StatusCode::OK.into_response()
}

fn not_over() -> ReceptorError {
    let message = "This task has not been completed. Please retry when it is completed.";
    ReceptorError::new(StatusCode::CONFLICT, "TaskNotDeletable", message)
}

fn not_found(guid: &TaskGuid, error: &BbsError) -> ReceptorError {
    match error.kind {
        ErrorKind::ResourceNotFound => ReceptorError::new(
            StatusCode::NOT_FOUND,
            "TaskNotFound",
            format!("task with guid '{guid}' not found"),
        ),
        _ => ReceptorError::unknown(error),
    }
}
