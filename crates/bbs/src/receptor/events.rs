//! `/v1/events`: server-sent events of LRPs from now on.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::sse::{Event as Line, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use diego::{ActualLrp, Bbs as _, Event, Presence};
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::error::{ReceptorError, Result};
use super::shape;
use crate::BbsServer;

pub(super) async fn stream(State(bbs): State<BbsServer>) -> Result {
    let events = bbs.events().await.map_err(|error| ReceptorError::unknown(&error))?;
    let told = events.filter_map(async |event| tell(&event)).enumerate();
    let lines = told.map(|(id, (name, data))| {
        Ok::<_, Infallible>(Line::default().id(id.to_string()).event(name).data(data.to_string()))
    });
    let mut response: Response = Sse::new(lines).keep_alive(KeepAlive::default()).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// `None` for what this API does not know: tasks, crashes and suspects.
fn tell(event: &Event) -> Option<(&'static str, Value)> {
    let known = |lrp: &ActualLrp| lrp.presence != Presence::Suspect;
    Some(match event {
        Event::DesiredLrpCreated { desired_lrp } => {
            ("desired_lrp_created", json!({ "desired_lrp": shape::desired(desired_lrp) }))
        }
        Event::DesiredLrpChanged { before, after } => {
            let body = json!({ "desired_lrp_before": shape::desired(before), "desired_lrp_after": shape::desired(after) });
            ("desired_lrp_changed", body)
        }
        Event::DesiredLrpRemoved { desired_lrp } => {
            ("desired_lrp_removed", json!({ "desired_lrp": shape::desired(desired_lrp) }))
        }
        Event::ActualLrpCreated { actual_lrp } if known(actual_lrp) => {
            ("actual_lrp_created", json!({ "actual_lrp": shape::actual(actual_lrp) }))
        }
        Event::ActualLrpChanged { before, after } if known(after) => {
            let body = json!({ "actual_lrp_before": shape::actual(before), "actual_lrp_after": shape::actual(after) });
            ("actual_lrp_changed", body)
        }
        Event::ActualLrpRemoved { actual_lrp } if known(actual_lrp) => {
            ("actual_lrp_removed", json!({ "actual_lrp": shape::actual(actual_lrp) }))
        }
        _ => return None,
    })
}
