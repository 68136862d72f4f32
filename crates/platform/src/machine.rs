//! One process of the platform: the roles it was given, wired together. What is started here, and in which order, is the
//! whole wiring.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use axum::Router as Http;
use base::{CancellationToken, Shutdown, Signal, TaskTracker};
use envelope::Sink;
use futures::FutureExt as _;
use tokio::net::TcpListener;
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::cell::{Cell, End};
use crate::cluster::{Admission, InstanceAuthority, Relay, Share};
use crate::data_dir::{self, DataDir, Running};
use crate::door::Door;
use crate::ground::{Ground, Listeners};
use crate::operator::Insight;
use crate::roles::{self, Place, Role, Roles};
use crate::server::{self, Join};
use crate::settings::Settings;

/// Where machines ask each other for what clients ask the platform.
pub const FRONT: &str = "/front";

/// Runs until a signal ends it.
pub fn main(settings: Settings, roles: &Roles, join: &Join) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.log).context("log: no such level or filter")?;
    crate::start_logging(filter);
    base::http::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(run(settings, roles, join));
    // Whatever still runs was told to stop and had its time.
    runtime.shutdown_background();
    result
}

async fn run(mut settings: Settings, roles: &Roles, join: &Join) -> anyhow::Result<()> {
    // Before there is anything that a signal could leave behind.
    let mut shutdown = Shutdown::listen()?;
    let data = DataDir::open(&settings.data)?;
    // Uploads lie beside where they will be kept, and a crash leaves none behind.
    if tempfile::env::override_temp_dir(&data.scratch(data_dir::TEMPORARY)?).is_err() {
        bail!("the folder for temporary files was chosen before");
    }
    let first = server::join(&mut settings, roles, join, &data).await?;
    let (started, asked) = {
        let starting = start(&settings, roles, first, &data);
        tokio::pin!(starting);
        let mut asked = None;
        loop {
            tokio::select! {
                started = &mut starting => break (started?, asked),
                signal = shutdown.signal() => {
                    ensure!(asked.replace(signal).is_none(), "stopped while starting");
                    eprintln!("stopping as soon as everything has started; once more stops at once");
                }
            }
        }
    };
    let signal = match asked {
        Some(signal) => signal,
        None => shutdown.signal().await,
    };
    data.retract();
    started.stop(signal, &mut shutdown).await
}

/// The parts that run until they are told to stop.
struct Machine {
    stop: CancellationToken,
    tasks: TaskTracker,
    cell: Option<Cell>,
    /// Whether the cell's instances move to other cells when it stops.
    hands_over: bool,
    /// Shuts the front door.
    serving: Option<CancellationToken>,
}

/// Answers when all is there.
async fn start(
    settings: &Settings,
    roles: &Roles,
    first: Option<String>,
    data: &DataDir,
) -> anyhow::Result<Machine> {
    let storage = crate::storage::Storage::of(settings, data)?;
    roles.check(match (&first, storage.shared()) {
        (Some(_), _) => Place::Joined,
        (None, None) => Place::Only,
        (None, Some(_)) => Place::First { reachable: settings.cells_listen.is_some() },
    })?;
    let door = match roles.has(Role::Router) {
        true => Some(Door::open(settings).await?),
        false => None,
    };
    // A certificate that does not fit is told before any container is touched.
    let tls = roles::router::certificate(data, settings)?;
    let tls = tls.server_config().context("tls_certificate and tls_key")?;
    let ports = door.as_ref().map(Door::ports).transpose()?.unwrap_or_default();
    let mut running = running(settings, roles, door.as_ref())?;
    let (ground, Listeners { inside: listener, entrance }) =
        Ground::lay(settings, data, roles, ports, first).await?;

    let logs = roles.has(Role::Logs).then(|| roles::logs::start(&ground)).transpose()?;
    let sink: Arc<dyn Sink> = match (&logs, &ground.first) {
        (Some(logs), _) => Arc::new(logs.clone()),
        (None, Some(first)) => roles::logs::send_to(first.clone(), &ground)?,
        (None, None) => bail!("there is no log store: run the role logs here"),
    };
    let mut inside = Http::new();
    let front = match &logs {
        Some(logs) if roles.has(Role::Api) => {
            let api = roles::api::start(&ground, logs, running.api_name(settings)).await?;
            inside = inside.merge(api.inside);
            api.front
        }
        _ => api_elsewhere(&ground),
    };
    inside = inside.nest_service(FRONT, front.clone());
    let router = door.is_some().then(|| roles::router::start(&ground, front, sink.clone()));
    if let Some(router) = &router {
        inside = inside.merge(router.gate.router(&ground.secret));
    }
    inside = inside.merge(roles::logs::entry(logs.as_ref(), &ground));
    inside = inside.merge(ground.members.router(&ground.secret));
    if roles.has(Role::Brain) {
        let gate = router.as_ref().map(|router| router.gate.clone());
        inside = inside.fallback_service(roles::brain::start(&ground, gate).await?.router());
    }
    running.receptor = roles::brain::receptor(&ground).await?;
    running.internal = ground.inside_url.clone();

    let insight = Insight {
        router: router.as_ref().map(|router| router.router.clone()),
        logs,
        containers: Arc::default(),
        members: ground.members.clone(),
        http: base::http::client(Some(&ground.secret)),
    };
    let containers = insight.containers.clone();
    let routes = router.is_some().then(|| insight.routes(&ground.secret));
    // What only the operator of this machine asks is not for other machines.
    ground.serve_inside(listener, inside.clone().merge(insight.router(&ground.secret)));
    if let Some(entrance) = entrance {
        let share = ground.storage.shared();
        let share =
            share.map(|database| Share::of(&settings.domain, database, data)).transpose()?;
        let (secret, domain) = (ground.secret.clone(), settings.domain.clone());
        if let Some(routes) = routes {
            inside = inside.merge(routes);
        }
        let (members, instances) = (ground.members.clone(), InstanceAuthority::of(data)?);
        let admit = |authority, key| {
            let admission = Admission { authority, instances, key, secret, domain, members, share };
            inside.merge(admission.router())
        };
        entrance.serve(admit, &ground.stop, &ground.tasks)?;
    }
    ground.enter().await?;
    let mut machine = Machine {
        stop: ground.stop.clone(),
        tasks: ground.tasks.clone(),
        cell: None,
        hands_over: ground.first.is_some(),
        serving: None,
    };
    if roles.has(Role::Cell) {
        let cell = roles::cell::start(&ground, sink).await?;
        let _ = containers.set(cell.about());
        machine.cell = Some(cell);
    }
    if let (Some(router), Some(door)) = (router, door) {
        machine.serving = Some(router.open(&ground, door, tls).await);
    }
    running.database = ground.storage.shared().map(ToString::to_string);
    data.announce(&running)?;
    tell(settings, data, &ground, &running);
    Ok(machine)
}

/// The platform's own names lead to the machine with the API.
fn api_elsewhere(ground: &Ground<'_>) -> Http {
    let first = ground.first.clone();
    let members = ground.members.clone();
    let relay = Relay::new(FRONT, "the platform's API is out of reach", move || {
        let api = members.with(Role::Api).into_iter().next().map(|api| api.url);
        let found = api.or(first.clone());
        async move { found }.boxed()
    });
    relay.router()
}

fn tell(settings: &Settings, data: &DataDir, ground: &Ground<'_>, running: &Running) {
    if !running.api.is_empty() {
        let http = &running.shown;
        println!("api    {http}");
        println!(
            "       {}   (its certificate is made by the platform: --skip-ssl-validation)",
            running.https
        );
    }
    match &ground.first {
        Some(first) => println!("roles  {}, for {first}", ground.roles),
        None => println!(
            "user   {}, password in {}",
            settings.admin_user,
            data.file("admin-password").display()
        ),
    }
}

fn running(settings: &Settings, roles: &Roles, door: Option<&Door>) -> anyhow::Result<Running> {
    let running = Running {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: base::Clock::system().now(),
        domain: settings.domain.clone(),
        admin_user: settings.admin_user.clone(),
        roles: roles.to_string(),
        ..Running::default()
    };
    let Some(door) = door else { return Ok(running) };
    let at = |ip: IpAddr| if ip.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { ip };
    let address = |listener: &TcpListener| {
        listener.local_addr().map(|addr| SocketAddr::new(at(addr.ip()), addr.port()))
    };
    let direct = format!("http://{}", address(&door.http)?);
    let (http, https) = door.urls(&format!("api.{}", settings.domain))?;
    // `*.localhost` is known to browsers and to curl, not to every resolver; an address always works.
    let api = if settings.domain == "localhost" { direct.clone() } else { http.clone() };
    Ok(Running {
        api,
        http: direct,
        https,
        app: door.urls(&format!("APP.{}", settings.domain))?.0,
        shown: http,
        ..running
    })
}

impl Running {
    /// How clients find the API by name; without a door here they come by another machine's.
    fn api_name(&self, settings: &Settings) -> String {
        match self.shown.is_empty() {
            true => format!("http://api.{}", settings.domain),
            false => self.shown.clone(),
        }
    }
}

impl Machine {
    /// Ctrl-C takes the containers along; SIGTERM leaves them for the next start, or on a machine that joined hands them
    /// over to other cells first, until the next signal.
    async fn stop(self, signal: Signal, shutdown: &mut Shutdown) -> anyhow::Result<()> {
        info!(?signal, "stopping");
        let mut end = if signal == Signal::Interrupt { End::Remove } else { End::Leave };
        if let Some(cell) = self.cell.as_ref().filter(|_| self.hands_over && end == End::Leave) {
            tokio::select! {
                () = cell.evacuate() => {}
                _ = shutdown.signal() => {}
            }
            end = End::Remove;
        }
        if let Some(serving) = &self.serving {
            serving.cancel();
        }
        let result = match self.cell {
            Some(cell) => cell.stop(end).await,
            None => Ok(()),
        };
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        result
    }
}
