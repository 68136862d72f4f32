//! Machines of their own for cells: network namespaces on one bridge, which can be unplugged one by one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::platform::{PATIENCE, keepers};

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

/// Programs on hosts, by host, each with a folder and a log of its own. Whatever is left of them when this is dropped goes
/// by force.
pub struct Programs {
    running: BTreeMap<u8, Child>,
    folder: PathBuf,
    /// Before the host's number.
    prefix: &'static str,
}

impl Programs {
    pub fn new(folder: &Path, prefix: &'static str) -> Programs {
        Programs { running: BTreeMap::new(), folder: folder.to_owned(), prefix }
    }

    pub fn data(&self, host: u8) -> PathBuf {
        self.folder.join(format!("{}{host}", self.prefix))
    }

    pub fn log(&self, host: u8) -> PathBuf {
        self.folder.join(format!("{}{host}.log", self.prefix))
    }

    pub fn start(&mut self, hosts: &Hosts, host: u8, args: &[&str]) -> anyhow::Result<()> {
        let child = hosts.start(host, args, &self.log(host))?;
        self.running.insert(host, child);
        Ok(())
    }

    pub fn runs(&self, host: u8) -> bool {
        self.running.contains_key(&host)
    }

    /// From now on the caller sees to its end.
    pub fn take(&mut self, host: u8) -> anyhow::Result<Child> {
        self.running.remove(&host).context("the program runs")
    }

    pub fn signal(&self, host: u8, sent: Signal) -> anyhow::Result<()> {
        let child = self.running.get(&host).context("the program runs")?;
        signal(child.id().context("the program runs")?, sent)
    }

    /// Ends all in order.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        let mut result = Ok(());
        // Those that have ended need no signal.
        for pid in self.running.values().filter_map(Child::id) {
            // A frozen one hears the second after the first.
            result = result.and(signal(pid, Signal::CONT)).and(signal(pid, Signal::INT));
        }
        for child in self.running.values_mut() {
            let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
            result = result.and(ended.context("a program does not end").map(drop));
        }
        result
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            // One that has ended needs no killing.
            let _ = child.start_kill();
        }
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let is_ours = entry.file_name().to_string_lossy().starts_with(self.prefix);
            if is_ours && entry.path().is_dir() {
                sweep(&entry.path());
            }
        }
    }
}

pub fn signal(pid: u32, sent: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    Ok(kill_process(pid.context("not a process id")?, sent)?)
}

/// Ends what a cell that was killed keeps running from its data directory, and takes away what is mounted there: a cell
/// that ends in order leaves none of it.
fn sweep(data: &Path) {
    for pid in keepers(data) {
        // It may have ended by itself.
        let _ = signal(pid, Signal::KILL);
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
