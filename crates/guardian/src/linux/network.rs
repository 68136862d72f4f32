//! A network namespace per container, joined to the host by a routed pair of interfaces: no bridge, so no neighbours.
#![expect(unsafe_code, reason = "a thread leaves its network namespace")]

use std::fs;
use std::io;
use std::net::Ipv4Addr;

use super::config::Network;
use super::netlink::{Batch, Mac, Netlink};

/// The host's end of every pair; packets for anywhere go there.
const HOST_MAC: Mac = [0x02, 0x63, 0x75, 0x70, 0x00, 0x01];
const INSIDE: &str = "eth0";
const LOOPBACK: u32 = 1;

/// How containers of one platform are joined to their host.
#[derive(Clone, Debug)]
pub struct Wiring {
    pub network: Network,
    pub prefix: String,
}

impl Wiring {
    /// Gives the host its address among the containers, and lets it forward. What is sent to an address no container has
    /// (any more) fails at once, instead of going out into the world.
    pub fn prepare_host(&self) -> io::Result<()> {
        fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        let (first, prefix) = self.network.parts();
        let batch =
            Batch::default().address(LOOPBACK, self.network.gateway()).unreachable(first, prefix);
        Netlink::open()?.send(&batch)
    }

    pub fn clear_host(&self) -> io::Result<()> {
        let (first, prefix) = self.network.parts();
        let batch = Batch::default()
            .delete_unreachable(first, prefix)
            .delete_address(LOOPBACK, self.network.gateway());
        match Netlink::open()?.send(&batch) {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ESRCH)) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    pub fn interface(&self, index: u32) -> String {
        format!("{}{index}", self.prefix)
    }

    /// Calls `inside` on a thread in a new, complete network namespace; what it spawns stays there, and the namespace
    /// lives as long as somebody is in it.
    pub fn with_new<T: Send>(
        &self,
        index: u32,
        inside: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        let host = Netlink::open()?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                leave_network()?;
                self.join(&host, index)?;
                inside().inspect_err(|_| _ = self.remove_interface(index))
            });
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        })
    }

    /// On the new namespace's thread; `host` is a socket of the host's.
    fn join(&self, host: &Netlink, index: u32) -> io::Result<()> {
        let (name, address, gateway) =
            (self.interface(index), self.network.container(index), self.network.gateway());
        let here = fs::File::open("/proc/thread-self/ns/net")?;
        host.send(&Batch::default().veth(&name, HOST_MAC, INSIDE, mac(address), &here))?;
        self.settle(host, &name, address, gateway).inspect_err(|_| _ = self.remove_interface(index))
    }

    fn settle(
        &self,
        host: &Netlink,
        name: &str,
        address: Ipv4Addr,
        gateway: Ipv4Addr,
    ) -> io::Result<()> {
        // Files of this thread's namespace: what an ordinary user may do there, and no IPv6 beyond loopback.
        fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")?;
        fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")?;
        optional(fs::write(format!("/proc/sys/net/ipv6/conf/{INSIDE}/disable_ipv6"), "1"))?;
        let inside = Netlink::open()?;
        let eth = inside.index(INSIDE)?;
        let batch = Batch::default()
            .up(LOOPBACK)
            .up(eth)
            .address(eth, address)
            .neighbour(eth, gateway, HOST_MAC);
        inside.send(&batch.route_to(eth, gateway, None).default_route(eth, gateway))?;
        let outside = host.index(name)?;
        let batch = Batch::default().without_ipv6(outside).up(outside).route_to(
            outside,
            address,
            Some(gateway),
        );
        host.send(&batch.neighbour(outside, address, mac(address)))
    }

    /// The other end goes with it.
    pub fn remove_interface(&self, index: u32) -> io::Result<()> {
        match Netlink::open()?.send(&Batch::default().delete_link(&self.interface(index))) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            result => result,
        }
    }

    /// What the container has sent and received, as (received, sent).
    pub fn traffic(&self, index: u32) -> (u64, u64) {
        let name = self.interface(index);
        let count = |file: &str| {
            let count = fs::read_to_string(format!("/sys/class/net/{name}/statistics/{file}"));
            count.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
        };
        // What the host's end sends is what the container receives.
        (count("tx_bytes"), count("rx_bytes"))
    }

    /// The numbers of all interfaces with this platform's prefix.
    pub fn interfaces(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir("/sys/class/net") else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.strip_prefix(&self.prefix)?.parse().ok()).collect()
    }
}

fn mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x02, 0x63, a, b, c, d]
}

/// Kernels without IPv6 have no such file.
fn optional(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn leave_network() -> io::Result<()> {
    let flags = rustix::thread::UnshareFlags::NEWNET;
    // SAFETY: only the network of this thread changes, which was made for it; descriptors stay shared.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}
