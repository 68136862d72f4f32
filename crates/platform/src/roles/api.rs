//! The role `api`: Cloud Controller with its bridge, UAA and blobs.

use std::sync::Arc;

use anyhow::Context as _;
use base::http::Secret;
use bytes::Bytes;
use cloud_controller::CloudController;
use cloud_controller::auth::Identity;
use cloud_controller::blobstore::Files;
use cloud_controller::config::{StackConfig, SystemBuildpack};
use loggregator::Loggregator;
use uaa::Uaa;

use crate::data_dir;
use crate::glue::{FromLogs, LogAccess};
use crate::ground::Ground;
use crate::operator;

const LIFECYCLE: &[u8] = include_bytes!(env!("CUPOLA_LIFECYCLE_BUNDLE"));

pub struct Api {
    /// What clients ask, the log store's included.
    pub front: axum::Router,
    /// What cells and the brain ask.
    pub inside: axum::Router,
}

/// `api_url` is how clients find it by name.
pub async fn start(
    ground: &Ground<'_>,
    logs: &Loggregator,
    api_url: String,
) -> anyhow::Result<Api> {
    let uaa = open_uaa(ground).await?;
    let identity: Arc<dyn Identity> = Arc::new(uaa.clone());
    let clock = ground.clock.clone();
    let deps = cloud_controller::Deps {
        db: ground.storage.open(ground.data, "cloud_controller").await?,
        identity: identity.clone(),
        bbs: Arc::new(ground.brains.clone()),
        blobs: Arc::new(Files::open(ground.data.folder("blobs")?).await?),
        sink: Arc::new(logs.clone()),
        metrics: Arc::new(FromLogs { logs: logs.clone(), clock: clock.clone() }),
        clock: clock.clone(),
        stop: ground.stop.clone(),
        tasks: ground.tasks.clone(),
    };
    let cc = CloudController::open(config(ground, api_url)?, deps).await?;
    let access = LogAccess { identity, api: cc.router(), clock, remembered: Default::default() };
    let front = cc.router().merge(uaa.router()).merge(logs.router(Arc::new(access)));
    Ok(Api { front, inside: cc.internal() })
}

async fn open_uaa(ground: &Ground<'_>) -> anyhow::Result<Uaa> {
    let (settings, data) = (ground.settings, ground.data);
    let password = match &settings.admin_password {
        Some(password) => password.clone(),
        None => data.admin_password()?,
    };
    let issuer = format!("http://uaa.{}", settings.domain);
    let mut config = uaa::Config::new(issuer, data.encryption_key()?.to_vec(), password);
    config.admin_user = settings.admin_user.clone();
    config.clients.push(operator::client(data)?);
    let db = ground.storage.open(data, "uaa").await?;
    let uaa = Uaa::open(db, config, ground.clock.clone()).await;
    uaa.with_context(|| match ground.storage.shared() {
        None => "starting the UAA".to_owned(),
        Some(database) => {
            format!("starting the UAA in {database}, which must be empty or this platform's own")
        }
    })
}

fn config(ground: &Ground<'_>, api_url: String) -> anyhow::Result<cloud_controller::Config> {
    let (settings, data) = (ground.settings, ground.data);
    let key = Secret::new(String::from_utf8_lossy(&data.encryption_key()?).into_owned());
    let mut config = cloud_controller::Config::new(ground.secret.clone(), key);
    config.api_url = api_url;
    // What cells are told to fetch must be found from everywhere.
    config.internal_url = ground.url.clone();
    config.app_domains = vec![settings.domain.clone()];
    config.reserved_names = super::router::platform_names(&settings.domain);
    config.tcp_ports = settings.tcp.ports.clone();
    config.lifecycle_bundle = Bytes::from_static(LIFECYCLE);
    config.temp_dir = Some(data.folder(data_dir::TEMPORARY)?);
    if let Some(timeout) = settings.staging_timeout {
        config.limits.staging_timeout = timeout;
    }
    config.timings = settings.timings.cloud_controller.clone();
    config.kept = settings.kept.into();
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
