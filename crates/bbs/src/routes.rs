//! Pure: which endpoints stand behind which routes, and what changes from one table to the next.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use diego::actual_lrp::State as LrpState;
use diego::routing::{CF_ROUTER, Endpoint, HttpRoute, TCP_ROUTER, TcpRoute, tcp_route};
use diego::{ActualLrp, DesiredLrp, InstanceGuid, NetInfo};
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::config::Prefer;
use crate::state::{Group, Process, State};

/// What one index has in the table.
pub(crate) type Entries = BTreeMap<(String, InstanceGuid), Endpoint>;

/// What all endpoints of a process share.
pub(crate) struct Template {
    http: Vec<HttpRoute>,
    tcp: Vec<TcpRoute>,
    log_guid: Arc<str>,
    tags: Arc<BTreeMap<String, String>>,
}

impl Template {
    /// `None` when the process has no routes.
    pub fn of(desired: &DesiredLrp) -> Option<Template> {
        let http: Vec<HttpRoute> = read(desired, CF_ROUTER);
        let tcp: Vec<TcpRoute> = read(desired, TCP_ROUTER);
        let any = !tcp.is_empty() || http.iter().any(|route| !route.hostnames.is_empty());
        any.then(|| Template {
            http,
            tcp,
            log_guid: desired.run.log_guid.as_str().into(),
            tags: Arc::new(desired.metric_tags.clone()),
        })
    }
}

/// The routes under one key; none when there is no such key, or when it cannot be read.
fn read<T: DeserializeOwned>(desired: &DesiredLrp, key: &str) -> Vec<T> {
    let Some(value) = desired.routes.get(key) else { return Vec::new() };
    serde_json::from_value(value.clone()).unwrap_or_else(|error| {
        warn!(process.guid = %desired.process_guid, key, %error, "routes that cannot be read lead nowhere");
        Vec::new()
    })
}

/// Everything that is to be in the table for one index: each record that runs, is ready and is not about to go.
pub(crate) fn wanted(state: &State, template: &Template, group: &Group, prefer: Prefer) -> Entries {
    let mut entries = Entries::new();
    for lrp in group.records().filter(|lrp| !state.is_retiring(lrp)) {
        if let LrpState::Running { by, net, routable: true } = &lrp.state {
            add(&mut entries, template, lrp, &by.instance_guid, net, prefer);
        }
    }
    entries
}

fn add(
    entries: &mut Entries,
    template: &Template,
    lrp: &ActualLrp,
    guid: &InstanceGuid,
    net: &NetInfo,
    prefer: Prefer,
) {
    let endpoint = |address| Endpoint {
        address,
        key: lrp.key.clone(),
        instance_guid: guid.clone(),
        http2: false,
        route_service_url: String::new(),
        options: serde_json::Value::Null,
        log_guid: template.log_guid.clone(),
        tags: template.tags.clone(),
    };
    // A route names an instance once: the first port it is mapped to wins.
    for route in &template.http {
        let Some(address) = address(net, route.port, prefer) else { continue };
        for hostname in &route.hostnames {
            let endpoint = Endpoint {
                http2: route.protocol == "http2",
                route_service_url: route.route_service_url.clone(),
                options: route.options.clone(),
                ..endpoint(address)
            };
            entries.entry((hostname.clone(), guid.clone())).or_insert(endpoint);
        }
    }
    for route in template.tcp.iter().filter(|route| route.external_port != 0) {
        let Some(address) = address(net, route.container_port, prefer) else { continue };
        let name = tcp_route(route.external_port);
        entries.entry((name, guid.clone())).or_insert_with(|| endpoint(address));
    }
}

fn address(net: &NetInfo, port: u16, prefer: Prefer) -> Option<SocketAddr> {
    let mapping = net.ports.iter().find(|mapping| mapping.container_port == port)?;
    Some(match prefer {
        Prefer::Instance => SocketAddr::new(IpAddr::V4(net.instance_address), mapping.listen_port),
        Prefer::Host => SocketAddr::new(IpAddr::V4(net.address), mapping.host_port),
    })
}

/// Everything of one process, by index.
pub(crate) fn of_process(
    state: &State,
    process: &Process,
    prefer: Prefer,
) -> BTreeMap<u32, Entries> {
    let Some(template) = process.desired.as_deref().and_then(Template::of) else {
        return BTreeMap::new();
    };
    let of = |(index, group): (&u32, &Group)| (*index, wanted(state, &template, group, prefer));
    process.groups.iter().map(of).filter(|(_, entries)| !entries.is_empty()).collect()
}

/// Adds what is new or different and removes what is gone.
pub(crate) fn diff(
    before: &Entries,
    after: &Entries,
    add: &mut Vec<(String, Endpoint)>,
    remove: &mut Vec<(String, InstanceGuid)>,
) {
    let changed = after.iter().filter(|(key, endpoint)| before.get(*key) != Some(endpoint));
    add.extend(changed.map(|((route, _), endpoint)| (route.clone(), endpoint.clone())));
    remove.extend(before.keys().filter(|key| !after.contains_key(*key)).cloned());
}
