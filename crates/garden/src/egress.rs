//! What a container may reach.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{GardenError, Result};

/// One permission; what no rule allows is refused. Fields as in Diego's security group rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressRule {
    pub protocol: Protocol,
    /// Each an address, `a-b` or CIDR.
    pub destinations: Vec<String>,
    /// Single ports; empty together with an absent `port_range` means every port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_range: Option<PortRange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<i32>,
    #[serde(default)]
    pub log: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    All,
    Tcp,
    Udp,
    Icmp,
    Icmpv6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    pub start: u16,
    pub end: u16,
}

impl EgressRule {
    /// Where it leads, as first and last addresses. Containers have IPv4 alone: a rule of the other family is refused
    /// aloud rather than kept without effect.
    pub fn ranges(&self) -> Result<Vec<(Ipv4Addr, Ipv4Addr)>> {
        if self.protocol == Protocol::Icmpv6 {
            return Err(GardenError::BadEgress("icmpv6, and containers have IPv4 alone".into()));
        }
        let texts = self.destinations.iter().flat_map(|text| text.split(','));
        texts.map(|text| range(text.trim())).collect()
    }
}

fn range(text: &str) -> Result<(Ipv4Addr, Ipv4Addr)> {
    let bad = || {
        let text: String = text.chars().take(64).collect();
        let first = text.split(['/', '-']).next().unwrap_or_default().trim();
        GardenError::BadEgress(match first.parse() {
            Ok(IpAddr::V6(_)) => format!("{text:?} is IPv6, and containers have IPv4 alone"),
            _ => format!("{text:?} is no address, range or network"),
        })
    };
    let address = |text: &str| text.trim().parse::<Ipv4Addr>().map_err(|_| bad());
    let (first, last) = if let Some((first, last)) = text.split_once('-') {
        (address(first)?, address(last)?)
    } else if let Some((first, prefix)) = text.split_once('/') {
        let prefix: u32 = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or_else(bad)?;
        let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
        let first = u32::from(address(first)?) & mask;
        (first.into(), (first | !mask).into())
    } else {
        (address(text)?, address(text)?)
    };
    if first <= last { Ok((first, last)) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(protocol: Protocol, destination: &str) -> String {
        let rule = EgressRule {
            protocol,
            destinations: vec![destination.into()],
            ports: Vec::new(),
            port_range: None,
            icmp_type: None,
            icmp_code: None,
            log: false,
        };
        match rule.ranges() {
            Ok(ranges) => ranges.iter().map(|(first, last)| format!("{first}-{last};")).collect(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn destinations_are_addresses_ranges_and_networks() {
        assert_eq!(check(Protocol::All, "10.1.2.3"), "10.1.2.3-10.1.2.3;");
        assert_eq!(
            check(Protocol::Tcp, "10.1.2.3/8, 1.1.1.1"),
            "10.0.0.0-10.255.255.255;1.1.1.1-1.1.1.1;"
        );
        assert_eq!(check(Protocol::Icmp, "0.0.0.0/0"), "0.0.0.0-255.255.255.255;");
        assert_eq!(check(Protocol::Udp, "10.0.0.1-10.0.0.9"), "10.0.0.1-10.0.0.9;");
    }

    #[test]
    fn what_is_nothing_of_it_is_named() {
        for bad in ["10.0.0.0/33", "10.0.0.9-10.0.0.1", "example.com", ""] {
            assert_eq!(
                check(Protocol::All, bad),
                format!("egress rule: {bad:?} is no address, range or network")
            );
        }
        for six in ["::1", "::/0", "2001:db8::1-2001:db8::9"] {
            let want = format!("egress rule: {six:?} is IPv6, and containers have IPv4 alone");
            assert_eq!(check(Protocol::Tcp, six), want);
        }
        assert!(check(Protocol::Icmpv6, "::/0").contains("icmpv6"));
    }
}
