//! Asks a process once whether it is well: from the host, against the container's address, without a process inside.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use base::Clock;
use diego::NetInfo;
use diego::desired_lrp::Check;
use reqwest::StatusCode;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::scene::listen_port;

pub(crate) struct Prober {
    client: reqwest::Client,
    slots: Semaphore,
    clock: Clock,
    default_timeout: Duration,
}

impl Prober {
    pub fn new(at_once: usize, default_timeout: Duration, clock: Clock) -> Prober {
        base::http::install_crypto();
        let client = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .user_agent("diego-healthcheck")
            .build()
            .expect("the settings are constant and valid");
        Prober { client, slots: Semaphore::new(at_once.max(1)), clock, default_timeout }
    }

    /// The error is a text for the owner.
    pub async fn probe(&self, check: &Check, net: &NetInfo) -> Result<(), String> {
        let _slot = self.slots.acquire().await.map_err(|closed| closed.to_string())?;
        match check {
            Check::Tcp { port, connect_timeout_ms, .. } => {
                let address =
                    SocketAddr::from((net.instance_address, listen_port(&net.ports, *port)));
                tcp(address, self.limit(*connect_timeout_ms)).await
            }
            Check::Http { port, path, request_timeout_ms, .. } => {
                let limit = self.limit(*request_timeout_ms);
                let path = if path.is_empty() { "/" } else { path };
                self.http(net.instance_address, listen_port(&net.ports, *port), *port, path, limit)
                    .await
            }
        }
    }

    fn limit(&self, wanted_ms: u64) -> Duration {
        if wanted_ms == 0 { self.default_timeout } else { Duration::from_millis(wanted_ms) }
    }

    async fn http(
        &self,
        ip: Ipv4Addr,
        listen: u16,
        port: u16,
        path: &str,
        limit: Duration,
    ) -> Result<(), String> {
        let began = self.clock.now();
        let request = self
            .client
            .get(format!("http://{ip}:{listen}{path}"))
            .header("X-Forwarded-Proto", "https")
            .timeout(limit);
        let answer = async {
            let response = request.send().await?;
            let status = response.status();
            // Some servers complain when nobody reads what they say.
            response.bytes().await.map(|_| status)
        };
        let what = format!("failed to make HTTP request to '{path}' on port {port}");
        match answer.await {
            Ok(StatusCode::OK) => Ok(()),
            Ok(status) => {
                let took = self.clock.now().since(began).as_millis();
                Err(format!("{what}: received status code {} in {took}ms", status.as_u16()))
            }
            Err(error) if error.is_timeout() => {
                Err(format!("{what}: timed out after {:.2} seconds", limit.as_secs_f64()))
            }
            Err(error) if error.is_builder() => {
                Err(format!("failed to create an HTTP request to '{path}' on port {port}"))
            }
            Err(_) => Err(format!("{what}: connection refused")),
        }
    }
}

async fn tcp(address: SocketAddr, limit: Duration) -> Result<(), String> {
    let what = format!("failed to make TCP connection to {address}");
    match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Err(format!("{what}: connection refused"))
        }
        Ok(Err(error)) => Err(format!("{what}: {error}")),
        Err(_) => Err(format!("{what}: timed out after {:.2} seconds", limit.as_secs_f64())),
    }
}
