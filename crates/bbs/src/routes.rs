//! Pure: which endpoints stand behind which routes, and what changes from one table to the next.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use diego::actual_lrp::State as LrpState;
use diego::routing::{CF_ROUTER, Endpoint, HttpRoute};
use diego::{ActualLrp, DesiredLrp, InstanceGuid, NetInfo};
use tracing::warn;

use crate::config::Prefer;
use crate::state::{Group, Process, State};

/// What one index has in the table.
pub(crate) type Entries = BTreeMap<(String, InstanceGuid), Endpoint>;

/// What all endpoints of a process share.
pub(crate) struct Template {
    routes: Vec<HttpRoute>,
    log_guid: Arc<str>,
    tags: Arc<BTreeMap<String, String>>,
}

impl Template {
    /// `None` when the process has no routes.
    pub fn of(desired: &DesiredLrp) -> Option<Template> {
        let value = desired.routes.get(CF_ROUTER)?;
        let routes: Vec<HttpRoute> = match serde_json::from_value(value.clone()) {
            Ok(routes) => routes,
            Err(error) => {
                warn!(process.guid = %desired.process_guid, %error, "routes that cannot be read lead nowhere");
                return None;
            }
        };
        let (log_guid, tags) =
            (desired.run.log_guid.as_str().into(), Arc::new(desired.metric_tags.clone()));
        routes.iter().any(|route| !route.hostnames.is_empty()).then_some(Template {
            routes,
            log_guid,
            tags,
        })
    }
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
    for route in &template.routes {
        let Some(address) = address(net, route.port, prefer) else { continue };
        for hostname in &route.hostnames {
            let endpoint = Endpoint {
                address,
                key: lrp.key.clone(),
                instance_guid: guid.clone(),
                http2: route.protocol == "http2",
                route_service_url: route.route_service_url.clone(),
                options: route.options.clone(),
                log_guid: template.log_guid.clone(),
                tags: template.tags.clone(),
            };
            // A route names an instance once: the first port it is mapped to wins.
            entries.entry((hostname.clone(), guid.clone())).or_insert(endpoint);
        }
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
