//! Which ports there are, what stands behind each, and whether it is open.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::CancellationToken;
use diego::InstanceGuid;
use diego::routing::Endpoint;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::table::Pool;

/// A TCP route as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpPort {
    pub port: u16,
    pub endpoints: usize,
    pub connections: usize,
    /// False while the router does not serve, and when there is a problem.
    pub open: bool,
    /// Why nobody can listen there; it is tried again.
    pub problem: Option<String>,
}

/// Every port has endpoints; one that lost its last is taken out by [`Ports::take_emptied`].
#[derive(Default)]
pub(super) struct Ports {
    /// Whether ports are to be open.
    pub serving: bool,
    ports: BTreeMap<u16, Port>,
}

#[derive(Default)]
struct Port {
    pool: Arc<Pool>,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Closed,
    Open(Listener),
    Failed(String),
}

/// The task that accepts connections of one port.
pub(super) struct Listener {
    close: CancellationToken,
    task: JoinHandle<()>,
}

impl Listener {
    /// Returns when the port is closed, which it was told to. Connections that it accepted live on.
    pub async fn closed(self) {
        // It ends by itself, and panics only where the test or the process does too.
        let _ = self.task.await;
    }
}

impl Ports {
    pub fn replace(&mut self, routes: Vec<(u16, Endpoint)>) {
        let mut wanted: BTreeMap<u16, Vec<Endpoint>> = BTreeMap::new();
        for (port, endpoint) in routes {
            wanted.entry(port).or_default().push(endpoint);
        }
        // Whoever connects meanwhile finds the old ones or the new ones, never nobody.
        for (port, endpoints) in &wanted {
            let pool = &self.ports.entry(*port).or_default().pool;
            endpoints.iter().cloned().for_each(|endpoint| pool.put(endpoint));
        }
        for (port, known) in &self.ports {
            known.pool.keep(wanted.get(port).map_or(&[], Vec::as_slice));
        }
    }

    pub fn update(&mut self, add: Vec<(u16, Endpoint)>, remove: Vec<(u16, InstanceGuid)>) {
        for (port, endpoint) in add {
            self.ports.entry(port).or_default().pool.put(endpoint);
        }
        for (port, instance) in remove {
            if let Some(known) = self.ports.get(&port) {
                known.pool.take(&instance);
            }
        }
    }

    /// The listeners of ports behind which nothing stands any more.
    pub fn take_emptied(&mut self) -> Vec<Listener> {
        let (left, gone) = std::mem::take(&mut self.ports)
            .into_iter()
            .partition(|(_, port)| !port.pool.is_empty());
        self.ports = left;
        let gone: BTreeMap<u16, Port> = gone;
        gone.into_values().filter_map(|port| port.state.closing()).collect()
    }

    /// Starts a listener, by `listen`, on each port that has none. Answers whether some could not be started.
    pub fn open(
        &mut self,
        mut listen: impl FnMut(u16, Arc<Pool>, CancellationToken) -> io::Result<JoinHandle<()>>,
    ) -> bool {
        if !self.serving {
            return false;
        }
        let mut failed = false;
        for (number, port) in &mut self.ports {
            if matches!(port.state, State::Open(_)) || port.pool.is_empty() {
                continue;
            }
            let close = CancellationToken::new();
            let before = std::mem::take(&mut port.state);
            port.state = match (listen(*number, port.pool.clone(), close.clone()), before) {
                (Ok(task), before) => {
                    if matches!(before, State::Failed(_)) {
                        info!(port = number, "the port of a TCP route could be opened");
                    }
                    State::Open(Listener { close, task })
                }
                (Err(error), before) => {
                    failed = true;
                    if !matches!(before, State::Failed(_)) {
                        warn!(port = number, %error, "the port of a TCP route cannot be opened; it is tried again");
                    }
                    State::Failed(error.to_string())
                }
            };
        }
        failed
    }

    pub fn any_failed(&self) -> bool {
        self.ports.values().any(|port| matches!(port.state, State::Failed(_)))
    }

    /// All listeners; from now on no port is to be open.
    pub fn close(&mut self) -> Vec<Listener> {
        self.serving = false;
        let states = self.ports.values_mut().map(|port| std::mem::take(&mut port.state));
        states.filter_map(State::closing).collect()
    }

    pub fn tell(&self) -> Vec<TcpPort> {
        let tell = |(number, port): (&u16, &Port)| {
            let targets = port.pool.endpoints.read();
            TcpPort {
                port: *number,
                endpoints: targets.len(),
                connections: targets
                    .iter()
                    .map(|target| target.in_flight.load(Ordering::Relaxed))
                    .sum(),
                open: matches!(port.state, State::Open(_)),
                problem: match &port.state {
                    State::Failed(error) => Some(error.clone()),
                    State::Open(_) | State::Closed => None,
                },
            }
        };
        self.ports.iter().map(tell).collect()
    }

    pub fn endpoints(&self, port: u16) -> Vec<Endpoint> {
        self.ports.get(&port).map_or_else(Vec::new, |port| port.pool.tell())
    }
}

impl State {
    /// The listener, told to close.
    fn closing(self) -> Option<Listener> {
        match self {
            State::Open(listener) => {
                listener.close.cancel();
                Some(listener)
            }
            State::Closed | State::Failed(_) => None,
        }
    }
}
