//! TCP routes: a port is listened on exactly as long as something stands behind it. Bytes pass as they come; what they
//! mean is the app's.

mod ports;
mod relay;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::{CancellationToken, Clock, Poke, TaskTracker};
use diego::InstanceGuid;
use diego::routing::Endpoint;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, warn};

use self::ports::Ports;
pub use self::ports::TcpPort;
use crate::table::{Pool, Target};

#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// The address whose ports are opened.
    pub listen: IpAddr,
    /// Connections of all TCP routes together. At the limit no port takes further clients: they wait in its queue.
    pub max_connections: usize,
    /// Connections of one TCP route, so that one does not take all.
    pub max_per_port: usize,
    /// A connection on which nothing moved for so long is closed.
    pub idle: Duration,
}

impl Default for TcpConfig {
    /// Idle as in Cloud Foundry's TCP router.
    fn default() -> TcpConfig {
        TcpConfig {
            listen: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            max_connections: 20_000,
            max_per_port: 5_000,
            idle: Duration::from_secs(300),
        }
    }
}

/// How long a failed endpoint is passed over while others are left.
const PASSED_OVER: Duration = Duration::from_secs(30);
/// What connections get when the router stops.
const GRACE: Duration = Duration::from_secs(2);
/// The first wait before a port that could not be opened is tried again; it doubles up to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));

/// Clones share the ports.
#[derive(Clone)]
pub(crate) struct Tcp(Arc<Inner>);

struct Inner {
    config: TcpConfig,
    max_attempts: usize,
    connect_timeout: Duration,
    clock: Clock,
    ports: Mutex<Ports>,
    slots: Arc<Semaphore>,
    connections: TaskTracker,
    /// Ends the connections that outlived the router's grace.
    cut: CancellationToken,
    /// Some port could not be opened.
    failed: Poke,
}

impl Tcp {
    pub fn new(config: &crate::Config, clock: Clock) -> Tcp {
        let slots = Arc::new(Semaphore::new(config.tcp.max_connections));
        Tcp(Arc::new(Inner {
            config: config.tcp.clone(),
            max_attempts: config.max_attempts,
            connect_timeout: config.connect_timeout,
            clock,
            ports: Mutex::default(),
            slots,
            connections: TaskTracker::new(),
            cut: CancellationToken::new(),
            failed: Poke::default(),
        }))
    }

    /// Makes this be all there is. Ports that went are closed when it returns.
    pub async fn replace(&self, routes: Vec<(u16, Endpoint)>) {
        self.change(|ports| ports.replace(routes)).await;
    }

    /// Ports that came are open, or known to be taken, and ports that went are closed when it returns.
    pub async fn update(&self, add: Vec<(u16, Endpoint)>, remove: Vec<(u16, InstanceGuid)>) {
        if !add.is_empty() || !remove.is_empty() {
            self.change(|ports| ports.update(add, remove)).await;
        }
    }

    async fn change(&self, change: impl FnOnce(&mut Ports)) {
        let closing = {
            let mut ports = self.0.ports.lock();
            change(&mut ports);
            self.open(&mut ports);
            ports.take_emptied()
        };
        for listener in closing {
            listener.closed().await;
        }
    }

    /// Opens what is wanted and not open.
    fn open(&self, ports: &mut Ports) {
        let failed = ports.open(|port, pool, closed| {
            let listener = bind(SocketAddr::new(self.0.config.listen, port))?;
            let accept = self.clone().accept(port, listener, pool, closed);
            Ok(tokio::spawn(accept))
        });
        if failed {
            self.0.failed.poke();
        }
    }

    /// Opens the ports of the table and keeps them so until `stop`; then no port is open, and connections that are not
    /// over after a moment are cut.
    pub async fn serve(&self, stop: CancellationToken) {
        {
            let mut ports = self.0.ports.lock();
            ports.serving = true;
            self.open(&mut ports);
        }
        let mut backoff = base::Backoff::new(RETRY.0, RETRY.1);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.0.failed.poked() => {}
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(backoff.step()) => {}
            }
            let mut ports = self.0.ports.lock();
            self.open(&mut ports);
            if !ports.any_failed() {
                backoff.reset();
            }
        }
        let closing = self.0.ports.lock().close();
        for listener in closing {
            listener.closed().await;
        }
        self.0.connections.close();
        if tokio::time::timeout(GRACE, self.0.connections.wait()).await.is_err() {
            self.0.cut.cancel();
            self.0.connections.wait().await;
        }
    }

    pub fn ports(&self) -> Vec<TcpPort> {
        self.0.ports.lock().tell()
    }

    pub fn endpoints(&self, port: u16) -> Vec<Endpoint> {
        self.0.ports.lock().endpoints(port)
    }

    async fn accept(
        self,
        port: u16,
        listener: TcpListener,
        pool: Arc<Pool>,
        closed: CancellationToken,
    ) {
        let own = Arc::new(Semaphore::new(self.0.config.max_per_port));
        loop {
            let next = async {
                let client = accepted(port, &listener).await;
                let of = |slots: &Arc<Semaphore>| slots.clone().acquire_owned();
                let own = of(&own).await.expect("the semaphore is never closed");
                let all = of(&self.0.slots).await.expect("the semaphore is never closed");
                (client, [own, all])
            };
            let (client, slots) = tokio::select! {
                () = closed.cancelled() => return,
                next = next => next,
            };
            self.0.connections.spawn(self.clone().carry(port, client, pool.clone(), slots));
        }
    }

    async fn carry(
        self,
        port: u16,
        mut client: TcpStream,
        pool: Arc<Pool>,
        _slots: [OwnedSemaphorePermit; 2],
    ) {
        let whole = async {
            let Some((mut backend, _busy)) = self.connect(port, &pool).await else {
                // An end without a reset would look like an app that had nothing to say.
                let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
                return;
            };
            if let Err(error) = relay::relay(&mut client, &mut backend, self.0.config.idle).await {
                debug!(port, %error, "a TCP connection broke off");
            }
        };
        tokio::select! {
            () = whole => {}
            () = self.0.cut.cancelled() => {}
        }
    }

    /// A connection to one of the endpoints; where none comes about, the next one is tried. Nothing of the client's was
    /// read until then.
    async fn connect(&self, port: u16, pool: &Pool) -> Option<(TcpStream, Busy)> {
        let mut tried: Vec<Arc<Target>> = Vec::new();
        while tried.len() < self.0.max_attempts {
            let target = crate::balance::least_busy(pool, &tried, self.0.clock.now())?;
            let busy = Busy::new(target.clone());
            let address = target.endpoint.address;
            let connecting = TcpStream::connect(address);
            match tokio::time::timeout(self.0.connect_timeout, connecting).await {
                Ok(Ok(backend)) => {
                    // A socket that is gone already cannot be set, and is noticed when it is read.
                    let _ = backend.set_nodelay(true);
                    return Some((backend, busy));
                }
                Ok(Err(error)) => {
                    debug!(port, %address, %error, "an endpoint takes no connection")
                }
                Err(_) => debug!(port, %address, "an endpoint takes no connection in time"),
            }
            target.mark_failed(self.0.clock.now() + PASSED_OVER);
            tried.push(target);
        }
        None
    }
}

/// Counts one connection of an endpoint for as long as it lives.
struct Busy(Arc<Target>);

impl Busy {
    fn new(target: Arc<Target>) -> Busy {
        target.in_flight.fetch_add(1, Ordering::Relaxed);
        Busy(target)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Clients that wait to be accepted, at most.
const QUEUE: i32 = 1024;

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    // Connections of the router before this one linger on the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(QUEUE)?;
    TcpListener::from_std(socket.into())
}

/// Accepting fails when file descriptors run out; the next client then waits a moment.
async fn accepted(port: u16, listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                warn!(port, %error, "accepting a connection of a TCP route");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
