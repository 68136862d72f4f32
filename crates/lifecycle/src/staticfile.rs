//! A small web server for files: what the staticfile buildpack starts.

mod answer;
mod auth;
mod file;
mod request;
mod settings;

use std::convert::Infallible;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;

pub use file::Body;
pub use settings::Site;

/// More connections wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests under way may go on after the platform asked to stop.
const GRACE: Duration = Duration::from_secs(8);

/// `staticfile APP_FOLDER [ADDRESS]`: serves `APP_FOLDER/public` on `$PORT`.
pub fn main(arguments: &[String]) -> ExitCode {
    let served = read(arguments).and_then(|(site, address)| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting")?;
        LocalSet::new().block_on(&runtime, serve(Rc::new(site), address))
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("staticfile: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn read(arguments: &[String]) -> Result<(Site, SocketAddr)> {
    let app = arguments.first().map(PathBuf::from).context("usage: staticfile APP_FOLDER")?;
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let port = port.parse().with_context(|| format!("PORT is no port: {port:?}"))?;
    let mut site = Site::read(&app)?;
    site.force_https |= std::env::var_os("FORCE_HTTPS").is_some_and(|value| !value.is_empty());
    Ok((site, (Ipv4Addr::UNSPECIFIED, port).into()))
}

async fn serve(site: Rc<Site>, address: SocketAddr) -> Result<()> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
    let (stop, stopping) = watch::channel(false);
    started();
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    say(&format!(
        "serving {} on port {}",
        site.root.display(),
        listener.local_addr().map_or(0, |own| own.port())
    ));
    loop {
        let accept = async {
            let permit = free.clone().acquire_owned().await.expect("nobody closes the semaphore");
            (listener.accept().await, permit)
        };
        tokio::select! {
            _ = terminate.recv() => break,
            (accepted, permit) = accept => match accepted {
                Ok((stream, _)) => {
                    let connection = connection(site.clone(), stream, stopping.clone());
                    tokio::task::spawn_local(async move {
                        connection.await;
                        drop(permit);
                    });
                }
                // Out of file descriptors, say: those in use come back.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
    drop(listener);
    stop.send_replace(true);
    let all = u32::try_from(CONNECTIONS).expect("a small number");
    let _ = tokio::time::timeout(GRACE, free.acquire_many(all)).await;
    Ok(())
}

async fn connection(site: Rc<Site>, stream: TcpStream, mut stopping: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(logged(&site, &request)) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(64 * 1024);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // How a connection ended is the client's business.
    tokio::select! {
        _ = connection.as_mut() => {}
        _ = stopping.wait_for(|stop| *stop) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// The first time somebody asked, which `serve` makes the start.
fn started() -> SystemTime {
    static STARTED: LazyLock<SystemTime> = LazyLock::new(now);
    *STARTED
}

#[expect(clippy::disallowed_methods, reason = "a program of its own, with no clock handed to it")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn logged(site: &Site, request: &Request<Incoming>) -> Response<Body> {
    let response = answer::answer(site, request.method(), request.uri(), request.headers());
    let header = |name: &str| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-")
    };
    let (method, uri, version) = (request.method(), request.uri(), request.version());
    let line = format!(
        "{} - {} - [{}] \"{method} {uri} {version:?}\" {} {}",
        header("x-forwarded-for"),
        header("referer"),
        log_time(&httpdate::fmt_http_date(now())),
        response.status().as_u16(),
        response.body().size_hint().exact().unwrap_or_default(),
    );
    say(&line);
    response
}

/// From `Sun, 06 Nov 1994 08:49:37 GMT` to `06/Nov/1994:08:49:37 +0000`.
fn log_time(date: &str) -> String {
    let part = |range: std::ops::Range<usize>| date.get(range).unwrap_or_default();
    format!("{}/{}/{}:{} +0000", part(5..7), part(8..11), part(12..16), part(17..25))
}

/// A reader that went away is no reason to stop serving.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_times_look_as_in_nginx() {
        assert_eq!(log_time("Sun, 06 Nov 1994 08:49:37 GMT"), "06/Nov/1994:08:49:37 +0000");
    }
}
