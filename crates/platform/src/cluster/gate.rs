//! A router's side of the route table's way: takes what the brain that leads says, in order, and nothing from one that
//! led before.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use axum::{Json, Router};
use base::http::Secret;
use diego::routing::{Routers, TableUpdate};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use tracing::info;

pub(super) const PATH: &str = "/cluster/routes";
/// A whole table of some hundred thousand routes.
const BODY_LIMIT: usize = 256 << 20;

/// One step of the table, or all of it.
#[derive(Serialize, Deserialize)]
pub(super) struct Told<U> {
    /// Of the brain that says so.
    pub fence: i64,
    /// Counts the steps of one brain.
    pub number: u64,
    pub update: U,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Took {
    /// Requests go by it from now on.
    All,
    /// Steps before this one are missing: the whole table is needed.
    NotInOrder,
    /// Another brain leads.
    Superseded,
}

/// Cheap to clone; all clones are the same router's.
#[derive(Clone)]
pub struct Gate {
    router: Arc<dyn Routers>,
    last: Arc<Mutex<Option<Step>>>,
    primed: watch::Sender<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    fence: i64,
    number: u64,
}

/// What to do with a step; pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Take,
    Known,
    Refuse(Took),
}

fn judge(last: Option<Step>, step: Step, is_whole: bool) -> Verdict {
    match last {
        Some(last) if step.fence < last.fence => Verdict::Refuse(Took::Superseded),
        Some(last) if step.fence == last.fence && step.number <= last.number => Verdict::Known,
        _ if is_whole => Verdict::Take,
        Some(last) if step.fence == last.fence && step.number == last.number + 1 => Verdict::Take,
        _ => Verdict::Refuse(Took::NotInOrder),
    }
}

impl Gate {
    pub fn new(router: Arc<dyn Routers>) -> Gate {
        Gate { router, last: Arc::default(), primed: watch::Sender::new(false) }
    }

    pub(super) async fn take(&self, told: Told<TableUpdate>) -> Took {
        let step = Step { fence: told.fence, number: told.number };
        let is_whole = matches!(told.update, TableUpdate::Snapshot(_));
        // Held meanwhile, so that steps are taken in their order.
        let mut last = self.last.lock().await;
        match judge(*last, step, is_whole) {
            Verdict::Known => return Took::All,
            Verdict::Refuse(took) => return took,
            Verdict::Take => {}
        }
        if last.is_none_or(|last| last.fence != step.fence) {
            info!(fence = step.fence, "the routes are told by another brain from now on");
        }
        *last = Some(step);
        self.router.apply(told.update).await;
        drop(last);
        self.primed.send_replace(true);
        Took::All
    }

    /// Waits until a brain has told the whole table; `false` when none did by then.
    pub async fn primed(&self, patience: Duration) -> bool {
        let mut primed = self.primed.subscribe();
        tokio::time::timeout(patience, primed.wait_for(|primed| *primed)).await.is_ok()
    }

    /// For brains on other machines.
    pub fn router(&self, secret: &Secret) -> Router {
        let router = Router::new()
            .route(PATH, post(take))
            .layer(DefaultBodyLimit::max(BODY_LIMIT))
            .with_state(self.clone());
        base::http::guarded(router, secret)
    }
}

/// For the only brain there is, beside the router.
#[async_trait]
impl Routers for Gate {
    async fn apply(&self, update: TableUpdate) {
        self.router.apply(update).await;
        self.primed.send_replace(true);
    }
}

async fn take(State(gate): State<Gate>, Json(told): Json<Told<TableUpdate>>) -> Json<Took> {
    Json(gate.take(told).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_taken_in_order_and_from_the_brain_that_leads() {
        let step = |fence, number| Step { fence, number };
        let last = Some(step(2, 5));
        for (last, next, is_whole, want) in [
            (None, step(1, 1), true, Verdict::Take),
            (None, step(1, 1), false, Verdict::Refuse(Took::NotInOrder)),
            (last, step(2, 6), false, Verdict::Take),
            (last, step(2, 7), false, Verdict::Refuse(Took::NotInOrder)),
            (last, step(2, 7), true, Verdict::Take),
            (last, step(2, 5), false, Verdict::Known),
            (last, step(2, 4), true, Verdict::Known),
            (last, step(3, 1), false, Verdict::Refuse(Took::NotInOrder)),
            (last, step(3, 1), true, Verdict::Take),
            (last, step(1, 9), true, Verdict::Refuse(Took::Superseded)),
            (last, step(1, 9), false, Verdict::Refuse(Took::Superseded)),
        ] {
            assert_eq!(judge(last, next, is_whole), want, "{last:?} {next:?} {is_whole}");
        }
    }
}
