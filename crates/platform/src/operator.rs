//! What a running platform tells the operator's commands (`status`, `explain`): an OAuth client that reads everything and
//! changes nothing, and a few addresses on the internal API for what no public API tells.

mod asking;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use base::Timestamp;
use base::http::Secret;
use envelope::{Kind, Message};
use loggregator::{Loggregator, Read};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::cluster::Members;
use crate::data_dir::DataDir;
use crate::roles::Role;
use crate::tcp::{self, ShutPort};

pub use asking::{Asking, NotRunning, connect};

const ABOUT: &str = "/v1/operator/about";
const ENDPOINTS: &str = "/v1/operator/endpoints";
const LINES: &str = "/v1/operator/lines";
/// A router that takes longer is in trouble.
const PATIENCE: Duration = Duration::from_secs(2);
/// Log lines told at once.
const MOST_LINES: usize = 100;
const CLIENT: &str = "cupola_operator";

/// For the UAA's configuration.
pub fn client(data: &DataDir) -> anyhow::Result<uaa::ClientConfig> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Ok(uaa::ClientConfig {
        client_id: CLIENT.to_owned(),
        secret: Some(data.operator_secret()?),
        authorities: words(&["cloud_controller.admin_read_only"]),
        authorized_grant_types: words(&["client_credentials"]),
        access_token_seconds: Some(300),
        ..uaa::ClientConfig::default()
    })
}

/// How this platform's containers are kept apart and within their disk limits, in an operator's words.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Containers {
    pub backend: String,
    pub isolation: String,
    pub disk_limits: String,
}

/// What only the running platform knows of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct About {
    pub version: String,
    /// Absent until the cell is ready.
    pub containers: Option<Containers>,
    pub routes: usize,
    pub endpoints: usize,
    /// Ports of TCP routes that cannot be opened.
    #[serde(default)]
    pub shut_ports: Vec<ShutPort>,
    /// Log lines since the start that are in memory alone, for the disk took them too slowly or not at all.
    pub lines_not_on_disk: u64,
}

/// One instance behind a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub process_guid: String,
    pub index: u32,
    pub address: String,
}

/// One line of an app's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub at: Timestamp,
    /// Who said it, as `cf logs` shows it: `APP/PROC/WEB`.
    pub source: String,
    pub instance: String,
    pub text: String,
}

#[derive(Clone)]
pub struct Insight {
    /// Where this machine has one.
    pub router: Option<router::Router>,
    /// Where this machine has one.
    pub logs: Option<Loggregator>,
    pub containers: Arc<OnceLock<Containers>>,
    /// Who has what is not here.
    pub members: Members,
    pub http: reqwest::Client,
}

impl Insight {
    /// What machines without a router ask those that have one.
    pub fn routes(&self, secret: &Secret) -> Router {
        let open = Router::new().route(ENDPOINTS, get(endpoints)).with_state(self.clone());
        base::http::guarded(open, secret)
    }

    /// To be served with the internal API, to whoever shows the secret.
    pub fn router(self, secret: &Secret) -> Router {
        let open = Router::new()
            .route(ABOUT, get(about))
            .route(ENDPOINTS, get(endpoints))
            .route(LINES, get(lines))
            .with_state(self);
        base::http::guarded(open, secret)
    }
}

async fn about(State(insight): State<Insight>) -> axum::Json<About> {
    let size = |router: &router::Router| router.table().size();
    let (routes, endpoints) = insight.router.as_ref().map_or((0, 0), size);
    let tcp = insight.router.as_ref().map(tcp::told).unwrap_or_default();
    axum::Json(About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        containers: insight.containers.get().cloned(),
        routes: routes + tcp.routes,
        endpoints: endpoints + tcp.endpoints,
        shut_ports: tcp.shut,
        lines_not_on_disk: insight.logs.as_ref().map_or(0, Loggregator::dropped),
    })
}

#[derive(Deserialize)]
struct OfRoute {
    route: String,
}

async fn endpoints(
    State(insight): State<Insight>,
    Query(of): Query<OfRoute>,
) -> Result<axum::Json<Vec<Endpoint>>, StatusCode> {
    let Some(router) = &insight.router else {
        return insight.ask_router(&of.route).await.map(axum::Json).ok_or(StatusCode::BAD_GATEWAY);
    };
    let tell = |endpoint: diego::routing::Endpoint| Endpoint {
        process_guid: endpoint.key.process_guid.to_string(),
        index: endpoint.key.index,
        address: endpoint.address.to_string(),
    };
    Ok(axum::Json(router.endpoints(&of.route).into_iter().map(tell).collect()))
}

impl Insight {
    /// All routers know the same; the first one that answers tells it.
    async fn ask_router(&self, route: &str) -> Option<Vec<Endpoint>> {
        for router in self.members.with(Role::Router) {
            let url = format!("{}{ENDPOINTS}", router.url);
            let get = self.http.get(&url).query(&[("route", route)]).timeout(PATIENCE).send();
            let answer = get.await.and_then(reqwest::Response::error_for_status);
            match answer {
                Ok(answer) => match answer.json().await {
                    Ok(found) => return Some(found),
                    Err(error) => warn!(%error, url, "a router's answer cannot be read"),
                },
                Err(error) => warn!(%error, url, "asking a router what it knows"),
            }
        }
        None
    }
}

#[derive(Deserialize)]
struct OfSource {
    source: String,
    limit: usize,
}

/// The newest, oldest of them first.
async fn lines(
    State(insight): State<Insight>,
    Query(of): Query<OfSource>,
) -> axum::Json<Vec<Line>> {
    let read = Read {
        kinds: vec![Kind::Log],
        limit: of.limit.min(MOST_LINES),
        descending: true,
        ..Read::default()
    };
    let found = insight.logs.map(|logs| logs.read(&of.source, &read));
    let mut found = found.unwrap_or_default();
    found.reverse();
    let tell = |envelope: envelope::Envelope| {
        let Message::Log { payload, .. } = &envelope.message else { return None };
        Some(Line {
            at: envelope.timestamp,
            source: envelope.tags.get("source_type").cloned().unwrap_or_default(),
            instance: envelope.instance_id.to_string(),
            text: String::from_utf8_lossy(payload).into_owned(),
        })
    };
    axum::Json(found.into_iter().filter_map(tell).collect())
}
