//! `cupola up`: every role in one process. What is started here, and in which order, is the whole wiring.

mod cell;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use base::http::Secret;
use base::{CancellationToken, Clock, Shutdown, Signal, TaskTracker};
use bytes::Bytes;
use cloud_controller::CloudController;
use cloud_controller::auth::Identity;
use cloud_controller::config::{StackConfig, SystemBuildpack};
use loggregator::Loggregator;
use router::Router;
use router::tls::Identity as Certificate;
use sql::Db;
use tokio::net::TcpListener;
use tracing::{error, info};
use tracing_subscriber::EnvFilter;
use uaa::Uaa;

use crate::data_dir::{DataDir, Running};
use crate::door::Door;
use crate::glue::{FromLogs, LogAccess};
use crate::settings::{Settings, UpArgs};
use cell::Cell;

const LIFECYCLE: &[u8] = include_bytes!(env!("CUPOLA_LIFECYCLE_BUNDLE"));
/// The platform's own names below its domain.
const NAMES: [&str; 7] = ["api", "uaa", "login", "log-cache", "doppler", "log-stream", "ssh"];

pub fn main(args: UpArgs) -> anyhow::Result<()> {
    let settings = args.resolve()?;
    let filter = EnvFilter::try_new(&settings.log).context("log: no such level or filter")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    base::http::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(up(settings));
    // Whatever still runs was told to stop and had its time.
    runtime.shutdown_background();
    result
}

async fn up(settings: Settings) -> anyhow::Result<()> {
    // Before there is anything that a signal could leave behind.
    let mut shutdown = Shutdown::listen()?;
    let data = DataDir::open(&settings.data)?;
    // Uploads lie beside where they will be kept, and a crash leaves none behind.
    if tempfile::env::override_temp_dir(&data.scratch("tmp")?).is_err() {
        bail!("the folder for temporary files was chosen before");
    }
    let (started, asked) = {
        let starting = start(&settings, &data);
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
    let (platform, serving) = started;
    let signal = match asked {
        Some(signal) => signal,
        None => shutdown.signal().await,
    };
    data.retract();
    serving.cancel();
    platform.stop(signal).await
}

/// Answers when all is there, with the token that shuts the door.
async fn start(
    settings: &Settings,
    data: &DataDir,
) -> anyhow::Result<(Platform, CancellationToken)> {
    let door = Door::open(settings).await?;
    let platform = Platform::start(settings, data, &door).await?;
    let (http, https) = door.urls(&format!("api.{}", settings.domain))?;
    let running = running(settings, &door, &http, &https)?;
    let serving = platform.open(door, data, settings).await?;
    data.announce(&running)?;
    println!("api    {http}");
    println!("       {https}   (its certificate is made by the platform: --skip-ssl-validation)");
    println!(
        "user   {}, password in {}",
        settings.admin_user,
        data.file("admin-password").display()
    );
    Ok((platform, serving))
}

fn running(settings: &Settings, door: &Door, http: &str, https: &str) -> anyhow::Result<Running> {
    let at = |ip: IpAddr| if ip.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { ip };
    let address = |listener: &TcpListener| {
        listener.local_addr().map(|addr| std::net::SocketAddr::new(at(addr.ip()), addr.port()))
    };
    let direct = format!("http://{}", address(&door.http)?);
    // `*.localhost` is known to browsers and to curl, not to every resolver; an address always works.
    let api = if settings.domain == "localhost" { direct.clone() } else { http.to_owned() };
    Ok(Running {
        pid: std::process::id(),
        api,
        http: direct,
        https: https.to_owned(),
        domain: settings.domain.clone(),
        app: door.urls(&format!("APP.{}", settings.domain))?.0,
        admin_user: settings.admin_user.clone(),
    })
}

/// The parts that run until they are told to stop.
struct Platform {
    stop: CancellationToken,
    tasks: TaskTracker,
    router: Router,
    cell: Cell,
}

impl Platform {
    async fn start(settings: &Settings, data: &DataDir, door: &Door) -> anyhow::Result<Platform> {
        let (clock, stop, tasks) = (Clock::system(), CancellationToken::new(), TaskTracker::new());
        let secret = data.secret()?;
        let internal = internal_listener(data).await?;
        let internal_url = format!("http://{}", internal.local_addr()?);
        let logs =
            Loggregator::open(loggregator::Config::new(data.folder("logs")?), clock.clone())?;
        let uaa = open_uaa(settings, data, &clock).await?;
        let bbs: Arc<dyn diego::Bbs> = Arc::new(bbs::Client::new(&internal_url, &secret));
        let identity: Arc<dyn Identity> = Arc::new(uaa.clone());

        let cc = CloudController::open(
            cloud_controller_config(settings, data, door, &internal_url, &secret)?,
            cloud_controller::Deps {
                db: Db::open_file(&data.file("cloud_controller.db")).await?,
                identity: identity.clone(),
                bbs: bbs.clone(),
                blobs: Arc::new(
                    cloud_controller::blobstore::Files::open(data.folder("blobs")?).await?,
                ),
                sink: Arc::new(logs.clone()),
                metrics: Arc::new(FromLogs { logs: logs.clone(), clock: clock.clone() }),
                clock: clock.clone(),
                stop: stop.clone(),
                tasks: tasks.clone(),
            },
        )
        .await?;

        let access = LogAccess {
            identity,
            api: cc.router(),
            clock: clock.clone(),
            remembered: Default::default(),
        };
        let front = cc.router().merge(uaa.router()).merge(logs.router(Arc::new(access)));
        let config = router::Config {
            platform_names: platform_names(&settings.domain),
            ..Default::default()
        };
        let router = Router::new(config, front, Arc::new(logs.clone()), clock.clone());

        let brain = bbs::BbsServer::open(
            Db::open_file(&data.file("bbs.db")).await?,
            bbs::Config::new(secret.clone()),
            clock.clone(),
            Arc::new(rep::Dialer::new(&secret)),
            Arc::new(router.clone()),
            stop.clone(),
            &tasks,
        )
        .await?;
        let inside = brain.router().merge(cc.internal());
        let until = stop.clone();
        tasks.spawn(async move {
            if let Err(error) = base::http::serve(internal, inside, until).await {
                error!(%error, "the internal API ended");
            }
        });

        let cell = Cell::start(settings, data, &secret, bbs, Arc::new(logs), &clock, door).await?;
        Ok(Platform { stop, tasks, router, cell })
    }

    /// Lets clients in. The token shuts the door again.
    async fn open(
        &self,
        door: Door,
        data: &DataDir,
        settings: &Settings,
    ) -> anyhow::Result<CancellationToken> {
        let certificate = certificate(data, settings)?.server_config()?;
        let serving = self.stop.child_token();
        let (http, https) = (self.router.clone(), self.router.clone());
        let (until, also) = (serving.clone(), serving.clone());
        self.tasks.spawn(async move { http.serve_http(door.http, until).await });
        self.tasks.spawn(async move { https.serve_https(door.https, certificate, also).await });
        Ok(serving)
    }

    /// Ctrl-C takes the containers along; SIGTERM leaves them for the next start.
    async fn stop(self, signal: Signal) -> anyhow::Result<()> {
        info!(?signal, "stopping");
        let result = self.cell.stop(signal == Signal::Interrupt).await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        result
    }
}

/// Components and cells find the control plane at the same place after a restart, so the port is chosen once.
async fn internal_listener(data: &DataDir) -> anyhow::Result<TcpListener> {
    let local = Ipv4Addr::LOCALHOST;
    let path = data.file("internal-port");
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
    data.keep("internal-port", &listener.local_addr()?.port().to_string())?;
    Ok(listener)
}

async fn open_uaa(settings: &Settings, data: &DataDir, clock: &Clock) -> anyhow::Result<Uaa> {
    let password = match &settings.admin_password {
        Some(password) => password.clone(),
        None => data.admin_password()?,
    };
    let issuer = format!("http://uaa.{}", settings.domain);
    let mut config = uaa::Config::new(issuer, data.encryption_key()?.to_vec(), password);
    config.admin_user = settings.admin_user.clone();
    let db = Db::open_file(&data.file("uaa.db")).await?;
    Uaa::open(db, config, clock.clone()).await.context("starting the UAA")
}

fn cloud_controller_config(
    settings: &Settings,
    data: &DataDir,
    door: &Door,
    internal_url: &str,
    secret: &Secret,
) -> anyhow::Result<cloud_controller::Config> {
    let key = Secret::new(String::from_utf8_lossy(&data.encryption_key()?).into_owned());
    let mut config = cloud_controller::Config::new(secret.clone(), key);
    config.api_url = door.urls(&format!("api.{}", settings.domain))?.0;
    config.internal_url = internal_url.to_owned();
    config.app_domains = vec![settings.domain.clone()];
    config.lifecycle_bundle = Bytes::from_static(LIFECYCLE);
    let stack = |name: &String| StackConfig {
        name: name.clone(),
        description: "This machine's /usr, read-only".to_owned(),
    };
    config.stacks = settings.stacks.iter().map(stack).collect();
    let buildpack = |pack: lifecycle::buildpacks::SystemBuildpack| SystemBuildpack {
        name: pack.name.to_owned(),
        filename: pack.filename,
        zip: pack.zip.into(),
    };
    config.buildpacks =
        lifecycle::buildpacks::system_buildpacks().into_iter().map(buildpack).collect();
    Ok(config)
}

fn platform_names(domain: &str) -> BTreeSet<String> {
    NAMES.iter().map(|name| format!("{name}.{domain}")).collect()
}

/// The operator's, or the one that the platform made for itself at first start.
fn certificate(data: &DataDir, settings: &Settings) -> anyhow::Result<Certificate> {
    if let Some((certificate, key)) = &settings.tls {
        let read = |path: &std::path::Path| {
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
        };
        return Ok(Certificate { certificate: read(certificate)?, key: read(key)? });
    }
    let paths = (data.file("tls.crt"), data.file("tls.key"));
    if !paths.0.exists() || !paths.1.exists() {
        // One without the other is of no use.
        for path in [&paths.0, &paths.1] {
            let _ = std::fs::remove_file(path);
        }
        let names = vec![
            settings.domain.clone(),
            format!("*.{}", settings.domain),
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
        ];
        let made = Certificate::self_made(names)?;
        data.kept("tls.key", || made.key.clone())?;
        data.kept("tls.crt", || made.certificate.clone())?;
    }
    Ok(Certificate {
        certificate: std::fs::read_to_string(paths.0)?,
        key: std::fs::read_to_string(paths.1)?,
    })
}
