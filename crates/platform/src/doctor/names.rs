//! Names: whether this machine's name servers answer, and whether the platform's domain leads here.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::Finding;
use crate::settings::Settings;

const PATIENCE: Duration = Duration::from_secs(2);
/// A question for the root's name servers: every resolver knows them.
const QUESTION: [u8; 17] = [0x43, 0x55, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];

pub async fn check(settings: &Settings) -> Vec<Finding> {
    let servers = tokio::task::spawn_blocking(name_servers).await;
    let mut findings =
        vec![servers.unwrap_or_else(|error| Finding::warn("name servers", error.to_string(), ""))];
    findings.push(domain(&settings.domain).await);
    findings
}

fn name_servers() -> Finding {
    let name = "name servers";
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = servers(&text);
    if servers.is_empty() {
        return Finding::warn(
            name,
            "/etc/resolv.conf names none",
            "apps and buildpacks can reach nothing by name; name one there, unless this machine is meant to be alone",
        );
    }
    let listed = servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match servers.iter().find(|server| answers(**server)) {
        Some(server) => Finding::ok(name, format!("{server} answers")),
        None => Finding::warn(
            name,
            format!("{listed}: no answer"),
            "buildpacks that fetch dependencies will fail; mend /etc/resolv.conf, or push apps with all they need",
        ),
    }
}

fn servers(resolv_conf: &str) -> Vec<IpAddr> {
    let words = resolv_conf.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    words
        .filter(|words| words.first() == Some(&"nameserver"))
        .filter_map(|words| words.get(1)?.parse().ok())
        .collect()
}

fn answers(server: IpAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let any: SocketAddr =
            if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect((server, 53))?;
        socket.send(&QUESTION)?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        Ok(length > 2 && answer[..2] == QUESTION[..2])
    };
    ask().unwrap_or(false)
}

async fn domain(domain: &str) -> Finding {
    let (name, probe) = ("domain", format!("cupola-doctor.{domain}"));
    let looked =
        tokio::time::timeout(PATIENCE * 2, tokio::net::lookup_host((probe.as_str(), 80))).await;
    let found: Vec<IpAddr> = match looked {
        Ok(Ok(addresses)) => addresses.map(|address| address.ip()).collect(),
        _ => Vec::new(),
    };
    match (found.first(), domain) {
        (Some(address), _) => Finding::ok(name, format!("*.{domain} leads to {address}")),
        (None, "localhost") => Finding::ok(
            name,
            "*.localhost: browsers and curl know it by themselves; other programs go by 127.0.0.1",
        ),
        (None, _) => Finding::warn(
            name,
            format!("*.{domain} leads nowhere"),
            format!("let the DNS of {domain} have a record *.{domain} with this machine's address"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read() {
        let text = "# mine\nnameserver 127.0.0.53\nsearch x\nnameserver ::1\nnameserver what\n";
        let want: [IpAddr; 2] = ["127.0.0.53".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(servers(text), want);
    }
}
