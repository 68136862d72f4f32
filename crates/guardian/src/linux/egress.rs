//! What containers may reach, as nftables rules. Containers with the same rules share one chain, so that one more is one
//! more element of a map.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;

use garden::{EgressRule, Protocol, Result};

/// Addresses from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    last: u32,
}

/// Wide rules mean the world outside, not the host they run on or its metadata service; those must be meant.
const NAMED_AT_MOST: u32 = 1 << 16;
const LINK_LOCAL: Range = Range { first: 0xa9fe_0000, last: 0xa9fe_ffff };
const LOOPBACK: Range = Range { first: 0x7f00_0000, last: 0x7fff_ffff };

/// The chain that decides for one set of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub name: String,
    /// One rule a line, for packets that leave the host.
    pub forward: Vec<String>,
    /// The same for packets to the host itself.
    pub host: Vec<String>,
}

impl Chain {
    pub fn host_name(&self) -> String {
        format!("h{}", &self.name[1..])
    }
}

/// Pure.
pub fn chain(rules: &[EgressRule]) -> Result<Chain> {
    let (mut forward, mut host) = (Vec::new(), Vec::new());
    for rule in rules {
        let range =
            |(first, last): (Ipv4Addr, Ipv4Addr)| Range { first: first.into(), last: last.into() };
        let ranges: Vec<Range> = rule.ranges()?.into_iter().map(range).collect();
        let named: Vec<Range> = ranges.iter().copied().filter(Range::is_named).collect();
        let outside: Vec<Range> = ranges.iter().flat_map(Range::outside).collect();
        forward.extend(lines(rule, &outside));
        host.extend(lines(rule, &named));
    }
    let mut hasher = DefaultHasher::new();
    (&forward, &host).hash(&mut hasher);
    Ok(Chain { name: format!("e{:016x}", hasher.finish()), forward, host })
}

/// Logged beginnings of connections in a second, by all who share the rules: the kernel's log is the whole host's.
const LOGGED: u32 = 100;

fn lines(rule: &EgressRule, ranges: &[Range]) -> Vec<String> {
    if ranges.is_empty() {
        return Vec::new();
    }
    let mut line = format!("ip daddr {{ {} }}", join(&merged(ranges)));
    let ports = ports(rule);
    match rule.protocol {
        Protocol::Tcp | Protocol::Udp => {
            let name = if rule.protocol == Protocol::Tcp { "tcp" } else { "udp" };
            match ports {
                Some(ports) => _ = write!(line, " {name} dport {{ {ports} }}"),
                None => _ = write!(line, " meta l4proto {name}"),
            }
        }
        Protocol::Icmp => {
            line += " meta l4proto icmp";
            let number = |value: Option<i32>| value.filter(|value| (0..=255).contains(value));
            if let Some(kind) = number(rule.icmp_type) {
                _ = write!(line, " icmp type {kind}");
            }
            if let Some(code) = number(rule.icmp_code) {
                _ = write!(line, " icmp code {code}");
            }
        }
        Protocol::All | Protocol::Icmpv6 => {}
    }
    let log = rule
        .log
        .then(|| format!("{line} ct state new limit rate {LOGGED}/second log prefix \"cupola: \""));
    log.into_iter().chain([line + " accept"]).collect()
}

fn ports(rule: &EgressRule) -> Option<String> {
    let range =
        rule.port_range.map(|range| (range.start.min(range.end), range.start.max(range.end)));
    let mut all: Vec<(u16, u16)> =
        rule.ports.iter().map(|port| (*port, *port)).chain(range).collect();
    all.sort_unstable();
    // nftables refuses ranges that overlap.
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in all {
        match merged.last_mut() {
            Some(before) if u32::from(first) <= u32::from(before.1) + 1 => {
                before.1 = before.1.max(last)
            }
            _ => merged.push((first, last)),
        }
    }
    let texts = merged.iter().map(|(first, last)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    });
    let text = texts.collect::<Vec<_>>().join(", ");
    (!text.is_empty()).then_some(text)
}

fn merged(ranges: &[Range]) -> Vec<Range> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| range.first);
    let mut merged: Vec<Range> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(before) if range.first <= before.last.saturating_add(1) => {
                before.last = before.last.max(range.last)
            }
            _ => merged.push(range),
        }
    }
    merged
}

fn join(ranges: &[Range]) -> String {
    ranges.iter().map(Range::to_string).collect::<Vec<_>>().join(", ")
}

impl Range {
    fn is_named(&self) -> bool {
        self.last - self.first < NAMED_AT_MOST
    }

    /// Without what a wide range does not mean.
    fn outside(&self) -> Vec<Range> {
        if self.is_named() {
            vec![*self]
        } else {
            self.without(LINK_LOCAL).iter().flat_map(|part| part.without(LOOPBACK)).collect()
        }
    }

    fn without(&self, hole: Range) -> Vec<Range> {
        if hole.last < self.first || self.last < hole.first {
            return vec![*self];
        }
        let before =
            (self.first < hole.first).then(|| Range { first: self.first, last: hole.first - 1 });
        let after =
            (self.last > hole.last).then(|| Range { first: hole.last + 1, last: self.last });
        before.into_iter().chain(after).collect()
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (first, last) = (Ipv4Addr::from(self.first), Ipv4Addr::from(self.last));
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

#[cfg(test)]
mod tests {
    use garden::PortRange;
    use proptest::prelude::*;

    use super::*;

    fn rule(protocol: Protocol, destinations: &[&str]) -> EgressRule {
        EgressRule {
            protocol,
            destinations: destinations.iter().map(|text| (*text).into()).collect(),
            ports: Vec::new(),
            port_range: None,
            icmp_type: None,
            icmp_code: None,
            log: false,
        }
    }

    #[test]
    fn the_world_is_neither_host_nor_metadata() {
        let chain = chain(&[rule(Protocol::All, &["0.0.0.0/0"])]).unwrap();
        assert_eq!(
            chain.forward,
            [
                "ip daddr { 0.0.0.0-126.255.255.255, 128.0.0.0-169.253.255.255, 169.255.0.0-255.255.255.255 } accept"
            ]
        );
        assert!(chain.host.is_empty());
    }

    #[test]
    fn who_is_named_is_meant() {
        let mut named = rule(Protocol::Tcp, &["169.254.169.254", "192.0.2.0/24"]);
        named.ports = vec![443, 80, 81];
        named.port_range = Some(PortRange { start: 8000, end: 8080 });
        let chain = chain(&[named]).unwrap();
        let line = "ip daddr { 169.254.169.254, 192.0.2.0-192.0.2.255 } tcp dport { 80-81, 443, 8000-8080 } accept";
        assert_eq!(
            (chain.forward.as_slice(), chain.host.as_slice()),
            (&[line.to_owned()][..], &[line.to_owned()][..])
        );
    }

    #[test]
    fn what_is_logged_is_the_beginning_of_a_connection() {
        let mut logged = rule(Protocol::Udp, &["192.0.2.1"]);
        (logged.log, logged.ports) = (true, vec![53]);
        let plain = EgressRule { log: false, ..logged.clone() };
        let accept = "ip daddr { 192.0.2.1 } udp dport { 53 } accept";
        let log = "ip daddr { 192.0.2.1 } udp dport { 53 } ct state new limit rate 100/second log prefix \"cupola: \"";
        assert_eq!(chain(&[logged]).unwrap().forward, [log, accept]);
        assert_eq!(chain(&[plain]).unwrap().forward, [accept]);
    }

    #[test]
    fn equal_rules_share_a_chain() {
        let ping = || {
            let mut ping = rule(Protocol::Icmp, &["10.0.0.1-10.0.0.9"]);
            (ping.icmp_type, ping.icmp_code) = (Some(8), Some(-1));
            vec![ping]
        };
        assert_eq!(chain(&ping()).unwrap(), chain(&ping()).unwrap());
        assert_eq!(
            chain(&ping()).unwrap().forward,
            ["ip daddr { 10.0.0.1-10.0.0.9 } meta l4proto icmp icmp type 8 accept"]
        );
        assert_ne!(chain(&ping()).unwrap().name, chain(&[]).unwrap().name);
    }

    proptest! {
        /// Whatever is allowed is in a rule, and what a rule names narrowly is allowed.
        #[test]
        fn merging_and_cutting_keep_exactly_the_right_addresses(
            ranges in proptest::collection::vec((any::<u32>(), any::<u32>()), 1..6),
            probe in any::<u32>(),
        ) {
            let ranges: Vec<Range> =
                ranges.into_iter().map(|(a, b)| Range { first: a.min(b), last: a.max(b) }).collect();
            let holds = |ranges: &[Range]| ranges.iter().any(|range| (range.first..=range.last).contains(&probe));
            prop_assert_eq!(holds(&merged(&ranges)), holds(&ranges));
            let outside: Vec<Range> = ranges.iter().flat_map(Range::outside).collect();
            let meant = ranges.iter().any(|range| {
                let hidden = [LINK_LOCAL, LOOPBACK].iter().any(|hole| (hole.first..=hole.last).contains(&probe));
                (range.first..=range.last).contains(&probe) && (range.is_named() || !hidden)
            });
            prop_assert_eq!(holds(&merged(&outside)), meant);
        }
    }
}
