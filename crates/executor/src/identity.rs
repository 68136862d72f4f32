//! Certificates by which containers show each other who they are: each has one of its own, in a folder that it can only
//! read, and a new one well before the old one ends.

use std::convert::Infallible;
use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base::Timestamp;
use diego::NetInfo;
use garden::{BindMount, Handle};
use tracing::{debug, warn};

use crate::container::ContainerRequest;
use crate::executor::Executor;
use crate::member::Traces;
use crate::progress::Entry;

/// Where a container finds them; the names are Cloud Foundry's.
const FOLDER: &str = "/etc/cf-instance-credentials";
const CERTIFICATE: &str = "instance.crt";
const KEY: &str = "instance.key";
/// Where it finds the authority of all of them.
const TRUSTED: &str = "/etc/cf-system-certificates";
const AUTHORITY: &str = "instance-identity-ca.crt";
/// The host's clock may jump, so it is looked at now and then.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// Of the time a certificate is good for, so much is left when the next one comes.
const LEFT: u32 = 8;
/// Between two tries to get a new one.
const AGAIN: Duration = Duration::from_secs(60);
const SOONEST: Duration = Duration::from_millis(100);

/// Whom a certificate is for.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// The container's guid: the common name, and a host name it goes by.
    pub guid: &'a str,
    /// Where other containers reach it.
    pub address: Ipv4Addr,
    pub units: &'a [String],
}

/// As PEM.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The certificate, then those that lead to the authority.
    pub certificate: String,
    pub key: String,
    pub until: Timestamp,
}

/// Makes certificates, good from now on.
pub trait Identities: Send + Sync {
    /// # Errors
    /// When there can be none at the moment; it is asked again.
    fn issue(&self, subject: &Subject, now: Timestamp) -> anyhow::Result<Credentials>;

    /// The certificate, as PEM, by which what others show is checked.
    fn authority(&self) -> &str;
}

/// What a container gets so that it finds its certificate.
#[derive(Debug, Default)]
pub(crate) struct Fittings {
    pub mounts: Vec<BindMount>,
    pub env: Vec<(String, String)>,
}

impl Executor {
    /// Gives every container a certificate. To be called once, before [`Executor::recover`]; without it, there are none.
    pub fn identify(&self, identities: Arc<dyn Identities>) -> anyhow::Result<()> {
        let trusted = self.trusted_dir();
        folder(&trusted)?;
        put(&trusted, AUTHORITY, identities.authority())?;
        anyhow::ensure!(self.identities.set(identities).is_ok(), "there are identities already");
        Ok(())
    }

    /// The folders that a container gets for its certificate, and what its processes are told of them.
    pub(crate) fn identity_place(&self, guid: &Handle) -> anyhow::Result<Fittings> {
        if self.identities.get().is_none() {
            return Ok(Fittings::default());
        }
        folder(&self.identity_dir(guid))?;
        let mount =
            |source, target: &str| BindMount { source, target: target.into(), writable: false };
        let mounts =
            vec![mount(self.identity_dir(guid), FOLDER), mount(self.trusted_dir(), TRUSTED)];
        let env = [
            ("CF_INSTANCE_CERT", format!("{FOLDER}/{CERTIFICATE}")),
            ("CF_INSTANCE_KEY", format!("{FOLDER}/{KEY}")),
            ("CF_SYSTEM_CERT_PATH", TRUSTED.to_owned()),
        ];
        Ok(Fittings { mounts, env: env.map(|(name, value)| (name.to_owned(), value)).into() })
    }

    /// A first certificate, or the next one.
    pub(crate) async fn give_identity(
        &self,
        request: &ContainerRequest,
        traces: &Traces,
        net: &NetInfo,
    ) -> anyhow::Result<()> {
        let Some(identities) = self.identities.get().cloned() else { return Ok(()) };
        let folder = self.identity_dir(&request.guid);
        if !folder.is_dir() {
            // Made before there were any.
            return Ok(());
        }
        let now = self.clock.now();
        let (guid, units) = (request.guid.to_string(), request.units.clone());
        let address = net.instance_address;
        // Making a key takes a moment of computing.
        let made = tokio::task::spawn_blocking(move || {
            let subject = Subject { guid: &guid, address, units: &units };
            let made = identities.issue(&subject, now)?;
            // The key first: whoever waits for the new certificate finds both.
            put(&folder, KEY, &made.key)?;
            put(&folder, CERTIFICATE, &made.certificate)?;
            anyhow::Ok(made.until)
        });
        let until = made.await.context("making a certificate")?.context("making a certificate")?;
        traces.journal.note(Entry::Identified { from: now, until });
        debug!(container.guid = %request.guid, %until, "it has a certificate");
        Ok(())
    }

    /// Gives it a new certificate whenever the old one is about to end.
    pub(crate) async fn keep_identified(
        &self,
        request: &ContainerRequest,
        traces: &Traces,
        net: &NetInfo,
    ) -> Infallible {
        loop {
            let Some((from, until)) = traces.journal.progress().identified else {
                // It was made without one.
                return std::future::pending().await;
            };
            let left = until.since(self.clock.now());
            let early = until.since(from) / LEFT;
            if left > early {
                tokio::time::sleep((left - early).min(LONGEST_SLEEP)).await;
                continue;
            }
            if let Err(error) = self.give_identity(request, traces, net).await {
                warn!(container.guid = %request.guid, error = %format!("{error:#}"), "no new certificate yet");
            }
            tokio::time::sleep(early.clamp(SOONEST, AGAIN)).await;
        }
    }

    pub(crate) fn forget_identity(&self, guid: &Handle) {
        match fs::remove_dir_all(self.identity_dir(guid)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                warn!(container.guid = %guid, %error, "its certificate stays behind");
            }
            _ => {}
        }
    }

    /// What earlier lives left of containers that are gone.
    pub(crate) fn tidy_identities(&self) {
        let entries = fs::read_dir(self.config.dir.join("identities"));
        for entry in entries.into_iter().flatten().flatten() {
            if let Some(guid) = entry.file_name().to_str().map(Handle::from)
                && self.member(&guid).is_none()
            {
                self.forget_identity(&guid);
            }
        }
    }

    fn trusted_dir(&self) -> PathBuf {
        self.config.dir.join("trusted")
    }

    fn identity_dir(&self, guid: &Handle) -> PathBuf {
        self.config.dir.join("identities").join(guid.as_str())
    }
}

fn folder(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("making {}", path.display()))
}

/// There as a whole or not at all, also for whoever reads meanwhile. Any user of the container may: it is one, and
/// nobody else gets there.
fn put(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let draft = folder.join(format!(".{name}"));
    let write = || {
        let mut file = fs::File::create(&draft)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())?;
        fs::rename(&draft, folder.join(name))
    };
    write().with_context(|| format!("writing {}", draft.display()))
}
