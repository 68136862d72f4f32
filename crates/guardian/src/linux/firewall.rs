//! The host's own firewall, where it would drop what containers send and get: a packet must pass every table there is,
//! whatever ours says. What ours decides about, the others are told to let through; nothing else of them changes.

use std::io;

use serde::Deserialize;
use serde_json::Value;
use tracing::{info, warn};

use super::config::Config;
use super::nft;

/// A chain of the packet filter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chain {
    family: String,
    table: String,
    name: String,
    hook: Hook,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    Forward,
    Input,
}

#[derive(Deserialize)]
struct Ruleset {
    nftables: Vec<Value>,
}

/// Lets containers' packets through to our own table, or says aloud what an operator must do.
pub async fn open(config: &Config) {
    let (name, wires) = (config.name(), config.interface_prefix());
    let rules = match read().await {
        Ok(rules) => rules,
        Err(error) => {
            warn!(%error, "the host's firewall cannot be read; should it drop forwarded packets, containers reach nothing");
            return;
        }
    };
    let mut script = withdrawals(&rules, &name);
    for chain in closed(&rules, &name) {
        let Some(lines) = openings(&chain, &wires, &name) else { continue };
        info!(table = %chain.table, chain = %chain.name, "the host's firewall drops by default: containers' packets are let through to the platform's own rules");
        script += &lines;
    }
    if !script.is_empty()
        && let Err(error) = nft::run(&script).await
    {
        warn!(%error, "the host's firewall drops forwarded packets and cannot be changed: let through what comes from and goes to interfaces {wires}*");
    }
    if drops_by_older_means() {
        warn!(
            "the host has rules of the older iptables, which may drop forwarded packets: iptables-legacy -I FORWARD -i {wires}+ -j ACCEPT; iptables-legacy -I FORWARD -o {wires}+ -j ACCEPT"
        );
    }
}

/// Takes back what [`open`] did.
pub async fn close(config: &Config) -> io::Result<()> {
    let script = withdrawals(&read().await?, &config.name());
    if script.is_empty() { Ok(()) } else { nft::run(&script).await }
}

async fn read() -> io::Result<Vec<Value>> {
    let output = nft::output(&["-j", "-t", "list", "ruleset"], "").await?;
    Ok(serde_json::from_slice::<Ruleset>(&output).map_err(io::Error::other)?.nftables)
}

/// Those rules are in other tables of the kernel, which only their own program reads.
fn drops_by_older_means() -> bool {
    let tables = std::fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    tables.lines().any(|table| table == "filter")
}

/// Pure: chains of others that every packet passes and that drop what they do not know.
fn closed(rules: &[Value], own: &str) -> Vec<Chain> {
    let chains = rules.iter().filter_map(|one| base_chain(one.get("chain")?));
    let chains = chains.filter(|(chain, _)| chain.table != own);
    let closed = chains.filter(|(chain, policy)| {
        let last = rules.iter().filter_map(|one| one.get("rule")).rfind(|rule| is_in(rule, chain));
        policy == "drop" || last.is_some_and(refuses_all)
    });
    closed.map(|(chain, _)| chain).collect()
}

fn base_chain(chain: &Value) -> Option<(Chain, String)> {
    let text = |key: &str| chain.get(key)?.as_str().map(str::to_owned);
    let hook = match text("hook")?.as_str() {
        "forward" => Hook::Forward,
        "input" => Hook::Input,
        _ => return None,
    };
    let family = text("family").filter(|family| matches!(family.as_str(), "ip" | "inet"))?;
    (text("type")? == "filter").then_some(())?;
    let (table, name) = (text("table")?, text("name")?);
    Some((Chain { family, table, name, hook }, text("policy").unwrap_or_default()))
}

fn is_in(rule: &Value, chain: &Chain) -> bool {
    let is = |key: &str, value: &str| rule.get(key).and_then(Value::as_str) == Some(value);
    is("family", &chain.family) && is("table", &chain.table) && is("chain", &chain.name)
}

/// Without any condition.
fn refuses_all(rule: &Value) -> bool {
    let parts = rule.get("expr").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let kind = |part: &Value, kinds: &[&str]| kinds.iter().any(|kind| part.get(kind).is_some());
    parts.iter().all(|part| kind(part, &["drop", "reject", "counter", "log"]))
        && parts.iter().any(|part| kind(part, &["drop", "reject"]))
}

/// Pure: what lets our interfaces through, before all other rules. `None` for names that no script can hold.
fn openings(chain: &Chain, wires: &str, own: &str) -> Option<String> {
    let plain = |text: &str| {
        !text.is_empty()
            && text.chars().all(|one| one.is_ascii_alphanumeric() || matches!(one, '_' | '-' | '.'))
    };
    (plain(&chain.table) && plain(&chain.name)).then_some(())?;
    let ends: &[&str] = match chain.hook {
        Hook::Forward => &["iifname", "oifname"],
        Hook::Input => &["iifname"],
    };
    let Chain { family, table, name, .. } = chain;
    let line = |end: &&str| {
        format!("insert rule {family} {table} {name} {end} \"{wires}*\" accept comment \"{own}\"\n")
    };
    Some(ends.iter().map(line).collect())
}

/// Pure: what takes back everything that bears our name.
fn withdrawals(rules: &[Value], own: &str) -> String {
    let ours = rules.iter().filter_map(|one| one.get("rule")).filter_map(|rule| {
        (rule.get("comment")?.as_str()? == own).then_some(())?;
        let text = |key: &str| rule.get(key).and_then(Value::as_str);
        let handle = rule.get("handle")?.as_u64()?;
        Some(format!(
            "delete rule {} {} {} handle {handle}\n",
            text("family")?,
            text("table")?,
            text("chain")?
        ))
    });
    ours.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules() -> Vec<Value> {
        let base = |family, table, name, hook, policy| json!({"chain": {"family": family, "table": table, "name": name, "type": "filter", "hook": hook, "policy": policy}});
        let rule = |table, chain, handle, expr: Value, comment: &str| json!({"rule": {"family": "inet", "table": table, "chain": chain, "handle": handle, "expr": expr, "comment": comment}});
        vec![
            json!({"metainfo": {"version": "1"}}),
            base("ip", "filter", "FORWARD", "forward", "drop"),
            base("ip", "filter", "INPUT", "input", "accept"),
            base("ip6", "filter", "FORWARD", "forward", "drop"),
            base("inet", "cupola_me", "forward", "forward", "drop"),
            base("inet", "firewalld", "in", "input", "accept"),
            base("inet", "firewalld", "out", "output", "drop"),
            rule("firewalld", "in", 5, json!([{"match": {}}, {"accept": null}]), "cupola_me"),
            rule("firewalld", "in", 6, json!([{"counter": {}}, {"reject": {"type": "icmpx"}}]), ""),
        ]
    }

    #[test]
    fn only_what_drops_our_packets_is_opened() {
        let found = closed(&rules(), "cupola_me");
        let names: Vec<_> = found.iter().map(|one| format!("{} {}", one.table, one.name)).collect();
        assert_eq!(names, ["filter FORWARD", "firewalld in"]);
        assert_eq!(
            openings(&found[0], "cu1-", "cupola_me").unwrap(),
            "insert rule ip filter FORWARD iifname \"cu1-*\" accept comment \"cupola_me\"\n\
             insert rule ip filter FORWARD oifname \"cu1-*\" accept comment \"cupola_me\"\n"
        );
        assert_eq!(openings(&found[1], "cu1-", "cupola_me").unwrap().lines().count(), 1);
        let odd = Chain { name: "a b".into(), ..found[0].clone() };
        assert_eq!(openings(&odd, "cu1-", "x"), None);
    }

    #[test]
    fn only_our_own_is_taken_back() {
        assert_eq!(withdrawals(&rules(), "cupola_me"), "delete rule inet firewalld in handle 5\n");
        assert_eq!(withdrawals(&rules(), "cupola_you"), "");
    }
}
