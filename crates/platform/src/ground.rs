//! What every role of a process stands on: its storage, its addresses, who else is there, and how it ends.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use base::http::Secret;
use base::{CancellationToken, Clock, TaskTracker};
use sql::Db;
use tokio::net::TcpListener;
use tracing::error;

use crate::cluster::{Entrance, Member, Members};
use crate::data_dir::{self, DataDir};
use crate::roles::{Role, Roles};
use crate::settings::Settings;
use crate::storage::Storage;

pub struct Ground<'a> {
    pub settings: &'a Settings,
    pub data: &'a DataDir,
    pub roles: &'a Roles,
    pub clock: Clock,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    pub secret: Secret,
    pub storage: Storage,
    /// Where the parts of this process, and this machine's commands, find each other.
    pub inside_url: String,
    /// Where every machine of the platform finds this process.
    pub url: String,
    /// Whether other machines can.
    pub is_reachable: bool,
    /// Where the platform's servers find each other.
    shared: Option<Db>,
    pub members: Members,
    /// Whoever leads.
    pub brains: bbs::Client,
    /// Where the platform began, when it did so elsewhere: the API and the logs are there.
    pub first: Option<String>,
}

/// Where a process listens for its own parts and for other machines.
pub struct Listeners {
    pub inside: TcpListener,
    pub entrance: Option<Entrance>,
}

impl<'a> Ground<'a> {
    /// `ports` are those of this machine's front door; `first` is where a platform is that this machine joined.
    pub async fn lay(
        settings: &'a Settings,
        data: &'a DataDir,
        roles: &'a Roles,
        ports: Vec<u16>,
        first: Option<String>,
    ) -> anyhow::Result<(Ground<'a>, Listeners)> {
        let storage = Storage::of(settings, data)?;
        let entrance = Entrance::open(settings.cells_listen, data).await?;
        let inside = internal_listener(data).await?;
        let inside_url = format!("http://{}", inside.local_addr()?);
        let url = entrance.as_ref().map_or(inside_url.clone(), Entrance::url);
        let name = data.kept("server-name", || format!("server-{}", &base::new_guid()[..8]))?;
        let address = entrance.as_ref().map_or(Ipv4Addr::LOCALHOST, Entrance::address);
        let (is_reachable, secret) = (entrance.is_some(), data.secret()?);
        let own = Member { name, url: url.clone(), address, roles: roles.clone(), ports };
        let members = Members::new(own);
        let shared = match storage.shared() {
            Some(database) => Some(database.schema("cluster").await?),
            None => None,
        };
        let brains = match &storage {
            Storage::Files => bbs::Client::new(&inside_url, &secret),
            Storage::Shared(_) => bbs::Client::among(brain_urls(&members, &inside_url), &secret),
        };
        let ground = Ground {
            settings,
            data,
            roles,
            clock: Clock::system(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            secret,
            storage,
            inside_url,
            url,
            is_reachable,
            shared,
            members,
            brains,
            first,
        };
        if let Some(db) = &ground.shared {
            ground.members.look(db).await?;
        }
        ground.storage.remember(data)?;
        Ok((ground, Listeners { inside, entrance }))
    }

    /// Lets the other servers find this one, which must be listening; and learns of each that comes or goes.
    pub async fn enter(&self) -> anyhow::Result<()> {
        let Some(db) = self.shared.clone() else { return Ok(()) };
        self.members.enter(&db).await?;
        self.tasks.spawn(self.members.clone().run(db, self.stop.clone()));
        let (members, brains, stop) =
            (self.members.clone(), self.brains.clone(), self.stop.clone());
        let inside_url = self.inside_url.clone();
        self.tasks.spawn(async move {
            let mut news = members.watch();
            loop {
                brains.know(brain_urls(&members, &inside_url));
                if !matches!(stop.run_until_cancelled(news.changed()).await, Some(Ok(()))) {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Serves the API for this machine.
    pub fn serve_inside(&self, listener: TcpListener, router: axum::Router) {
        let until = self.stop.clone();
        self.tasks.spawn(async move {
            if let Err(error) = base::http::serve(listener, router, until).await {
                error!(%error, "the internal API ended");
            }
        });
    }
}

/// Its own brain is asked directly, and first.
fn brain_urls(members: &Members, inside_url: &str) -> Vec<String> {
    let own = members.own();
    let here = own.roles.has(Role::Brain).then(|| inside_url.to_owned());
    let others = members.with(Role::Brain).into_iter().filter(|one| one.name != own.name);
    here.into_iter().chain(others.map(|one| one.url)).collect()
}

/// Components and cells find the control plane at the same place after a restart, so the port is chosen once.
async fn internal_listener(data: &DataDir) -> anyhow::Result<TcpListener> {
    let local = Ipv4Addr::LOCALHOST;
    let path = data.file(data_dir::INTERNAL_PORT);
    let known =
        std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u16>().ok());
    if let Some(port) = known {
        let why = || {
            format!(
                "listening on {local}:{port}, the port of the platform's own components; remove {} to choose another",
                path.display()
            )
        };
        return TcpListener::bind((local, port)).await.with_context(why);
    }
    let listener = TcpListener::bind((local, 0)).await?;
    // Recipes name it, so it lasts as long as they do.
    data.keep(data_dir::INTERNAL_PORT, &listener.local_addr()?.port().to_string())?;
    Ok(listener)
}
