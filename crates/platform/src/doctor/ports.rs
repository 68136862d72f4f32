//! The front door's ports: free, or held by whom?

use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener};
use std::path::Path;

use super::Finding;
use crate::settings::Settings;
use crate::tcp::{self, TcpSettings};

pub fn check(settings: &Settings, own: Option<u32>) -> Vec<Finding> {
    let both = [
        ("HTTP port", settings.http_port, [80, 8080], "--http-port"),
        ("HTTPS port", settings.https_port, [443, 8443], "--https-port"),
    ];
    let door = both
        .into_iter()
        .map(|(name, wish, usual, flag)| port(settings.listen, name, wish, usual, flag, own));
    door.chain([of_tcp_routes(&settings.tcp, own)]).collect()
}

fn of_tcp_routes(settings: &TcpSettings, own: Option<u32>) -> Finding {
    const NAME: &str = "TCP ports";
    let Some(ports) = &settings.ports else { return Finding::ok(NAME, "no TCP routes") };
    match tcp::taken(ports, own) {
        (_, 0) => Finding::ok(NAME, ports.to_string()),
        (held, count) => Finding::warn(
            NAME,
            format!(
                "{ports}, of which {} held: {held}",
                if count == 1 { "one is" } else { "some are" }
            ),
            "free them, or leave them out with --tcp-ports: a TCP route that gets one of them cannot be reached",
        ),
    }
}

fn port(
    ip: IpAddr,
    name: &'static str,
    wish: Option<u16>,
    [first, second]: [u16; 2],
    flag: &str,
    own: Option<u32>,
) -> Finding {
    let Some(wish) = wish else {
        return match (taken(ip, first, own), taken(ip, second, own)) {
            (None, _) => Finding::ok(name, first.to_string()),
            (Some(why), None) => Finding::warn(
                name,
                format!("{second}, for {first} {why}"),
                format!(
                    "free {first} or start as root for addresses without a port; or choose one with {flag}"
                ),
            ),
            (Some(why), Some(also)) => Finding::fail(
                name,
                format!("{first} {why}, {second} {also}"),
                format!("free one of them, or choose another with {flag}"),
            ),
        };
    };
    match taken(ip, wish, own) {
        None => {
            Finding::ok(name, if wish == 0 { "any free one".to_owned() } else { wish.to_string() })
        }
        Some(why) => Finding::fail(
            name,
            format!("{wish} {why}"),
            format!("free it, or choose another with {flag}"),
        ),
    }
}

/// Why a platform could not listen there; `own` may hold it already.
fn taken(ip: IpAddr, port: u16, own: Option<u32>) -> Option<String> {
    let error = TcpListener::bind((ip, port)).err()?;
    let holder = holder(port);
    if own.is_some() && holder.as_ref().map(|(pid, _)| *pid) == own {
        return None;
    }
    Some(match holder {
        Some((pid, name)) => format!("is held by {name} (process {pid})"),
        None if error.kind() == std::io::ErrorKind::PermissionDenied => "needs root".to_owned(),
        None if error.kind() == std::io::ErrorKind::AddrInUse => "is in use".to_owned(),
        None => format!("cannot be listened on: {error}"),
    })
}

/// Who listens on a TCP port of this machine: process id and name. Of other users' processes only root learns.
pub fn holder(port: u16) -> Option<(u32, String)> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .flat_map(|table| listeners(&table, port))
        .collect();
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| inodes.iter().any(|inode| holds(*pid, inode))).map(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        (pid, name.trim().to_owned())
    })
}

fn holds(pid: u32, inode: &str) -> bool {
    let wanted = format!("socket:[{inode}]");
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files
        .flatten()
        .any(|file| std::fs::read_link(file.path()).is_ok_and(|link| link == Path::new(&wanted)))
}

/// Every TCP port of this machine that somebody listens on.
pub fn listening() -> BTreeSet<u16> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    tables.flat_map(|table| sockets(&table).map(|(port, _)| port).collect::<Vec<_>>()).collect()
}

/// The inodes of sockets that listen on `port`, of a table as `/proc/net/tcp` has it.
fn listeners(table: &str, port: u16) -> Vec<String> {
    sockets(table).filter(|(own, _)| *own == port).map(|(_, inode)| inode.to_owned()).collect()
}

/// Port and inode of every socket that listens.
fn sockets(table: &str) -> impl Iterator<Item = (u16, &str)> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, port) = words.get(1)?.rsplit_once(':')?;
        let listens = *words.get(3)? == LISTEN;
        listens.then_some((u16::from_str_radix(port, 16).ok()?, *words.get(9)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_in_the_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n   \
                     1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n";
        assert_eq!(listeners(table, 8080), ["4711"]);
        assert!(listeners(table, 80).is_empty());
        assert_eq!(sockets(table).collect::<Vec<_>>(), [(8080, "4711")]);
    }

    #[test]
    fn who_holds_a_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(holder(port).map(|(pid, _)| pid), Some(std::process::id()));
        let ip = IpAddr::from([127, 0, 0, 1]);
        assert!(taken(ip, port, None).unwrap().contains("is held by"));
        assert_eq!(taken(ip, port, Some(std::process::id())), None, "our own platform");
        let finding = super::port(ip, "HTTP port", Some(port), [80, 8080], "--http-port", None);
        assert_eq!(finding.level, crate::doctor::Level::Fail);
        drop(listener);
        assert_eq!(taken(ip, port, None), None);
    }
}
