//! TCP routes between real clients and real backends.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base::{CancellationToken, Clock};
use diego::routing::{Routers as _, TableUpdate, tcp_route};
use envelope::Collect;
use router::{Config, Router, TcpConfig, TcpPort};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{dead, endpoint};

/// A router that serves TCP routes on loopback, stopped when dropped.
struct Rig {
    router: Router,
    stop: CancellationToken,
    serving: Option<JoinHandle<()>>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn rig(change: impl FnOnce(&mut TcpConfig)) -> Rig {
    let mut tcp = TcpConfig { listen: Ipv4Addr::LOCALHOST.into(), ..TcpConfig::default() };
    change(&mut tcp);
    let config = Config { tcp, ..Config::default() };
    let router =
        Router::new(config, axum::Router::new(), Arc::new(Collect::default()), Clock::system());
    let stop = CancellationToken::new();
    let (serving, until) = (router.clone(), stop.clone());
    let serving = tokio::spawn(async move { serving.serve_tcp(until).await });
    Rig { router, stop, serving: Some(serving) }
}

impl Rig {
    async fn map(&self, port: u16, index: u32, address: SocketAddr) {
        self.add(port, index, address).await;
        // The router may have been told to serve a moment ago.
        self.until(port, |told| told.open).await;
    }

    async fn add(&self, port: u16, index: u32, address: SocketAddr) {
        let add = vec![(tcp_route(port), endpoint(index, address))];
        self.router.apply(TableUpdate::Delta { add, remove: vec![] }).await;
    }

    async fn unmap(&self, port: u16, index: u32) {
        let remove = vec![(tcp_route(port), format!("instance-{index}").as_str().into())];
        self.router.apply(TableUpdate::Delta { add: vec![], remove }).await;
    }

    fn told(&self, port: u16) -> Option<TcpPort> {
        self.router.tcp_ports().into_iter().find(|told| told.port == port)
    }

    /// Waits until the port is as it should be.
    async fn until(&self, port: u16, good: impl Fn(&TcpPort) -> bool) {
        let wait = async {
            while !self.told(port).is_some_and(|told| good(&told)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait)
            .await
            .unwrap_or_else(|_| panic!("it stays {:?}", self.told(port)));
    }
}

/// A port that is free: below those that the system gives away by itself, and not the same for two tests.
async fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed) + std::process::id() * 64;
        let port = 12_000 + u16::try_from(next % 20_000).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            return port;
        }
    }
}

async fn connect(port: u16) -> std::io::Result<TcpStream> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await
}

/// Says its name, then sends back what it gets.
async fn echo(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(name.as_bytes()).await?;
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await?;
                to.shutdown().await
            });
        }
    });
    address
}

/// The next bytes, as many as `text` has.
async fn says(stream: &mut TcpStream, text: &str) {
    let mut bytes = vec![0; text.len()];
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_exact(&mut bytes));
    read.await.expect("an answer in time").unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), text);
}

async fn name(stream: &mut TcpStream) -> String {
    let mut bytes = [0];
    stream.read_exact(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn bytes_pass_both_ways_and_each_way_ends_by_itself() {
    let (rig, port) = (rig(|_| {}), free_port().await);
    rig.map(port, 0, echo("A").await).await;
    let mut client = connect(port).await.unwrap();
    says(&mut client, "A").await;
    client.write_all(b"hello").await.unwrap();
    says(&mut client, "hello").await;
    // More than any buffer on the way holds, then the end of one direction alone.
    let big: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let (mut from, mut to) = client.into_split();
    let sent = big.clone();
    let sending = tokio::spawn(async move {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
        to
    });
    let mut back = Vec::new();
    from.read_to_end(&mut back).await.unwrap();
    assert!(back == big, "{} of {} bytes came back", back.len(), big.len());
    drop(sending.await.unwrap());
    rig.until(port, |told| told.connections == 0).await;
}

#[tokio::test]
async fn a_port_is_open_exactly_as_long_as_something_stands_behind_it() {
    let (rig, port) = (rig(|_| {}), free_port().await);
    assert_eq!(connect(port).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    rig.map(port, 0, echo("A").await).await;
    let mut client = connect(port).await.unwrap();
    says(&mut client, "A").await;
    // Another instance comes, the first one goes: the port stays.
    rig.map(port, 1, echo("B").await).await;
    rig.unmap(port, 0).await;
    says(&mut connect(port).await.unwrap(), "B").await;
    rig.unmap(port, 1).await;
    assert_eq!(connect(port).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(rig.router.tcp_ports(), []);
    // What was connected goes on.
    client.write_all(b"still here").await.unwrap();
    says(&mut client, "still here").await;
    rig.map(port, 2, echo("C").await).await;
    says(&mut connect(port).await.unwrap(), "C").await;
    // A snapshot is all there is.
    let other = free_port().await;
    let all = vec![(tcp_route(other), endpoint(3, echo("D").await))];
    rig.router.apply(TableUpdate::Snapshot(all)).await;
    assert_eq!(connect(port).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    says(&mut connect(other).await.unwrap(), "D").await;
    assert_eq!(rig.router.endpoints(&format!("tcp.example.com:{other}")).len(), 1);
}

#[tokio::test]
async fn ports_wait_until_the_router_serves() {
    let port = free_port().await;
    let stopped = rig(|_| {});
    stopped.stop.cancel();
    let mut stopped = stopped;
    stopped.serving.take().unwrap().await.unwrap();
    stopped.add(port, 0, echo("A").await).await;
    assert_eq!(connect(port).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(stopped.told(port).map(|told| (told.endpoints, told.problem)), Some((1, None)));
    assert!(!stopped.told(port).unwrap().open);
}

#[tokio::test]
async fn an_endpoint_that_takes_no_connection_costs_none() {
    let (rig, port) = (rig(|_| {}), free_port().await);
    rig.map(port, 0, dead().await).await;
    rig.map(port, 1, echo("A").await).await;
    for _ in 0..20 {
        says(&mut connect(port).await.unwrap(), "A").await;
    }
}

#[tokio::test]
async fn with_nobody_behind_it_a_connection_is_reset() {
    let (rig, port) = (rig(|_| {}), free_port().await);
    rig.map(port, 0, dead().await).await;
    let mut client = connect(port).await.unwrap();
    let error = client.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn connections_go_to_whoever_has_the_fewest() {
    let (rig, port) = (rig(|_| {}), free_port().await);
    rig.map(port, 0, echo("A").await).await;
    rig.map(port, 1, echo("B").await).await;
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut client = connect(port).await.unwrap();
        held.push((name(&mut client).await, client));
    }
    let of =
        |held: &[(String, TcpStream)], who| held.iter().filter(|(name, _)| name == who).count();
    assert_eq!((of(&held, "A"), of(&held, "B")), (5, 5));
    // All of A's end; the next five are A's.
    held.retain(|(name, _)| name == "B");
    rig.until(port, |told| told.connections == 5).await;
    for _ in 0..5 {
        let mut client = connect(port).await.unwrap();
        held.push((name(&mut client).await, client));
    }
    assert_eq!((of(&held, "A"), of(&held, "B")), (5, 5));
}

#[tokio::test]
async fn what_is_quiet_for_too_long_is_closed() {
    let (rig, port) = (rig(|tcp| tcp.idle = Duration::from_millis(300)), free_port().await);
    rig.map(port, 0, echo("A").await).await;
    let mut client = connect(port).await.unwrap();
    says(&mut client, "A").await;
    // As long as something moves it lives, and longer than the limit.
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_millis(700) {
        client.write_all(b"x").await.unwrap();
        says(&mut client, "x").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ended = tokio::time::timeout(Duration::from_secs(30), client.read(&mut [0; 1])).await;
    assert_eq!(ended.expect("it is closed in time").unwrap_or(0), 0);
    rig.until(port, |told| told.connections == 0).await;
}

#[tokio::test]
async fn at_the_limit_clients_wait_for_their_turn() {
    let (rig, port) = (rig(|tcp| tcp.max_per_port = 2), free_port().await);
    let other = free_port().await;
    rig.map(port, 0, echo("A").await).await;
    rig.map(other, 0, echo("B").await).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = connect(port).await.unwrap();
        says(&mut client, "A").await;
        held.push(client);
    }
    let mut third = connect(port).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), third.read_u8()).await;
    assert!(early.is_err(), "{early:?}");
    // Another route is not held up.
    says(&mut connect(other).await.unwrap(), "B").await;
    held.pop();
    says(&mut third, "A").await;
}

#[tokio::test]
async fn a_taken_port_is_told_and_opened_when_it_is_free() {
    let rig = rig(|_| {});
    let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = holder.local_addr().unwrap().port();
    rig.add(port, 0, echo("A").await).await;
    rig.until(port, |told| told.problem.as_ref().is_some_and(|why| why.contains("in use"))).await;
    drop(holder);
    rig.until(port, |told| told.open && told.problem.is_none()).await;
    says(&mut connect(port).await.unwrap(), "A").await;
}

#[tokio::test]
async fn stopping_closes_ports_and_cuts_what_does_not_end() {
    let (mut rig, port) = (rig(|_| {}), free_port().await);
    rig.map(port, 0, echo("A").await).await;
    let mut client = connect(port).await.unwrap();
    says(&mut client, "A").await;
    rig.stop.cancel();
    let serving = rig.serving.take().unwrap();
    tokio::time::timeout(Duration::from_secs(30), serving).await.expect("it stops").unwrap();
    assert_eq!(connect(port).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(client.read(&mut [0; 1]).await.unwrap_or(0), 0);
}
