//! What of a data directory is worth keeping.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

/// What the platform made for itself at its first start. What tells it from another platform on the same machine
/// (`instance`, `container-network`) is not among them: a restored platform is another one.
pub const FILES: [&str; 14] = [
    "secret",
    "operator-secret",
    "encryption-key",
    "admin-password",
    "internal-port",
    "tls.crt",
    "tls.key",
    "receptor-password",
    "join-key",
    "authority.crt",
    "authority.key",
    "instance-authority.crt",
    "instance-authority.key",
    "database",
];

pub const DATABASES: [&str; 3] = ["cloud_controller.db", "uaa.db", "bbs.db"];

/// Where packages, droplets and buildpacks lie.
const BLOBS: &str = "blobs/blobs";

const PREFIX: &str = "backup-";

/// A folder in the data directory for as long as a backup is made. What a backup that was killed left behind goes.
pub struct Workplace {
    folder: TempDir,
    /// Says that somebody works in it.
    _lock: File,
}

impl Workplace {
    pub fn make(data: &Path) -> anyhow::Result<Workplace> {
        let lock = |path: &Path| {
            let folder = File::open(path)?;
            rustix::fs::flock(&folder, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
            std::io::Result::Ok(folder)
        };
        for entry in std::fs::read_dir(data)?.flatten() {
            let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
            if is_ours && lock(&entry.path()).is_ok() {
                std::fs::remove_dir_all(entry.path())
                    .with_context(|| format!("removing {}", entry.path().display()))?;
            }
        }
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(data)
            .with_context(|| format!("making a folder for copies in {}", data.display()))?;
        let lock = lock(folder.path()).context("locking the folder for copies")?;
        Ok(Workplace { folder, _lock: lock })
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Links to blobs, so that nobody can delete them meanwhile.
pub struct Blobs {
    held: PathBuf,
}

impl Blobs {
    /// Holds what is there now.
    pub fn hold(data: &Path, workplace: &Workplace) -> anyhow::Result<Blobs> {
        let blobs = Blobs { held: workplace.file("blobs") };
        blobs.hold_new(data)?;
        Ok(blobs)
    }

    /// Holds what has come since.
    pub fn hold_new(&self, data: &Path) -> anyhow::Result<()> {
        for relative in files(&data.join(BLOBS))? {
            let at = self.held.join(&relative);
            if at.exists() {
                continue;
            }
            let folder = at.parent().context("a blob lies in a folder")?;
            std::fs::create_dir_all(folder)?;
            let blob = data.join(BLOBS).join(&relative);
            let held = match std::fs::hard_link(&blob, &at) {
                // Where blobs have a file system of their own.
                Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                    std::fs::copy(&blob, &at).map(drop)
                }
                held => held,
            };
            match held {
                // Deleted since it was listed; then no database copied after this names it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                done => done.with_context(|| format!("holding {}", relative.display()))?,
            }
        }
        Ok(())
    }

    /// The name in the archive and the file, in order.
    pub fn files(&self) -> anyhow::Result<Vec<(String, PathBuf)>> {
        let name = |path: &PathBuf| Some(format!("{BLOBS}/{}", path.to_str()?));
        let files = files(&self.held)?;
        files
            .iter()
            .map(|path| Ok((name(path).context("a blob's name is text")?, self.held.join(path))))
            .collect()
    }
}

/// All files below, by their relative paths, in order. A folder that is not there holds none.
fn files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(root.join(&folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("reading {}", root.join(&folder).display()));
            }
        };
        for entry in entries {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_that_go_meanwhile_are_held() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join(BLOBS).join("droplets/ab");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("abc"), "one").unwrap();
        let workplace = Workplace::make(data.path()).unwrap();
        let blobs = Blobs::hold(data.path(), &workplace).unwrap();
        std::fs::remove_file(folder.join("abc")).unwrap();
        std::fs::write(folder.join("abd"), "two").unwrap();
        blobs.hold_new(data.path()).unwrap();
        let held: Vec<_> = blobs
            .files()
            .unwrap()
            .into_iter()
            .map(|(name, path)| (name, std::fs::read_to_string(path).unwrap()))
            .collect();
        let want = [("abc", "one"), ("abd", "two")]
            .map(|(name, text)| (format!("blobs/blobs/droplets/ab/{name}"), text.to_owned()));
        assert_eq!(held, want);
    }

    #[test]
    fn only_what_a_dead_backup_left_goes() {
        let data = tempfile::tempdir().unwrap();
        let left = data.path().join("backup-left");
        std::fs::create_dir_all(left.join("x")).unwrap();
        let first = Workplace::make(data.path()).unwrap();
        assert!(!left.exists());
        let second = Workplace::make(data.path()).unwrap();
        assert!(first.file("").exists() && second.file("").exists());
    }
}
