//! A platform of its own for a benchmark: its own process, data directory and ports.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use reqwest::StatusCode;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::api::Api;
use crate::data_dir::{self, Running, running};

/// Long enough for any machine that can run it at all.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub struct Platform {
    child: Child,
    running: Running,
    folder: TempDir,
    http: reqwest::Client,
}

impl Platform {
    /// Starts `cupola up` on an empty data directory; returns when it serves.
    pub async fn start() -> anyhow::Result<Platform> {
        Platform::start_with(&[]).await
    }

    /// The same, with more settings.
    pub async fn start_with(more: &[&str]) -> anyhow::Result<Platform> {
        Platform::start_as("up", more).await
    }

    /// Starts `cupola COMMAND`, which has a front door, on an empty data directory.
    pub async fn start_as(command: &str, more: &[&str]) -> anyhow::Result<Platform> {
        let folder = tempfile::Builder::new().prefix("cupola-bench-").tempdir()?;
        let data = folder.path().join("data");
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut child = Command::new(std::env::current_exe()?)
            .args([
                command,
                "--listen",
                "127.0.0.1",
                "--http-port",
                "0",
                "--https-port",
                "0",
                "--data",
            ])
            .arg(&data)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("starting the platform")?;
        let begun = Instant::now();
        let running = loop {
            if let Some(running) = running(&data) {
                break running;
            }
            if let Some(status) = child.try_wait()? {
                bail!("the platform ended with {status}: {}", tail(&folder.path().join("log")));
            }
            ensure!(begun.elapsed() < PATIENCE, "the platform is not ready after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        Ok(Platform { child, running, folder, http: base::http::client(None) })
    }

    /// Logs in and makes a space to push to.
    pub async fn log_in(&self) -> anyhow::Result<()> {
        let password = std::fs::read_to_string(self.data().join("admin-password"))?;
        self.cf(&["api", &self.running.api, "--skip-ssl-validation"]).await?;
        self.cf(&["auth", &self.running.admin_user, password.trim()]).await?;
        self.cf(&["create-org", "bench"]).await?;
        self.cf(&["target", "-o", "bench"]).await?;
        self.cf(&["create-space", "bench"]).await?;
        self.cf(&["target", "-s", "bench"]).await
    }

    pub async fn api(&self) -> anyhow::Result<Api> {
        let password = std::fs::read_to_string(self.data().join("admin-password"))?;
        Api::log_in(&self.running.api, &self.running.admin_user, password.trim()).await
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Everything of this run lies in there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs our own command line as a process of its own, as a user would.
    pub async fn cf(&self, args: &[&str]) -> anyhow::Result<()> {
        let run = Command::new(std::env::current_exe()?)
            .arg("cf")
            .args(args)
            .env("CF_HOME", self.folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, run)
            .await
            .with_context(|| format!("cf {} hangs", args.join(" ")))??;
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            bail!(
                "cf {} ended with {}:\n{}",
                args.join(" "),
                output.status,
                String::from_utf8_lossy(&text)
            );
        }
        Ok(())
    }

    /// Asks an app, through the router.
    pub async fn get(&self, app: &str) -> anyhow::Result<(StatusCode, String)> {
        let response = self.request(app).send().await?;
        let status = response.status();
        Ok((status, response.text().await?))
    }

    /// A request to an app, through the router.
    pub fn request(&self, app: &str) -> reqwest::RequestBuilder {
        let host = format!("{app}.{}", self.running.domain);
        self.http.get(&self.running.http).header("host", host)
    }

    /// Waits until so many instances of the app's web process run.
    pub async fn running(&self, app: &str, instances: usize) -> anyhow::Result<()> {
        let (api, begun) = (self.api().await?, Instant::now());
        loop {
            let stats = api.get(&format!("/v3/apps/{app}/processes/web/stats")).await?;
            let all = stats["resources"].as_array().map(Vec::as_slice).unwrap_or_default();
            let running = all.iter().filter(|instance| instance["state"] == "RUNNING").count();
            if running == instances {
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "{running} of {instances} instances run");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The platform's process and the keepers of its containers, those made ahead included.
    pub fn processes(&self) -> Vec<u32> {
        let mut pids = keepers(&self.data());
        pids.extend(self.child.id());
        pids
    }

    /// The brain, asked as the platform's own components do.
    pub fn bbs(&self) -> anyhow::Result<bbs::Client> {
        let (secret, _) = data_dir::secrets(&self.data())?;
        Ok(bbs::Client::new(&self.running.internal, &secret))
    }

    /// Asks until `wanted` comes back.
    pub async fn wait_for(&self, app: &str, wanted: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let last = self.get(app).await;
            if let Ok((StatusCode::OK, body)) = &last
                && body.contains(wanted)
            {
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "{app} does not answer {wanted:?} but {last:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Writes an app of the given files; returns its folder.
    pub fn app(&self, name: &str, files: &[(&str, &str)]) -> anyhow::Result<PathBuf> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder)?;
        for (file, text) in files {
            std::fs::write(folder.join(file), text)?;
        }
        Ok(folder)
    }

    /// Ctrl-C, and waits until nothing is left.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self
            .child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        }
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .context("the platform does not stop")??;
        ensure!(
            status.success(),
            "the platform ended with {status}: {}",
            tail(&self.folder.path().join("log"))
        );
        Ok(())
    }
}

/// Each container of the cell at `data` has one: the shim, which runs from there.
pub fn keepers(data: &Path) -> Vec<u32> {
    let own = |pid: &u32| {
        std::fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|program| program.starts_with(data))
    };
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(own).collect()
}

/// How many containers run something; what is made ahead does not.
pub fn at_work(data: &Path) -> usize {
    let busy = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .is_ok_and(|children| !children.trim().is_empty())
    };
    keepers(data).iter().filter(|pid| busy(pid)).count()
}

pub fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
