//! What an operator may choose about containers on Linux.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use base::Clock;

/// Everything [`super::LinuxGarden`] is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Container folders, on a file system that can hold overlayfs's writable layers.
    pub state_dir: PathBuf,
    /// Tells platforms on one host apart: it names cgroups, interfaces and the nftables table. Letters, digits and `_`.
    pub instance: String,
    /// Containers' addresses; the first is the host's own among them.
    pub network: Network,
    /// Where containers say they can be reached from outside, together with a mapped port.
    pub host_ip: Ipv4Addr,
    /// Host ports for those mappings.
    pub host_ports: std::ops::RangeInclusive<u16>,
    /// The host's id for root of container 0; each container has the 65,536 from there on.
    pub first_id: u32,
    pub max_containers: u32,
    /// Networks and shims made ahead.
    pub spares: usize,
    /// How much of a process's output is kept; the older half gives way.
    pub output_bytes: u64,
    /// Instead of what the host has.
    pub memory_mb: Option<u64>,
    pub disk_mb: Option<u64>,
    /// Names below these (and themselves) have these addresses inside.
    pub dns_overrides: Vec<(String, Ipv4Addr)>,
    /// Instead of the host's `/etc/resolv.conf`.
    pub nameservers: Option<Vec<SocketAddr>>,
    /// Where the platform is, here or elsewhere: every container may reach these addresses by these TCP ports.
    pub allow_host: Vec<(Ipv4Addr, Vec<u16>)>,
    pub disk_limits: DiskLimits,
    /// Between two looks at who has written too much, where nothing else stops them.
    pub disk_look: Duration,
    pub clock: Clock,
}

/// What is done about containers that write too much. Quotas of btrfs and of projects and images make the write fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskLimits {
    /// The best this host can do, in the order of this list.
    #[default]
    Best,
    /// A quota each, on a btrfs in a file. Needs `mkfs.btrfs`.
    Btrfs,
    /// A quota each of the file system that holds the state folder, ext4 or xfs mounted with `prjquota`.
    ProjectQuotas,
    /// An ext4 in a file for each. Needs `mkfs.ext4`.
    Images,
    /// They are counted now and then; who is beyond its limit is killed.
    Watched,
    /// Nothing.
    Off,
}

impl DiskLimits {
    const NAMES: [(DiskLimits, &str); 6] = [
        (DiskLimits::Best, "best"),
        (DiskLimits::Btrfs, "btrfs"),
        (DiskLimits::ProjectQuotas, "project-quotas"),
        (DiskLimits::Images, "images"),
        (DiskLimits::Watched, "watched"),
        (DiskLimits::Off, "off"),
    ];

    /// One of `best`, `btrfs`, `project-quotas`, `images`, `watched`, `off`.
    pub fn parse(name: &str) -> Option<DiskLimits> {
        DiskLimits::NAMES.iter().find(|(_, known)| *known == name).map(|(limits, _)| *limits)
    }

    /// Every name, best first.
    pub fn names() -> impl Iterator<Item = &'static str> {
        DiskLimits::NAMES.iter().map(|(_, name)| *name)
    }

    pub fn name(self) -> &'static str {
        DiskLimits::NAMES.iter().find(|(known, _)| *known == self).map_or("", |(_, name)| name)
    }
}

/// A range of addresses in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: u32,
    prefix: u8,
}

impl Network {
    /// `None` unless `text` is like `10.254.0.0/16` with a prefix from 8 to 29.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = text.split_once('/')?;
        let (address, prefix): (Ipv4Addr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        (8..=29)
            .contains(&prefix)
            .then(|| Network { first: u32::from(address) & (u32::MAX << (32 - prefix)), prefix })
    }

    /// In the kernel's form.
    pub fn parts(&self) -> (Ipv4Addr, u8) {
        (self.at(0), self.prefix)
    }

    /// The host's own address in here.
    pub fn gateway(&self) -> Ipv4Addr {
        self.at(1)
    }

    /// The address of the container with this number.
    pub fn container(&self, index: u32) -> Ipv4Addr {
        self.at(index + 2)
    }

    /// How many containers have an address.
    pub fn containers(&self) -> u32 {
        (1 << (32 - self.prefix)) - 3
    }

    fn at(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.first + offset)
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.first), self.prefix)
    }
}

impl Config {
    /// The usual choices.
    pub fn new(state_dir: PathBuf, instance: &str) -> Config {
        Config {
            state_dir,
            instance: instance.into(),
            network: Network::parse("10.254.0.0/16").expect("a valid range"),
            host_ip: Ipv4Addr::LOCALHOST,
            host_ports: 61_000..=65_535,
            first_id: 1_000_000,
            max_containers: 1_000,
            spares: 4,
            output_bytes: 4 << 20,
            memory_mb: None,
            disk_mb: None,
            dns_overrides: Vec::new(),
            nameservers: None,
            allow_host: Vec::new(),
            disk_limits: DiskLimits::Best,
            disk_look: Duration::from_secs(5),
            clock: Clock::system(),
        }
    }

    /// What the platform's things are called on the host.
    pub fn name(&self) -> String {
        format!("cupola_{}", self.instance)
    }

    /// Begins the name of every host interface of this platform, of which there are 15 letters in all.
    pub fn interface_prefix(&self) -> String {
        let hash = self
            .instance
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        format!("cu{:05x}-", hash & 0xf_ffff)
    }

    /// The numbers containers can have here.
    pub fn indexes(&self) -> u32 {
        let ids = (u32::MAX - self.first_id) / super::IDS;
        self.network.containers().min(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_numbers_its_containers() {
        let network = Network::parse("10.254.7.9/24").unwrap();
        assert_eq!(network.to_string(), "10.254.7.0/24");
        assert_eq!(network.gateway(), Ipv4Addr::new(10, 254, 7, 1));
        assert_eq!(network.container(0), Ipv4Addr::new(10, 254, 7, 2));
        assert_eq!(network.container(network.containers() - 1), Ipv4Addr::new(10, 254, 7, 254));
        assert_eq!(Network::parse("10.0.0.0/30"), None);
        assert_eq!(Network::parse("10.0.0.0"), None);
    }

    #[test]
    fn disk_limits_have_names() {
        for (limits, name) in DiskLimits::NAMES {
            assert_eq!((DiskLimits::parse(name), limits.name()), (Some(limits), name));
        }
        assert_eq!(DiskLimits::parse("none"), None);
    }

    #[test]
    fn interface_names_fit() {
        let config = Config::new("/x".into(), "some_long_instance_name");
        assert!(format!("{}{}", config.interface_prefix(), 65_000).len() <= 15);
        assert_ne!(config.interface_prefix(), Config::new("/x".into(), "other").interface_prefix());
    }
}
