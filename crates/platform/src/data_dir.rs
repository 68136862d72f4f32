//! The folder everything is kept in: locked by one running platform, with the secrets it made for itself.

pub mod format;

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use base::Timestamp;
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Running {
    pub pid: u32,
    pub version: String,
    pub started_at: Timestamp,
    pub api: String,
    pub http: String,
    pub https: String,
    /// Where the platform's own components reach each other: `http://HOST:PORT`.
    pub internal: String,
    pub domain: String,
    /// Where an app named `APP` answers.
    pub app: String,
    pub admin_user: String,
    /// The API's address by name; empty, like all addresses of the front door, where this machine has none.
    pub shown: String,
    /// Where Diego's Receptor API answers.
    pub receptor: String,
    /// What of the platform runs in this process.
    pub roles: String,
    /// The database, where it is not in files of the data directory; without its password.
    pub database: Option<String>,
}

/// Written and synced at start to see that there is room; databases need some to begin with.
const ROOM: usize = 1 << 20;

impl DataDir {
    /// # Errors
    /// When another platform runs on it, when a newer program wrote it (then nothing is touched), when it cannot be
    /// written to, and when its disk is full.
    pub fn open(path: &Path) -> anyhow::Result<DataDir> {
        let before = format::check(path)?;
        std::fs::create_dir_all(path).map_err(|error| unusable(path, "making", &error))?;
        // Containers' users must be able to pass through, but not to list.
        std::fs::set_permissions(path, Permissions::from_mode(0o711))
            .map_err(|error| unusable(path, "changing the permissions of", &error))?;
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(|error| unusable(path, "writing to", &error))?;
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            let who = match (running(path), holder(path)) {
                (Some(running), _) => format!(" (process {}, {})", running.pid, running.api),
                (None, Some(pid)) => format!(" (process {pid})"),
                (None, None) => String::new(),
            };
            bail!(
                "another platform runs on {}{who}: stop it first, or pass another --data",
                path.display()
            );
        }
        has_room(path)?;
        lock.set_len(0)?;
        write!(lock, "{}", std::process::id())
            .map_err(|error| unusable(path, "writing to", &error))?;
        let is_new = before.is_none() && !path.join("secret").exists();
        format::bring_forward(path, is_new)?;
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
        Ok(Secret::new(self.kept(SECRET, || random(40))?))
    }

    /// What `cupola status` and `cupola explain` show the UAA.
    pub fn operator_secret(&self) -> anyhow::Result<String> {
        self.kept(OPERATOR_SECRET, || random(40))
    }

    /// Encrypts secrets at rest.
    pub fn encryption_key(&self) -> anyhow::Result<[u8; 32]> {
        let text = self.kept(ENCRYPTION_KEY, || random(32))?;
        text.as_bytes().try_into().with_context(|| {
            format!("{} must hold 32 characters", self.file(ENCRYPTION_KEY).display())
        })
    }

    /// Shown by clients of the Receptor API, together with [`RECEPTOR_USER`].
    pub fn receptor_password(&self) -> anyhow::Result<Secret> {
        Ok(Secret::new(self.kept(RECEPTOR_PASSWORD, || random(32))?))
    }

    /// New cells show it once.
    pub fn join_key(&self) -> anyhow::Result<Secret> {
        Ok(Secret::new(self.kept(JOIN_KEY, || random(40))?))
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
                // As every later start reads it.
                Ok(text.trim_end().to_owned())
            }
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Replaces what `name` holds, readable by the owner alone, and there after a power cut too.
    pub fn keep(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.file(name);
        write_private(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Removes what `name` held, if it held something.
    pub fn forget(&self, name: &str) -> anyhow::Result<()> {
        let path = self.file(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", path.display()))
            }
            _ => Ok(()),
        }
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
        self.keep(RUNNING, &serde_json::to_string_pretty(running)?)
            .context("saying that the platform runs")
    }

    pub fn retract(&self) {
        // The next start removes it too.
        let _ = std::fs::remove_file(self.file(RUNNING));
    }
}

pub const RUNNING: &str = "running.json";
const LOCK: &str = "lock";
pub const SECRET: &str = "secret";
pub const ENCRYPTION_KEY: &str = "encryption-key";
pub const JOIN_KEY: &str = "join-key";
pub const OPERATOR_SECRET: &str = "operator-secret";
pub const RECEPTOR_USER: &str = "receptor";
pub const RECEPTOR_PASSWORD: &str = "receptor-password";

/// What clients of the Receptor API of the platform at `path` show.
pub fn receptor_password(path: &Path) -> anyhow::Result<String> {
    let path = path.join(RECEPTOR_PASSWORD);
    let text = std::fs::read_to_string(&path);
    Ok(text.with_context(|| format!("reading {}", path.display()))?.trim_end().to_owned())
}

/// The cell that runs on a data directory of its own; written when it is at work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellAtWork {
    pub pid: u32,
    pub cell_id: String,
    pub platform: String,
    /// The cell's own.
    pub api: String,
}

pub const CELL_AT_WORK: &str = "cell.json";

impl CellAtWork {
    pub fn find(path: &Path) -> Option<CellAtWork> {
        serde_json::from_slice(&std::fs::read(path.join(CELL_AT_WORK)).ok()?).ok()
    }

    pub fn announce(&self, data: &DataDir) -> anyhow::Result<()> {
        data.keep(CELL_AT_WORK, &serde_json::to_string_pretty(self)?)
    }

    pub fn retract(data: &DataDir) -> anyhow::Result<()> {
        data.forget(CELL_AT_WORK)
    }
}

/// Where all that is being received or made lies; beside where it will be kept.
pub const TEMPORARY: &str = "tmp";
/// Holds what waits on the way to a log store on another machine.
pub const LOG_SPOOL: &str = "log-spool";
/// The address of the platform's PostgreSQL, with its password; there from the first start with one.
pub const DATABASE: &str = "database";
pub const INTERNAL_PORT: &str = "internal-port";
pub const AUTHORITY: &str = "authority.crt";
pub const AUTHORITY_KEY: &str = "authority.key";
pub const INSTANCE_AUTHORITY: &str = "instance-authority.crt";
pub const INSTANCE_AUTHORITY_KEY: &str = "instance-authority.key";
/// What new cells join with; there while they may.
pub const JOIN_TOKEN: &str = "join-token";

/// The token that cells join the platform at `path` with.
pub fn join_token(path: &Path) -> std::io::Result<String> {
    Ok(std::fs::read_to_string(path.join(JOIN_TOKEN))?.trim_end().to_owned())
}

/// The platform that runs on `path`, if one says so. One that was killed says so too.
pub fn running(path: &Path) -> Option<Running> {
    serde_json::from_slice(&std::fs::read(path.join(RUNNING)).ok()?).ok()
}

/// The live process that locked `path` last. It may be starting, running or stopping.
pub fn holder(path: &Path) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(path.join(LOCK)).ok()?.trim().parse().ok()?;
    is_cupola(pid).then_some(pid)
}

/// Whether the process lives and is a platform. Numbers are used again by others.
pub fn is_cupola(pid: u32) -> bool {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = command.split(|byte| *byte == 0);
    words.next().is_some() && words.any(|word| [&b"up"[..], b"server", b"cell"].contains(&word))
}

/// The secrets that this machine's commands show to the platform running on `path`: the components' and the operator's.
pub fn secrets(path: &Path) -> anyhow::Result<(Secret, String)> {
    let read = |name: &str| {
        let file = path.join(name);
        std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
    };
    Ok((Secret::new(read(SECRET)?.trim_end()), read(OPERATOR_SECRET)?.trim_end().to_owned()))
}

/// What was tried with the data directory, why it failed, and what to do.
fn unusable(path: &Path, doing: &str, error: &std::io::Error) -> anyhow::Error {
    let remedy = match error.kind() {
        ErrorKind::PermissionDenied => {
            let user = rustix::process::geteuid().as_raw();
            format!(
                "user {user} may not: run as its owner or as root, or choose another folder with --data"
            )
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "its disk is full: make room, or choose another folder with --data".to_owned()
        }
        ErrorKind::ReadOnlyFilesystem => {
            "it lies on a read-only file system: choose another folder with --data".to_owned()
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "a file is in the way: choose another folder with --data".to_owned()
        }
        _ => "choose another folder with --data".to_owned(),
    };
    anyhow!("{doing} the data directory {}: {error}: {remedy}", path.display())
}

fn has_room(path: &Path) -> anyhow::Result<()> {
    let probe = path.join("room.new");
    let written = File::create(&probe).and_then(|mut file| {
        file.write_all(&vec![b'x'; ROOM])?;
        file.sync_all()
    });
    let _ = std::fs::remove_file(&probe);
    written.map_err(|error| unusable(path, "writing to", &error))
}

/// Replaces a file as a whole, readable by the owner alone.
pub fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    write_private(path, &text).with_context(|| format!("writing {}", path.display()))
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
        let running = Running { pid: 7, api: "http://localhost".to_owned(), ..Running::default() };
        first.announce(&running).unwrap();
        let error = DataDir::open(folder.path()).err().expect("it is locked").to_string();
        assert!(error.contains("process 7, http://localhost"), "{error}");
        drop(first);
        DataDir::open(folder.path()).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        std::fs::write(&path, "").unwrap();
        let error = DataDir::open(&path).err().expect("a file is no folder").to_string();
        assert!(error.contains("a file is in the way") && error.contains("--data"), "{error}");
    }
}
