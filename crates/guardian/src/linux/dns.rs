//! The containers' name service: hands queries to the host's own servers, which containers cannot reach themselves, and
//! answers for the platform's names. It keeps nothing; its limits drop queries, which resolvers then ask again.

mod message;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base::{CancellationToken, TaskTracker};
use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::config::Config;

const PORT: u16 = 53;
/// Of all containers, and of one.
const IN_FLIGHT: usize = 512;
const IN_FLIGHT_EACH: usize = 64;
const CONNECTIONS: usize = 128;
const UPSTREAM: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(10);
const LARGEST_DATAGRAM: usize = 4096;

/// What both ways of asking share.
struct Forwarder {
    overrides: Vec<(String, Ipv4Addr)>,
    servers: Servers,
    in_flight: Arc<Semaphore>,
    each: Mutex<HashMap<IpAddr, usize>>,
}

enum Servers {
    Given(Vec<SocketAddr>),
    /// Read for each query: the host may move between networks.
    Host,
}

/// The places where containers ask, taken but not yet served.
pub struct Bound {
    socket: UdpSocket,
    listener: TcpListener,
}

/// Takes the host's address among the containers, which the host need not have yet. Nobody else can have it then: two
/// platforms with one range of addresses would take each other's containers for their own.
pub fn bind(config: &Config) -> io::Result<Bound> {
    let bind = |kind| -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, kind, None)?;
        socket.set_nonblocking(true)?;
        socket.set_freebind_v4(true)?;
        if kind == Type::STREAM {
            // Connections of an earlier life may still be closing.
            socket.set_reuse_address(true)?;
        }
        socket.bind(&SocketAddr::from((config.network.gateway(), PORT)).into())?;
        Ok(socket)
    };
    let (socket, listener) = (bind(Type::DGRAM)?, bind(Type::STREAM)?);
    listener.listen(128)?;
    Ok(Bound {
        socket: UdpSocket::from_std(socket.into())?,
        listener: TcpListener::from_std(listener.into())?,
    })
}

/// Answers until stopped.
pub fn serve(config: &Config, bound: Bound, tasks: &TaskTracker, stop: &CancellationToken) {
    let Bound { socket, listener } = bound;
    let socket = Arc::new(socket);
    let overrides = config
        .dns_overrides
        .iter()
        .map(|(suffix, to)| (suffix.trim_matches('.').to_ascii_lowercase(), *to));
    let forwarder = Arc::new(Forwarder {
        overrides: overrides.collect(),
        servers: config.nameservers.clone().map_or(Servers::Host, Servers::Given),
        in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
        each: Mutex::default(),
    });
    tasks.spawn(datagrams(forwarder.clone(), socket, tasks.clone(), stop.clone()));
    tasks.spawn(connections(forwarder, listener, tasks.clone(), stop.clone()));
}

async fn datagrams(
    forwarder: Arc<Forwarder>,
    socket: Arc<UdpSocket>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = stop.cancelled() => return,
        };
        let (length, from) = match received {
            Ok(received) => received,
            // An answer to an earlier reply that nobody took.
            Err(error) => {
                debug!(%error, "receiving a query");
                continue;
            }
        };
        let Some(turn) = Turn::take(&forwarder, from.ip()) else { continue };
        let (query, socket, stop) = (buffer[..length].to_vec(), socket.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                answer = turn.forwarder.datagram(&query) => if let Some(answer) = answer {
                    // A container that is gone needs no answer.
                    let _ = socket.send_to(&answer, from).await;
                },
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn connections(
    forwarder: Arc<Forwarder>,
    listener: TcpListener,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "accepting a query");
                continue;
            }
        };
        let (Ok(place), Some(turn)) =
            (room.clone().try_acquire_owned(), Turn::take(&forwarder, from.ip()))
        else {
            continue;
        };
        let stop = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                result = turn.forwarder.connection(stream) => if let Err(error) = result {
                    debug!(%error, "a query over TCP");
                },
                () = stop.cancelled() => {}
            }
            drop(place);
        });
    }
}

/// One query's place among those in flight.
struct Turn {
    forwarder: Arc<Forwarder>,
    from: IpAddr,
    _place: OwnedSemaphorePermit,
}

impl Turn {
    fn take(forwarder: &Arc<Forwarder>, from: IpAddr) -> Option<Turn> {
        let place = forwarder.in_flight.clone().try_acquire_owned().ok()?;
        let mut each = forwarder.each.lock();
        let count = each.entry(from).or_insert(0);
        if *count >= IN_FLIGHT_EACH {
            return None;
        }
        *count += 1;
        Some(Turn { forwarder: forwarder.clone(), from, _place: place })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut each = self.forwarder.each.lock();
        if let Some(count) = each.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                each.remove(&self.from);
            }
        }
    }
}

impl Forwarder {
    /// `None` for what is not even a query.
    async fn datagram(&self, query: &[u8]) -> Option<Vec<u8>> {
        let question = message::question(query)?;
        if let Some(answer) = self.own(query, &question) {
            return Some(answer);
        }
        for server in self.servers() {
            match timeout(UPSTREAM, relay_datagram(server, query)).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => debug!(%server, %error, "a name server does not answer"),
                Err(_) => debug!(%server, "a name server takes too long"),
            }
        }
        Some(message::failure(query, &question))
    }

    async fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let Ok(query) = timeout(IDLE, read(&mut stream)).await else { return Ok(()) };
            let Some(query) = query? else { return Ok(()) };
            let Some(question) = message::question(&query) else { return Ok(()) };
            let answer = match self.own(&query, &question) {
                Some(answer) => answer,
                None => self
                    .over_tcp(&query)
                    .await
                    .unwrap_or_else(|| message::failure(&query, &question)),
            };
            timeout(IDLE, write(&mut stream, &answer)).await.map_err(io::Error::from)??;
        }
    }

    async fn over_tcp(&self, query: &[u8]) -> Option<Vec<u8>> {
        for server in self.servers() {
            let asked = async {
                let mut stream = TcpStream::connect(server).await?;
                write(&mut stream, query).await?;
                read(&mut stream).await
            };
            if let Ok(Ok(Some(answer))) = timeout(UPSTREAM * 2, asked).await {
                return Some(answer);
            }
        }
        None
    }

    fn own(&self, query: &[u8], question: &message::Question) -> Option<Vec<u8>> {
        let address = message::decide(&self.overrides, &question.name)?;
        Some(message::answer(query, question, address))
    }

    fn servers(&self) -> Vec<SocketAddr> {
        match &self.servers {
            Servers::Given(servers) => servers.clone(),
            Servers::Host => {
                message::servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
            }
        }
    }
}

/// A socket of its own for each query: its port is part of what a forger would have to guess.
async fn relay_datagram(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        "[::]:0".parse().expect("an address")
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if message::answers(&buffer[..length], query) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        length => length?,
    };
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}
