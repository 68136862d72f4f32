//! What is changed while a container runs takes effect at once, and outlasts the platform.

use std::time::Duration;

use garden::contract::{outcome, sh};
use garden::{
    ContainerSpec, EgressRule, Exit, Garden, Limits, PortRange, ProcessId, ProcessSpec, Protocol,
};
use guardian::linux::DiskLimits;
use tokio::io::AsyncWriteExt;

use crate::bed::{Bed, is_root};
use crate::world::{HOST, PRIVATE, PUBLIC, World};

fn allow(protocol: Protocol, destination: &str) -> EgressRule {
    EgressRule {
        protocol,
        destinations: vec![destination.into()],
        ports: Vec::new(),
        port_range: None,
        icmp_type: None,
        icmp_code: None,
        log: false,
    }
}

/// What a connection from inside is told, or `refused`.
fn reach(address: impl std::fmt::Display, port: u16) -> String {
    format!(
        "bash -c 'exec 3<>/dev/tcp/{address}/{port} && timeout 30 cat <&3' 2>&1 | grep -o -e refused -e '^[0-9.]*$' | head -1"
    )
}

/// One echo request, as ordinary users may send them.
const PING: &str = "perl -MSocket -e 'socket(my $s, AF_INET, SOCK_DGRAM, 1) or die $!; \
    connect($s, pack_sockaddr_in(0, inet_aton(shift))) or die $!; $SIG{ALRM} = sub { print qq(silence\\n); exit }; alarm 30; \
    for (1..2) { send($s, pack(q(CCnnn), 8, 0, 0, 0, 1), 0) or (print(qq(refused\\n)), exit); recv($s, my $b, 99, 0); } \
    print length($b // q()) || !$! ? qq(answer\\n) : qq(refused\\n)' ";

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_ports_come_to_containers_that_run() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let mut bed = Bed::new();
    bed.config.host_ip = HOST;
    bed.run(|garden, fixture| async move {
        let info = garden.create(fixture.spec()).await.unwrap();
        let neighbour = garden.create(fixture.spec()).await.unwrap();
        let says = async |script: &str| outcome(&*garden, &info.handle, "vcap", script).await.0;
        assert_eq!(says(&reach(PUBLIC, 80)).await, "refused\n");
        assert_ne!(says(&format!("{PING} {PUBLIC}")).await, "answer\n");
        let web = EgressRule {
            port_range: Some(PortRange { start: 79, end: 80 }),
            log: true,
            ..allow(Protocol::Tcp, "203.0.113.0-203.0.113.99")
        };
        garden.net_out(&info.handle, vec![web]).await.unwrap();
        assert_eq!(says(&reach(PUBLIC, 80)).await, format!("{HOST}\n"));
        assert_eq!(says(&reach(PUBLIC, 81)).await, "refused\n", "beyond the range");
        let echo = EgressRule { icmp_type: Some(8), icmp_code: Some(0), ..allow(Protocol::Icmp, "203.0.113.0/24") };
        let private = allow(Protocol::All, &PRIVATE.to_string());
        garden.net_out(&info.handle, vec![echo, private]).await.unwrap();
        assert_eq!(says(&format!("{PING} {PUBLIC}")).await, "answer\n");
        assert_eq!(says(&reach(PRIVATE, 80)).await, format!("{HOST}\n"), "private ones must be named");
        assert_eq!(says(&reach(PUBLIC, 80)).await, format!("{HOST}\n"), "earlier ones still hold");
        let said = outcome(&*garden, &neighbour.handle, "vcap", &reach(PUBLIC, 80)).await.0;
        assert_eq!(said, "refused\n", "nobody else gains by it");

        let serve = "exec perl -MIO::Socket::INET -e '$l = IO::Socket::INET->new(LocalPort => 9000, Listen => 9, ReuseAddr => 1) or die; \
                     $| = 1; print qq(ready\\n); while ($c = $l->accept) { print $c qq(inside\\n); close $c }'";
        let mut process = garden.run(&info.handle, sh("vcap", serve)).await.unwrap();
        process.output.recv().await.unwrap();
        let mapping = garden.net_in(&info.handle, 9000, None).await.unwrap();
        assert_eq!(world.ask((HOST, mapping.host_port).into()).unwrap(), "inside\n");
        garden.destroy(&info.handle).await.unwrap();
        assert!(world.ask((HOST, mapping.host_port).into()).is_err());
        let again = garden.net_in(&neighbour.handle, 9000, Some(mapping.host_port)).await.unwrap();
        assert_eq!(again.host_port, mapping.host_port, "what was mapped later is given back too");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_change_under_a_container_that_runs() {
    if !is_root() {
        return;
    }
    let mut bed = Bed::new();
    bed.config.disk_limits = DiskLimits::Best;
    bed.config.disk_mb = Some(1024);
    bed.run(|garden, fixture| async move {
        let small =
            Limits { memory_bytes: 48 << 20, disk_bytes: 16 << 20, cpu_shares: 100, pids: 20 };
        let spec = ContainerSpec { limits: small, ..fixture.spec() };
        let handle = garden.create(spec).await.unwrap().handle;
        let ends = async |script: &str| outcome(&*garden, &handle, "vcap", script).await.1;
        let big = "exec perl -e '$x = \"x\" x (80 << 20)'";
        let forks = "for i in $(seq 40); do sleep 1 & done; wait";
        let writes = "rm -f ~/a; head -c 24000000 /dev/zero > ~/a";
        assert_eq!(ends(big).await, Exit::OutOfMemory(137));
        assert_ne!(ends(forks).await, Exit::Status(0));
        assert_ne!(ends(writes).await, Exit::Status(0));
        let large =
            Limits { memory_bytes: 256 << 20, disk_bytes: 64 << 20, cpu_shares: 1024, pids: 100 };
        garden.set_limits(&handle, large).await.unwrap();
        for script in [big, forks, writes] {
            assert_eq!(ends(script).await, Exit::Status(0), "{script}");
        }
        let entitled = garden.metrics(&handle).await.unwrap().cpu_entitlement_nanos;
        assert!(entitled > 0);
        ends("rm -f ~/a; sync").await;
        garden.set_limits(&handle, small).await.unwrap();
        assert_eq!(ends(big).await, Exit::OutOfMemory(137));
        assert_ne!(ends(writes).await, Exit::Status(0));
        garden.set_limits(&handle, Limits::default()).await.unwrap();
        for script in [big, forks, writes] {
            assert_eq!(ends(script).await, Exit::Status(0), "{script}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_garden_started_anew_goes_on_with_every_change() {
    if !is_root() {
        return;
    }
    let bed = Bed::new();
    let garden = bed.open().await;
    let info =
        garden.create(ContainerSpec { ports: vec![8080], ..bed.fixture.spec() }).await.unwrap();
    let brief =
        ContainerSpec { grace_time: Some(Duration::from_millis(200)), ..bed.fixture.spec() };
    let brief = garden.create(brief).await.unwrap().handle;
    let handle = info.handle;
    garden.set_property(&handle, "a", "1").await.unwrap();
    garden.net_in(&handle, 9000, None).await.unwrap();
    garden.net_out(&handle, vec![allow(Protocol::Tcp, "203.0.113.9")]).await.unwrap();
    let limits = Limits { memory_bytes: 64 << 20, pids: 30, ..Limits::default() };
    garden.set_limits(&handle, limits).await.unwrap();
    let id = ProcessId::from("reads");
    let reads = ProcessSpec { id: Some(id.clone()), stdin: true, ..sh("vcap", "exec cat") };
    garden.run(&handle, reads).await.unwrap();
    let before = garden.snapshot(&handle).await.unwrap();
    garden.shutdown(false).await.unwrap();
    drop(garden);

    let garden = bed.open().await;
    assert_eq!(garden.snapshot(&handle).await.unwrap(), before);
    let mut process = garden.attach(&handle, &id, 0).await.unwrap();
    let mut input = garden.input(&handle, &id).await.unwrap();
    input.write_all(b"still here\n").await.unwrap();
    garden.close_input(&handle, &id).await.unwrap();
    drop(input);
    assert_eq!(garden::contract::text(&mut process).await, "still here\n");
    assert_eq!(process.wait().await, Some(Exit::Status(0)));
    let taken = before.info.ports[1].host_port;
    let stranger = garden.create(bed.fixture.spec()).await.unwrap().handle;
    assert!(garden.net_in(&stranger, 1, Some(taken)).await.is_err(), "mapped ports stay mapped");
    while garden.containers().await.unwrap().iter().any(|one| one.handle == brief) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    garden.shutdown(true).await.unwrap();
    bed.assert_nothing_left();
}
