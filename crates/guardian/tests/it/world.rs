//! A small world beyond the host: a network namespace with addresses of several kinds, where every connection is told
//! who it seems to come from.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

pub const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
pub const PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);
/// In the place of a cloud's metadata service.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 77);

/// Gone, with everything in it, when dropped.
pub struct World {
    name: String,
}

impl World {
    pub fn new() -> World {
        let name = format!("cuw{}", std::process::id());
        let world = World { name: name.clone() };
        ip(&format!("netns add {name}"));
        ip(&format!("link add {name} type veth peer name eth0 netns {name}"));
        ip(&format!("addr add {HOST}/24 dev {name}"));
        ip(&format!("link set {name} up"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} link set eth0 up"));
        for address in [PUBLIC, PRIVATE, METADATA] {
            ip(&format!("-n {name} addr add {address}/24 dev eth0"));
        }
        ip(&format!("route add {PRIVATE}/32 dev {name}"));
        ip(&format!("route add {METADATA}/32 dev {name}"));
        for (address, port) in [(PUBLIC, 80), (PUBLIC, 81), (PRIVATE, 80), (METADATA, 80)] {
            world.serve((address, port).into());
        }
        world
    }

    /// Answers everybody with their address, from a thread that ends with the tests.
    fn serve(&self, address: SocketAddr) {
        let listener = self.inside(move || TcpListener::bind(address).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream: TcpStream = stream;
                if let Ok(peer) = stream.peer_addr() {
                    // Whoever has gone away has its answer.
                    let _ = writeln!(stream, "{}", peer.ip());
                }
            }
        });
    }

    /// What somebody out there gets who connects.
    pub fn ask(&self, address: SocketAddr) -> std::io::Result<String> {
        self.inside(move || {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(30))?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            let mut said = String::new();
            stream.read_to_string(&mut said)?;
            Ok(said)
        })
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let network = Some(rustix::thread::LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(namespace.as_fd(), network).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        ip(&format!("link del {}", self.name));
        ip(&format!("netns del {}", self.name));
    }
}

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}
