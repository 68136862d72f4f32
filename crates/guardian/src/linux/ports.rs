//! Host ports for containers' ports.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

use garden::{GardenError, PortMapping, Result};
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use tracing::warn;

/// Several cells may stand on one machine under one address: whoever maps a port holds it there as well, so that no
/// other one maps it and takes the first one's requests.
pub struct HostPorts {
    range: RangeInclusive<u16>,
    /// Where ports are reached; `None` where they are reached by nobody but the host itself, at the container's own address.
    address: Option<Ipv4Addr>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    /// With what keeps others from it: a socket that nothing is ever received by.
    ports: HashMap<u16, Option<OwnedFd>>,
    /// Goes round, so that a port just given back rests.
    next: u16,
}

/// Somebody else has it.
struct PortHeld;

impl HostPorts {
    /// Those of `range` at `address`; a loopback address is none at which others are reached.
    pub fn new(range: RangeInclusive<u16>, address: Ipv4Addr) -> HostPorts {
        let taken = Mutex::new(Taken { next: *range.start(), ..Taken::default() });
        HostPorts { range, address: Some(address).filter(|address| !address.is_loopback()), taken }
    }

    /// A port that a container has had since before this program started.
    pub fn occupy(&self, port: u16) {
        let held = self.hold(port).unwrap_or_else(|PortHeld| {
            warn!(
                port,
                "a port of a container is held by another program, which may take its requests"
            );
            None
        });
        self.taken.lock().ports.insert(port, held);
    }

    /// One host port for each of `asked`, or none at all.
    pub fn allocate(&self, asked: &[u16]) -> Result<Vec<PortMapping>> {
        let mut taken = self.taken.lock();
        let before = taken.next;
        let mut found = Vec::with_capacity(asked.len());
        for port in asked {
            match self.one(&mut taken) {
                Some(host_port) => {
                    found.push(PortMapping { asked_port: *port, container_port: *port, host_port });
                }
                None => {
                    found
                        .iter()
                        .for_each(|one: &PortMapping| _ = taken.ports.remove(&one.host_port));
                    taken.next = before;
                    return Err(GardenError::Exhausted("host ports"));
                }
            }
        }
        Ok(found)
    }

    /// This very one, which may lie outside of the range.
    pub fn claim(&self, asked_port: u16, host_port: u16) -> Result<PortMapping> {
        let mut taken = self.taken.lock();
        if taken.ports.contains_key(&host_port) {
            return Err(GardenError::PortTaken(host_port));
        }
        let held = self.hold(host_port).map_err(|PortHeld| GardenError::PortTaken(host_port))?;
        taken.ports.insert(host_port, held);
        Ok(PortMapping { asked_port, container_port: asked_port, host_port })
    }

    /// The next that neither this cell nor anybody else at the address has.
    fn one(&self, taken: &mut Taken) -> Option<u16> {
        for _ in self.range.clone() {
            let port = taken.next;
            taken.next = if port == *self.range.end() { *self.range.start() } else { port + 1 };
            if taken.ports.contains_key(&port) {
                continue;
            }
            if let Ok(held) = self.hold(port) {
                taken.ports.insert(port, held);
                return Some(port);
            }
        }
        None
    }

    /// Bound and not listening: the packet filter leads away what comes for it, and what does not is refused.
    fn hold(&self, port: u16) -> std::result::Result<Option<OwnedFd>, PortHeld> {
        let Some(address) = self.address else { return Ok(None) };
        let bound =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .and_then(|socket| {
                    bind(&socket, &SocketAddrV4::new(address, port)).map(|()| socket)
                });
        match bound {
            Ok(socket) => Ok(Some(socket)),
            Err(Errno::ADDRINUSE) => Err(PortHeld),
            // An address that comes later, or too few descriptors: no reason to run nothing.
            Err(_) => Ok(None),
        }
    }

    pub fn release(&self, ports: &[PortMapping]) {
        let mut taken = self.taken.lock();
        ports.iter().for_each(|port| _ = taken.ports.remove(&port.host_port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(ports: &[PortMapping]) -> Vec<u16> {
        ports.iter().map(|port| port.host_port).collect()
    }

    #[test]
    fn ports_go_round_and_run_out() {
        let ports = HostPorts::new(100..=102, Ipv4Addr::LOCALHOST);
        let first = ports.allocate(&[8080, 2222]).unwrap();
        assert_eq!(
            first.iter().map(|port| (port.asked_port, port.host_port)).collect::<Vec<_>>(),
            [(8080, 100), (2222, 101)]
        );
        assert!(matches!(ports.allocate(&[1, 2]), Err(GardenError::Exhausted("host ports"))));
        ports.release(&first[..1]);
        assert_eq!(numbers(&ports.allocate(&[1, 2]).unwrap()), [102, 100]);
    }

    /// Any address of this machine that is not its loopback; `None` on a machine without a network.
    fn own_address() -> Option<Ipv4Addr> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        // Nothing is sent: this only looks at the routes.
        socket.connect((Ipv4Addr::new(203, 0, 113, 1), 9)).ok()?;
        match socket.local_addr().ok()?.ip() {
            std::net::IpAddr::V4(address) => Some(address),
            std::net::IpAddr::V6(_) => None,
        }
    }

    #[test]
    fn two_cells_at_one_address_never_map_the_same_port() {
        let Some(address) = own_address() else {
            return eprintln!("skipped: this machine has no network");
        };
        // Outside of what cells and outgoing connections take.
        let range = 24_100..=24_140;
        let (one, other) = (HostPorts::new(range.clone(), address), HostPorts::new(range, address));
        let mine = one.allocate(&[8080; 10]).unwrap();
        let theirs = other.allocate(&[8080; 10]).unwrap();
        let both: std::collections::BTreeSet<u16> =
            numbers(&mine).into_iter().chain(numbers(&theirs)).collect();
        assert_eq!(both.len(), 20, "{mine:?} {theirs:?}");
        let wanted = mine[0].host_port;
        assert!(matches!(other.claim(8080, wanted), Err(GardenError::PortTaken(_))));
        assert!(matches!(other.allocate(&[1; 40]), Err(GardenError::Exhausted("host ports"))));
        one.release(&mine);
        other.claim(8080, wanted).unwrap();
    }
}
