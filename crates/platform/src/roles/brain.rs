//! The role `brain`: BBS with auctioneer, converger and route emitter. Alone it leads; of several that share a database one
//! leads, and each of the others takes over when it falls silent.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base::{CancellationToken, Clock, TaskTracker};
use bbs::{BbsServer, Prefer, Seat};
use diego::routing::Routers;
use futures::FutureExt as _;
use sql::Db;
use tokio::net::TcpListener;
use tracing::{error, info};

use crate::cell::INSIDE_TTL;
use crate::cluster::{Feed, Gate, Members, Relay};
use crate::data_dir;
use crate::ground::Ground;
use crate::storage::Storage;

const RECEPTOR_PORT: u16 = 8887;
/// Where brains hand requests for the Receptor API to each other.
const RECEPTOR_PATH: &str = "/receptor";
/// Before a brain that could not begin tries again.
const AGAIN: Duration = Duration::from_secs(1);

/// The internal API of the brain here, whether it leads or not. `gate` is the router's in this process.
pub async fn start(ground: &Ground<'_>, gate: Option<Gate>) -> anyhow::Result<Seat> {
    let candidate = Candidate {
        config: config(ground)?,
        db: ground.storage.open(ground.data, "bbs").await?,
        clock: ground.clock.clone(),
        gate,
        members: ground.members.clone(),
        seat: Seat::default(),
    };
    let seat = candidate.seat.clone();
    match &ground.storage {
        Storage::Files => {
            let gate = candidate.gate.clone().context("a brain alone has its router beside it")?;
            let deps = candidate.deps(Arc::new(gate), ground.stop.clone(), ground.tasks.clone());
            candidate.lead(&BbsServer::open(candidate.config.clone(), deps).await?);
        }
        Storage::Shared(_) => {
            ground.tasks.spawn(candidate.run(ground.stop.clone()));
        }
    }
    Ok(seat)
}

fn config(ground: &Ground<'_>) -> anyhow::Result<bbs::Config> {
    let mut timings = ground.settings.timings.bbs.clone();
    if !ground.is_reachable {
        timings.cell_grace = timings.cell_grace.max(INSIDE_TTL);
    }
    let credentials = bbs::Credentials {
        user: data_dir::RECEPTOR_USER.to_owned(),
        password: ground.data.receptor_password()?,
    };
    Ok(bbs::Config {
        name: ground.members.own().name.clone(),
        // Containers elsewhere are reached by their cell's address alone.
        prefer: if ground.is_reachable { Prefer::Host } else { Prefer::Instance },
        receptor: Some(credentials),
        timings,
        ..bbs::Config::new(ground.secret.clone())
    })
}

/// A brain that would lead.
struct Candidate {
    config: bbs::Config,
    db: Db,
    clock: Clock,
    gate: Option<Gate>,
    members: Members,
    seat: Seat,
}

impl Candidate {
    /// Leads again and again until `stop`, each time until another one does.
    async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let (term, tasks) = (stop.child_token(), TaskTracker::new());
            match self.term(&term, &tasks).await {
                Some(Ok(())) | None => {}
                Some(Err(error)) => {
                    error!(error = %format!("{error:#}"), "the brain could not begin");
                    stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
                }
            }
            // Nothing of this term acts once another one begins.
            term.cancel();
            tasks.close();
            tasks.wait().await;
        }
    }

    /// `None` when it was stopped before it led.
    async fn term(
        &self,
        term: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Option<anyhow::Result<()>> {
        let secret = &self.config.secret;
        let (gate, members) = (self.gate.clone(), self.members.clone());
        let feed = Feed::start(gate, members, secret, term.clone(), tasks.clone());
        let deps = self.deps(feed, term.clone(), tasks.clone());
        let standing_by = BbsServer::stand_by(self.config.clone(), deps);
        let brain = match term.run_until_cancelled(standing_by).await? {
            Ok(brain) => brain,
            Err(error) => return Some(Err(error)),
        };
        info!(fence = brain.fence(), "the brain here leads");
        self.lead(&brain);
        brain.stopped().await;
        self.seat.leave();
        info!(fence = brain.fence(), "the brain here leads no more");
        Some(Ok(()))
    }

    fn lead(&self, brain: &BbsServer) {
        self.seat.take(brain.router().nest_service(RECEPTOR_PATH, brain.receptor()));
    }

    fn deps(
        &self,
        routers: Arc<dyn Routers>,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> bbs::Deps {
        bbs::Deps {
            db: self.db.clone(),
            clock: self.clock.clone(),
            dial: Arc::new(rep::Dialer::new(&self.config.secret)),
            routers,
            stop,
            tasks,
        }
    }
}

/// Serves Diego's Receptor API on this machine, whichever brain leads; returns where.
pub async fn receptor(ground: &Ground<'_>) -> anyhow::Result<String> {
    let listener = receptor_listener(ground.settings.receptor_listen).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let brains = ground.brains.clone();
    let relay = Relay::new(RECEPTOR_PATH, "no brain leads", move || {
        let brains = brains.clone();
        async move { brains.leading().await }.boxed()
    });
    let (face, until) = (relay.router(), ground.stop.clone());
    ground.tasks.spawn(async move {
        if let Err(error) = base::http::serve(listener, face, until).await {
            error!(%error, "the Receptor API ended");
        }
    });
    Ok(url)
}

/// Without a wish it is the usual place, or any other where a second platform has that.
async fn receptor_listener(wish: Option<SocketAddr>) -> anyhow::Result<TcpListener> {
    if let Some(address) = wish {
        return TcpListener::bind(address)
            .await
            .with_context(|| format!("receptor_listen: listening on {address}"));
    }
    let local = Ipv4Addr::LOCALHOST;
    if let Ok(listener) = TcpListener::bind((local, RECEPTOR_PORT)).await {
        return Ok(listener);
    }
    TcpListener::bind((local, 0)).await.context("listening for clients of the Receptor")
}
