//! The few things asked of the kernel's routing interface, all in one message where they belong together. A socket acts
//! in the network namespace of the thread that opened it.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const ACK: u16 = 0x4;
const REQUEST: u16 = 0x1;
const CREATE: u16 = 0x400 | 0x200;
/// Taken as it is when it exists.
const REPLACE: u16 = 0x400 | 0x100;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;

pub type Mac = [u8; 6];

/// A socket to the kernel.
pub struct Netlink {
    socket: OwnedFd,
}

/// Requests that are sent together and answered one by one.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    count: u32,
}

impl Netlink {
    pub fn open() -> io::Result<Netlink> {
        let flags = SocketFlags::CLOEXEC;
        // Without a protocol it is number 0, which is that of routes and links.
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        Ok(Netlink { socket })
    }

    /// The number of an interface in the namespace this socket belongs to.
    pub fn index(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(&self.socket, name)?)
    }

    /// Carries all of it out; the first error is the answer.
    pub fn send(&self, batch: &Batch) -> io::Result<()> {
        rustix::net::send(&self.socket, &batch.bytes, SendFlags::empty())?;
        let mut first = Ok(());
        let mut buffer = [0; 16 * 1024];
        let mut left = batch.count;
        while left > 0 {
            let (got, _) = rustix::net::recv(&self.socket, &mut buffer, RecvFlags::empty())?;
            let mut rest = &buffer[..got];
            while let Some((kind, payload, after)) = split(rest) {
                rest = after;
                if kind != libc::NLMSG_ERROR as u16 {
                    continue;
                }
                left = left.saturating_sub(1);
                let errno =
                    payload.first_chunk().map_or(-libc::EIO, |word| i32::from_ne_bytes(*word));
                if errno != 0 && first.is_ok() {
                    first = Err(io::Error::from_raw_os_error(-errno));
                }
            }
        }
        first
    }
}

fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
    let payload = bytes.get(16..length)?;
    Some((kind, payload, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

impl Batch {
    /// A pair of interfaces: `name` here, `peer` in the namespace `inside`.
    pub fn veth(
        mut self,
        name: &str,
        mac: Mac,
        peer: &str,
        peer_mac: Mac,
        inside: &impl AsRawFd,
    ) -> Batch {
        self.message(libc::RTM_NEWLINK, CREATE, |message| {
            link(message, 0, 0);
            text(message, IFLA_IFNAME, name);
            attribute(message, IFLA_ADDRESS, &mac);
            nested(message, IFLA_LINKINFO, |info| {
                text(info, IFLA_INFO_KIND, "veth");
                nested(info, IFLA_INFO_DATA, |data| {
                    nested(data, VETH_INFO_PEER, |other| {
                        link(other, 0, 0);
                        text(other, IFLA_IFNAME, peer);
                        attribute(other, IFLA_ADDRESS, &peer_mac);
                        let inside: RawFd = inside.as_raw_fd();
                        attribute(other, IFLA_NET_NS_FD, &inside.to_ne_bytes());
                    });
                });
            });
        });
        self
    }

    pub fn up(mut self, index: u32) -> Batch {
        self.message(libc::RTM_NEWLINK, 0, |message| link(message, index, libc::IFF_UP as u32));
        self
    }

    /// No address of its own makes itself; before the interface comes up.
    pub fn without_ipv6(mut self, index: u32) -> Batch {
        self.message(libc::RTM_NEWLINK, 0, |message| {
            const NONE: u8 = 1;
            link(message, index, 0);
            nested(message, IFLA_AF_SPEC, |families| {
                nested(families, libc::AF_INET6 as u16, |inet6| {
                    attribute(inet6, IFLA_INET6_ADDR_GEN_MODE, &[NONE])
                });
            });
        });
        self
    }

    pub fn delete_link(mut self, name: &str) -> Batch {
        self.message(libc::RTM_DELLINK, 0, |message| {
            link(message, 0, 0);
            text(message, IFLA_IFNAME, name);
        });
        self
    }

    pub fn address(mut self, index: u32, address: Ipv4Addr) -> Batch {
        self.message(libc::RTM_NEWADDR, REPLACE, |message| host_address(message, index, address));
        self
    }

    pub fn delete_address(mut self, index: u32, address: Ipv4Addr) -> Batch {
        self.message(libc::RTM_DELADDR, 0, |message| host_address(message, index, address));
        self
    }

    /// To one address, on the link itself.
    pub fn route_to(mut self, index: u32, to: Ipv4Addr, from: Option<Ipv4Addr>) -> Batch {
        self.message(libc::RTM_NEWROUTE, REPLACE, |message| {
            route(message, 32, libc::RT_SCOPE_LINK, libc::RTN_UNICAST);
            attribute(message, RTA_DST, &to.octets());
            attribute(message, RTA_OIF, &index.to_ne_bytes());
            if let Some(from) = from {
                attribute(message, RTA_PREFSRC, &from.octets());
            }
        });
        self
    }

    pub fn default_route(mut self, index: u32, gateway: Ipv4Addr) -> Batch {
        self.message(libc::RTM_NEWROUTE, REPLACE, |message| {
            route(message, 0, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST);
            attribute(message, RTA_GATEWAY, &gateway.octets());
            attribute(message, RTA_OIF, &index.to_ne_bytes());
        });
        self
    }

    /// Addresses without a more exact route are nowhere.
    pub fn unreachable(mut self, first: Ipv4Addr, prefix: u8) -> Batch {
        self.message(libc::RTM_NEWROUTE, REPLACE, |message| no_route(message, first, prefix));
        self
    }

    pub fn delete_unreachable(mut self, first: Ipv4Addr, prefix: u8) -> Batch {
        self.message(libc::RTM_DELROUTE, 0, |message| no_route(message, first, prefix));
        self
    }

    /// Who has `address`, so that nobody ever asks.
    pub fn neighbour(mut self, index: u32, address: Ipv4Addr, mac: Mac) -> Batch {
        const PERMANENT: u16 = 0x80;
        self.message(libc::RTM_NEWNEIGH, REPLACE, |message| {
            message.extend_from_slice(&[libc::AF_INET as u8, 0, 0, 0]);
            message.extend_from_slice(&index.to_ne_bytes());
            message.extend_from_slice(&PERMANENT.to_ne_bytes());
            message.extend_from_slice(&[0, 0]);
            attribute(message, NDA_DST, &address.octets());
            attribute(message, NDA_LLADDR, &mac);
        });
        self
    }

    fn message(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let mut message = vec![0; 16];
        fill(&mut message);
        self.count += 1;
        let length = message.len() as u32;
        message[..4].copy_from_slice(&length.to_ne_bytes());
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[6..8].copy_from_slice(&(flags | REQUEST | ACK).to_ne_bytes());
        message[8..12].copy_from_slice(&self.count.to_ne_bytes());
        message.resize(message.len().next_multiple_of(4), 0);
        self.bytes.append(&mut message);
    }
}

fn link(message: &mut Vec<u8>, index: u32, flags: u32) {
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&index.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
}

fn host_address(message: &mut Vec<u8>, index: u32, address: Ipv4Addr) {
    message.extend_from_slice(&[libc::AF_INET as u8, 32, 0, libc::RT_SCOPE_UNIVERSE]);
    message.extend_from_slice(&index.to_ne_bytes());
    attribute(message, IFA_LOCAL, &address.octets());
    attribute(message, IFA_ADDRESS, &address.octets());
}

fn route(message: &mut Vec<u8>, prefix: u8, scope: u8, kind: u8) {
    let (table, protocol) = (libc::RT_TABLE_MAIN, libc::RTPROT_STATIC);
    message.extend_from_slice(&[
        libc::AF_INET as u8,
        prefix,
        0,
        0,
        table,
        protocol,
        scope,
        kind,
        0,
        0,
        0,
        0,
    ]);
}

fn no_route(message: &mut Vec<u8>, first: Ipv4Addr, prefix: u8) {
    route(message, prefix, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNREACHABLE);
    attribute(message, RTA_DST, &first.octets());
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn text(message: &mut Vec<u8>, kind: u16, value: &str) {
    attribute(message, kind, &[value.as_bytes(), &[0]].concat());
}

fn nested(message: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    attribute(message, kind, &inner);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_and_aligned() {
        let batch = Batch::default().up(1).neighbour(2, Ipv4Addr::LOCALHOST, [1; 6]);
        assert_eq!(batch.count, 2);
        let (kind, payload, rest) = split(&batch.bytes).unwrap();
        assert_eq!((kind, payload.len()), (libc::RTM_NEWLINK, 16));
        let (kind, payload, rest) = split(rest).unwrap();
        // Twelve bytes of header, an address of 4 + 4 bytes, a hardware address of 4 + 6 bytes.
        assert_eq!((kind, payload.len()), (libc::RTM_NEWNEIGH, 12 + 8 + 12));
        assert!(rest.is_empty());
        assert!(split(&[1, 2, 3]).is_none());
    }
}
