//! What the system allows at most: open files, processes, watches, connections.

use std::path::Path;

use super::Finding;

/// Host ports for containers are taken from here on.
const FIRST_HOST_PORT: u64 = 61_000;

/// Those that a start would complain of, and one line for the rest.
pub fn check() -> Vec<Finding> {
    let containers = executor::Config::default().containers;
    let told = |complaint: executor::host_limits::Complaint| {
        let executor::host_limits::Complaint { limit, is, wanted, remedy } = complaint;
        let detail = format!("{limit} is {is}; {containers} containers want {wanted}");
        Finding::warn("system limits", detail, remedy)
    };
    let mut findings: Vec<Finding> =
        executor::host_limits::look(containers).into_iter().map(told).collect();
    findings.extend(local_ports());
    if findings.is_empty() {
        findings.push(Finding::ok(
            "system limits",
            "open files, processes, watches, connections: enough, or raised at the start",
        ));
    }
    findings
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
