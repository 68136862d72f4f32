//! Checks the rules of a security group as a user writes them.

use std::net::IpAddr;

use serde_json::Value;

const KEYS: &[&str] = &["code", "description", "destination", "log", "ports", "protocol", "type"];
const PROTOCOLS: &[&str] = &["tcp", "udp", "icmp", "icmpv6", "all"];
const MOST_DESTINATIONS: usize = 6000;

/// Pure: everything that is wrong, each with its rule's number.
pub fn problems(rules: &Value) -> Vec<String> {
    let Some(rules) = rules.as_array() else { return vec!["Rules must be an array".to_owned()] };
    let mut all = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let mut wrong = Vec::new();
        one(rule, &mut wrong);
        all.extend(wrong.into_iter().map(|text| format!("Rules[{at}]: {text}")));
    }
    all
}

fn one(rule: &Value, wrong: &mut Vec<String>) {
    let Some(object) = rule.as_object() else { return wrong.push("must be an object".to_owned()) };
    let unknown: Vec<&String> = object.keys().filter(|key| !KEYS.contains(&key.as_str())).collect();
    if !unknown.is_empty() {
        wrong.push(format!("unknown field(s): {unknown:?}"));
    }
    let given = |key: &str| object.get(key).filter(|value| !value.is_null());
    let protocol =
        given("protocol").and_then(Value::as_str).filter(|name| PROTOCOLS.contains(name));
    if protocol.is_none() {
        wrong.push("protocol must be 'tcp', 'udp', 'icmp', 'icmpv6' or 'all'".to_owned());
    }
    destinations(given("destination"), protocol.unwrap_or_default(), wrong);
    if given("description").is_some_and(|value| !value.is_string()) {
        wrong.push("description must be a string".to_owned());
    }
    if given("log").is_some_and(|value| !value.is_boolean()) {
        wrong.push("log must be a boolean".to_owned());
    }
    match protocol {
        Some("tcp" | "udp") => match given("ports") {
            None => wrong.push("ports are required for protocols of type TCP and UDP".to_owned()),
            Some(ports) if ports.as_str().is_some_and(are_ports) => {}
            Some(_) => wrong.push(
                "ports must be a valid single port, comma separated list of ports, or range or ports, formatted as a string"
                    .to_owned(),
            ),
        },
        Some("icmp" | "icmpv6") => {
            for key in ["code", "type"] {
                match given(key) {
                    None => wrong.push(format!("{key} is required for protocols of type ICMP")),
                    Some(value) if value.as_i64().is_some_and(|number| (-1..=255).contains(&number)) => {}
                    Some(_) => wrong.push(format!("{key} must be an integer between -1 and 255 (inclusive)")),
                }
            }
        }
        Some("all") if given("ports").is_some() => {
            wrong.push("ports are not allowed for protocols of type all".to_owned());
        }
        _ => {}
    }
}

fn are_ports(text: &str) -> bool {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    match text.split_once('-') {
        Some((from, to)) => port(from).zip(port(to)).is_some_and(|(from, to)| from <= to),
        None => text.split(',').all(|one| port(one).is_some()),
    }
}

fn destinations(value: Option<&Value>, protocol: &str, wrong: &mut Vec<String>) {
    let Some(value) = value else {
        let text = "nil destination; destination must be a comma-delimited list of valid CIDRs, IP addresses, or IP address ranges";
        return wrong.push(text.to_owned());
    };
    let Some(text) = value.as_str() else {
        return wrong.push("destination must be a string".to_owned());
    };
    if text.contains(char::is_whitespace) {
        return wrong.push("destination must not contain whitespace".to_owned());
    }
    let list: Vec<&str> = text.split(',').collect();
    if list.len() > MOST_DESTINATIONS {
        wrong.push(format!(
            "maximum destinations per rule exceeded - must be under {MOST_DESTINATIONS}"
        ));
    }
    for one in list {
        destination(one, protocol, wrong);
    }
}

fn destination(text: &str, protocol: &str, wrong: &mut Vec<String>) {
    const INVALID: &str =
        "destination must contain valid CIDR(s), IP address(es), or IP address range(s)";
    if text.is_empty() {
        return wrong.push("empty destination specified in comma-delimited list".to_owned());
    }
    let octets =
        text.split(['-', '/', '.']).filter(|part| part.chars().all(|c| c.is_ascii_digit()));
    if octets.clone().any(|part| part.len() > 1 && part.starts_with('0')) {
        return wrong.push("destination octets cannot contain leading zeros".to_owned());
    }
    let first = match text.split_once('-') {
        Some((from, to)) => match (from.parse::<IpAddr>(), to.parse::<IpAddr>()) {
            (Ok(from), Ok(to)) if from.is_ipv4() == to.is_ipv4() => {
                if from > to {
                    let text = "beginning of IP address range is numerically greater than the end of its range (range endpoints are inverted)";
                    wrong.push(text.to_owned());
                }
                from
            }
            _ => return wrong.push("destination IP address range is invalid".to_owned()),
        },
        None => match network(text) {
            Some(address) => address,
            None => return wrong.push(INVALID.to_owned()),
        },
    };
    match (protocol, first) {
        ("icmp", IpAddr::V6(_)) => {
            wrong.push("for protocol \"icmp\" you cannot use IPv6 addresses".to_owned())
        }
        ("icmpv6", IpAddr::V4(_)) => {
            wrong.push("for protocol \"icmpv6\" you cannot use IPv4 addresses".to_owned())
        }
        _ => {}
    }
}

/// An address, or a network in CIDR form.
fn network(text: &str) -> Option<IpAddr> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| bits <= most).then_some(address)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn good_rules_pass() {
        let rules = json!([
            { "protocol": "tcp", "destination": "10.0.0.0/8,1.1.1.1-1.1.1.9", "ports": "80,443", "log": true },
            { "protocol": "udp", "destination": "8.8.8.8", "ports": "1-53", "description": "names" },
            { "protocol": "icmp", "destination": "0.0.0.0/0", "type": 8, "code": -1 },
            { "protocol": "all", "destination": "::/0" },
        ]);
        assert_eq!(problems(&rules), Vec::<String>::new());
    }

    #[test]
    fn bad_rules_are_told_apart() {
        let one = |rule: Value| problems(&json!([rule])).join("; ");
        let told = [
            one(json!({ "protocol": "ip", "destination": "1.1.1.1" })),
            one(json!({ "protocol": "tcp", "destination": "1.1.1.1" })),
            one(json!({ "protocol": "tcp", "destination": "1.1.1.1", "ports": "9-1" })),
            one(json!({ "protocol": "all", "destination": "2.2.2.2-1.1.1.1" })),
            one(json!({ "protocol": "all", "destination": "01.1.1.1" })),
            one(json!({ "protocol": "all", "destination": "1.1.1.1/33" })),
            one(json!({ "protocol": "icmp", "destination": "::1", "type": 0, "code": 300 })),
        ];
        expect_test::expect![[r#"
            Rules[0]: protocol must be 'tcp', 'udp', 'icmp', 'icmpv6' or 'all'
            Rules[0]: ports are required for protocols of type TCP and UDP
            Rules[0]: ports must be a valid single port, comma separated list of ports, or range or ports, formatted as a string
            Rules[0]: beginning of IP address range is numerically greater than the end of its range (range endpoints are inverted)
            Rules[0]: destination octets cannot contain leading zeros
            Rules[0]: destination must contain valid CIDR(s), IP address(es), or IP address range(s)
            Rules[0]: for protocol "icmp" you cannot use IPv6 addresses; Rules[0]: code must be an integer between -1 and 255 (inclusive)"#]]
        .assert_eq(&told.join("\n"));
    }
}
