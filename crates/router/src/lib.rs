//! The router: the platform's front door and the way to every app, by HTTP and by TCP ports. Knows routes and endpoints;
//! whose they are it does not know.

mod access_log;
mod balance;
mod body;
mod error;
mod hash;
mod headers;
mod proxy;
mod server;
mod sticky;
mod table;
mod tcp;
pub mod tls;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::{CancellationToken, Clock};
use diego::routing::{Endpoint, Routers, TableUpdate, tcp_port};
use envelope::Sink;

pub use server::Scheme;
pub use table::Table;
pub use tcp::{TcpConfig, TcpPort};

#[derive(Clone, Debug)]
pub struct Config {
    /// Host names that lead to the platform's API; addresses and `localhost` always do.
    pub platform_names: BTreeSet<String>,
    /// Shown as the instance in `[RTR/n]`.
    pub index: u32,
    /// How many endpoints one request may try.
    pub max_attempts: usize,
    /// Requests under way at one endpoint; more go elsewhere, or get 503 when all are full.
    pub max_in_flight: usize,
    pub connect_timeout: Duration,
    /// From the request's first byte to the response's headers.
    pub response_timeout: Duration,
    /// Cookies that make a session stick to an instance.
    pub sticky_cookies: Vec<String>,
    /// Open client connections; more wait in the listener's queue.
    pub max_connections: usize,
    pub tcp: TcpConfig,
}

impl Default for Config {
    /// Gorouter's defaults.
    fn default() -> Config {
        Config {
            platform_names: BTreeSet::new(),
            index: 0,
            max_attempts: 3,
            max_in_flight: 500,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(900),
            sticky_cookies: vec!["JSESSIONID".to_owned()],
            max_connections: 20_000,
            tcp: TcpConfig::default(),
        }
    }
}

/// Clones share the table and the connections.
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    table: Table,
    tcp: tcp::Tcp,
    /// Who answers for the platform's own names.
    front: axum::Router,
    proxy: proxy::Clients,
    sink: Arc<dyn Sink>,
    clock: Clock,
}

impl Router {
    /// `front` answers every request for an address, `localhost` or one of `platform_names`.
    pub fn new(config: Config, front: axum::Router, sink: Arc<dyn Sink>, clock: Clock) -> Router {
        let (proxy, tcp) = (proxy::Clients::new(&config), tcp::Tcp::new(&config, clock.clone()));
        let table = Table::default();
        Router { shared: Arc::new(Shared { config, table, tcp, front, proxy, sink, clock }) }
    }

    pub fn table(&self) -> &Table {
        &self.shared.table
    }

    /// Opens the ports of TCP routes and keeps them as the table says, until `stop`. May run once.
    pub async fn serve_tcp(&self, stop: CancellationToken) {
        self.shared.tcp.serve(stop).await;
    }

    /// The TCP routes, by port.
    pub fn tcp_ports(&self) -> Vec<TcpPort> {
        self.shared.tcp.ports()
    }

    /// What stands behind exactly this route: `host`, `host/path`, or `host:port` of a TCP route.
    pub fn endpoints(&self, route: &str) -> Vec<Endpoint> {
        match route.rsplit_once(':').and_then(|(_, port)| port.parse().ok()) {
            Some(port) => self.shared.tcp.endpoints(port),
            None => self.shared.table.endpoints(route),
        }
    }
}

#[async_trait]
impl Routers for Router {
    async fn apply(&self, update: TableUpdate) {
        let (table, tcp) = (&self.shared.table, &self.shared.tcp);
        match update {
            TableUpdate::Snapshot(routes) => {
                let (ports, routes) = apart(routes);
                table.apply(TableUpdate::Snapshot(routes));
                tcp.replace(ports).await;
            }
            TableUpdate::Delta { add, remove } => {
                let ((add_ports, add), (remove_ports, remove)) = (apart(add), apart(remove));
                table.apply(TableUpdate::Delta { add, remove });
                tcp.update(add_ports, remove_ports).await;
            }
        }
    }
}

type ByPort<T> = Vec<(u16, T)>;

/// What stands under ports, and what under hosts.
fn apart<T>(entries: Vec<(String, T)>) -> (ByPort<T>, Vec<(String, T)>) {
    let (mut ports, mut hosts) = (Vec::new(), Vec::new());
    for (route, value) in entries {
        match tcp_port(&route) {
            Some(port) => ports.push((port, value)),
            None => hosts.push((route, value)),
        }
    }
    (ports, hosts)
}

/// Whether a request for `host` (without port, lower case) is for the platform itself.
fn is_platform(host: &str, names: &BTreeSet<String>) -> bool {
    host == "localhost"
        || names.contains(host)
        || host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_system_names_are_the_platforms() {
        let names = BTreeSet::from(["api.example.com".to_owned()]);
        for host in ["127.0.0.1", "[::1]", "localhost", "api.example.com"] {
            assert!(is_platform(host, &names), "{host}");
        }
        for host in ["app.localhost", "example.com", "127.0.0.1.example.com", ""] {
            assert!(!is_platform(host, &names), "{host}");
        }
    }
}
