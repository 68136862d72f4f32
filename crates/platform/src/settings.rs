//! Every setting of `cupola up`: by flag, by environment variable, by TOML file, in this order.

mod check;
mod file;
mod kept;
#[cfg(test)]
mod reference;
mod timings;
mod values;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use clap::ValueEnum;
use serde::Deserialize;

use crate::tcp::{self, TcpSettings};

/// Which data directory, for the commands that look at a platform from outside.
#[derive(Args, Debug)]
pub struct DataArgs {
    /// The TOML file that `cupola up` was given, if it names the data directory
    #[arg(long, env = "CUPOLA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory [default: /var/lib/cupola as root, else ~/.local/share/cupola]
    #[arg(long, env = "CUPOLA_DATA", value_name = "FOLDER")]
    data: Option<PathBuf>,
}

impl DataArgs {
    pub fn resolve(self) -> anyhow::Result<PathBuf> {
        let from_file = match (&self.data, &self.config) {
            (None, Some(path)) => file::read(path)?.data,
            _ => None,
        };
        data_folder(self.data.or(from_file), "cupola")
    }
}

#[derive(Args, Clone, Debug)]
pub struct UpArgs {
    /// A TOML file with any of the settings below, named as the flags with underscores
    #[arg(long, env = "CUPOLA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
}

/// The settings as they are written; what nobody wrote is absent.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Given {
    /// Where everything is kept: databases, blobs, logs, containers [default: /var/lib/cupola as root, else ~/.local/share/cupola]
    #[arg(long, env = "CUPOLA_DATA", value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// The domain of apps and of the platform's own names (api.DOMAIN, login.DOMAIN, …) [default: localhost]
    #[arg(long, env = "CUPOLA_DOMAIN")]
    domain: Option<String>,
    /// The address to listen on [default: 0.0.0.0]
    #[arg(long, env = "CUPOLA_LISTEN", value_name = "ADDRESS")]
    listen: Option<IpAddr>,
    /// The port for HTTP; 0 takes any free one [default: 80 where free and allowed, else 8080]
    #[arg(long, env = "CUPOLA_HTTP_PORT", value_name = "PORT")]
    http_port: Option<u16>,
    /// The port for HTTPS; 0 takes any free one [default: 443 where free and allowed, else 8443]
    #[arg(long, env = "CUPOLA_HTTPS_PORT", value_name = "PORT")]
    https_port: Option<u16>,
    /// The ports that TCP routes may have, such as 1024-1123,2000; none for no TCP routes [default: 1024-1123]
    #[arg(long, env = "CUPOLA_TCP_PORTS", value_name = "PORTS")]
    tcp_ports: Option<String>,
    /// The address on which the ports of TCP routes are opened [default: as --listen]
    #[arg(long, env = "CUPOLA_TCP_LISTEN", value_name = "ADDRESS")]
    tcp_listen: Option<IpAddr>,
    /// The certificate chain for HTTPS, as PEM [default: one made at first start]
    #[arg(long, env = "CUPOLA_TLS_CERTIFICATE", value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The certificate's key, as PEM
    #[arg(long, env = "CUPOLA_TLS_KEY", value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// The first user, who may do everything; made at first start [default: admin]
    #[arg(long, env = "CUPOLA_ADMIN_USER", value_name = "NAME")]
    admin_user: Option<String>,
    /// The first user's password at first start [default: made then and kept in FOLDER/admin-password]
    #[arg(long, env = "CUPOLA_ADMIN_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    admin_password: Option<String>,
    /// What isolates apps [default: linux as root, else process]
    #[arg(long, env = "CUPOLA_BACKEND", value_enum)]
    backend: Option<Backend>,
    /// The stacks that manifests may name; each shows this machine's /usr [default: cflinuxfs4]
    #[arg(long = "stack", env = "CUPOLA_STACKS", value_name = "NAME", value_delimiter = ',')]
    stacks: Vec<String>,
    /// The memory that apps may use in all, in MB [default: this machine's memory]
    #[arg(long, env = "CUPOLA_MEMORY_MB", value_name = "MB")]
    memory_mb: Option<u64>,
    /// What apps may write in all, in MB [default: the free disk under FOLDER]
    #[arg(long, env = "CUPOLA_DISK_MB", value_name = "MB")]
    disk_mb: Option<u64>,
    /// How writing too much is prevented: best, btrfs, project-quotas, images, watched or off [default: best, which takes the first of these that works here]
    #[arg(long, env = "CUPOLA_DISK_LIMITS", value_name = "WAY")]
    disk_limits: Option<DiskLimits>,
    /// How long staging an app may take, in seconds [default: 900]
    #[arg(long, env = "CUPOLA_STAGING_TIMEOUT_S", value_name = "SECONDS")]
    staging_timeout_s: Option<StagingTimeout>,
    /// The network that containers get their addresses from [default: a /16 below 10.0.0.0/8 that is free here]
    #[arg(long, env = "CUPOLA_CONTAINER_NETWORK", value_name = "CIDR")]
    container_network: Option<String>,
    /// Where cells on other machines find this one, over TLS: an address of this machine and a port [default: no other cells]
    #[arg(long, env = "CUPOLA_CELLS_LISTEN", value_name = "ADDRESS:PORT")]
    cells_listen: Option<SocketAddrV4>,
    /// Where Diego's Receptor API listens; its user is `receptor`, the password in FOLDER/receptor-password [default: 127.0.0.1:8887, or any free port where that is taken]
    #[arg(long, env = "CUPOLA_RECEPTOR_LISTEN", value_name = "ADDRESS:PORT")]
    receptor_listen: Option<SocketAddr>,
    /// The PostgreSQL database for what is otherwise kept in files of FOLDER, as postgres://USER:PASSWORD@HOST:PORT/NAME, with ?sslmode=verify-full where it is not on this machine; remembered in FOLDER [default: files in FOLDER]
    #[arg(long, env = "CUPOLA_DATABASE", value_name = "URL", hide_env_values = true)]
    database: Option<DatabaseUrl>,
    /// What is logged on standard error: a level, or a filter such as info,bbs=debug [default: warn]
    #[arg(long, env = "CUPOLA_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// In the file alone.
    #[arg(skip)]
    timings: Timings,
    /// In the file alone.
    #[arg(skip)]
    crashed: executor::KeepCrashed,
    /// In the file alone.
    #[arg(skip)]
    kept: Kept,
}

/// As it was written; it may hold a password, so nothing shows it.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
struct DatabaseUrl(String);

impl std::str::FromStr for DatabaseUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<DatabaseUrl, Self::Err> {
        Ok(DatabaseUrl(text.to_owned()))
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DatabaseUrl(..)")
    }
}
/// In seconds, at most a day.
type StagingTimeout = Whole<1, 86_400>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Namespaces, cgroups, seccomp; needs root
    Linux,
    /// Plain processes: no isolation between apps, nor between apps and this machine
    Process,
}

pub use kept::Kept;
pub use timings::{CellFile, CellTimings, Timings};
pub use values::{DiskLimits, Whole};

/// The settings as they are used.
#[derive(Clone, Debug)]
pub struct Settings {
    pub data: PathBuf,
    pub domain: String,
    pub listen: IpAddr,
    pub http_port: Option<u16>,
    pub https_port: Option<u16>,
    pub tcp: TcpSettings,
    pub tls: Option<(PathBuf, PathBuf)>,
    pub admin_user: String,
    pub admin_password: Option<String>,
    pub backend: Backend,
    pub stacks: Vec<String>,
    pub memory_mb: Option<u64>,
    pub disk_mb: Option<u64>,
    pub disk_limits: DiskLimits,
    /// `None`: Cloud Controller's own.
    pub staging_timeout: Option<Duration>,
    pub container_network: Option<String>,
    pub cells_listen: Option<SocketAddrV4>,
    pub receptor_listen: Option<SocketAddr>,
    pub database: Option<sql::Postgres>,
    pub log: String,
    pub timings: Timings,
    pub crashed: executor::KeepCrashed,
    pub kept: Kept,
}

impl UpArgs {
    /// Reads the file, if one is named, and fills in what neither flags nor environment say.
    ///
    /// # Errors
    /// Name the setting, what it was given and what it takes.
    pub fn resolve(self) -> anyhow::Result<Settings> {
        let file = match &self.config {
            Some(path) => file::read(path)?,
            None => Given::default(),
        };
        let is_root = rustix::process::geteuid().is_root();
        let given = self.given.over(file);
        let settings = given.resolve(is_root, home().as_deref())?;
        check::check(&settings)?;
        Ok(settings)
    }
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

impl Given {
    fn over(self, file: Given) -> Given {
        Given {
            data: self.data.or(file.data),
            domain: self.domain.or(file.domain),
            listen: self.listen.or(file.listen),
            http_port: self.http_port.or(file.http_port),
            https_port: self.https_port.or(file.https_port),
            tcp_ports: self.tcp_ports.or(file.tcp_ports),
            tcp_listen: self.tcp_listen.or(file.tcp_listen),
            tls_certificate: self.tls_certificate.or(file.tls_certificate),
            tls_key: self.tls_key.or(file.tls_key),
            admin_user: self.admin_user.or(file.admin_user),
            admin_password: self.admin_password.or(file.admin_password),
            backend: self.backend.or(file.backend),
            stacks: if self.stacks.is_empty() { file.stacks } else { self.stacks },
            memory_mb: self.memory_mb.or(file.memory_mb),
            disk_mb: self.disk_mb.or(file.disk_mb),
            disk_limits: self.disk_limits.or(file.disk_limits),
            staging_timeout_s: self.staging_timeout_s.or(file.staging_timeout_s),
            container_network: self.container_network.or(file.container_network),
            cells_listen: self.cells_listen.or(file.cells_listen),
            receptor_listen: self.receptor_listen.or(file.receptor_listen),
            database: self.database.or(file.database),
            log: self.log.or(file.log),
            timings: file.timings,
            crashed: file.crashed,
            kept: file.kept,
        }
    }

    fn resolve(self, is_root: bool, home: Option<&Path>) -> anyhow::Result<Settings> {
        let tls = match (self.tls_certificate, self.tls_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => anyhow::bail!(
                "tls_certificate is set and tls_key is not: name the certificate's key with --tls-key FILE"
            ),
            (None, Some(_)) => anyhow::bail!(
                "tls_key is set and tls_certificate is not: name the certificate with --tls-certificate FILE"
            ),
        };
        let backend = backend_of(self.backend, is_root)?;
        let listen = self.listen.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let database = self.database.map(|url| sql::Postgres::parse(&url.0));
        let database = database.transpose().context("database")?;
        Ok(Settings {
            data: data_folder_of(self.data, "cupola", is_root, home)?,
            domain: self.domain.unwrap_or_else(|| "localhost".to_owned()).to_ascii_lowercase(),
            listen,
            http_port: self.http_port,
            https_port: self.https_port,
            tcp: tcp::resolve(self.tcp_ports.as_deref(), self.tcp_listen, listen)?,
            tls,
            admin_user: self.admin_user.unwrap_or_else(|| "admin".to_owned()),
            admin_password: self.admin_password,
            backend,
            stacks: if self.stacks.is_empty() {
                vec!["cflinuxfs4".to_owned()]
            } else {
                self.stacks
            },
            memory_mb: self.memory_mb,
            disk_mb: self.disk_mb,
            disk_limits: self.disk_limits.unwrap_or_default(),
            staging_timeout: self.staging_timeout_s.map(|span| Duration::from_secs(span.get())),
            container_network: self.container_network,
            cells_listen: self.cells_listen,
            receptor_listen: self.receptor_listen,
            database,
            log: self.log.unwrap_or_else(|| "warn".to_owned()),
            timings: self.timings,
            crashed: self.crashed,
            kept: self.kept,
        })
    }
}

/// What is missing where apps are plain processes.
pub const NO_ISOLATION: &str =
    "no limits of memory, CPU or disk, and apps share this machine's network";

/// The folder named, or the usual one of this user for a program called `name`.
pub fn data_folder(given: Option<PathBuf>, name: &str) -> anyhow::Result<PathBuf> {
    data_folder_of(given, name, rustix::process::geteuid().is_root(), home().as_deref())
}

fn data_folder_of(
    given: Option<PathBuf>,
    name: &str,
    root: bool,
    home: Option<&Path>,
) -> anyhow::Result<PathBuf> {
    let folder = match (given, root, home) {
        (Some(folder), _, _) => folder,
        (None, true, _) => Path::new("/var/lib").join(name),
        (None, false, Some(home)) => home.join(".local/share").join(name),
        (None, false, None) => anyhow::bail!("no folder to keep data in: pass --data FOLDER"),
    };
    Ok(std::path::absolute(folder)?)
}

/// The backend named, or the best that this user can have.
pub fn backend(given: Option<Backend>) -> anyhow::Result<Backend> {
    backend_of(given, rustix::process::geteuid().is_root())
}

fn backend_of(given: Option<Backend>, root: bool) -> anyhow::Result<Backend> {
    let backend = given.unwrap_or(if root { Backend::Linux } else { Backend::Process });
    anyhow::ensure!(
        backend != Backend::Linux || root,
        "backend: linux needs root, for namespaces, control groups and mounts: start with sudo; \
         or use --backend process, which runs apps as plain processes of this user: {NO_ISOLATION}"
    );
    Ok(backend)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(toml: &str) -> Given {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = given("domain = 'file.test'\nhttp_port = 1\nbackend = 'process'");
        let flags = Given { http_port: Some(2), ..Given::default() };
        let settings = flags.over(file).resolve(true, None).unwrap();
        assert_eq!(
            (settings.domain.as_str(), settings.http_port, settings.backend),
            ("file.test", Some(2), Backend::Process)
        );
        assert_eq!(settings.data, Path::new("/var/lib/cupola"));
        assert_eq!(settings.stacks, ["cflinuxfs4"]);
    }

    #[test]
    fn linux_without_root_says_what_the_other_backend_lacks() {
        let linux = Given { backend: Some(Backend::Linux), ..Given::default() };
        let error = linux.resolve(false, Some(Path::new("/home/me"))).unwrap_err().to_string();
        for part in ["needs root", "sudo", "--backend process", "no limits"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let half = Given { tls_certificate: Some("x".into()), ..Given::default() };
        let error = half.resolve(true, None).unwrap_err().to_string();
        assert!(error.contains("--tls-key"), "{error}");
    }

    #[test]
    fn without_root_data_lies_at_home() {
        let at = |home| data_folder_of(None, "cupola", false, home);
        assert_eq!(
            at(Some(Path::new("/home/me"))).unwrap(),
            Path::new("/home/me/.local/share/cupola")
        );
        assert!(at(None).unwrap_err().to_string().contains("--data"));
    }
}
