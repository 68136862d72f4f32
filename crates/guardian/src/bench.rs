//! What containers cost: the time to make and start one, alone and in a crowd, and the memory one more takes.

mod memory;
mod stack;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::StreamExt;
use garden::{ContainerSpec, EgressRule, Exit, Garden, Handle, Limits, ProcessSpec, Protocol};
use serde::Serialize;

use crate::linux::{Config, DiskLimits, LinuxGarden, Network};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Containers made, started and removed one after the other, for the times of one.
    pub starts: usize,
    /// Containers that run a trivial process all at the same time; each number is timed by itself.
    pub crowds: [usize; 2],
    /// Containers made at the same time while a crowd comes to be.
    pub at_once: usize,
    pub disk_limits: DiskLimits,
}

impl Default for Options {
    fn default() -> Options {
        Options { starts: 200, crowds: [200, 700], at_once: 4, disk_limits: DiskLimits::Best }
    }
}

/// What was found. Times are wall clock, memory is proportional set size where nothing else is said.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How containers' files were limited meanwhile, in an operator's words.
    pub disk_limits: String,
    /// From asking for a container to the end of `sh -c true` in it.
    pub container_p50_ms: f64,
    pub container_p99_ms: f64,
    /// The two parts of it, and the removal.
    pub container_create_p50_ms: f64,
    pub container_run_p50_ms: f64,
    pub container_destroy_p50_ms: f64,
    /// What one more running container adds to the platform's processes: its keeper, and this program's own rows.
    pub container_extra_mib: f64,
    /// The keeper's part of it.
    pub container_shim_mib: f64,
    /// What one more container, its trivial process included, takes from the host, kernel and all. Others on the host blur it.
    pub container_host_mib: f64,
    /// From the first request to the last running process of the smaller and the larger crowd, whose sizes stand beside.
    pub crowd: usize,
    pub crowd_s: f64,
    pub large_crowd: usize,
    pub large_crowd_s: f64,
    /// As `container_p50_ms`, with the larger crowd there.
    pub crowded_p50_ms: f64,
    /// Until the larger crowd was gone without a trace.
    pub large_crowd_removed_s: f64,
}

impl Report {
    /// One line a figure.
    pub fn lines(&self) -> Vec<String> {
        vec![
            format!("disk limits: {}", self.disk_limits),
            format!(
                "create and start: p50 {:.2} ms, p99 {:.2} ms (create {:.2}, start {:.2}; destroy {:.2})",
                self.container_p50_ms,
                self.container_p99_ms,
                self.container_create_p50_ms,
                self.container_run_p50_ms,
                self.container_destroy_p50_ms
            ),
            format!("{} containers: {:.2} s", self.crowd, self.crowd_s),
            format!(
                "{} containers: {:.2} s; then one more p50 {:.2} ms; all removed in {:.2} s",
                self.large_crowd,
                self.large_crowd_s,
                self.crowded_p50_ms,
                self.large_crowd_removed_s
            ),
            format!(
                "one more instance: {:.3} MiB (its keeper {:.3}); of the whole host {:.2} MiB",
                self.container_extra_mib, self.container_shim_mib, self.container_host_mib
            ),
        ]
    }
}

/// Measures in `dir`, an empty folder, as root. Nothing is left on the host afterwards.
pub async fn containers(dir: &Path, options: &Options) -> anyhow::Result<Report> {
    let spec = spec(dir)?;
    let mut config = Config::new(dir.join("state"), "bench");
    config.network = Network::parse("10.199.0.0/16").expect("a network");
    config.nameservers = Some(Vec::new());
    config.disk_limits = options.disk_limits;
    // Beside whatever else runs on this host.
    (config.host_ports, config.first_id) = (40_000..=44_999, 2_000_000_000);
    config.max_containers = 10_000;
    let garden = LinuxGarden::open(config).await?;
    let measured = measure(&garden, &spec, dir, options).await;
    garden.shutdown(true).await?;
    measured
}

/// What an ordinary app is given.
fn spec(dir: &Path) -> anyhow::Result<ContainerSpec> {
    let rootfs = stack::of_host(&dir.join("stack")).context("making a stack")?;
    std::fs::create_dir(dir.join("layer")).context("making a layer")?;
    let world = EgressRule {
        protocol: Protocol::All,
        destinations: vec!["0.0.0.0-9.255.255.255".into()],
        ports: Vec::new(),
        port_range: None,
        icmp_type: None,
        icmp_code: None,
        log: false,
    };
    Ok(ContainerSpec {
        rootfs,
        layers: vec![dir.join("layer")],
        ports: vec![8080],
        egress: vec![world],
        limits: Limits { memory_bytes: 256 << 20, disk_bytes: 1 << 30, cpu_shares: 256, pids: 512 },
        ..ContainerSpec::default()
    })
}

async fn measure(
    garden: &LinuxGarden,
    spec: &ContainerSpec,
    dir: &Path,
    options: &Options,
) -> anyhow::Result<Report> {
    let alone = Times::take(garden, spec, options.starts).await?;
    let [crowd, large_crowd] = options.crowds;
    let (handles, crowd_s) = gather(garden, spec, crowd, options.at_once).await?;
    scatter(garden, handles, options.at_once).await?;
    let before = memory::Sample::take(dir).await?;
    let (handles, large_crowd_s) = gather(garden, spec, large_crowd, options.at_once).await?;
    let crowded = Times::take(garden, spec, options.starts.div_ceil(4)).await?;
    let after = memory::Sample::take(dir).await?;
    let start = Instant::now();
    scatter(garden, handles, options.at_once).await?;
    let each = after.more_than(&before, large_crowd);
    Ok(Report {
        disk_limits: garden.disk_limits().into(),
        container_p50_ms: alone.both(50),
        container_p99_ms: alone.both(99),
        container_create_p50_ms: percentile(&alone.create, 50),
        container_run_p50_ms: percentile(&alone.run, 50),
        container_destroy_p50_ms: percentile(&alone.destroy, 50),
        container_extra_mib: each.keeper + each.own,
        container_shim_mib: each.keeper,
        container_host_mib: each.host,
        crowd,
        crowd_s,
        large_crowd,
        large_crowd_s,
        crowded_p50_ms: crowded.both(50),
        large_crowd_removed_s: start.elapsed().as_secs_f64(),
    })
}

/// Runs `count` containers at a time; their handles, and how many seconds that took.
async fn gather(
    garden: &LinuxGarden,
    spec: &ContainerSpec,
    count: usize,
    at_once: usize,
) -> anyhow::Result<(Vec<Handle>, f64)> {
    let start = Instant::now();
    let handles = futures::stream::iter(0..count)
        .map(|number| async move {
            let info = garden.create(spec.clone()).await;
            let info = info.with_context(|| format!("making container {number}"))?;
            let process = garden.run(&info.handle, sh("echo up; exec sleep 1000000")).await;
            let mut process = process.with_context(|| format!("running in container {number}"))?;
            process.output.recv().await.context("it ended")?;
            anyhow::Ok(info.handle)
        })
        .buffer_unordered(at_once)
        .collect::<Vec<_>>()
        .await;
    let handles = handles.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    Ok((handles, start.elapsed().as_secs_f64()))
}

async fn scatter(garden: &LinuxGarden, handles: Vec<Handle>, at_once: usize) -> anyhow::Result<()> {
    let mut removals = futures::stream::iter(handles)
        .map(|handle| async move { garden.destroy(&handle).await })
        .buffer_unordered(at_once);
    while let Some(removed) = removals.next().await {
        removed?;
    }
    Ok(())
}

fn sh(script: &str) -> ProcessSpec {
    let args = vec!["-c".into(), script.into()];
    ProcessSpec { path: "sh".into(), args, user: "vcap".into(), ..ProcessSpec::default() }
}

/// In milliseconds, one entry a container.
#[derive(Default)]
struct Times {
    create: Vec<f64>,
    run: Vec<f64>,
    destroy: Vec<f64>,
}

impl Times {
    async fn take(
        garden: &LinuxGarden,
        spec: &ContainerSpec,
        count: usize,
    ) -> anyhow::Result<Times> {
        let mut times = Times::default();
        for _ in 0..count {
            // What was made ahead is made again meanwhile, as between the starts of a real host.
            tokio::time::sleep(Duration::from_millis(60)).await;
            let start = Instant::now();
            let info = garden.create(spec.clone()).await?;
            times.create.push(milliseconds(start));
            let start = Instant::now();
            let mut process = garden.run(&info.handle, sh("true")).await?;
            ensure!(process.wait().await == Some(Exit::Status(0)), "it ends well");
            times.run.push(milliseconds(start));
            let start = Instant::now();
            garden.destroy(&info.handle).await?;
            times.destroy.push(milliseconds(start));
        }
        Ok(times)
    }

    fn both(&self, part: usize) -> f64 {
        let both: Vec<f64> =
            self.create.iter().zip(&self.run).map(|(create, run)| create + run).collect();
        percentile(&both, part)
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn percentile(times: &[f64], part: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len().saturating_sub(1) * part / 100).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_there_is() {
        let times: Vec<f64> = (1..=101).rev().map(f64::from).collect();
        assert_eq!([50, 99, 100].map(|part| percentile(&times, part)), [51.0, 100.0, 101.0]);
        assert_eq!(percentile(&[], 50), 0.0);
    }
}
