//! What processes and the host take up in memory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

/// One look, in KiB.
pub struct Sample {
    keepers: u64,
    own: u64,
    /// Of the whole host.
    used: u64,
}

/// What each of some containers takes, in MiB.
pub struct Each {
    pub keeper: f64,
    pub own: f64,
    pub host: f64,
}

impl Sample {
    /// Once keepers have come to rest. Theirs are the processes of a program below `dir` that are the first of a
    /// namespace below this one.
    pub async fn take(dir: &Path) -> anyhow::Result<Sample> {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let dir = fs::canonicalize(dir)?;
        let sample = tokio::task::spawn_blocking(move || {
            let processes = fs::read_dir("/proc").context("looking for processes")?.flatten();
            let keepers = processes
                .map(|process| process.path())
                .filter(|process| is_keeper(process, &dir))
                .filter_map(|process| pss(&process));
            let keepers = keepers.sum();
            let own = pss(Path::new("/proc/self")).context("reading this program's memory")?;
            let meminfo = fs::read_to_string("/proc/meminfo").context("reading the memory")?;
            let of = |key| field(&meminfo, key).unwrap_or(0);
            let used = of("MemTotal:").saturating_sub(of("MemAvailable:"));
            anyhow::Ok(Sample { keepers, own, used })
        });
        sample.await?
    }

    pub fn more_than(&self, before: &Sample, containers: usize) -> Each {
        let each = |after: u64, before: u64| {
            (after as f64 - before as f64) / containers.max(1) as f64 / 1024.0
        };
        Each {
            keeper: each(self.keepers, before.keepers),
            own: each(self.own, before.own),
            host: each(self.used, before.used),
        }
    }
}

fn is_keeper(process: &Path, dir: &Path) -> bool {
    let ours = fs::read_link(process.join("exe")).is_ok_and(|program| program.starts_with(dir));
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let first = |line: &str| line.starts_with("NSpid:") && line.split('\t').skip(2).eq(["1"]);
    ours && status.lines().any(first)
}

fn pss(process: &Path) -> Option<u64> {
    field(&fs::read_to_string(process.join("smaps_rollup")).ok()?, "Pss:")
}

fn field(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.trim().strip_suffix(" kB")?.trim().parse().ok())
}
