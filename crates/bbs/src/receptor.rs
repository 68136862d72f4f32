//! Diego's Receptor API: the same brain, in the words that Lattice's `ltc` and other clients of its day speak.

mod auth;
mod cells;
mod cors;
mod error;
mod events;
mod lrps;
mod shape;
mod tasks;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post, put};

use crate::BbsServer;
use crate::wire::MAX_BODY;

impl BbsServer {
    /// Guarded by `config.receptor` when it is set.
    pub fn receptor(&self) -> Router {
        let guarded = Router::new()
            .route("/v1/tasks", post(tasks::create).get(tasks::list))
            .route("/v1/tasks/{guid}", get(tasks::find).delete(tasks::delete))
            .route("/v1/tasks/{guid}/cancel", post(tasks::cancel))
            .route("/v1/desired_lrps", post(lrps::create).get(lrps::list))
            .route(
                "/v1/desired_lrps/{guid}",
                get(lrps::find).put(lrps::update).delete(lrps::delete),
            )
            .route("/v1/actual_lrps", get(lrps::all_actual))
            .route("/v1/actual_lrps/{guid}", get(lrps::actual_of))
            .route("/v1/actual_lrps/{guid}/index/{index}", get(lrps::actual).delete(lrps::stop))
            .route("/v1/cells", get(cells::list))
            .route("/v1/domains", get(cells::domains))
            .route("/v1/domains/{domain}", put(cells::upsert_domain))
            .route("/v1/events", get(events::stream))
            .route("/v1/auth_cookie", post(auth::cookie))
            .route("/v1/version", get(cells::version));
        let guarded = auth::guarded(guarded, self.config().receptor.clone());
        let open = Router::new().route("/v1/sync/{arch}/{artifact}", get(cells::no_artifact));
        let all = guarded.merge(open);
        let all = if self.config().receptor_cors { cors::allowed(all) } else { all };
        all.layer(DefaultBodyLimit::max(MAX_BODY)).with_state(self.clone())
    }
}
