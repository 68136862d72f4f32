//! The host's files and figures, as both backends need them.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use base::Backoff;
use garden::{Capacity, GardenError, Result};

/// Held as long as this program uses the state folder. A program just killed may leave a child that still holds it for
/// the moment it takes to become another program.
pub async fn lock(state: &Path) -> anyhow::Result<OwnedFd> {
    use rustix::fs::{FlockOperation, Mode, OFlags};
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let lock = rustix::fs::open(state.join("lock"), flags, Mode::from_raw_mode(0o600))
        .context("opening the lock")?;
    let mut tries = Backoff::new(Duration::from_millis(5), Duration::from_millis(500));
    for _ in 0..10 {
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(lock);
        }
        tokio::time::sleep(tries.step()).await;
    }
    anyhow::bail!("another platform uses {}", state.display())
}

/// A path as the shim takes it.
pub fn text(path: &Path) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| GardenError::failed("reading a path", format!("{path:?} is not UTF-8")))
}

/// What there is for containers: as `configured`, or else what the host has in all.
pub fn memory_mb(configured: Option<u64>) -> Result<u64> {
    let memory = configured.map_or_else(host_memory_mb, Ok);
    memory.map_err(|error| GardenError::failed("counting memory", error))
}

fn host_memory_mb() -> io::Result<u64> {
    let content = fs::read_to_string("/proc/meminfo")?;
    let line =
        content.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    line.and_then(|kilobytes| kilobytes.trim().parse::<u64>().ok())
        .map(|kilobytes| kilobytes >> 10)
        .ok_or_else(|| io::Error::other("/proc/meminfo does not say"))
}

/// Making and removing go on to their end when the caller goes away in the middle.
pub async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work)
        .await
        .map_err(|error| GardenError::failed("working on a container", error))?
}

/// Removes what is there, also folders that somebody closed to their owner.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_folders(path);
            fs::remove_dir_all(path)
        }
        removed => removed,
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn open_folders(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    // What cannot be opened shows again when it cannot be removed.
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(path) else { return };
    let folders =
        entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.for_each(|folder| open_folders(&folder.path()));
}

/// What there is for containers: as configured, or else what the host has in all, and has free on the disk of `state`
/// beside the bytes that containers have `written` there.
pub fn capacity(
    state: &Path,
    memory_mb: Option<u64>,
    disk_mb: Option<u64>,
    containers: u32,
    written: impl FnOnce() -> u64,
) -> Result<Capacity> {
    let free = || {
        let about = rustix::fs::statvfs(state).map_err(io::Error::from)?;
        Ok(about.f_bavail.saturating_mul(about.f_frsize).saturating_add(written()) >> 20)
    };
    let memory_mb = self::memory_mb(memory_mb)?;
    let disk_mb = disk_mb
        .map_or_else(free, Ok)
        .map_err(|error: io::Error| GardenError::failed("counting disk", error))?;
    Ok(Capacity { memory_mb, disk_mb, containers: containers.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_containers_wrote_is_theirs_still() {
        let folder = tempfile::tempdir().unwrap();
        // More than any disk of today, so that what others write meanwhile does not matter.
        let found = capacity(folder.path(), None, None, 1, || 1 << 60).unwrap();
        assert!(found.disk_mb >= 1 << 40);
        assert_eq!(capacity(folder.path(), None, Some(7), 1, || 1 << 60).unwrap().disk_mb, 7);
    }
}
