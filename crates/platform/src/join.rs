//! `cupola cell …`: a cell alone on its machine, at work for a platform elsewhere.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use base::http::Secret;
use base::{CancellationToken, Clock, Shutdown, Signal, TaskTracker};
use clap::{Args, Subcommand};
use diego::Bbs;
use router::tls::Identity;
use tracing::warn;
use tracing_subscriber::EnvFilter;

use crate::cell::{Cell, CellSettings, Deps, End, Site, address_towards};
use crate::cluster::{self, Forward, JoinToken, Joined, Member, enter};
use crate::data_dir::{self, CellAtWork, DataDir};
use crate::roles::Role;
use crate::settings::{self, Backend, CellFile, DiskLimits};

#[derive(Args)]
pub struct CellArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Run apps of a platform on another machine. SIGTERM hands them over to other cells first, Ctrl-C does not wait for that
    Join(Box<JoinArgs>),
    /// Print the token that a new cell joins with, on the platform's machine
    Token(TokenArgs),
    /// Look into what crashed instances left behind
    Crashed(crate::crashed::CrashedArgs),
}

#[derive(Args)]
struct JoinArgs {
    /// What `cupola cell token` printed; needed once, then the cell knows its platform
    #[arg(long, env = "CUPOLA_JOIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Where this cell keeps its containers, images and keys [default: /var/lib/cupola-cell as root, else ~/.local/share/cupola-cell]
    #[arg(long, env = "CUPOLA_DATA", value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// The cell's name, which no other cell has [default: cell- and eight letters, made once]
    #[arg(long, env = "CUPOLA_CELL_NAME", value_name = "NAME")]
    name: Option<String>,
    /// The address by which the platform's machines reach this one [default: the one on the way to the platform]
    #[arg(long, env = "CUPOLA_CELL_ADDRESS", value_name = "ADDRESS")]
    address: Option<Ipv4Addr>,
    /// The port of the cell's API; 0 takes any free one
    #[arg(long, env = "CUPOLA_CELL_PORT", value_name = "PORT", default_value_t = 1801)]
    port: u16,
    /// The zone the cell stands in: an app's instances are spread over zones first
    #[arg(long, env = "CUPOLA_ZONE", value_name = "ZONE", default_value = "")]
    zone: String,
    /// Only work that asks for these placement tags comes here (isolation segments)
    #[arg(
        long = "placement-tag",
        env = "CUPOLA_PLACEMENT_TAGS",
        value_name = "TAG",
        value_delimiter = ','
    )]
    placement_tags: Vec<String>,
    /// What isolates apps [default: linux as root, else process]
    #[arg(long, env = "CUPOLA_BACKEND", value_enum)]
    backend: Option<Backend>,
    /// The stacks that this cell offers; each shows this machine's /usr
    #[arg(
        long = "stack",
        env = "CUPOLA_STACKS",
        value_name = "NAME",
        value_delimiter = ',',
        default_value = "cflinuxfs4"
    )]
    stacks: Vec<String>,
    /// What apps may use in all, in MB [default: this machine's memory]
    #[arg(long, env = "CUPOLA_MEMORY_MB", value_name = "MB")]
    memory_mb: Option<u64>,
    /// What apps may use in all, in MB [default: the free disk under FOLDER]
    #[arg(long, env = "CUPOLA_DISK_MB", value_name = "MB")]
    disk_mb: Option<u64>,
    /// How writing too much is prevented: best, btrfs, project-quotas, images, watched or off
    #[arg(long, env = "CUPOLA_DISK_LIMITS", value_name = "WAY", default_value = "best")]
    disk_limits: DiskLimits,
    /// The network that containers get their addresses from [default: a /16 below 10.0.0.0/8 that is free here]
    #[arg(long, env = "CUPOLA_CONTAINER_NETWORK", value_name = "CIDR")]
    container_network: Option<String>,
    /// A TOML file with the tables timings.rep, timings.executor and crashed
    #[arg(long, env = "CUPOLA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is logged on standard error: a level, or a filter such as info,rep=debug
    #[arg(long, env = "CUPOLA_LOG", value_name = "FILTER", default_value = "warn")]
    log: String,
}

#[derive(Args)]
struct TokenArgs {
    /// The data directory of the platform [default: /var/lib/cupola as root, else ~/.local/share/cupola]
    #[arg(long, env = "CUPOLA_DATA", value_name = "FOLDER")]
    data: Option<PathBuf>,
}

pub fn main(args: CellArgs) -> anyhow::Result<()> {
    match args.what {
        What::Crashed(args) => crate::crashed::main(args),
        What::Token(args) => {
            let data = settings::data_folder(args.data, "cupola")?;
            let token = data_dir::join_token(&data).with_context(|| {
                format!(
                    "{} takes no cells: start the platform once with --cells-listen ADDRESS:PORT",
                    data.display()
                )
            })?;
            println!("{token}");
            Ok(())
        }
        What::Join(args) => {
            let filter = EnvFilter::try_new(&args.log).context("--log: no such level or filter")?;
            crate::start_logging(filter);
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let result = runtime.block_on(join(*args));
            // Whatever still runs was told to stop and had its time.
            runtime.shutdown_background();
            result
        }
    }
}

async fn join(args: JoinArgs) -> anyhow::Result<()> {
    // Before there is anything that a signal could leave behind.
    let mut shutdown = Shutdown::listen()?;
    let data = DataDir::open(&settings::data_folder(args.data.clone(), "cupola-cell")?)?;
    CellAtWork::retract(&data)?;
    let settings = cell_settings(&args, &data)?;
    let joined = joined(&args, &settings.cell_id, &data).await?;
    let (clock, secret) = (Clock::system(), Secret::new(joined.secret.as_str()));
    let brains = joined.brains.iter().chain([&joined.url]);
    let brains = bbs::Client::among(brains.map(String::as_str), &secret);
    let bbs: Arc<dyn Bbs> = Arc::new(brains.clone());
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(follow_servers(data.file(JOINED), joined.clone(), brains, stop.clone()));
    let logs = Forward::open(&data.folder(data_dir::LOG_SPOOL)?, &settings.cell_id, clock.clone())?;
    let (sending, url, shown, until) =
        (logs.clone(), joined.url.clone(), secret.clone(), stop.clone());
    tasks.spawn(async move { sending.run(&url, &shown, until).await });
    let site = Site::Outside {
        address: joined.address,
        port: args.port,
        identity: Identity { certificate: joined.certificate, key: joined.key },
        home: joined.home,
    };
    let instances = joined.instances;
    let deps = Deps { bbs, sink: logs, secret, clock, instances };
    let cell = Cell::start(&settings, &site, &data, deps).await?;
    let at_work = CellAtWork {
        pid: std::process::id(),
        cell_id: settings.cell_id.clone(),
        platform: joined.url.clone(),
        api: cell.url().to_owned(),
    };
    at_work.announce(&data)?;
    println!("{} works for {}", settings.cell_id, joined.url);
    if shutdown.signal().await == Signal::Terminate {
        tokio::select! {
            () = cell.evacuate() => {}
            _ = shutdown.signal() => {}
        }
    }
    CellAtWork::retract(&data)?;
    cell.stop(End::Remove).await?;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// Learns where the platform's brains are, and remembers it for the next start.
async fn follow_servers(
    path: PathBuf,
    joined: Joined,
    brains: bbs::Client,
    stop: CancellationToken,
) {
    let http = base::http::client(Some(&Secret::new(joined.secret.as_str())));
    let known =
        if joined.servers.is_empty() { vec![joined.url.clone()] } else { joined.servers.clone() };
    cluster::follow(http, known, stop, |members| {
        let urls = |of: &dyn Fn(&Member) -> bool| -> Vec<String> {
            members.iter().filter(|member| of(member)).map(|member| member.url.clone()).collect()
        };
        let (servers, leaders) = (urls(&|_| true), urls(&|member| member.roles.has(Role::Brain)));
        brains.know(leaders.clone());
        let joined = Joined { servers, brains: leaders, ..joined.clone() };
        if let Err(error) = data_dir::write_json(&path, &joined) {
            warn!(error = %format!("{error:#}"), "where the platform's servers are is not remembered");
        }
    })
    .await;
}

/// Knows the platform from an earlier start, or asks it now.
async fn joined(args: &JoinArgs, cell_id: &str, data: &DataDir) -> anyhow::Result<Joined> {
    let path = data.file(JOINED);
    let known = if path.exists() { Some(read_joined(&path)?) } else { None };
    let token = args.token.as_deref().map(JoinToken::parse).transpose()?;
    match (known, token) {
        (Some(known), token)
            if token.as_ref().is_none_or(|token| {
                token.authority.trim_end() == known.authority.trim_end() && token.url == known.url
            }) && args.address.is_none_or(|address| address == known.address) =>
        {
            base::tls::trust(&known.authority)?;
            Ok(known)
        }
        (_, Some(token)) => {
            base::tls::trust(&token.authority)?;
            let address = match args.address {
                Some(address) => address,
                None => own_address(&token.url).await?,
            };
            let joined = enter(&token, cell_id, address).await?;
            data.keep(JOINED, &serde_json::to_string_pretty(&joined)?)?;
            Ok(joined)
        }
        (_, None) => anyhow::bail!(
            "this cell knows no platform yet: pass --token with what `cupola cell token` prints on the platform's machine"
        ),
    }
}

const JOINED: &str = "joined.json";

/// What the cell with this data directory knows of its platform.
pub fn joined_at(data: &Path) -> anyhow::Result<Joined> {
    read_joined(&data.join(JOINED))
}

fn read_joined(path: &Path) -> anyhow::Result<Joined> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is damaged: remove it and join anew", path.display()))
}

fn cell_settings(args: &JoinArgs, data: &DataDir) -> anyhow::Result<CellSettings> {
    let made = || format!("cell-{}", &base::new_guid()[..8]);
    let cell_id = match &args.name {
        Some(name) => name.clone(),
        None => data.kept("cell-name", made)?,
    };
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    anyhow::ensure!(
        (1..=64).contains(&cell_id.len()) && cell_id.bytes().all(usable),
        "--name: {cell_id:?} is no name for a cell: 1 to 64 letters, digits, '-', '_' and '.'"
    );
    let file = args.config.as_deref().map(CellFile::read).transpose()?.unwrap_or_default();
    Ok(CellSettings {
        cell_id,
        zone: args.zone.clone(),
        // `CUPOLA_PLACEMENT_TAGS=` says none; a tag without a name would keep all work away.
        placement_tags: args.placement_tags.iter().filter(|tag| !tag.is_empty()).cloned().collect(),
        backend: settings::backend(args.backend)?,
        stacks: args.stacks.clone(),
        memory_mb: args.memory_mb,
        disk_mb: args.disk_mb,
        disk_limits: args.disk_limits,
        container_network: args.container_network.clone(),
        timings: file.timings,
        crashed: file.crashed,
    })
}

/// The address that this machine has on the way to `url`.
pub async fn own_address(url: &str) -> anyhow::Result<Ipv4Addr> {
    let place = url.strip_prefix("https://").context("the token's address is no https URL")?;
    let target: SocketAddr = tokio::net::lookup_host(place)
        .await
        .with_context(|| format!("looking up {place}"))?
        .find(SocketAddr::is_ipv4)
        .with_context(|| format!("{place} has no IPv4 address"))?;
    address_towards(target).with_context(|| {
        format!("no way leads from here to {target}; --address names this machine's")
    })
}
