//! Where containers' writable layers lie, and what keeps them within their limits: the best this host can do.

mod btrfs;
mod images;
mod quotas;
mod tool;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::info;

use super::config::{Config, DiskLimits};
use crate::containers::remove_tree;
use btrfs::Btrfs;
use images::Images;
use quotas::Quotas;

/// One folder per container, by whichever means it is limited.
#[derive(Debug)]
pub enum Disk {
    /// Each a subvolume with a quota, on a file system in a file: the write that is too much fails.
    Btrfs(Btrfs),
    /// Each a folder with a quota of the file system it lies on.
    Quotas(Quotas),
    /// Each a small file system in a file of its own.
    Images(Images),
    /// Folders beside each other, which somebody else watches, or nobody.
    Folders { root: PathBuf, watched: bool },
}

/// A container's writable layer and what overlayfs needs beside it.
pub struct Layer {
    pub upper: PathBuf,
    pub work: PathBuf,
}

/// Says which way was taken when the containers that are there were made; the next life goes on with it.
const MARK: &str = "disk-limits";
/// Where layers lie unless they have a file system of their own.
const FOLDER: &str = "w";
/// What the least file is counted as: a file without content takes up room too.
const LEAST: u64 = 4096;

/// Each way, the best first.
const LADDER: [DiskLimits; 4] =
    [DiskLimits::Btrfs, DiskLimits::ProjectQuotas, DiskLimits::Images, DiskLimits::Watched];

impl Disk {
    /// The way that was asked for, or the best there is. With containers `alive` from an earlier life it is theirs.
    pub fn open(config: &Config, alive: bool) -> io::Result<Disk> {
        let mark = config.state_dir.join(MARK);
        let before = fs::read_to_string(&mark).ok().and_then(|name| DiskLimits::parse(name.trim()));
        let ways = ways(config.disk_limits, before.filter(|_| alive)).map_err(io::Error::other)?;
        if !alive {
            clear(&config.state_dir)?;
        }
        let mut last = None;
        for way in ways {
            match Disk::open_as(config, way) {
                Ok(disk) => {
                    fs::write(&mark, way.name())?;
                    info!(way = way.name(), "limits of containers' files: {}", disk.limits());
                    return Ok(disk);
                }
                Err(error) => {
                    info!(way = way.name(), %error, "containers' files cannot be limited so");
                    if !alive {
                        clear(&config.state_dir)?;
                    }
                    last = Some(io::Error::new(error.kind(), format!("{}: {error}", way.name())));
                }
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("no way to keep containers' files")))
    }

    fn open_as(config: &Config, way: DiskLimits) -> io::Result<Disk> {
        let root = config.state_dir.join(FOLDER);
        match way {
            DiskLimits::Btrfs => Btrfs::open(&config.state_dir, config.disk_mb).map(Disk::Btrfs),
            DiskLimits::ProjectQuotas => Quotas::open(root, config.first_id).map(Disk::Quotas),
            DiskLimits::Images => Images::open(root).map(Disk::Images),
            DiskLimits::Best | DiskLimits::Watched | DiskLimits::Off => {
                fs::create_dir_all(&root)?;
                Ok(Disk::Folders { root, watched: way != DiskLimits::Off })
            }
        }
    }

    /// In an operator's words.
    pub fn limits(&self) -> &'static str {
        match self {
            Disk::Btrfs(_) => "enforced by btrfs quotas: a write beyond the limit fails",
            Disk::Quotas(_) => "enforced by project quotas: a write beyond the limit fails",
            Disk::Images(_) => {
                "enforced by a file system per container: a write beyond the limit fails"
            }
            Disk::Folders { watched: true, .. } => {
                "counted now and then: a container beyond its limit is killed (install btrfs-progs or e2fsprogs for better)"
            }
            Disk::Folders { watched: false, .. } => {
                "none: containers write as much as there is room for"
            }
        }
    }

    /// Whether somebody must look who is beyond its limit.
    pub fn must_be_watched(&self) -> bool {
        matches!(self, Disk::Folders { watched: true, .. })
    }

    /// Without a limit when `bytes` is 0.
    pub fn create(&self, index: u32, bytes: u64) -> io::Result<Layer> {
        let folder = match self {
            Disk::Btrfs(btrfs) => btrfs.create(index, bytes)?,
            Disk::Quotas(quotas) => quotas.create(index, bytes)?,
            Disk::Images(images) => images.create(index, bytes)?,
            Disk::Folders { root, .. } => {
                let folder = root.join(index.to_string());
                fs::create_dir(&folder)?;
                folder
            }
        };
        let layer = Layer { upper: folder.join("upper"), work: folder.join("work") };
        fs::create_dir(&layer.upper)?;
        fs::create_dir(&layer.work)?;
        Ok(layer)
    }

    /// The container has its root now; what the host needed to see until then it need not see any more.
    pub fn settle(&self, index: u32) -> io::Result<()> {
        match self {
            Disk::Images(images) => images.settle(index),
            Disk::Btrfs(_) | Disk::Quotas(_) | Disk::Folders { .. } => Ok(()),
        }
    }

    /// Changes a limit while the container runs; 0 takes it away.
    pub fn set_limit(&self, index: u32, bytes: u64) -> io::Result<()> {
        match self {
            Disk::Btrfs(btrfs) => btrfs.set_limit(index, bytes),
            Disk::Quotas(quotas) => quotas.set_limit(index, bytes),
            Disk::Images(_) => Err(io::ErrorKind::Unsupported.into()),
            // Who watches reads the container's record.
            Disk::Folders { .. } => Ok(()),
        }
    }

    /// Bytes written and kept; `keeper` is the container's first process.
    pub fn used(&self, index: u32, keeper: i32) -> u64 {
        match self {
            Disk::Btrfs(btrfs) => btrfs.used(index),
            Disk::Quotas(quotas) => quotas.used(index),
            Disk::Images(images) => images.used(keeper),
            Disk::Folders { root, .. } => count(&root.join(index.to_string()).join("upper")),
        }
    }

    pub fn remove(&self, index: u32) -> io::Result<()> {
        match self {
            Disk::Btrfs(btrfs) => btrfs.remove(index),
            Disk::Quotas(quotas) => quotas.remove(index),
            Disk::Images(images) => images.remove(index),
            Disk::Folders { root, .. } => remove_tree(&root.join(index.to_string())),
        }
    }

    pub fn indexes(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(self.root()) else { return Vec::new() };
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Gives back what [`Disk::open`] took, once no container is left.
    pub fn close(&self, state: &Path) -> io::Result<()> {
        clear(state)
    }

    /// All writable layers lie below.
    pub fn root(&self) -> &Path {
        match self {
            Disk::Btrfs(btrfs) => btrfs.root(),
            Disk::Quotas(quotas) => quotas.root(),
            Disk::Images(images) => images.root(),
            Disk::Folders { root, .. } => root,
        }
    }
}

/// Pure: the ways to try in order. Containers that live were made in one way, and only in that one go on.
fn ways(asked: DiskLimits, alive: Option<DiskLimits>) -> Result<Vec<DiskLimits>, String> {
    match (asked, alive) {
        (DiskLimits::Best, Some(theirs)) => Ok(vec![theirs]),
        (DiskLimits::Best, None) => Ok(LADDER.to_vec()),
        (asked, Some(theirs)) if asked != theirs => Err(format!(
            "containers whose disk limits are {} still run: remove them before limits become {}",
            theirs.name(),
            asked.name()
        )),
        (asked, _) => Ok(vec![asked]),
    }
}

/// Takes away all layers, whichever way they were limited.
fn clear(state: &Path) -> io::Result<()> {
    Btrfs::clear(state)?;
    Images::clear(&state.join(FOLDER))?;
    remove_tree(&state.join(FOLDER))?;
    match fs::remove_file(state.join(MARK)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Bytes on disk below `path`, links not followed.
pub fn count(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let sizes = entries.flatten().map(|entry| {
        let Ok(about) = entry.metadata() else { return 0 };
        let own = (about.blocks() * 512).max(LEAST);
        if about.is_dir() { own + count(&entry.path()) } else { own }
    });
    sizes.sum()
}

/// What `root`'s file system could still take, files without content counted as [`count`] counts them.
pub fn free(root: &Path) -> io::Result<u64> {
    let about = rustix::fs::statvfs(root)?;
    let bytes = about.f_bfree.saturating_mul(about.f_frsize);
    Ok(bytes.saturating_add(about.f_ffree.saturating_mul(LEAST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lives_decides_how() {
        use DiskLimits::*;
        assert_eq!(ways(Best, None).unwrap(), LADDER);
        assert_eq!(ways(Best, Some(Images)).unwrap(), [Images]);
        assert_eq!(ways(Watched, Some(Watched)).unwrap(), [Watched]);
        assert_eq!(ways(Watched, None).unwrap(), [Watched]);
        assert!(ways(Watched, Some(Btrfs)).unwrap_err().contains("btrfs still run"));
    }

    #[test]
    fn empty_files_count_too() {
        let dir = tempfile::tempdir().unwrap();
        for name in 0..10 {
            fs::write(dir.path().join(name.to_string()), "").unwrap();
        }
        assert_eq!(count(dir.path()), 10 * LEAST);
    }
}
