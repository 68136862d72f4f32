//! The route table as it travels: a snapshot, then deltas. Keyed by route (host and path, or the port of a TCP route),
//! each with its endpoints.

mod ports;

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{InstanceGuid, LrpKey};

pub use ports::{PortsError, ReservablePorts};

/// The key under which a desired LRP's HTTP routes lie: a JSON list of [`HttpRoute`].
pub const CF_ROUTER: &str = "cf-router";

/// The key under which a desired LRP's TCP routes lie: a JSON list of [`TcpRoute`].
pub const TCP_ROUTER: &str = "tcp-router";

/// Routes that lead to one port of an LRP. Field names as the route emitter of Diego reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpRoute {
    /// Host names with an optional path: `app.example.com/v1`.
    pub hostnames: Vec<String>,
    pub port: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route_service_url: String,
    /// `http1` (default) or `http2`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub options: serde_json::Value,
}

/// A port of the routers that leads to one port of an LRP. Field names as the route emitter of Diego reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TcpRoute {
    /// Whose port it is; routers here serve all groups, so ports are unique over them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub router_group_guid: String,
    pub external_port: u16,
    pub container_port: u16,
}

/// How a TCP route is named in the table. No host reads like this.
pub fn tcp_route(port: u16) -> String {
    format!("tcp://:{port}")
}

/// The port of a route that [`tcp_route`] named; `None` for all that are HTTP's.
pub fn tcp_port(route: &str) -> Option<u16> {
    route.strip_prefix("tcp://:")?.parse().ok()
}

/// One instance behind a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub key: LrpKey,
    pub instance_guid: InstanceGuid,
    pub http2: bool,
    #[serde(default)]
    pub route_service_url: String,
    #[serde(default)]
    pub options: serde_json::Value,
    /// Whose access log it belongs to, and the tags of that log (`app_id`, `process_id`, `app_name`, …).
    pub log_guid: Arc<str>,
    pub tags: Arc<std::collections::BTreeMap<String, String>>,
}

/// Changes that become visible together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TableUpdate {
    /// Everything there is; what is not named is gone.
    Snapshot(Vec<(String, Endpoint)>),
    /// Added before removed, so that a route with a successor is never empty in between.
    Delta { add: Vec<(String, Endpoint)>, remove: Vec<(String, InstanceGuid)> },
}

/// All routers. `apply` returns when each of them uses the change (or is known to be gone): an instance is stopped only after.
#[async_trait]
pub trait Routers: Send + Sync {
    /// Who speaks from now on, where brains follow each other: the highest number speaks for all.
    fn led_by(&self, _fence: i64) {}

    async fn apply(&self, update: TableUpdate);
}
