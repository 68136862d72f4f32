//! What the Cloud Controller is told at start. No I/O here.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use base::http::Secret;
use bytes::Bytes;
use diego::routing::ReservablePorts;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug)]
pub struct Config {
    /// The API's address when no request tells it (`VCAP_APPLICATION.cf_api`, jobs' links): `http://127.0.0.1:8080`.
    pub api_url: String,
    /// Where cells reach [`crate::CloudController::internal`]: `http://HOST:PORT`.
    pub internal_url: String,
    /// With it, links are `https://api.DOMAIN` and its sisters; without, they follow the request.
    pub system_domain: Option<String>,
    /// Names that lead to the platform itself, whatever routes there are: nobody gets a route or a domain of these.
    pub reserved_names: BTreeSet<String>,
    /// Shared domains made at start; the first one is the default.
    pub app_domains: Vec<String>,
    /// The ports that TCP routes of the group `default-tcp` may have; without, no group is made. A later change by the
    /// Routing API holds until this changes.
    pub tcp_ports: Option<ReservablePorts>,
    pub stacks: Vec<StackConfig>,
    /// The buildpacks that come with the platform, in the order they are tried.
    pub buildpacks: Vec<SystemBuildpack>,
    /// A gzipped tar with `builder`, `launcher` and `healthcheck`.
    pub lifecycle_bundle: Bytes,
    /// Guards the internal listener's addresses.
    pub secret: Secret,
    /// Seals what is secret in the database; any text, the longer the better.
    pub encryption_key: Secret,
    pub info: Info,
    pub app_ssh: Option<AppSsh>,
    pub limits: Limits,
    pub timings: Timings,
    pub kept: Kept,
    /// Where uploads lie until they are checked; best on the blobs' file system. Without, where the system has such
    /// files. What a crash left there is removed at start, so no other program may share it.
    pub temp_dir: Option<PathBuf>,
    /// The cell's name service, which containers may always ask.
    pub dns_servers: Vec<String>,
}

/// A hundred ports, as is usual in Cloud Foundry.
pub const DEFAULT_TCP_PORTS: &str = "1024-1123";

#[derive(Clone, Debug)]
pub struct StackConfig {
    pub name: String,
    pub description: String,
}

#[derive(Clone, Debug)]
pub struct SystemBuildpack {
    pub name: String,
    pub filename: String,
    pub zip: Bytes,
}

#[derive(Clone, Debug)]
pub struct Info {
    pub name: String,
    pub build: String,
    pub description: String,
    pub support: String,
}

#[derive(Clone, Debug)]
pub struct AppSsh {
    /// `HOST:PORT`; an empty host follows the request.
    pub address: String,
    pub host_key_fingerprint: String,
    pub oauth_client: String,
}

#[derive(Clone, Debug)]
pub struct Limits {
    pub app_memory_mb: i64,
    pub app_disk_mb: i64,
    pub max_app_disk_mb: i64,
    /// Bytes per second; -1 = none.
    pub app_log_rate: i64,
    pub app_max_pids: u64,
    pub app_fds: u64,
    pub staging_memory_mb: i64,
    pub staging_disk_mb: i64,
    pub staging_timeout: Duration,
    /// Of a package as it is uploaded.
    pub package_bytes: u64,
    /// Of a package when unpacked.
    pub unpacked_bytes: u64,
    pub droplet_bytes: u64,
    pub buildpack_bytes: u64,
    pub body_bytes: usize,
    /// How long a GET of something unfinished is held, or of what runs while Diego is not heard.
    pub hold: Duration,
    /// How long after its end a failed build is still held. The official CLI shows log lines two seconds late, and none
    /// after the build's end: what went wrong would stay unseen.
    pub hold_failure: Duration,
    /// How long a GET of stats is held while nothing runs.
    pub hold_stats: Duration,
    /// Packages and staged droplets kept per app besides the current ones.
    pub kept_per_app: usize,
}

/// What an operator may want slower. In files each is a number of milliseconds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timings {
    /// The least time between two steps of a deployment, in which people or a monitor may see what the last one did and
    /// cancel; Cloud Foundry's is 5 s. 0: a step is taken as soon as the instances of the last one serve.
    #[serde(with = "base::millis")]
    pub deployment_step: Duration,
}

impl Timings {
    /// How long a GET of a deployment is held: no longer than a step, so that its client sees each of them.
    pub fn hold_deployment(&self, hold: Duration) -> Duration {
        if self.deployment_step.is_zero() { hold } else { hold.min(self.deployment_step) }
    }
}

/// How long what happened is kept, and how much of what may be of use.
#[derive(Clone, Debug)]
pub struct Kept {
    pub audit_events: Duration,
    pub app_usage_events: Duration,
    pub service_usage_events: Duration,
    /// After they ended.
    pub completed_tasks: Duration,
    /// Of files that clients need not send again; the longest unused go first.
    pub resource_bytes: u64,
}

impl Default for Kept {
    /// Cloud Foundry's 31 days.
    fn default() -> Kept {
        const DAYS: Duration = Duration::from_secs(31 * 24 * 3600);
        Kept {
            audit_events: DAYS,
            app_usage_events: DAYS,
            service_usage_events: DAYS,
            completed_tasks: DAYS,
            resource_bytes: 4 << 30,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        const GIB: u64 = 1 << 30;
        Limits {
            app_memory_mb: 1024,
            app_disk_mb: 1024,
            max_app_disk_mb: 10 * 1024,
            app_log_rate: -1,
            app_max_pids: 1024,
            app_fds: 16384,
            staging_memory_mb: 1024,
            staging_disk_mb: 4096,
            staging_timeout: Duration::from_secs(900),
            package_bytes: GIB,
            unpacked_bytes: 4 * GIB,
            droplet_bytes: 2 * GIB,
            buildpack_bytes: 2 * GIB,
            body_bytes: 1 << 20,
            hold: Duration::from_secs(10),
            hold_failure: Duration::from_millis(2500),
            hold_stats: Duration::from_secs(2),
            kept_per_app: 5,
        }
    }
}

impl Config {
    /// What is left as it is on one machine; callers change what they must.
    pub fn new(secret: Secret, encryption_key: Secret) -> Config {
        Config {
            api_url: "http://127.0.0.1:8080".to_owned(),
            internal_url: "http://127.0.0.1:9090".to_owned(),
            system_domain: None,
            reserved_names: BTreeSet::new(),
            app_domains: vec!["localhost".to_owned()],
            tcp_ports: DEFAULT_TCP_PORTS.parse().ok(),
            stacks: Vec::new(),
            buildpacks: Vec::new(),
            lifecycle_bundle: Bytes::new(),
            secret,
            encryption_key,
            info: Info {
                name: "Cupola".to_owned(),
                build: env!("CARGO_PKG_VERSION").to_owned(),
                description: "Cloud Foundry in one program".to_owned(),
                support: String::new(),
            },
            app_ssh: None,
            limits: Limits::default(),
            timings: Timings::default(),
            kept: Kept::default(),
            temp_dir: None,
            dns_servers: Vec::new(),
        }
    }

    /// The API's address as apps are told it.
    pub fn cf_api(&self) -> String {
        match &self.system_domain {
            Some(domain) => format!("https://api.{domain}"),
            None => self.api_url.clone(),
        }
    }

    /// What a new app gets when it names none.
    pub fn default_stack(&self) -> &str {
        self.stacks.first().map_or("cflinuxfs4", |stack| stack.name.as_str())
    }
}
