//! Which addresses lead to which app: what the bridge writes into LRPs and environments.

use std::collections::HashMap;

use diego::routing::{CF_ROUTER, HttpRoute, TCP_ROUTER, TcpRoute};
use serde_json::{Value, json};
use sql::Connection;

use super::{Columns as _, Result, Row, Sql};

/// Where a process listens when nothing else is said.
pub const DEFAULT_PORT: u16 = 8080;
const INTERNAL_ROUTER: &str = "internal-router";

/// One destination with its route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mapping {
    pub process_type: String,
    pub host: String,
    pub domain: String,
    pub path: String,
    /// The route's own port; 0 for HTTP.
    pub route_port: u16,
    /// The app's port; 0 = the default.
    pub app_port: u16,
    pub protocol: String,
    pub options: Value,
    pub internal: bool,
    pub router_group_guid: Option<String>,
    pub route_service_url: Option<String>,
}

impl Mapping {
    /// `host.domain/path`, or `domain:port`.
    pub fn uri(&self) -> String {
        let name = if self.host.is_empty() {
            self.domain.clone()
        } else {
            format!("{}.{}", self.host, self.domain)
        };
        if self.route_port == 0 {
            format!("{name}{}", self.path)
        } else {
            format!("{name}:{}", self.route_port)
        }
    }

    fn port(&self) -> u16 {
        if self.app_port == 0 { DEFAULT_PORT } else { self.app_port }
    }
}

/// The mappings of many apps with one query, by app.
pub async fn of_apps(
    connection: &mut Connection,
    apps: &[String],
) -> Result<HashMap<String, Vec<Mapping>>> {
    let mut found: HashMap<String, Vec<Mapping>> = HashMap::new();
    if apps.is_empty() {
        return Ok(found);
    }
    let mut sql = Sql::default();
    let list = sql.list(apps);
    sql.push(&format!(
        "SELECT x.app_guid, x.process_type, x.port AS app_port, x.protocol, r.host, r.path, r.port, r.options, \
         d.name AS domain, d.internal, d.router_group_guid, b.route_service_url \
         FROM route_destinations x JOIN routes r ON r.guid = x.route_guid JOIN domains d ON d.guid = r.domain_guid \
         LEFT JOIN service_route_bindings b ON b.route_guid = r.guid AND b.operation_state = 'succeeded' \
         WHERE x.app_guid IN ({list}) ORDER BY x.id"
    ));
    for row in sql.all(connection).await? {
        found.entry(row.text("app_guid")?).or_default().push(read(&row)?);
    }
    Ok(found)
}

fn read(row: &Row) -> Result<Mapping> {
    let port = |column: &str| Ok::<u16, sqlx::Error>(u16::try_from(row.int(column)?).unwrap_or(0));
    Ok(Mapping {
        process_type: row.text("process_type")?,
        host: row.text("host")?,
        domain: row.text("domain")?,
        path: row.text("path")?,
        route_port: port("port")?,
        app_port: port("app_port")?,
        protocol: row.text("protocol")?,
        options: row.json("options")?,
        internal: row.flag("internal")?,
        router_group_guid: row.maybe_text("router_group_guid")?,
        route_service_url: row.maybe_text("route_service_url")?,
    })
}

/// The routes of one process, as they are written into its LRP.
pub fn lrp_routes(mappings: &[Mapping], process_type: &str) -> diego::desired_lrp::Routes {
    let (mut http, mut tcp, mut internal) = (Vec::new(), Vec::new(), Vec::new());
    for mapping in mappings.iter().filter(|mapping| mapping.process_type == process_type) {
        if mapping.internal {
            internal.push(json!({ "hostname": mapping.uri() }));
        } else if mapping.route_port != 0 {
            tcp.push(TcpRoute {
                router_group_guid: mapping.router_group_guid.clone().unwrap_or_default(),
                external_port: mapping.route_port,
                container_port: mapping.port(),
            });
        } else {
            http.push(HttpRoute {
                hostnames: vec![mapping.uri()],
                port: mapping.port(),
                route_service_url: mapping.route_service_url.clone().unwrap_or_default(),
                protocol: mapping.protocol.clone(),
                options: if mapping.options.as_object().is_none_or(|options| options.is_empty()) {
                    Value::Null
                } else {
                    mapping.options.clone()
                },
            });
        }
    }
    let mut routes = diego::desired_lrp::Routes::from([(CF_ROUTER.to_owned(), json!(http))]);
    if !tcp.is_empty() {
        routes.insert(TCP_ROUTER.to_owned(), json!(tcp));
    }
    if !internal.is_empty() {
        routes.insert(INTERNAL_ROUTER.to_owned(), json!(internal));
    }
    routes
}

/// The ports a process must listen on: those its destinations name, or the default.
pub fn ports(mappings: &[Mapping], process_type: &str) -> Vec<u16> {
    let mut ports: Vec<u16> = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.process_type == process_type) {
        if !ports.contains(&mapping.port()) {
            ports.push(mapping.port());
        }
    }
    // The default comes first, since `PORT` is the first one.
    ports.sort_by_key(|port| (*port != DEFAULT_PORT, *port));
    if ports.is_empty() { vec![DEFAULT_PORT] } else { ports }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host: &str, kind: &str, app_port: u16) -> Mapping {
        Mapping {
            process_type: kind.to_owned(),
            host: host.to_owned(),
            domain: "x.test".to_owned(),
            protocol: "http1".to_owned(),
            app_port,
            ..Mapping::default()
        }
    }

    #[test]
    fn a_process_gets_its_own_routes_and_ports() {
        let mappings =
            [mapping("a", "web", 0), mapping("", "web", 9000), mapping("w", "worker", 0)];
        let routes = lrp_routes(&mappings, "web");
        let expected = json!([
            { "hostnames": ["a.x.test"], "port": 8080, "protocol": "http1" },
            { "hostnames": ["x.test"], "port": 9000, "protocol": "http1" },
        ]);
        assert_eq!(routes[CF_ROUTER], expected);
        assert_eq!(ports(&mappings, "web"), [8080, 9000]);
        assert_eq!(ports(&mappings, "clock"), [8080]);
    }

    #[test]
    fn a_port_leads_to_a_port() {
        let tcp = Mapping {
            route_port: 1024,
            router_group_guid: Some("group".to_owned()),
            protocol: "tcp".to_owned(),
            ..mapping("", "web", 7000)
        };
        let mappings = [tcp, mapping("a", "web", 0)];
        let routes = lrp_routes(&mappings, "web");
        assert_eq!(
            routes[TCP_ROUTER],
            json!([{ "router_group_guid": "group", "external_port": 1024, "container_port": 7000 }])
        );
        assert_eq!(routes[CF_ROUTER].as_array().map(Vec::len), Some(1));
        assert_eq!(ports(&mappings, "web"), [8080, 7000]);
        assert_eq!(mappings[0].uri(), "x.test:1024");
    }
}
