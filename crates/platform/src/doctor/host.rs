//! The kernel, and what the machine has to offer.

use std::path::{Path, PathBuf};

use base::{Clock, Timestamp};

use super::{Finding, Level};
use crate::print::megabytes;
use crate::settings::{Backend, Settings};
use crate::status::disk;

/// Less is not enough to begin with.
const DISK_LEAST_MB: u64 = 64;
/// A few apps with their packages and droplets.
const DISK_FEW_MB: u64 = 2_048;
const MEMORY_FEW_MB: u64 = 1_024;
/// No machine with a clock that is right is before this: 2026-01-01.
const PAST: Timestamp = Timestamp::from_secs(1_767_225_600);

/// What isolation needs of the kernel. Plain processes do without.
pub fn kernel(backend: Backend) -> Vec<Finding> {
    let level = |ok| match (ok, backend) {
        (true, _) => Level::Ok,
        (false, Backend::Linux) => Level::Fail,
        (false, Backend::Process) => Level::Unneeded,
    };
    let checks = guardian::check().into_iter();
    checks
        .map(|check| Finding {
            name: check.name,
            level: level(check.ok),
            detail: check.detail,
            remedy: if level(check.ok) == Level::Fail {
                check.remedy.to_owned()
            } else {
                String::new()
            },
        })
        .collect()
}

pub fn machine(settings: &Settings) -> Vec<Finding> {
    vec![data_dir(&settings.data), free_disk(&settings.data), memory(), interpreters(), clock()]
}

/// The folder itself, or the nearest one above it that there is.
pub fn nearest(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn data_dir(data: &Path) -> Finding {
    let (name, place) = ("data directory", nearest(data));
    match tempfile::Builder::new().prefix(".cupola-doctor-").tempfile_in(&place) {
        Ok(_) if place == data => Finding::ok(name, data.display().to_string()),
        Ok(_) => Finding::ok(name, format!("{}, to be made", data.display())),
        Err(error) => Finding::fail(
            name,
            format!("{} cannot be written to: {error}", place.display()),
            "run as its owner or as root, or choose another folder with --data",
        ),
    }
}

fn free_disk(data: &Path) -> Finding {
    let (name, about) = ("free disk", disk(&nearest(data)));
    let detail = format!("{} of {}", megabytes(about.free_mb), megabytes(about.total_mb));
    let remedy = "make room, or choose a folder on a larger disk with --data";
    match about.free_mb {
        free if free < DISK_LEAST_MB => Finding::fail(name, detail, remedy),
        free if free < DISK_FEW_MB => Finding::warn(name, detail, remedy),
        _ => Finding::ok(name, detail),
    }
}

fn memory() -> Finding {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kb = |key: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    let (total, free) = (kb("MemTotal:") / 1024, kb("MemAvailable:") / 1024);
    let detail = format!("{} of {} available", megabytes(free), megabytes(total));
    if free < MEMORY_FEW_MB {
        return Finding::warn(
            "memory",
            detail,
            "apps get 1 GB each unless they ask for less (cf push -m 64M), and staging takes 1 GB",
        );
    }
    Finding::ok("memory", detail)
}

/// The default stack shows this machine's /usr, so its interpreters are those of the buildpacks.
fn interpreters() -> Finding {
    let known = [
        ("python", "python3"),
        ("nodejs", "node"),
        ("ruby", "ruby"),
        ("go", "go"),
        ("java", "java"),
        ("php", "php"),
        ("nginx", "nginx"),
    ];
    let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
    let is_there =
        |program: &str| folders.iter().any(|folder| Path::new(folder).join(program).is_file());
    let (there, missing): (Vec<_>, Vec<_>) =
        known.iter().partition(|(_, program)| is_there(program));
    let names =
        |list: &[&(&str, &str)]| list.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let mut detail = "binary, staticfile".to_owned();
    if !there.is_empty() {
        detail = format!("{detail}, {}", names(&there));
    }
    if !missing.is_empty() {
        detail = format!("{detail}; {} once their interpreters are installed", names(&missing));
    }
    Finding::ok("buildpacks", detail)
}

/// Tokens and certificates go by it.
fn clock() -> Finding {
    let now = Clock::system().now();
    if now < PAST {
        return Finding::warn(
            "clock",
            now.to_rfc3339(),
            "set it, and let it be kept in time (systemd-timesyncd, chrony): tokens and certificates go by it",
        );
    }
    Finding::ok("clock", now.to_rfc3339())
}
