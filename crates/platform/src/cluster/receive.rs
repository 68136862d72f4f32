//! The log store's side of what joined cells forward: each batch is taken once, however often it is sent.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base::http::Secret;
use envelope::{Mark, Sink, wire};
use parking_lot::Mutex;
use tracing::warn;

use super::spool::Place;

pub const PATH: &str = "/cluster/envelopes";
/// Where a batch lies at its cell: the segment, from where, to where. Without them it is taken as it comes.
pub(super) const SEGMENT: &str = "x-spool-segment";
pub(super) const FROM: &str = "x-spool-from";
pub(super) const TO: &str = "x-spool-to";
/// In the answer: up to where the store has the segment.
pub(super) const AT: &str = "x-spool-at";
/// A batch ends with the part that fills it, and one line may be large.
const BODY_LIMIT: usize = 8 << 20;
/// Segments of which is remembered how far they came; then the oldest are forgotten. A cell has one at a time.
const SEGMENTS: usize = 8192;

struct Receiver {
    sink: Arc<dyn Sink>,
    known: Mutex<Known>,
}

type Reached = Arc<tokio::sync::Mutex<u64>>;

#[derive(Default)]
struct Known {
    reached: HashMap<String, Reached>,
    order: VecDeque<String>,
}

pub fn receiver(sink: Arc<dyn Sink>, secret: &Secret) -> Router {
    let receiver = Arc::new(Receiver { sink, known: Mutex::default() });
    let router = Router::new()
        .route(PATH, post(receive))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(receiver);
    base::http::guarded(router, secret)
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(place) = place(&headers) else {
        let batch = match wire::decode(&body) {
            Ok(batch) => batch,
            Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        };
        batch.into_iter().for_each(|envelope| receiver.sink.emit(envelope));
        return StatusCode::ACCEPTED.into_response();
    };
    // To its end, whether or not the cell waits for it: half of it done would be done again.
    match tokio::spawn(async move { receiver.take(place, &body).await }).await {
        Ok(Ok(at)) => (StatusCode::ACCEPTED, [(AT, at.to_string())]).into_response(),
        Ok(Err(error)) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        Err(error) => {
            warn!(%error, "a batch of envelopes could not be taken");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn place(headers: &HeaderMap) -> Option<Place> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    Some(Place {
        segment: text(SEGMENT)?.to_owned(),
        from: text(FROM)?.parse().ok()?,
        to: text(TO)?.parse().ok()?,
    })
}

impl Receiver {
    /// Up to where the segment is here afterwards. What is here in part is not taken: the cell goes on from there.
    async fn take(&self, place: Place, body: &[u8]) -> anyhow::Result<u64> {
        let batch = wire::decode(body)?;
        let reached = self.reached(&place.segment);
        let mut at = reached.lock().await;
        if place.from >= *at {
            let mark = Mark { key: key(&place.segment), at: place.to.to_string().into() };
            self.sink.keep(batch, mark).await;
            *at = place.to;
        }
        Ok(*at)
    }

    fn reached(&self, segment: &str) -> Reached {
        let mut known = self.known.lock();
        if let Some(reached) = known.reached.get(segment) {
            return reached.clone();
        }
        // Of an earlier life of this store.
        let at = self.sink.mark(&key(segment));
        let at = at.and_then(|at| std::str::from_utf8(&at).ok()?.parse().ok()).unwrap_or(0);
        let reached = Reached::new(tokio::sync::Mutex::new(at));
        known.reached.insert(segment.to_owned(), reached.clone());
        known.order.push_back(segment.to_owned());
        if known.order.len() > SEGMENTS
            && let Some(oldest) = known.order.pop_front()
        {
            known.reached.remove(&oldest);
        }
        reached
    }
}

fn key(segment: &str) -> String {
    format!("spool/{segment}")
}
