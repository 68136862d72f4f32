//! An ext4 in a sparse file for each container. It costs more to make than a quota, and works wherever files do. The
//! host sees one mounted only until the container has it: a host with many mounts is slow to make the next namespace.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tool::{is_mounted, run, unmount};
use crate::containers::remove_tree;

const IMAGE: &str = "image";
const MOUNT: &str = "m";
/// One file to so many bytes, which bounds the files too.
const BYTES_PER_FILE: u64 = 8192;
/// What a file system needs for itself beside its tables.
const OVERHEAD: u64 = 1 << 20;
/// Of the one that is only tried.
const TRIAL: u64 = 4 << 20;

/// The folder of all images.
#[derive(Debug)]
pub struct Images(PathBuf);

impl Images {
    /// Tries one, so that it is known at start whether this host can.
    pub fn open(root: PathBuf) -> io::Result<Images> {
        fs::create_dir_all(&root)?;
        let images = Images(root);
        let trial = images.0.join("trial");
        remove(&trial)?;
        let tried = make(&trial, TRIAL).map(drop);
        remove(&trial)?;
        tried.map(|()| images)
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn create(&self, index: u32, bytes: u64) -> io::Result<PathBuf> {
        let bytes = if bytes > 0 {
            bytes
        } else {
            let about = rustix::fs::statvfs(&self.0)?;
            about.f_bavail.saturating_mul(about.f_frsize)
        };
        make(&self.folder(index), bytes)
    }

    /// The container's root holds the file system from now on.
    pub fn settle(&self, index: u32) -> io::Result<()> {
        let mount = self.folder(index).join(MOUNT);
        if is_mounted(&mount)? { unmount(&mount) } else { Ok(()) }
    }

    /// As the container sees it: overlayfs tells of its writable layer.
    pub fn used(&self, keeper: i32) -> u64 {
        let about = rustix::fs::statvfs(format!("/proc/{keeper}/root"));
        about.map_or(0, |about| (about.f_blocks - about.f_bfree).saturating_mul(about.f_frsize))
    }

    pub fn remove(&self, index: u32) -> io::Result<()> {
        remove(&self.folder(index))
    }

    /// Takes away what is mounted below `root`, in whatever state an earlier life left it.
    pub fn clear(root: &Path) -> io::Result<()> {
        let entries = match fs::read_dir(root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        entries.flatten().try_for_each(|entry| {
            let mount = entry.path().join(MOUNT);
            if is_mounted(&mount)? { unmount(&mount) } else { Ok(()) }
        })
    }

    fn folder(&self, index: u32) -> PathBuf {
        self.0.join(index.to_string())
    }
}

/// A new, empty, mounted file system with room for `bytes`.
fn make(folder: &Path, bytes: u64) -> io::Result<PathBuf> {
    let (image, mount) = (folder.join(IMAGE), folder.join(MOUNT));
    fs::create_dir(folder)?;
    fs::create_dir(&mount)?;
    File::create_new(&image)?.set_len(size(bytes))?;
    // What a container wrote is gone with it, so there is nothing a journal could save.
    let per_file = BYTES_PER_FILE.to_string();
    let options = ["-q", "-F", "-O", "^has_journal", "-m", "0", "-i", &per_file];
    let lazily = ["-E", "lazy_itable_init=1,nodiscard"];
    run(Command::new("mkfs.ext4").args(options).args(lazily).arg(&image))?;
    let options = "loop,noatime,discard,nosuid,nodev";
    run(Command::new("mount").args(["-t", "ext4", "-o", options]).args([&image, &mount]))?;
    Ok(mount)
}

/// With the tables of files, of 256 bytes each, beside what containers may write.
fn size(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / BYTES_PER_FILE * 256).saturating_add(bytes / 512 + OVERHEAD)
}

fn remove(folder: &Path) -> io::Result<()> {
    let mount = folder.join(MOUNT);
    if is_mounted(&mount)? {
        unmount(&mount)?;
    }
    remove_tree(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_come_on_top() {
        assert_eq!(size(0), OVERHEAD);
        assert_eq!(size(1 << 30), (1 << 30) + (32 << 20) + (2 << 20) + OVERHEAD);
    }
}
