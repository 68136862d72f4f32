//! Whom containers reach, and who reaches them.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use garden::contract::{Fixture, outcome, sh};
use garden::{ContainerInfo, ContainerSpec, EgressRule, Garden, Process, Protocol};
use guardian::linux::LinuxGarden;

use crate::bed::{Bed, is_root};
use crate::world::{HOST, METADATA, PRIVATE, PUBLIC, World};

fn allow(protocol: Protocol, destination: &str, ports: &[u16]) -> EgressRule {
    EgressRule {
        protocol,
        destinations: vec![destination.into()],
        ports: ports.to_vec(),
        port_range: None,
        icmp_type: None,
        icmp_code: None,
        log: false,
    }
}

struct Inside {
    garden: Arc<LinuxGarden>,
    info: ContainerInfo,
}

impl Inside {
    async fn new(garden: &Arc<LinuxGarden>, fixture: &Fixture, egress: Vec<EgressRule>) -> Inside {
        let spec = ContainerSpec { egress, ports: vec![8080], ..fixture.spec() };
        Inside { garden: garden.clone(), info: garden.create(spec).await.unwrap() }
    }

    async fn says(&self, script: &str) -> String {
        let script = format!("exec bash -c '{script}' 2>&1");
        outcome(&*self.garden, &self.info.handle, "vcap", &script).await.0.trim().to_owned()
    }

    /// What a connection is told, or `refused`.
    async fn reach(&self, address: impl Into<IpAddr>, port: u16) -> String {
        let address = address.into();
        let said =
            self.says(&format!("exec 3<>/dev/tcp/{address}/{port} && timeout 30 cat <&3")).await;
        if said.contains("refused") { "refused".into() } else { said }
    }

    /// Serves one word on port 8080.
    async fn serve(&self) -> Process {
        let script = "exec perl -MIO::Socket::INET -e '$l = IO::Socket::INET->new(LocalPort => 8080, Listen => 9, ReuseAddr => 1) or die; \
                      $| = 1; print \"ready\\n\"; while ($c = $l->accept) { print $c \"inside\\n\"; close $c }'";
        let mut process = self.garden.run(&self.info.handle, sh("vcap", script)).await.unwrap();
        assert_eq!(&process.output.recv().await.unwrap().data[..], b"ready\n");
        process
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_reach_what_they_may_and_no_more() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let host = TcpListener::bind((HOST, 0)).unwrap();
    let host_port = host.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in host.incoming() {
            drop(stream)
        }
    });
    let mut bed = Bed::new();
    bed.config.host_ip = HOST;
    bed.config.allow_host = vec![(bed.config.network.gateway(), vec![host_port])];
    let gateway = bed.config.network.gateway();
    bed.run(move |garden, fixture| async move {
        let nothing = Inside::new(&garden, &fixture, vec![]).await;
        for (address, port) in [(PUBLIC, 80), (PRIVATE, 80), (METADATA, 80), (HOST, host_port)] {
            assert_eq!(nothing.reach(address, port).await, "refused", "{address}:{port}");
        }

        let some =
            Inside::new(&garden, &fixture, vec![allow(Protocol::Tcp, "203.0.113.0/24", &[80])])
                .await;
        assert_eq!(some.reach(PUBLIC, 80).await, HOST.to_string());
        assert_eq!(some.reach(PUBLIC, 81).await, "refused");
        assert_eq!(some.reach(PRIVATE, 80).await, "refused");

        let all =
            Inside::new(&garden, &fixture, vec![allow(Protocol::All, "0.0.0.0/0", &[])]).await;
        assert_eq!(all.reach(PUBLIC, 81).await, HOST.to_string());
        assert_eq!(all.reach(METADATA, 80).await, "refused");
        assert_eq!(all.reach(HOST, host_port).await, "refused");
        let named = vec![
            allow(Protocol::Tcp, &METADATA.to_string(), &[]),
            allow(Protocol::Tcp, &HOST.to_string(), &[host_port]),
        ];
        let named = Inside::new(&garden, &fixture, named).await;
        assert_eq!(named.reach(METADATA, 80).await, HOST.to_string());
        assert_eq!(named.reach(HOST, host_port).await, "");
        // The front door, which the platform allows to all.
        assert_eq!(
            nothing.reach(gateway, host_port).await,
            "refused",
            "nobody listens there, but the way is open"
        );

        let _serving = some.serve().await;
        let inside = SocketAddr::from((some.info.container_ip, 8080));
        assert_eq!(
            all.reach(some.info.container_ip, 8080).await,
            "refused",
            "containers do not see each other"
        );
        assert_eq!(
            all.reach(HOST, some.info.ports[0].host_port).await,
            "refused",
            "not by way of the host either"
        );
        assert_eq!(said(inside), "inside\n");
        assert_eq!(said((HOST, some.info.ports[0].host_port).into()), "inside\n");
        assert_eq!(world.ask((HOST, some.info.ports[0].host_port).into()).unwrap(), "inside\n");
        assert_eq!(
            nothing.says("ls /sys/class/net | tr \"\\n\" ,; cat /proc/net/if_inet6 | wc -l").await,
            "eth0,lo,1"
        );
        let used = garden.metrics(&some.info.handle).await.unwrap();
        assert!(used.rx_bytes > 100 && used.tx_bytes > 100, "{used:?}");

        garden.destroy(&some.info.handle).await.unwrap();
        let gone = TcpStream::connect_timeout(&inside, Duration::from_secs(30)).unwrap_err();
        assert_eq!(
            gone.raw_os_error(),
            Some(libc::EHOSTUNREACH),
            "known at once, and not asked of the world"
        );
        assert!(world.ask((HOST, some.info.ports[0].host_port).into()).is_err());
    })
    .await;
}

fn said(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(30)).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

/// A name server that gives every name the same address, and tells nothing else.
fn upstream(address: Ipv4Addr) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let query = &buffer[..length];
            let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let wanted = query[end - 3] == 1;
            let mut answer = query[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(wanted), 0, 0, 0, 0]);
            if wanted {
                answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4]);
                answer.extend_from_slice(&address.octets());
            }
            socket.send_to(&answer, from).unwrap();
        }
    });
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_resolve_names_by_their_host() {
    if !is_root() {
        return;
    }
    let mut bed = Bed::new();
    let gateway = bed.config.network.gateway();
    bed.config.nameservers = Some(vec![upstream(PUBLIC)]);
    bed.config.dns_overrides = vec![("apps.test".into(), gateway)];
    bed.run(move |garden, fixture| async move {
        let inside = Inside::new(&garden, &fixture, vec![]).await;
        assert_eq!(
            inside.says("getent ahostsv4 www.example.com | head -1").await.split(' ').next(),
            Some("203.0.113.10")
        );
        assert_eq!(
            inside.says("getent ahostsv4 one.apps.test | head -1").await.split(' ').next(),
            Some(&*gateway.to_string())
        );
        let name = inside.says("hostname").await;
        let own = inside.says(&format!("getent ahostsv4 {name} | head -1")).await;
        assert_eq!(own.split(' ').next(), Some(&*inside.info.container_ip.to_string()));
    })
    .await;
}
