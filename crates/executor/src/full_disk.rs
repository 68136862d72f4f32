//! Whether something failed because the cell's own disk is full, which the owner of the container cannot help.

use std::io;
use std::path::Path;

/// What owners are told.
pub(crate) const TOLD: &str = "the cell's disk is full";
/// Less than this is none.
const LEAST_BYTES: u64 = 8 << 20;

/// The text that tells of a failure of the cell's own writing, with the reason when that is the full disk.
pub(crate) fn told(what: &str, error: &anyhow::Error) -> String {
    if is_full(error) { format!("{what}: {TOLD}") } else { what.to_owned() }
}

fn is_full(error: &anyhow::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    error.chain().any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|error| matches!(error.kind(), StorageFull | QuotaExceeded))
    })
}

/// Whether a container could not write because the disk below it is full, rather than for its own limit. `dir` is a
/// folder on that disk.
pub(crate) fn is_below(error: &str, dir: &Path) -> bool {
    let no_room = error.contains("No space left on device") || error.contains("os error 28");
    let left = || {
        let about = rustix::fs::statvfs(dir).ok()?;
        Some(about.f_bavail.saturating_mul(about.f_frsize))
    };
    no_room && left().is_some_and(|bytes| bytes < LEAST_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_disk_is_named_wherever_it_stands_in_the_chain() {
        let full = anyhow::Error::new(io::Error::from(io::ErrorKind::StorageFull));
        let told = told("Downloading failed", &full.context("keeping it").context("fetching"));
        assert_eq!(told, "Downloading failed: the cell's disk is full");
        let other = anyhow::Error::new(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(super::told("Downloading failed", &other), "Downloading failed");
    }

    #[test]
    fn a_containers_own_limit_is_not_the_cells() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_below("no such file", dir.path()));
        assert!(!is_below("write: No space left on device", dir.path()), "there is room here");
    }
}
