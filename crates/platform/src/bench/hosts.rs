//! Machines of their own for cells: network namespaces on one bridge, which can be unplugged one by one.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::process::{Child, Command};

use super::platform::keepers;

/// Removed as a whole when dropped; what runs in there must have ended before.
pub struct Hosts {
    bridge: String,
    /// 10.A.B.0/24
    net: [u8; 2],
    hosts: Vec<Host>,
}

struct Host {
    namespace: String,
    /// The end of its wire on this machine.
    wire: String,
}

impl Hosts {
    /// Needs root.
    pub async fn new(count: u8) -> anyhow::Result<Hosts> {
        ensure!(rustix::process::geteuid().is_root(), "cells on machines of their own need root");
        let id = &base::new_guid()[..6];
        let mut net = [0; 2];
        for (byte, digits) in net.iter_mut().zip([&id[..2], &id[2..4]]) {
            *byte = u8::from_str_radix(digits, 16).context("guids are hexadecimal")?;
        }
        // Away from where platforms look for networks of their own: 10.254 and downwards.
        net[0] %= 128;
        let mut hosts = Hosts { bridge: format!("cub{id}"), net, hosts: Vec::new() };
        hosts.build(count, id).await?;
        Ok(hosts)
    }

    async fn build(&mut self, count: u8, id: &str) -> anyhow::Result<()> {
        let bridge = self.bridge.clone();
        ip(&["link", "add", &bridge, "type", "bridge"]).await?;
        ip(&["addr", "add", &format!("{}/24", self.home()), "dev", &bridge]).await?;
        ip(&["link", "set", &bridge, "up"]).await?;
        for index in 0..count {
            let (namespace, wire) = (format!("cupola-{id}-{index}"), format!("cuw{id}{index}"));
            ip(&["netns", "add", &namespace]).await?;
            self.hosts.push(Host { namespace: namespace.clone(), wire: wire.clone() });
            let peer = ["peer", "name", "eth0", "netns", namespace.as_str()];
            ip(&[&["link", "add", wire.as_str(), "type", "veth"][..], &peer].concat()).await?;
            ip(&["link", "set", &wire, "master", &bridge, "up"]).await?;
            let address = format!("{}/24", self.address(index));
            for command in [
                &["addr", "add", address.as_str(), "dev", "eth0"][..],
                &["link", "set", "eth0", "up"],
                &["link", "set", "lo", "up"],
                &["route", "add", "default", "via", &self.home().to_string()],
            ] {
                ip(&[&["-n", namespace.as_str()][..], command].concat()).await?;
            }
        }
        Ok(())
    }

    /// This machine's address on the bridge.
    pub fn home(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net[0], self.net[1], 1)
    }

    pub fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net[0], self.net[1], host + 10)
    }

    /// Starts this very program on a host.
    pub fn start(&self, host: u8, args: &[&str], log: &Path) -> anyhow::Result<Child> {
        let namespace = &self.hosts[usize::from(host)].namespace;
        let log = std::fs::File::options().create(true).append(true).open(log)?;
        Command::new("nsenter")
            .arg(format!("--net=/run/netns/{namespace}"))
            .arg(std::env::current_exe()?)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("starting a program on a host of its own; is nsenter there (util-linux)?")
    }

    pub async fn unplug(&self, host: u8) -> anyhow::Result<()> {
        ip(&["link", "set", &self.hosts[usize::from(host)].wire, "down"]).await
    }

    pub async fn plug_in(&self, host: u8) -> anyhow::Result<()> {
        ip(&["link", "set", &self.hosts[usize::from(host)].wire, "up"]).await
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let quietly = |args: &[&str]| {
            // What is not there need not go.
            let _ = std::process::Command::new("ip").args(args).stderr(Stdio::null()).status();
        };
        for host in &self.hosts {
            quietly(&["netns", "del", &host.namespace]);
            quietly(&["link", "del", &host.wire]);
        }
        quietly(&["link", "del", &self.bridge]);
    }
}

/// Ends what a cell that was killed keeps running from its data directory, and takes away what is mounted there: a cell
/// that ends in order leaves none of it.
pub fn sweep(data: &Path) {
    for pid in keepers(data) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    let run = |program: &str, args: &[&str]| {
        let status = std::process::Command::new(program).args(args).stderr(Stdio::null()).status();
        if !status.is_ok_and(|status| status.success()) {
            tracing::warn!(program, ?args, "something of a killed cell stays");
        }
    };
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let inside: Vec<&str> = points.filter(|point| Path::new(point).starts_with(data)).collect();
    // The last one mounted lies on top.
    inside.iter().rev().for_each(|point| run("umount", &["--lazy", point]));
    for device in std::fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = std::fs::read_to_string(device.path().join("loop/backing_file"));
        if file.is_ok_and(|file| Path::new(file.trim()).starts_with(data)) {
            run(
                "losetup",
                &["--detach", &format!("/dev/{}", device.file_name().to_string_lossy())],
            );
        }
    }
}

async fn ip(args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .await
        .context("running ip; is it there (iproute2)?")?;
    ensure!(
        output.status.success(),
        "ip {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
