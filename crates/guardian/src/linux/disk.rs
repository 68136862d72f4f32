//! Where containers' writable layers lie, and what keeps them within their limits: the best this host can do.

mod btrfs;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::info;

use super::config::{Config, DiskLimits};
use crate::containers::remove_tree;
use btrfs::Btrfs;

/// One folder per container, by whichever means it is limited.
#[derive(Debug)]
pub enum Disk {
    /// Each a subvolume with a quota, on a file system in a file: the write that is too much fails.
    Btrfs(Btrfs),
    /// Folders beside each other, which somebody else watches.
    Folders(PathBuf),
}

/// A container's writable layer and what overlayfs needs beside it.
pub struct Layer {
    pub upper: PathBuf,
    pub work: PathBuf,
}

impl Disk {
    /// The best way there is; what an earlier life of this program mounted is taken up again.
    pub fn open(config: &Config) -> io::Result<Disk> {
        if config.disk_limits == DiskLimits::Best {
            match Btrfs::open(&config.state_dir, config.disk_mb) {
                Ok(btrfs) => return Ok(Disk::Btrfs(btrfs)),
                Err(error) => {
                    info!(%error, "no quotas for containers' files: they are counted from time to time instead")
                }
            }
        }
        let folder = config.state_dir.join("w");
        fs::create_dir_all(&folder)?;
        Ok(Disk::Folders(folder))
    }

    /// In an operator's words.
    pub fn limits(&self) -> &'static str {
        match self {
            Disk::Btrfs(_) => "enforced by btrfs quotas: a write beyond the limit fails",
            Disk::Folders(_) => {
                "counted now and then: a container beyond its limit is killed (install btrfs-progs for quotas)"
            }
        }
    }

    /// Whether somebody must look who is beyond its limit.
    pub fn must_be_watched(&self) -> bool {
        matches!(self, Disk::Folders(_))
    }

    /// Without a limit when `bytes` is 0.
    pub fn create(&self, index: u32, bytes: u64) -> io::Result<Layer> {
        let folder = self.folder(index);
        match self {
            Disk::Btrfs(btrfs) => btrfs.create(index, bytes)?,
            Disk::Folders(_) => fs::create_dir(&folder)?,
        }
        let layer = Layer { upper: folder.join("upper"), work: folder.join("work") };
        fs::create_dir(&layer.upper)?;
        fs::create_dir(&layer.work)?;
        Ok(layer)
    }

    pub fn used(&self, index: u32) -> u64 {
        match self {
            Disk::Btrfs(btrfs) => btrfs.used(index),
            Disk::Folders(_) => count(&self.folder(index).join("upper")),
        }
    }

    pub fn remove(&self, index: u32) -> io::Result<()> {
        match self {
            Disk::Btrfs(btrfs) => btrfs.remove(index),
            Disk::Folders(_) => remove_tree(&self.folder(index)),
        }
    }

    pub fn indexes(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(self.root()) else { return Vec::new() };
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Gives back what [`Disk::open`] took, once no container is left.
    pub fn close(&self) -> io::Result<()> {
        match self {
            Disk::Btrfs(btrfs) => btrfs.close(),
            Disk::Folders(folder) => remove_tree(folder),
        }
    }

    /// All writable layers lie below.
    pub fn root(&self) -> &Path {
        match self {
            Disk::Btrfs(btrfs) => btrfs.root(),
            Disk::Folders(folder) => folder,
        }
    }

    fn folder(&self, index: u32) -> PathBuf {
        self.root().join(index.to_string())
    }
}

/// Bytes on disk below `path`, links not followed.
pub fn count(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let sizes = entries.flatten().map(|entry| {
        let Ok(about) = entry.metadata() else { return 0 };
        let own = about.blocks() * 512;
        if about.is_dir() { own + count(&entry.path()) } else { own }
    });
    sizes.sum()
}
