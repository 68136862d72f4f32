//! Every setting of `cupola up`: by flag, by environment variable, by TOML file, in this order.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use clap::ValueEnum;
use serde::Deserialize;

#[derive(Args, Debug)]
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
    /// What apps may use in all, in MB [default: this machine's memory]
    #[arg(long, env = "CUPOLA_MEMORY_MB", value_name = "MB")]
    memory_mb: Option<u64>,
    /// What apps may use in all, in MB [default: the free disk under FOLDER]
    #[arg(long, env = "CUPOLA_DISK_MB", value_name = "MB")]
    disk_mb: Option<u64>,
    /// The network that containers get their addresses from [default: a /16 below 10.0.0.0/8 that is free here]
    #[arg(long, env = "CUPOLA_CONTAINER_NETWORK", value_name = "CIDR")]
    container_network: Option<String>,
    /// Where cells on other machines find this one, over TLS: an address of this machine and a port [default: no other cells]
    #[arg(long, env = "CUPOLA_CELLS_LISTEN", value_name = "ADDRESS:PORT")]
    cells_listen: Option<SocketAddrV4>,
    /// Where Diego's Receptor API listens; its user is `receptor`, the password in FOLDER/receptor-password [default: 127.0.0.1:8887, or any free port where that is taken]
    #[arg(long, env = "CUPOLA_RECEPTOR_LISTEN", value_name = "ADDRESS:PORT")]
    receptor_listen: Option<SocketAddr>,
    /// What is logged on standard error: a level, or a filter such as info,bbs=debug [default: warn]
    #[arg(long, env = "CUPOLA_LOG", value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Namespaces, cgroups, seccomp; needs root
    Linux,
    /// Plain processes: no isolation between apps, nor between apps and this machine
    Process,
}

/// The settings as they are used.
#[derive(Clone, Debug)]
pub struct Settings {
    pub data: PathBuf,
    pub domain: String,
    pub listen: IpAddr,
    pub http_port: Option<u16>,
    pub https_port: Option<u16>,
    pub tls: Option<(PathBuf, PathBuf)>,
    pub admin_user: String,
    pub admin_password: Option<String>,
    pub backend: Backend,
    pub stacks: Vec<String>,
    pub memory_mb: Option<u64>,
    pub disk_mb: Option<u64>,
    pub container_network: Option<String>,
    pub cells_listen: Option<SocketAddrV4>,
    pub receptor_listen: Option<SocketAddr>,
    pub log: String,
}

impl UpArgs {
    /// Reads the file, if one is named, and fills in what neither flags nor environment say.
    pub fn resolve(self) -> anyhow::Result<Settings> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => Given::default(),
        };
        let home = std::env::var_os("HOME").map(PathBuf::from);
        self.given.over(file).resolve(rustix::process::geteuid().is_root(), home.as_deref())
    }
}

fn read(path: &Path) -> anyhow::Result<Given> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading the configuration {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("in the configuration {}", path.display()))
}

impl Given {
    fn over(self, file: Given) -> Given {
        Given {
            data: self.data.or(file.data),
            domain: self.domain.or(file.domain),
            listen: self.listen.or(file.listen),
            http_port: self.http_port.or(file.http_port),
            https_port: self.https_port.or(file.https_port),
            tls_certificate: self.tls_certificate.or(file.tls_certificate),
            tls_key: self.tls_key.or(file.tls_key),
            admin_user: self.admin_user.or(file.admin_user),
            admin_password: self.admin_password.or(file.admin_password),
            backend: self.backend.or(file.backend),
            stacks: if self.stacks.is_empty() { file.stacks } else { self.stacks },
            memory_mb: self.memory_mb.or(file.memory_mb),
            disk_mb: self.disk_mb.or(file.disk_mb),
            container_network: self.container_network.or(file.container_network),
            cells_listen: self.cells_listen.or(file.cells_listen),
            receptor_listen: self.receptor_listen.or(file.receptor_listen),
            log: self.log.or(file.log),
        }
    }

    fn resolve(self, root: bool, home: Option<&Path>) -> anyhow::Result<Settings> {
        let data = data_folder_of(self.data, "cupola", root, home)?;
        let tls = match (self.tls_certificate, self.tls_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => anyhow::bail!("tls_certificate and tls_key go together"),
        };
        let domain = self.domain.unwrap_or_else(|| "localhost".to_owned()).to_ascii_lowercase();
        anyhow::ensure!(is_domain(&domain), "domain: {domain:?} is not a domain name");
        let backend = backend_of(self.backend, root)?;
        if let Some(address) = self.cells_listen {
            anyhow::ensure!(
                !address.ip().is_unspecified(),
                "cells_listen: {address} names no machine: give the address by which cells reach this one"
            );
        }
        Ok(Settings {
            data,
            domain,
            listen: self.listen.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            http_port: self.http_port,
            https_port: self.https_port,
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
            container_network: self.container_network,
            cells_listen: self.cells_listen,
            receptor_listen: self.receptor_listen,
            log: self.log.unwrap_or_else(|| "warn".to_owned()),
        })
    }
}

/// The folder named, or the usual one of this user for a program called `name`.
pub fn data_folder(given: Option<PathBuf>, name: &str) -> anyhow::Result<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    data_folder_of(given, name, rustix::process::geteuid().is_root(), home.as_deref())
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
        "backend: linux needs root; start with sudo, or use --backend process, which isolates nothing"
    );
    Ok(backend)
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(toml: &str) -> Result<Given, toml::de::Error> {
        toml::from_str(toml)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = given("domain = 'file.test'\nhttp_port = 1\nbackend = 'process'").unwrap();
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
    fn a_wrong_key_is_named() {
        let error = given("domian = 'x'").unwrap_err().to_string();
        assert!(error.contains("domian") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let refused = |given: Given| {
            given.resolve(false, Some(Path::new("/home/me"))).unwrap_err().to_string()
        };
        assert!(
            refused(Given { backend: Some(Backend::Linux), ..Given::default() })
                .contains("needs root")
        );
        assert!(
            refused(Given { domain: Some("no spaces".to_owned()), ..Given::default() })
                .contains("not a domain name")
        );
    }
}
