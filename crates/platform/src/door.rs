//! The ports of the front door.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use anyhow::anyhow;
use tokio::net::TcpListener;

use crate::doctor::ports;
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

    /// HTTP's and HTTPS's.
    pub fn ports(&self) -> std::io::Result<Vec<u16>> {
        Ok(vec![self.http.local_addr()?.port(), self.https.local_addr()?.port()])
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
        let listener = TcpListener::bind((ip, port)).await;
        return listener.map_err(|error| {
            anyhow!("listening on {ip}:{port}: {}: {}", why(port, &error), remedy(&error, flag))
        });
    }
    let no = match TcpListener::bind((ip, first)).await {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    TcpListener::bind((ip, second)).await.map_err(|error| {
        anyhow!(
            "listening on {ip}: {first}: {}; {second}: {}: {}",
            why(first, &no),
            why(second, &error),
            remedy(&error, flag)
        )
    })
}

/// Why nobody can listen there, with who does.
fn why(port: u16, error: &std::io::Error) -> String {
    match (error.kind(), ports::holder(port)) {
        (ErrorKind::AddrInUse, Some((pid, name))) => format!("held by {name} (process {pid})"),
        (ErrorKind::AddrInUse, None) => "in use".to_owned(),
        _ => error.to_string(),
    }
}

fn remedy(error: &std::io::Error, flag: &str) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!("stop who holds it, or choose another port with {flag}"),
        ErrorKind::PermissionDenied => {
            format!("ports below 1024 need root; choose another with {flag}")
        }
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address; choose one with --listen".to_owned()
        }
        _ => format!("choose another port with {flag}"),
    }
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
