//! The address of a brain that may come and go: while none leads here, whoever asks is told to look elsewhere.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use diego::BbsError;
use diego::bbs::ErrorKind;
use parking_lot::RwLock;
use tower::ServiceExt as _;

use crate::http::refuse;
use crate::wire::NOT_LEADING;

/// Cheap to clone; all clones are the same seat.
#[derive(Clone, Default)]
pub struct Seat {
    taken: Arc<RwLock<Option<Router>>>,
    otherwise: Option<Router>,
}

impl Seat {
    /// While none leads here, these answer: for instance by asking the one that leads elsewhere.
    pub fn or(otherwise: Router) -> Seat {
        Seat { taken: Arc::default(), otherwise: Some(otherwise) }
    }

    /// Serve this from the start on: a brain that stands by refuses everything with 503, so that clients try the next
    /// address ([`crate::Client::among`]).
    pub fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    /// From now on these answer, for instance [`crate::BbsServer::router`].
    pub fn take(&self, router: Router) {
        *self.taken.write() = Some(router);
    }

    /// The brain here has ended.
    pub fn leave(&self) {
        *self.taken.write() = None;
    }
}

async fn answer(State(seat): State<Seat>, request: Request) -> Response {
    let taken = seat.taken.read().clone();
    match taken.or(seat.otherwise) {
        Some(router) => {
            let Ok(answer) = router.oneshot(request).await;
            answer
        }
        None => refuse(&BbsError::new(ErrorKind::Unreachable, NOT_LEADING)),
    }
}
