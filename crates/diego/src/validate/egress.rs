//! Whether one egress rule makes sense: `{protocol, destinations, ports or port_range, icmp_info, log}`.

use std::net::IpAddr;

use serde_json::Value;

pub(super) fn is_valid(rule: &Value) -> bool {
    let given = |field| rule.get(field).is_some_and(|value| !value.is_null());
    let ports = rule.get("ports").and_then(Value::as_array).is_some_and(|ports| !ports.is_empty());
    let (range, icmp) = (given("port_range"), given("icmp_info"));
    let fits = match rule.get("protocol").and_then(Value::as_str) {
        Some("tcp" | "udp") => (ports != range) && !icmp,
        Some("icmp" | "icmpv6") => icmp && !ports && !range,
        Some("all") => !ports && !range && !icmp,
        _ => false,
    };
    fits && are_ports(rule) && is_range(rule) && are_destinations(rule)
}

fn is_port(value: &Value) -> Option<u64> {
    value.as_u64().filter(|port| (1..=65_535).contains(port))
}

fn are_ports(rule: &Value) -> bool {
    let ports = rule.get("ports").and_then(Value::as_array);
    ports.is_none_or(|ports| ports.iter().all(|port| is_port(port).is_some()))
}

fn is_range(rule: &Value) -> bool {
    let Some(range) = rule.get("port_range").filter(|range| !range.is_null()) else { return true };
    let end = |name| range.get(name).and_then(is_port);
    matches!((end("start"), end("end")), (Some(start), Some(end)) if start <= end)
}

fn are_destinations(rule: &Value) -> bool {
    let Some(destinations) = rule.get("destinations").and_then(Value::as_array) else {
        return false;
    };
    let texts = || destinations.iter().map(|each| each.as_str().unwrap_or_default());
    !destinations.is_empty() && texts().all(|text| text.split(',').all(is_destination))
}

/// An address, `a-b`, or a network in CIDR form.
fn is_destination(text: &str) -> bool {
    let address = |text: &str| text.trim().parse::<IpAddr>().ok();
    if let Some((first, last)) = text.split_once('-') {
        return matches!((address(first), address(last)), (Some(a), Some(b)) if a.is_ipv4() == b.is_ipv4() && a <= b);
    }
    match text.split_once('/') {
        Some((network, bits)) => match (address(network), bits.parse::<u8>()) {
            (Some(network), Ok(bits)) => bits <= if network.is_ipv4() { 32 } else { 128 },
            _ => false,
        },
        None => address(text).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_told_right_from_wrong() {
        let cases = [
            (json!({"protocol": "all", "destinations": ["0.0.0.0/0"]}), true),
            (
                json!({"protocol": "tcp", "destinations": ["10.0.0.1-10.0.0.9"], "ports": [80, 443]}),
                true,
            ),
            (
                json!({"protocol": "udp", "destinations": ["10.0.0.1"], "port_range": {"start": 1, "end": 9}}),
                true,
            ),
            (
                json!({"protocol": "icmp", "destinations": ["::1"], "icmp_info": {"type": 0, "code": 0}}),
                true,
            ),
            (json!({"protocol": "tcp", "destinations": ["10.0.0.1"]}), false),
            (json!({"protocol": "tcp", "destinations": ["10.0.0.1"], "ports": [0]}), false),
            (
                json!({"protocol": "tcp", "destinations": ["10.0.0.1"], "ports": [1], "port_range": {"start": 1, "end": 2}}),
                false,
            ),
            (
                json!({"protocol": "udp", "destinations": ["10.0.0.1"], "port_range": {"start": 9, "end": 1}}),
                false,
            ),
            (json!({"protocol": "all", "destinations": []}), false),
            (json!({"protocol": "all", "destinations": ["10.0.0.9-10.0.0.1"]}), false),
            (json!({"protocol": "all", "destinations": ["10.0.0.0/33"]}), false),
            (json!({"protocol": "sctp", "destinations": ["10.0.0.1"]}), false),
        ];
        for (rule, right) in cases {
            assert_eq!(is_valid(&rule), right, "{rule}");
        }
    }
}
