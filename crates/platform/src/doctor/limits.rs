//! What the system allows at most: open files, processes, watches, connections.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::Finding;

/// A count below which an operator should look: where it is, how much is enough for a few hundred instances, and how to
/// raise it.
struct Least {
    name: &'static str,
    file: &'static str,
    enough: u64,
    sysctl: &'static str,
}

const LEAST: [Least; 4] = [
    Least {
        name: "process ids",
        file: "/proc/sys/kernel/pid_max",
        enough: 32_768,
        sysctl: "kernel.pid_max=4194304",
    },
    Least {
        name: "inotify instances",
        file: "/proc/sys/fs/inotify/max_user_instances",
        enough: 128,
        sysctl: "fs.inotify.max_user_instances=8192",
    },
    Least {
        name: "inotify watches",
        file: "/proc/sys/fs/inotify/max_user_watches",
        enough: 8_192,
        sysctl: "fs.inotify.max_user_watches=524288",
    },
    Least {
        name: "open files in all",
        file: "/proc/sys/fs/file-max",
        enough: 100_000,
        sysctl: "fs.file-max=1000000",
    },
];

const CONNECTIONS: u64 = 65_536;
const OPEN_FILES: u64 = 16_384;
/// Host ports for containers are taken from here on.
const FIRST_HOST_PORT: u64 = 61_000;

/// Those that are too low, and one line for the rest.
pub fn check() -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        LEAST.iter().filter_map(|least| least.judge(number(least.file))).collect();
    findings.extend(open_files());
    findings.extend(connections());
    findings.extend(local_ports());
    if findings.is_empty() {
        findings.push(Finding::ok(
            "system limits",
            "open files, processes, watches, connections: enough",
        ));
    }
    findings
}

impl Least {
    fn judge(&self, found: Option<u64>) -> Option<Finding> {
        let found = found.filter(|found| *found < self.enough)?;
        let remedy = format!("sysctl -w {} (and in /etc/sysctl.d/, to stay)", self.sysctl);
        Some(Finding::warn(self.name, format!("at most {found}"), remedy))
    }
}

fn number(file: &str) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn open_files() -> Option<Finding> {
    // No limit is none.
    let most = getrlimit(Resource::Nofile).maximum?;
    (most < OPEN_FILES).then(|| {
        Finding::warn(
            "open files",
            format!("at most {most} in one process"),
            "raise it: ulimit -Hn 1048576, or LimitNOFILE=1048576 in the systemd unit",
        )
    })
}

fn connections() -> Option<Finding> {
    let most = number("/proc/sys/net/netfilter/nf_conntrack_max")?;
    (most < CONNECTIONS).then(|| {
        Finding::warn(
            "tracked connections",
            format!("at most {most}"),
            "sysctl -w net.netfilter.nf_conntrack_max=262144 (and in /etc/sysctl.d/, to stay)",
        )
    })
}

fn local_ports() -> Option<Finding> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let last: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    (Path::new("/proc/net/tcp").exists() && last >= FIRST_HOST_PORT).then(|| {
        Finding::warn(
            "local ports",
            format!("up to {last}, which overlaps the host ports of containers ({FIRST_HOST_PORT} to 65535)"),
            "sysctl -w net.ipv4.ip_local_port_range='32768 60999' (and in /etc/sysctl.d/, to stay)",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_low_says_how_to_raise_it() {
        let pids = &LEAST[0];
        assert_eq!(pids.judge(Some(4_194_304)), None);
        assert_eq!(pids.judge(None), None, "a kernel without it does not limit it");
        let low = pids.judge(Some(1_000)).unwrap();
        assert!(low.remedy.contains("sysctl -w kernel.pid_max"), "{low:?}");
    }
}
