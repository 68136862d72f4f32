//! TCP routes in this program: their settings, where their ports are opened, and what an operator is told of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context as _;
use cloud_controller::config::DEFAULT_TCP_PORTS;
use diego::routing::ReservablePorts;
use router::{Router, TcpConfig};
use serde::{Deserialize, Serialize};

use crate::doctor::ports::{holder, listening};

/// What the setting says when there are to be no TCP routes.
const NONE: &str = "none";
/// Taken ports that are named one by one.
const NAMED: usize = 3;

/// The settings as they are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSettings {
    /// `None`: no TCP routes.
    pub ports: Option<ReservablePorts>,
    pub listen: IpAddr,
}

/// # Errors
/// Say what the setting was given and what it takes.
pub fn resolve(
    ports: Option<&str>,
    listen: Option<IpAddr>,
    door: IpAddr,
) -> anyhow::Result<TcpSettings> {
    let text = ports.unwrap_or(DEFAULT_TCP_PORTS).trim();
    let ports = match text {
        NONE => None,
        text => Some(text.parse().with_context(|| {
            format!("tcp_ports: {text:?} is no list of ports such as 1024-1123,2000, nor {NONE}")
        })?),
    };
    Ok(TcpSettings { ports, listen: listen.unwrap_or(door) })
}

pub fn router_config(settings: &TcpSettings) -> TcpConfig {
    TcpConfig { listen: settings.listen, ..TcpConfig::default() }
}

/// The port of a TCP route that nobody can reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutPort {
    pub port: u16,
    /// Why it cannot be opened, with who holds it.
    pub why: String,
}

/// What of the router's TCP routes concerns an operator.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub routes: usize,
    pub endpoints: usize,
    pub shut: Vec<ShutPort>,
}

pub fn told(router: &Router) -> Told {
    let mut told = Told::default();
    for port in router.tcp_ports() {
        told.routes += 1;
        told.endpoints += port.endpoints;
        if let Some(problem) = port.problem {
            let why = match holder(port.port) {
                Some((pid, name)) => format!("held by {name} (process {pid})"),
                None => problem,
            };
            told.shut.push(ShutPort { port: port.port, why });
        }
    }
    told
}

/// Of the ports that TCP routes may have, those that others listen on: as text, and how many. `own` may listen.
pub fn taken(ports: &ReservablePorts, own: Option<u32>) -> (String, usize) {
    let mut held: BTreeMap<u16, Option<(u32, String)>> = BTreeMap::new();
    for port in listening().into_iter().filter(|port| ports.contains(*port)) {
        let holder = holder(port);
        if own.is_none() || holder.as_ref().map(|(pid, _)| *pid) != own {
            held.insert(port, holder);
        }
    }
    let name = |(port, holder): (&u16, &Option<(u32, String)>)| match holder {
        Some((pid, name)) => format!("{port} by {name} (process {pid})"),
        None => port.to_string(),
    };
    let mut named: Vec<String> = held.iter().take(NAMED).map(name).collect();
    if held.len() > NAMED {
        named.push(format!("{} more", held.len() - NAMED));
    }
    (named.join(", "), held.len())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn ports_are_a_list_or_none() {
        let door = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let usual = resolve(None, None, door).unwrap();
        assert_eq!(usual.ports.unwrap().to_string(), "1024-1123");
        assert_eq!(usual.listen, door);
        let other = IpAddr::from([10, 0, 0, 1]);
        let none = resolve(Some("none"), Some(other), door).unwrap();
        assert_eq!((none.ports, none.listen), (None, other));
        let error = format!("{:#}", resolve(Some("80-90"), None, door).unwrap_err());
        for part in ["tcp_ports", "80-90", "1024-1123,2000", "between 1024 and 65535"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn who_holds_ports_is_named() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let ports: ReservablePorts = port.to_string().parse().unwrap();
        let (text, count) = taken(&ports, None);
        assert!(text.starts_with(&format!("{port} by ")), "{text}");
        assert_eq!((count, taken(&ports, Some(std::process::id())).1), (1, 0));
        drop(held);
        assert_eq!(taken(&ports, None), (String::new(), 0));
    }
}
