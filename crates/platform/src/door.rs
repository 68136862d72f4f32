//! The ports of the front door.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::settings::Settings;

pub struct Door {
    pub http: TcpListener,
    pub https: TcpListener,
}

impl Door {
    /// The ports asked for; without a wish the usual ones where they are free and allowed, else 8080 and 8443.
    pub async fn open(settings: &Settings) -> anyhow::Result<Door> {
        let http = listen(settings.listen, settings.http_port, [80, 8080], "--http-port").await?;
        let https =
            listen(settings.listen, settings.https_port, [443, 8443], "--https-port").await?;
        Ok(Door { http, https })
    }

    /// How a browser or a client on this machine gets in: `(http, https)`.
    pub fn urls(&self, name: &str) -> anyhow::Result<(String, String)> {
        Ok((
            url("http", name, self.http.local_addr()?, 80),
            url("https", name, self.https.local_addr()?, 443),
        ))
    }
}

fn url(scheme: &str, name: &str, address: SocketAddr, usual: u16) -> String {
    if address.port() == usual {
        format!("{scheme}://{name}")
    } else {
        format!("{scheme}://{name}:{}", address.port())
    }
}

async fn listen(
    ip: IpAddr,
    wish: Option<u16>,
    usual: [u16; 2],
    flag: &str,
) -> anyhow::Result<TcpListener> {
    let [first, second] = usual;
    if let Some(port) = wish {
        return TcpListener::bind((ip, port))
            .await
            .with_context(|| format!("listening on {ip}:{port}: choose another with {flag}"));
    }
    if let Ok(listener) = TcpListener::bind((ip, first)).await {
        return Ok(listener);
    }
    TcpListener::bind((ip, second)).await.with_context(|| format!("listening on {ip}:{second} ({first} is taken or not allowed): choose a port with {flag}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_passed_over_or_named() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let taken = TcpListener::bind((ip, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let other = listen(ip, None, [port, 0], "--http-port").await.unwrap();
        assert_ne!(other.local_addr().unwrap().port(), port);
        let error =
            format!("{:#}", listen(ip, Some(port), [80, 8080], "--http-port").await.unwrap_err());
        assert!(
            error.contains(&format!("127.0.0.1:{port}")) && error.contains("--http-port"),
            "{error}"
        );
    }

    #[test]
    fn usual_ports_are_not_written() {
        assert_eq!(
            url("http", "api.localhost", "0.0.0.0:80".parse().unwrap(), 80),
            "http://api.localhost"
        );
        assert_eq!(
            url("https", "api.localhost", "0.0.0.0:8443".parse().unwrap(), 443),
            "https://api.localhost:8443"
        );
    }
}
