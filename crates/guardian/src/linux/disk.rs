//! Where containers' writable layers lie, and what keeps them within their limits: the best this host can do.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::containers::remove_tree;

/// One folder per container, by whichever means it is limited.
#[derive(Debug)]
pub enum Disk {
    /// Folders beside each other. Their sizes are only counted.
    Folders(PathBuf),
}

/// A container's writable layer and what overlayfs needs beside it.
pub struct Layer {
    pub upper: PathBuf,
    pub work: PathBuf,
}

impl Disk {
    pub fn open(state: &Path) -> io::Result<Disk> {
        let folder = state.join("w");
        fs::create_dir_all(&folder)?;
        Ok(Disk::Folders(folder))
    }

    /// In an operator's words.
    pub fn limits(&self) -> &'static str {
        match self {
            Disk::Folders(_) => "counted, not enforced",
        }
    }

    pub fn create(&self, index: u32, _bytes: u64) -> io::Result<Layer> {
        let folder = self.folder(index);
        let layer = Layer { upper: folder.join("upper"), work: folder.join("work") };
        fs::create_dir_all(&layer.upper)?;
        fs::create_dir_all(&layer.work)?;
        Ok(layer)
    }

    pub fn used(&self, index: u32) -> u64 {
        match self {
            Disk::Folders(_) => count(&self.folder(index).join("upper")),
        }
    }

    pub fn remove(&self, index: u32) -> io::Result<()> {
        remove_tree(&self.folder(index))
    }

    pub fn indexes(&self) -> Vec<u32> {
        let Disk::Folders(folder) = self;
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Gives back what [`Disk::open`] took, once no container is left.
    pub fn close(&self) -> io::Result<()> {
        let Disk::Folders(folder) = self;
        remove_tree(folder)
    }

    fn folder(&self, index: u32) -> PathBuf {
        let Disk::Folders(folder) = self;
        folder.join(index.to_string())
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
