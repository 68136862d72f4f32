//! Where others can reach this host: what a cell that joins from another machine announces.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context;
use tokio::net::{UdpSocket, lookup_host};

/// The address of this host on the way to `url` (`http://HOST:PORT`, the brain's): others who reach the brain reach
/// this host by it as well, unless addresses are translated in between. Nothing is sent.
pub async fn address_towards(url: &str) -> anyhow::Result<Ipv4Addr> {
    let parsed = reqwest::Url::parse(url).with_context(|| format!("{url:?} is no URL"))?;
    let host = parsed.host_str().with_context(|| format!("{url:?} names no host"))?;
    let port = parsed.port_or_known_default().with_context(|| format!("{url:?} names no port"))?;
    let mut all = lookup_host((host, port)).await.with_context(|| format!("looking {host} up"))?;
    let brain =
        all.find(SocketAddr::is_ipv4).with_context(|| format!("{host} has no IPv4 address"))?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.context("making a socket")?;
    socket.connect(brain).await.with_context(|| format!("no route leads to {brain}"))?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => anyhow::bail!("{address} is no IPv4 address"),
    }
}

/// The URL that others reach a listener by: its own address, or `host` when it listens on all addresses.
pub fn url_of(listener: SocketAddr, host: Ipv4Addr) -> String {
    let ip = if listener.ip().is_unspecified() { IpAddr::V4(host) } else { listener.ip() };
    format!("http://{}", SocketAddr::new(ip, listener.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_way_to_this_host_is_its_loopback() {
        let address = address_towards("http://127.0.0.1:9").await.unwrap();
        assert_eq!(address, Ipv4Addr::LOCALHOST);
        for wrong in ["nonsense", "http://", "unix:/x"] {
            assert!(address_towards(wrong).await.is_err(), "{wrong}");
        }
    }

    #[test]
    fn all_addresses_are_none_to_tell() {
        let host = Ipv4Addr::new(10, 0, 0, 7);
        assert_eq!(url_of(([0, 0, 0, 0], 1801).into(), host), "http://10.0.0.7:1801");
        assert_eq!(url_of(([127, 0, 0, 1], 1801).into(), host), "http://127.0.0.1:1801");
    }
}
