//! What the platform costs while nothing happens: without an app, and with many instances of one that does nothing.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::platform::Platform;
use super::trivial;
use super::{Figures, Report, rounded};

/// Instances in the second part.
const INSTANCES: u32 = 50;
/// The kernel's unit of CPU time in `/proc/PID/stat` (USER_HZ, the same on every Linux).
const TICKS_PER_SECOND: f64 = 100.0;

/// `wait` is how long the platform is left alone before, and then watched for its CPU time.
pub async fn run(wait: Duration, report: &Report) -> anyhow::Result<Figures> {
    let platform = Platform::start().await?;
    let result = measure(&platform, wait, report).await;
    platform.stop().await?;
    result
}

async fn measure(platform: &Platform, wait: Duration, report: &Report) -> anyhow::Result<Figures> {
    let empty = watch(platform, wait).await?;
    report.line(&format!("no app: {empty}"));
    let app = trivial::push(platform).await?;
    let one = watch(platform, wait).await?;
    report.line(&format!("one instance: {one}"));
    let path = format!("/v3/apps/{app}/processes/web/actions/scale");
    platform.api().await?.post(&path, &json!({ "instances": INSTANCES })).await?;
    platform.running(&app, INSTANCES as usize).await?;
    let many = watch(platform, wait).await?;
    report.line(&format!("{INSTANCES} instances: {many}"));
    Ok(Figures::from_iter([
        ("idle_pss_mib".to_owned(), rounded(empty.pss_mib)),
        ("idle_cpu_percent".to_owned(), rounded(empty.cpu_percent)),
        (
            "instance_pss_mib".to_owned(),
            rounded((many.pss_mib - one.pss_mib) / f64::from(INSTANCES - 1)),
        ),
        ("busy_pss_mib".to_owned(), rounded(many.pss_mib)),
        ("busy_cpu_percent".to_owned(), rounded(many.cpu_percent)),
    ]))
}

/// The platform's own processes together, its containers' keepers included and the apps left out.
struct Cost {
    pss_mib: f64,
    cpu_percent: f64,
    processes: usize,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.1} MiB PSS in {} processes, {:.3} % of a core",
            self.pss_mib, self.processes, self.cpu_percent
        )
    }
}

async fn watch(platform: &Platform, wait: Duration) -> anyhow::Result<Cost> {
    tokio::time::sleep(wait).await;
    let pids = platform.processes();
    let ticks = || pids.iter().filter_map(|pid| cpu_ticks(*pid)).sum::<u64>();
    let before = ticks();
    tokio::time::sleep(wait).await;
    let spent = ticks() - before;
    let mut kib = 0;
    for pid in &pids {
        kib += pss_kib(*pid).with_context(|| format!("reading the memory of process {pid}"))?;
    }
    #[expect(clippy::cast_precision_loss, reason = "both are far below 2^52")]
    let (kib, spent) = (kib as f64, spent as f64);
    Ok(Cost {
        pss_mib: kib / 1024.0,
        cpu_percent: spent / TICKS_PER_SECOND / wait.as_secs_f64() * 100.0,
        processes: pids.len(),
    })
}

fn pss_kib(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// User and system time of all its threads (`proc(5)`: fields 14 and 15).
fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat =
        std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_time() {
        let me = std::process::id();
        assert!(pss_kib(me).unwrap() > 0);
        assert!(cpu_ticks(me).is_some());
        assert!(pss_kib(u32::MAX).is_none());
    }
}
