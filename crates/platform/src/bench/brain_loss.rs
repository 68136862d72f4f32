//! Brains on machines of their own: the one that leads is killed, then frozen. How long until something new runs, and is a
//! request to an app lost meanwhile?

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bbs::Standing;
use reqwest::Url;
use rustix::process::Signal;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::hosts::{Hosts, Programs};
use super::load::Load;
use super::platform::{PATIENCE, Platform, tail};
use super::trivial;
use super::{Figures, Report, percentile, rounded};
use crate::data_dir;
use crate::operator;

/// Two brains, and a cell with a router.
const BRAINS: u8 = 2;
const CELL: u8 = 2;
const PORT: u16 = 1800;

/// `database` is an empty one on this machine, `rounds` how often a brain is killed, and as often frozen.
pub async fn run(database: &str, rounds: u32, report: &Report) -> anyhow::Result<Figures> {
    let hosts = Hosts::new(BRAINS + 1).await?;
    let database = reach(database, hosts.home()).await?;
    let listen = format!("{}:0", hosts.home());
    let roles =
        ["--roles", "api,logs,router,cell", "--database", &database, "--cells-listen", &listen];
    let platform = Platform::start_as("server", &roles).await?;
    let servers = Programs::new(platform.folder(), "server-");
    let mut bench = Bench { servers, hosts, platform, report };
    let result = bench.measure(rounds).await;
    let ended = bench.end().await;
    let figures = result?;
    ended?;
    Ok(figures)
}

/// The same database for machines that do not reach this one's loopback.
async fn reach(database: &str, home: Ipv4Addr) -> anyhow::Result<String> {
    let mut url = Url::parse(database).context("--database is no URL")?;
    let host = url.host_str().context("--database names no host")?.to_owned();
    let port = url.port().unwrap_or(5432);
    let listener = TcpListener::bind((home, 0)).await?;
    let named = url.set_host(Some(&home.to_string())).is_ok()
        && url.set_port(Some(listener.local_addr()?.port())).is_ok();
    ensure!(named, "--database takes no other host");
    // It ends with the runtime.
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let host = host.clone();
            tokio::spawn(async move {
                if let Ok(mut to) = TcpStream::connect((host, port)).await {
                    // Either side ends it when it likes.
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    });
    Ok(url.into())
}

/// Dropped in this order: what the servers keep lies on their hosts and in the platform's folder.
struct Bench<'a> {
    servers: Programs,
    hosts: Hosts,
    platform: Platform,
    report: &'a Report,
}

/// How a brain is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Killed,
    Frozen,
}

impl Bench<'_> {
    async fn measure(&mut self, rounds: u32) -> anyhow::Result<Figures> {
        for host in 0..BRAINS {
            self.start(host, "brain")?;
        }
        self.start(CELL, "router,cell")?;
        self.leader().await?;
        let app = trivial::push(&self.platform).await?;
        let load = Load::start(&self.platform);
        let (mut instances, mut seconds) = (1, std::collections::BTreeMap::new());
        for loss in [Loss::Killed, Loss::Frozen] {
            for _ in 0..rounds {
                instances += 1;
                let took = self.lose(loss, &app, instances).await?;
                seconds.entry(loss.name()).or_insert_with(Vec::new).push(took);
            }
            let took = &seconds[loss.name()];
            self.report.line(&format!(
                "the brain {}: something new runs after p50 {:.2} s, at most {:.2} s",
                loss.name(),
                percentile(took, 50),
                percentile(took, 100)
            ));
        }
        let (requests, lost) = load.end().await?;
        self.report.line(&format!("{lost} of {requests} requests lost meanwhile"));
        let figure = |loss: Loss| rounded(percentile(&seconds[loss.name()], 100));
        Ok(Figures::from_iter([
            ("brain_killed_s".to_owned(), figure(Loss::Killed)),
            ("brain_frozen_s".to_owned(), figure(Loss::Frozen)),
            ("brain_loss_requests".to_owned(), requests.into()),
            ("brain_loss_lost".to_owned(), lost.into()),
            ("rounds".to_owned(), rounds.into()),
        ]))
    }

    /// Seconds from the loss of the brain that leads until an instance runs that was wanted after it.
    async fn lose(&mut self, loss: Loss, app: &str, instances: usize) -> anyhow::Result<f64> {
        let host = self.leader().await?;
        self.stands_by(1 - host).await?;
        let api = self.platform.api().await?;
        let signal = match loss {
            Loss::Killed => Signal::KILL,
            Loss::Frozen => Signal::STOP,
        };
        self.servers.signal(host, signal)?;
        let begun = Instant::now();
        let path = format!("/v3/apps/{app}/processes/web/actions/scale");
        let placed = async {
            api.post(&path, &json!({ "instances": instances })).await?;
            self.platform.running(app, instances).await
        };
        let placed = placed.await;
        let took = begun.elapsed().as_secs_f64();
        match loss {
            Loss::Killed => {
                self.servers.take(host)?.wait().await?;
                self.start(host, "brain")?;
            }
            Loss::Frozen => self.servers.signal(host, Signal::CONT)?,
        }
        placed?;
        self.stands_by(host).await?;
        Ok(took)
    }

    /// Joins, or goes on where it was killed.
    fn start(&mut self, host: u8, roles: &str) -> anyhow::Result<()> {
        let data = self.servers.data(host);
        let token = data_dir::join_token(&self.platform.data())?;
        let (folder, listen) = (data.display().to_string(), self.listen(host));
        let args = [
            "server",
            "--roles",
            roles,
            "--join",
            &token,
            "--data",
            &folder,
            "--cells-listen",
            &listen,
            "--http-port",
            "0",
            "--https-port",
            "0",
        ];
        self.servers.start(&self.hosts, host, &args)
    }

    fn listen(&self, host: u8) -> String {
        format!("{}:{PORT}", self.hosts.address(host))
    }

    /// The host whose brain leads.
    async fn leader(&self) -> anyhow::Result<u8> {
        self.until("no brain leads", |host, standing| {
            matches!(standing, Standing::Leads { .. }).then_some(host)
        })
        .await
    }

    async fn stands_by(&self, wanted: u8) -> anyhow::Result<()> {
        let found = self.until("a brain does not stand by", |host, standing| {
            (host == wanted && *standing == Standing::StandsBy).then_some(host)
        });
        found.await.map(drop)
    }

    async fn until(
        &self,
        what: &str,
        found: impl Fn(u8, &Standing) -> Option<u8>,
    ) -> anyhow::Result<u8> {
        let begun = Instant::now();
        loop {
            let asking = operator::connect(&self.platform.data()).await?;
            for (url, standing) in asking.bbs.standings().await {
                let host = (0..BRAINS).find(|host| url.ends_with(&self.listen(*host)));
                if let Some(host) = host.and_then(|host| found(host, &standing)) {
                    return Ok(host);
                }
            }
            let log = self.servers.log(0);
            ensure!(begun.elapsed() < PATIENCE, "{what}; the first brain says: {}", tail(&log));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn end(mut self) -> anyhow::Result<()> {
        let result = self.servers.end().await;
        drop(self.servers);
        result.and(self.platform.stop().await)
    }
}

impl Loss {
    fn name(self) -> &'static str {
        match self {
            Loss::Killed => "killed",
            Loss::Frozen => "frozen",
        }
    }
}
