//! The platform's one nftables table. Changes are gathered while an earlier batch is under way, so that many containers
//! cost one call of the `nft` program.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Seek, Write as _};
use std::net::Ipv4Addr;
use std::process::Stdio;

use base::{CancellationToken, TaskTracker};
use garden::PortMapping;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::config::Config;
use super::egress::{self, Chain};
use crate::containers::Record;

/// Changes that wait; whoever has more to change waits too.
const WAITING: usize = 1024;

/// The table, and how it is changed.
pub struct Nft {
    table: String,
    queue: mpsc::Sender<Change>,
    /// How many containers each chain decides for.
    chains: Mutex<HashMap<String, u32>>,
}

struct Change {
    script: String,
    done: oneshot::Sender<io::Result<()>>,
}

/// One container in the table.
#[derive(Clone, Debug)]
pub struct Member {
    pub address: Ipv4Addr,
    pub chain: Chain,
    pub ports: Vec<PortMapping>,
}

impl Member {
    pub fn of(record: &Record) -> garden::Result<Member> {
        let chain = egress::chain(&record.spec.egress)?;
        Ok(Member { address: record.container_ip, chain, ports: record.ports.clone() })
    }
}

impl Nft {
    /// Makes the table anew, with `members` in it from the first moment.
    pub async fn open(
        config: &Config,
        members: &[Member],
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> io::Result<Nft> {
        let table = config.name();
        let mut chains = HashMap::new();
        let mut script = base(config);
        for member in members {
            let count = chains.entry(member.chain.name.clone()).or_insert(0);
            *count += 1;
            script += &add(&table, member, *count == 1);
        }
        run(&script).await?;
        let (queue, changes) = mpsc::channel(WAITING);
        tasks.spawn(work(changes, stop));
        Ok(Nft { table, queue, chains: Mutex::new(chains) })
    }

    /// Until this has been done the container reaches nothing and nobody from outside reaches it.
    pub async fn add(&self, member: &Member) -> io::Result<()> {
        let change = {
            let mut chains = self.chains.lock();
            let count = chains.entry(member.chain.name.clone()).or_insert(0);
            *count += 1;
            // Queued under the lock: a chain is made before anybody else refers to it.
            self.change(add(&self.table, member, *count == 1))?
        };
        let added = wait(change).await;
        if added.is_err() {
            self.leave(member);
        }
        added
    }

    pub async fn remove(&self, member: &Member) -> io::Result<()> {
        let change = {
            let unused = self.leave(member);
            self.change(remove(&self.table, member, unused))?
        };
        wait(change).await
    }

    /// The same container by other rules; at no moment is it without any.
    pub async fn replace(&self, before: &Member, after: &Member) -> io::Result<()> {
        if before.chain == after.chain {
            return Ok(());
        }
        let change = {
            let mut chains = self.chains.lock();
            let count = chains.entry(after.chain.name.clone()).or_insert(0);
            *count += 1;
            self.change(replace(&self.table, before, after, *count == 1))?
        };
        let replaced = wait(change).await;
        let (left, kept) = if replaced.is_ok() { (before, after) } else { (after, before) };
        if self.leave(left) && left.chain != kept.chain {
            // Empty chains harm nobody, so what they were for is told rather than why they stay.
            let change = self.change(remove_chain(&self.table, &left.chain))?;
            let _ = wait(change).await;
        }
        replaced
    }

    pub async fn map_port(&self, address: Ipv4Addr, port: &PortMapping) -> io::Result<()> {
        let line = format!("add element inet {}\n", port_element(&self.table, address, port));
        wait(self.change(line)?).await
    }

    /// Whether nobody is left in the member's chain.
    fn leave(&self, member: &Member) -> bool {
        let mut chains = self.chains.lock();
        let Some(count) = chains.get_mut(&member.chain.name) else { return false };
        *count -= 1;
        if *count == 0 {
            chains.remove(&member.chain.name);
        }
        !chains.contains_key(&member.chain.name)
    }

    fn change(&self, script: String) -> io::Result<oneshot::Receiver<io::Result<()>>> {
        let (done, waits) = oneshot::channel();
        let full = |_| {
            io::Error::new(io::ErrorKind::WouldBlock, "too many changes of the packet filter wait")
        };
        self.queue.try_send(Change { script, done }).map_err(full)?;
        Ok(waits)
    }

    pub async fn delete_table(&self) -> io::Result<()> {
        run(&format!("table inet {0} {{}}\ndelete table inet {0}\n", self.table)).await
    }
}

async fn wait(change: oneshot::Receiver<io::Result<()>>) -> io::Result<()> {
    change.await.unwrap_or_else(|_| Err(io::Error::other("the packet filter is no longer kept")))
}

async fn work(mut changes: mpsc::Receiver<Change>, stop: CancellationToken) {
    loop {
        let first = tokio::select! {
            change = changes.recv() => change,
            () = stop.cancelled() => None,
        };
        let Some(first) = first else { return };
        let mut batch = vec![first];
        while let Ok(next) = changes.try_recv() {
            batch.push(next);
        }
        let script: String = batch.iter().map(|change| change.script.as_str()).collect();
        if run(&script).await.is_ok() {
            batch.into_iter().for_each(|change| _ = change.done.send(Ok(())));
            continue;
        }
        // All or nothing: one bad change fails the rest, so each is tried alone.
        for change in batch {
            let result = run(&change.script).await;
            // Nobody waits any more when a caller has given up.
            let _ = change.done.send(result);
        }
    }
}

/// Runs the program with a script, which it carries out whole or not at all. It reads a file in memory rather than a
/// pipe: a program that was killed while it wrote would leave half a script, which would be carried out too.
pub async fn run(script: &str) -> io::Result<()> {
    output(&["-f", "-"], script).await.map(drop)
}

/// What the program says, given this to read.
pub async fn output(args: &[&str], script: &str) -> io::Result<Vec<u8>> {
    let input = rustix::fs::memfd_create("nft", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut input = File::from(input);
    input.write_all(script.as_bytes())?;
    input.rewind()?;
    let output = tokio::process::Command::new("nft")
        .args(args)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                io::Error::new(error.kind(), "the program nft is missing: install nftables")
            }
            _ => error,
        })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said: String = String::from_utf8_lossy(&output.stderr).chars().take(1000).collect();
    Err(io::Error::other(format!("nft: {}", said.trim())))
}

/// The whole table without containers. Deleting what was just declared makes the script work whether there was one or not.
fn base(config: &Config) -> String {
    let (table, wires, network) =
        (config.name(), format!("\"{}*\"", config.interface_prefix()), config.network);
    let mut allowed = String::new();
    for (address, ports) in config.allow_host.iter().filter(|(_, ports)| !ports.is_empty()) {
        let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        _ = writeln!(allowed, "    ip daddr {address} tcp dport {{ {ports} }} accept");
    }
    let gateway = network.gateway();
    // Only by the address that others are told: another platform on this machine may map the same ports of another one.
    let (from_outside, from_here) = match config.host_ip {
        address if address.is_loopback() => (String::new(), String::new()),
        address => (
            format!("    iifname != {wires} ip daddr {address} dnat ip to tcp dport map @ports\n"),
            format!("    ip daddr {address} dnat ip to tcp dport map @ports\n"),
        ),
    };
    format!(
        "table inet {table} {{}}
delete table inet {table}
table inet {table} {{
  map egress {{ type ipv4_addr : verdict; }}
  map host {{ type ipv4_addr : verdict; }}
  map ports {{ type inet_service : ipv4_addr . inet_service; }}
  chain refused {{
    meta l4proto tcp reject with tcp reset
    reject
  }}
  chain from_container {{
    ct state established,related accept
    ct state invalid drop
    oifname {wires} goto refused
    ip daddr {network} goto refused
{allowed}    ip saddr vmap @egress
    goto refused
  }}
  chain to_container {{
    ct state established,related accept
    ct status dnat accept
    drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname {wires} jump from_container
    oifname {wires} jump to_container
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname {wires} jump to_host
  }}
  chain to_host {{
    ct state established,related accept
    ip daddr {gateway} udp dport 53 accept
    ip daddr {gateway} tcp dport 53 accept
{allowed}    ip saddr vmap @host
    goto refused
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
{from_outside}  }}
  chain output {{
    type nat hook output priority -100; policy accept;
{from_here}  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {network} oifname != {wires} masquerade
  }}
}}
"
    )
}

fn add(table: &str, member: &Member, new_chain: bool) -> String {
    let mut script = String::new();
    let chain = &member.chain;
    if new_chain {
        script += &add_chain(table, chain);
    }
    for line in elements(table, member) {
        _ = writeln!(script, "add element inet {line}");
    }
    script
}

fn remove(table: &str, member: &Member, unused_chain: bool) -> String {
    let mut script = String::new();
    for line in elements(table, member) {
        _ = writeln!(script, "delete element inet {line}");
    }
    if unused_chain {
        script += &remove_chain(table, &member.chain);
    }
    script
}

fn add_chain(table: &str, chain: &Chain) -> String {
    let mut script = String::new();
    for (name, rules) in [(&chain.name, &chain.forward), (&chain.host_name(), &chain.host)] {
        _ = writeln!(script, "add chain inet {table} {name}\nflush chain inet {table} {name}");
        rules.iter().for_each(|rule| _ = writeln!(script, "add rule inet {table} {name} {rule}"));
    }
    script
}

fn remove_chain(table: &str, chain: &Chain) -> String {
    let (name, host) = (&chain.name, chain.host_name());
    format!("delete chain inet {table} {name}\ndelete chain inet {table} {host}\n")
}

fn replace(table: &str, before: &Member, after: &Member, new_chain: bool) -> String {
    let mut script = if new_chain { add_chain(table, &after.chain) } else { String::new() };
    for (verb, member) in [("delete", before), ("add", after)] {
        for line in verdicts(table, member) {
            _ = writeln!(script, "{verb} element inet {line}");
        }
    }
    script
}

fn elements(table: &str, member: &Member) -> Vec<String> {
    let ports = member.ports.iter().map(|port| port_element(table, member.address, port));
    verdicts(table, member).into_iter().chain(ports).collect()
}

fn verdicts(table: &str, member: &Member) -> [String; 2] {
    let (address, chain) = (member.address, &member.chain);
    [
        format!("{table} egress {{ {address} : jump {} }}", chain.name),
        format!("{table} host {{ {address} : jump {} }}", chain.host_name()),
    ]
}

fn port_element(table: &str, address: Ipv4Addr, port: &PortMapping) -> String {
    format!("{table} ports {{ {} : {address} . {} }}", port.host_port, port.container_port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::egress;

    #[test]
    fn a_member_is_elements_and_its_chain_comes_and_goes_with_need() {
        let port = PortMapping { asked_port: 8080, container_port: 8080, host_port: 61_000 };
        let chain = egress::chain(&[]).unwrap();
        let member = Member {
            address: Ipv4Addr::new(10, 254, 0, 2),
            chain: chain.clone(),
            ports: vec![port],
        };
        let second = add("t", &member, false);
        assert_eq!(
            second,
            format!(
                "add element inet t egress {{ 10.254.0.2 : jump {0} }}\nadd element inet t host {{ 10.254.0.2 : jump {1} }}\n\
                 add element inet t ports {{ 61000 : 10.254.0.2 . 8080 }}\n",
                chain.name,
                chain.host_name()
            )
        );
        assert!(add("t", &member, true).ends_with(&second));
        assert!(add("t", &member, true).starts_with(&format!("add chain inet t {}", chain.name)));
        assert!(remove("t", &member, true).contains("delete chain"));
        assert!(!remove("t", &member, false).contains("delete chain"));
    }
}
