//! The packet filter: whether its rules can be made, and whether somebody else's rules would drop containers' packets.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::Finding;

/// What the platform's own table is made of, in small.
const RULES: &str = "table inet cupola_doctor {
  chain nat { type nat hook postrouting priority srcnat; ip saddr 10.254.0.0/16 masquerade; }
  chain forward { type filter hook forward priority filter; ct state established,related accept; }
}
";

/// Only checked by the kernel, never made.
pub fn rules() -> Finding {
    let name = "packet filter";
    let checked = Command::new("nft")
        .args(["--check", "--file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|mut nft| {
            if let Some(mut stdin) = nft.stdin.take() {
                stdin.write_all(RULES.as_bytes())?;
            }
            nft.wait_with_output()
        });
    match checked {
        Ok(output) if output.status.success() => {
            Finding::ok(name, "rules for addresses and filters can be made")
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Finding::fail(
                name,
                said.lines().next().unwrap_or("nft refuses").trim().to_owned(),
                "load the kernel's modules: modprobe -a nf_tables nft_chain_nat nft_masq nft_ct; in a virtual machine or container, allow them",
            )
        }
        Err(error) => {
            Finding::fail(name, error.to_string(), "install nftables: apt-get install -y nftables")
        }
    }
}

/// A firewall with a forward policy of drop (Docker's, ufw's) drops containers' packets as well.
pub fn forwarding_elsewhere() -> Option<Finding> {
    let output = Command::new("nft").args(["list", "chains"]).output().ok()?;
    let listed = String::from_utf8_lossy(&output.stdout);
    let mut dropping = drops(&listed);
    let legacy = Command::new("iptables-legacy").args(["-S", "FORWARD"]).output();
    if legacy
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("-P FORWARD DROP"))
    {
        dropping.push("iptables-legacy FORWARD".to_owned());
    }
    Some(match dropping.first() {
        None => Finding::ok("forwarding policy", "no other firewall drops what is forwarded"),
        Some(first) => Finding::warn(
            "forwarding policy",
            format!("{} drops what it does not know, containers' packets too", dropping.join(", ")),
            if first.contains("FORWARD") {
                "let them through: iptables -I FORWARD -i cu+ -j ACCEPT; iptables -I FORWARD -o cu+ -j ACCEPT (with Docker, in the chain DOCKER-USER)"
                    .to_owned()
            } else {
                format!(
                    "let them through: nft insert rule {first} iifname \"cu*\" accept; nft insert rule {first} oifname \"cu*\" accept"
                )
            },
        ),
    })
}

/// Chains at the forward hook whose policy is drop, as `FAMILY TABLE CHAIN`, of what `nft list chains` prints.
fn drops(listed: &str) -> Vec<String> {
    let (mut table, mut chain, mut found) = (String::new(), String::new(), Vec::new());
    for line in listed.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches(" {").to_owned();
        } else if let Some(name) = line.strip_prefix("chain ") {
            chain = name.trim_end_matches(" {").to_owned();
        } else if line.contains("hook forward")
            && line.contains("policy drop")
            && !table.contains(" cupola_")
        {
            found.push(format!("{table} {chain}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firewalls_that_drop_are_found_and_our_own_is_not() {
        let listed = "table ip filter {\n\tchain INPUT {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n\
                      \tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n\
                      table inet mine {\n\tchain fwd {\n\t\ttype filter hook forward priority 0; policy accept;\n\t}\n}\n\
                      table inet cupola_1 {\n\tchain forward {\n\t\ttype filter hook forward priority 0; policy drop;\n\t}\n}\n";
        assert_eq!(drops(listed), ["ip filter FORWARD"]);
    }
}
