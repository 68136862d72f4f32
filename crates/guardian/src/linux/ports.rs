//! Host ports for containers' ports.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use garden::{GardenError, PortMapping, Result};
use parking_lot::Mutex;

pub struct HostPorts {
    range: RangeInclusive<u16>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    ports: HashSet<u16>,
    /// Goes round, so that a port just given back rests.
    next: u16,
}

impl HostPorts {
    pub fn new(range: RangeInclusive<u16>) -> HostPorts {
        let taken = Mutex::new(Taken { next: *range.start(), ..Taken::default() });
        HostPorts { range, taken }
    }

    pub fn occupy(&self, port: u16) {
        self.taken.lock().ports.insert(port);
    }

    /// One host port for each of `asked`, or none at all.
    pub fn allocate(&self, asked: &[u16]) -> Result<Vec<PortMapping>> {
        let mut taken = self.taken.lock();
        let room = usize::from(*self.range.end() - *self.range.start()) + 1;
        if taken.ports.len() + asked.len() > room {
            return Err(GardenError::Exhausted("host ports"));
        }
        Ok(asked.iter().map(|port| self.one(&mut taken, *port)).collect())
    }

    /// This very one, which may lie outside of the range.
    pub fn claim(&self, asked_port: u16, host_port: u16) -> Result<PortMapping> {
        if !self.taken.lock().ports.insert(host_port) {
            return Err(GardenError::PortTaken(host_port));
        }
        Ok(PortMapping { asked_port, container_port: asked_port, host_port })
    }

    fn one(&self, taken: &mut Taken, port: u16) -> PortMapping {
        loop {
            let host_port = taken.next;
            taken.next =
                if host_port == *self.range.end() { *self.range.start() } else { host_port + 1 };
            if taken.ports.insert(host_port) {
                return PortMapping { asked_port: port, container_port: port, host_port };
            }
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

    #[test]
    fn ports_go_round_and_run_out() {
        let ports = HostPorts::new(100..=102);
        let first = ports.allocate(&[8080, 2222]).unwrap();
        assert_eq!(
            first.iter().map(|port| (port.asked_port, port.host_port)).collect::<Vec<_>>(),
            [(8080, 100), (2222, 101)]
        );
        assert!(matches!(ports.allocate(&[1, 2]), Err(GardenError::Exhausted("host ports"))));
        ports.release(&first[..1]);
        assert_eq!(
            ports.allocate(&[1, 2]).unwrap().iter().map(|port| port.host_port).collect::<Vec<_>>(),
            [102, 100]
        );
    }
}
