//! The files of a container that has no root of its own: copies and links in a folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::containers::Record;

/// Layers are copied, since a process without a root of its own would write into them; mounts are links.
pub fn furnish_plain(record: &Record, root: &Path) -> io::Result<()> {
    for folder in ["home/vcap", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    record.spec.layers.iter().try_for_each(|layer| copy(layer, root))?;
    for mount in &record.spec.mounts {
        let target = root.join(mount.target.strip_prefix("/").unwrap_or(&mount.target));
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        std::os::unix::fs::symlink(&mount.source, target)?;
    }
    Ok(())
}

/// Lays `from` over `to`.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            fs::create_dir_all(&target)?;
            copy(&entry.path(), &target)?;
            continue;
        }
        match fs::remove_file(&target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The folders a layer brings that the host does not have, two names deep: `/app`, `/etc/cf`.
pub fn own_folders(layer: &Path) -> Vec<PathBuf> {
    let list = |path: &Path| -> Vec<PathBuf> {
        fs::read_dir(path)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default()
    };
    let inside = |path: &Path| {
        path.strip_prefix(layer).map(|path| Path::new("/").join(path)).unwrap_or_default()
    };
    let mut found = Vec::new();
    for first in list(layer) {
        if !inside(&first).exists() {
            found.push(inside(&first));
        } else if first.is_dir() {
            found.extend(
                list(&first).iter().map(|second| inside(second)).filter(|second| !second.exists()),
            );
        }
    }
    found
}
