//! The folder everything is kept in: locked by one running platform, with the secrets it made for itself.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base::http::Secret;
use rand::Rng as _;
use rand::distr::Alphanumeric;
use serde::{Deserialize, Serialize};

pub struct DataDir {
    path: PathBuf,
    /// Held, and so locked, for as long as the platform runs.
    _lock: File,
}

/// How to reach the platform that runs on a data directory; written when it is ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Running {
    pub pid: u32,
    pub api: String,
    pub http: String,
    pub https: String,
    pub domain: String,
    /// Where an app named `APP` answers.
    pub app: String,
    pub admin_user: String,
}

impl DataDir {
    /// # Errors
    /// When another platform runs on it.
    pub fn open(path: &Path) -> anyhow::Result<DataDir> {
        std::fs::create_dir_all(path)
            .with_context(|| format!("making the data directory {}", path.display()))?;
        // Containers' users must be able to pass through, but not to list.
        std::fs::set_permissions(path, Permissions::from_mode(0o711))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))?;
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            let who = running(path)
                .map(|running| format!(" (process {}, {})", running.pid, running.api))
                .unwrap_or_default();
            bail!(
                "another platform runs on {}{who}: stop it first, or pass another --data",
                path.display()
            );
        }
        let dir = DataDir { path: path.to_owned(), _lock: lock };
        // What an earlier life wrote is not true any more.
        let _ = std::fs::remove_file(dir.path.join(RUNNING));
        Ok(dir)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A private folder inside.
    pub fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }

    /// What the components show each other.
    pub fn secret(&self) -> anyhow::Result<Secret> {
        Ok(Secret::new(self.kept("secret", || random(40))?))
    }

    /// Encrypts secrets at rest.
    pub fn encryption_key(&self) -> anyhow::Result<[u8; 32]> {
        let text = self.kept("encryption-key", || random(32))?;
        text.as_bytes().try_into().with_context(|| {
            format!("{} must hold 32 characters", self.file("encryption-key").display())
        })
    }

    /// The first user's password, unless one was given.
    pub fn admin_password(&self) -> anyhow::Result<String> {
        self.kept("admin-password", || random(16))
    }

    /// Text that is made once, readable by the owner alone.
    pub fn kept(&self, name: &str, make: impl FnOnce() -> String) -> anyhow::Result<String> {
        let path = self.file(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim_end().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let text = make();
                self.keep(name, &text)?;
                Ok(text)
            }
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Writes text that must be there after a power cut too, readable by the owner alone.
    pub fn keep(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.file(name);
        write_private(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// An empty folder for what is being received or made; what an earlier life left in it goes.
    pub fn scratch(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        if let Err(error) = std::fs::remove_dir_all(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("clearing {}", path.display()));
        }
        self.folder(name)
    }

    pub fn announce(&self, running: &Running) -> anyhow::Result<()> {
        write_private(&self.file(RUNNING), &serde_json::to_string_pretty(running)?)
            .context("saying that the platform runs")
    }

    pub fn retract(&self) {
        // The next start removes it too.
        let _ = std::fs::remove_file(self.file(RUNNING));
    }
}

const RUNNING: &str = "running.json";

/// The platform that runs on `path`, if one says so.
pub fn running(path: &Path) -> Option<Running> {
    serde_json::from_slice(&std::fs::read(path.join(RUNNING)).ok()?).ok()
}

/// Whole or not at all, also when the power fails.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    std::fs::rename(fresh, path)?;
    // The name is an entry in the folder.
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn random(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::open(folder.path()).unwrap();
        let (first, again) = (dir.secret().unwrap(), dir.secret().unwrap());
        assert_eq!(first.expose(), again.expose());
        assert_eq!(dir.encryption_key().unwrap().len(), 32);
        let mode = std::fs::metadata(dir.file("secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_second_platform_is_told_who_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDir::open(folder.path()).unwrap();
        let running = Running {
            pid: 7,
            api: "http://localhost".into(),
            http: String::new(),
            https: String::new(),
            domain: String::new(),
            app: String::new(),
            admin_user: String::new(),
        };
        first.announce(&running).unwrap();
        let error = DataDir::open(folder.path()).err().expect("it is locked").to_string();
        assert!(error.contains("process 7, http://localhost"), "{error}");
        drop(first);
        DataDir::open(folder.path()).unwrap();
    }
}
