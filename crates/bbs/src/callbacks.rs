//! Tells clients that their tasks have ended. Whoever is told twice must bear it.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::{CancellationToken, TaskTracker};
use diego::task::TaskCallback;
use diego::{Task, TaskGuid};
use parking_lot::{Mutex, RwLock};
use reqwest::StatusCode;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{info, warn};

use crate::config::Timings;
use crate::decide::Command;
use crate::state::State;
use crate::writer::Job;

/// Callbacks under way at once.
const CALLS: usize = 64;

pub(crate) struct Callbacks {
    state: Arc<RwLock<State>>,
    jobs: mpsc::Sender<Job>,
    client: reqwest::Client,
    timings: Timings,
    stop: CancellationToken,
    tasks: TaskTracker,
    active: Mutex<BTreeSet<TaskGuid>>,
    calls: Semaphore,
}

/// How one try went.
enum Told {
    Yes,
    /// Busy or gone for a moment.
    Again,
    /// No use now; convergence begins anew.
    No,
}

impl Callbacks {
    pub fn new(
        state: Arc<RwLock<State>>,
        jobs: mpsc::Sender<Job>,
        timings: Timings,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Callbacks {
        let (client, active, calls) =
            (base::http::client(None), Mutex::default(), Semaphore::new(CALLS));
        Callbacks { state, jobs, client, timings, stop, tasks, active, calls }
    }

    /// Begins, unless it is under way.
    pub fn call(self: &Arc<Self>, guid: TaskGuid) {
        self.begin(guid, false);
    }

    /// Goes on with one that an earlier life of this program resolved: whether it came to tell is not known.
    pub fn go_on(self: &Arc<Self>, guid: TaskGuid) {
        self.begin(guid, true);
    }

    fn begin(self: &Arc<Self>, guid: TaskGuid, resolved: bool) {
        if !self.active.lock().insert(guid.clone()) {
            return;
        }
        let me = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = me.tell(&guid, resolved) => {}
                () = me.stop.cancelled() => {}
            }
            me.active.lock().remove(&guid);
        });
    }

    async fn tell(&self, guid: &TaskGuid, resolved: bool) {
        let _turn = self.calls.acquire().await.expect("the semaphore is never closed");
        // Refused when somebody else deals with the outcome.
        if !resolved && !self.ask(Command::ResolveTask(guid.clone())).await {
            return;
        }
        let Some(task) = self.state.read().task(guid).cloned() else { return };
        for _ in 0..self.timings.callback_tries {
            match self.post(&task).await {
                Told::Yes => {
                    self.ask(Command::DeleteTask(guid.clone())).await;
                    return;
                }
                Told::Again => {}
                Told::No => return,
            }
        }
        warn!(task.guid = %guid, "nobody took the outcome of a task; trying again later");
    }

    async fn post(&self, task: &Task) -> Told {
        let Some(outcome) = task.outcome() else { return Told::No };
        let body = TaskCallback {
            task_guid: task.task_guid.clone(),
            failed: outcome.failed,
            failure_reason: outcome.failure_reason.clone(),
            result: outcome.result.clone(),
            annotation: task.definition.annotation.clone(),
            created_at: task.created_at,
        };
        let post = self.client.post(&task.definition.completion_callback_url).json(&body);
        match post.timeout(self.timings.callback_timeout).send().await {
            Ok(answer)
                if matches!(
                    answer.status(),
                    StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
                ) =>
            {
                Told::Again
            }
            Ok(answer) => {
                info!(task.guid = %task.task_guid, status = answer.status().as_u16(), "told of the end of a task");
                Told::Yes
            }
            Err(error) if error.is_timeout() || (error.is_request() && !error.is_connect()) => {
                Told::Again
            }
            Err(error) => {
                warn!(task.guid = %task.task_guid, error = %error.without_url(), "a callback did not get through");
                Told::No
            }
        }
    }

    async fn ask(&self, command: Command) -> bool {
        let (reply, answer) = oneshot::channel();
        let sent = self.jobs.send(Job { command, reply: Some(reply) }).await;
        sent.is_ok() && matches!(answer.await, Ok(Ok(_)))
    }
}
