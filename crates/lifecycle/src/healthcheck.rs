//! Tells by its exit code whether an app answers on its port, asked at the container's own address.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::flags::Flags;
use crate::root::Root;

const NAMES: [&str; 9] = [
    "network",
    "uri",
    "port",
    "timeout",
    "startup-interval",
    "startup-timeout",
    "liveness-interval",
    "readiness-interval",
    "until-ready-interval",
];

/// The most of an answer that is read to let the app finish it.
const DRAINED_BYTES: u64 = 1 << 20;
const REDIRECTS: usize = 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub port: u16,
    /// Empty: a connection is enough.
    pub uri: String,
    pub timeout: Duration,
}

/// Why an app is not healthy; each has its exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unhealthy {
    NoInterface,
    TcpRefused { address: SocketAddr, why: String },
    TcpTimeout { address: SocketAddr, after: Duration },
    HttpRefused { uri: String, port: u16 },
    HttpTimeout { uri: String, port: u16, after: Duration },
    BadUri { uri: String, port: u16 },
    BadStatus { uri: String, port: u16, status: u16, took: Duration },
}

impl Unhealthy {
    pub fn code(&self) -> u8 {
        match self {
            Unhealthy::NoInterface => 3,
            Unhealthy::TcpRefused { .. } => 4,
            Unhealthy::HttpRefused { .. } => 5,
            Unhealthy::BadUri { .. } | Unhealthy::BadStatus { .. } => 6,
            Unhealthy::TcpTimeout { .. } => 64,
            Unhealthy::HttpTimeout { .. } => 65,
        }
    }
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unhealthy::NoInterface => f.write_str("failure to find suitable interface"),
            Unhealthy::TcpRefused { address, why } => {
                write!(f, "failed to make TCP connection to {address}: {why}")
            }
            Unhealthy::TcpTimeout { address, after } => {
                let seconds = after.as_secs_f64();
                write!(
                    f,
                    "failed to make TCP connection to {address}: timed out after {seconds:.2} seconds"
                )
            }
            Unhealthy::HttpRefused { uri, port } => {
                write!(
                    f,
                    "failed to make HTTP request to '{uri}' on port {port}: connection refused"
                )
            }
            Unhealthy::HttpTimeout { uri, port, after } => {
                let seconds = after.as_secs_f64();
                write!(
                    f,
                    "failed to make HTTP request to '{uri}' on port {port}: timed out after {seconds:.2} seconds"
                )
            }
            Unhealthy::BadUri { uri, port } => {
                write!(f, "failed to create an HTTP request to '{uri}' on port {port}")
            }
            Unhealthy::BadStatus { uri, port, status, took } => {
                let millis = took.as_millis();
                write!(
                    f,
                    "failed to make HTTP request to '{uri}' on port {port}: received status code {status} in {millis}ms"
                )
            }
        }
    }
}

impl Check {
    /// Asks once, at `ip`.
    pub fn ask(&self, ip: IpAddr) -> Result<(), Unhealthy> {
        let address = SocketAddr::new(ip, self.port);
        if self.uri.is_empty() { self.connect(address) } else { self.request(address) }
    }

    fn connect(&self, address: SocketAddr) -> Result<(), Unhealthy> {
        match TcpStream::connect_timeout(&address, self.timeout) {
            Ok(_) => Ok(()),
            Err(error) if is_timeout(&error) => {
                Err(Unhealthy::TcpTimeout { address, after: self.timeout })
            }
            Err(error) => Err(Unhealthy::TcpRefused { address, why: error.to_string() }),
        }
    }

    /// Follows redirects that stay with the app; one that leads elsewhere counts as the status it is.
    fn request(&self, address: SocketAddr) -> Result<(), Unhealthy> {
        let (port, started) = (self.port, Instant::now());
        let mut uri = self.uri.clone();
        for _ in 0..=REDIRECTS {
            if !uri.starts_with('/') || uri.contains(|c: char| c.is_ascii_control() || c == ' ') {
                return Err(Unhealthy::BadUri { uri, port });
            }
            let left = self.timeout.saturating_sub(started.elapsed());
            let answer = get(address, &uri, left).map_err(|error| {
                let uri = self.uri.clone();
                match is_timeout(&error) {
                    true => Unhealthy::HttpTimeout { uri, port, after: self.timeout },
                    false => Unhealthy::HttpRefused { uri, port },
                }
            })?;
            match answer {
                Answer { status: 200, .. } => return Ok(()),
                Answer { status: 301 | 302 | 303 | 307 | 308, location: Some(next) } => uri = next,
                Answer { status, .. } => {
                    return Err(Unhealthy::BadStatus {
                        uri: self.uri.clone(),
                        port,
                        status,
                        took: started.elapsed(),
                    });
                }
            }
        }
        Err(Unhealthy::HttpRefused { uri: self.uri.clone(), port })
    }
}

struct Answer {
    status: u16,
    /// A redirect's target, when it is a path of the same app.
    location: Option<String>,
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

fn get(address: SocketAddr, uri: &str, timeout: Duration) -> io::Result<Answer> {
    let deadline = Instant::now() + timeout;
    let left = || match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut stream = TcpStream::connect_timeout(&address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    let head = format!(
        "GET {uri} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: diego-healthcheck\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut kept = Vec::new();
    let mut total = 0u64;
    let mut buffer = [0; 8192];
    let answer = loop {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => kept.extend_from_slice(&buffer[..n]),
        }
        if let Some(end) = kept.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&kept[..end]).into_owned();
            let answer = parse(&head, address).ok_or(io::ErrorKind::InvalidData)?;
            // 1xx announces the real answer, which follows.
            if !(100..200).contains(&answer.status) {
                break answer;
            }
            kept.drain(..end + 4);
        }
        if kept.len() > 64 * 1024 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    };
    // The app should not see its answer cut off; how the rest goes does not matter.
    while total < DRAINED_BYTES {
        let Ok(rest) = left() else { break };
        if stream.set_read_timeout(Some(rest.min(Duration::from_millis(100)))).is_err() {
            break;
        }
        match stream.read(&mut buffer) {
            Ok(n) if n > 0 => total += n as u64,
            _ => break,
        }
    }
    Ok(answer)
}

fn parse(head: &str, address: SocketAddr) -> Option<Answer> {
    let mut lines = head.split("\r\n").skip_while(|line| line.is_empty());
    let (version, rest) = lines.next()?.split_once(' ')?;
    let status = rest.get(..3)?.parse().ok().filter(|_| version.starts_with("HTTP/"))?;
    let location = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
    });
    let base = format!("http://{address}");
    let location = location.and_then(|location| match location.strip_prefix(&base) {
        Some(path) => Some(if path.is_empty() { "/".to_owned() } else { path.to_owned() }),
        None => (location.starts_with('/') && !location.starts_with("//")).then_some(location),
    });
    Some(Answer { status, location })
}

/// The first address that other machines could ask. A plain process may have none: then its own.
fn own_address(root: &Root) -> Option<IpAddr> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let mut v4 = all.filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()));
    let found =
        v4.find(|ip| !ip.is_loopback()).or(root.is_plain_process().then_some(Ipv4Addr::LOCALHOST));
    found.map(IpAddr::V4)
}

/// How often to ask, and what ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    Once,
    UntilHealthy { every: Duration, within: Option<Duration> },
    UntilUnhealthy { every: Duration, name: &'static str },
}

fn read(arguments: &[String]) -> Result<(Check, Mode)> {
    let flags = Flags::parse(arguments, &NAMES, &[])?;
    let port = flags.get("port").unwrap_or("8080");
    let timeout = flags.duration("timeout", Duration::from_secs(1))?;
    ensure!(!timeout.is_zero(), "the timeout must be longer than nothing");
    let check = Check {
        port: port.parse().with_context(|| format!("invalid value {port:?} for flag -port"))?,
        uri: flags.get("uri").unwrap_or_default().to_owned(),
        timeout,
    };
    let interval = |name: &str| flags.duration(name, Duration::ZERO);
    let within = Some(flags.duration("startup-timeout", Duration::from_secs(60))?)
        .filter(|span| !span.is_zero());
    let modes = [
        (
            interval("startup-interval")?,
            Mode::UntilHealthy { every: interval("startup-interval")?, within },
        ),
        (
            interval("liveness-interval")?,
            Mode::UntilUnhealthy { every: interval("liveness-interval")?, name: "Liveness" },
        ),
        (
            interval("readiness-interval")?,
            Mode::UntilUnhealthy { every: interval("readiness-interval")?, name: "Readiness" },
        ),
        (
            interval("until-ready-interval")?,
            Mode::UntilHealthy { every: interval("until-ready-interval")?, within: None },
        ),
    ];
    let mode =
        modes.into_iter().find(|(every, _)| !every.is_zero()).map_or(Mode::Once, |(_, mode)| mode);
    Ok((check, mode))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program without a runtime, whose interval is its purpose"
)]
fn pause(span: Duration) {
    std::thread::sleep(span);
}

pub fn main(arguments: &[String]) -> ExitCode {
    let (check, mode) = match read(arguments) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("healthcheck: {error:#}");
            return ExitCode::from(127);
        }
    };
    let root = Root::from_env();
    let ask = || check.ask(own_address(&root).ok_or(Unhealthy::NoInterface)?);
    let started = Instant::now();
    let (outcome, said) = match mode {
        Mode::Once => (ask(), String::new()),
        Mode::UntilHealthy { every, within } => {
            let mut attempts = 0;
            loop {
                attempts += 1;
                let outcome = ask();
                match within {
                    _ if outcome.is_ok() => break (outcome, String::new()),
                    Some(within) if started.elapsed() + every >= within => {
                        pause(within.saturating_sub(started.elapsed()));
                        let said = format!(
                            "Timed out after {within:?} ({attempts} attempts) waiting for startup check to succeed: "
                        );
                        break (outcome, said);
                    }
                    _ => pause(every),
                }
            }
        }
        Mode::UntilUnhealthy { every, name } => loop {
            let outcome = ask();
            if outcome.is_err() {
                break (outcome, format!("{name} check unsuccessful: "));
            }
            pause(every);
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{said}{why}");
            ExitCode::from(why.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn check(port: u16, uri: &str) -> Result<(), Unhealthy> {
        Check { port, uri: uri.into(), timeout: Duration::from_millis(300) }
            .ask(Ipv4Addr::LOCALHOST.into())
    }

    /// Answers each connection in turn with the next text.
    fn serve(answers: &'static [&'static str]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let n = stream.read(&mut request).unwrap();
                assert!(
                    String::from_utf8_lossy(&request[..n])
                        .contains("User-Agent: diego-healthcheck\r\n")
                );
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        port
    }

    fn closed_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn a_listening_port_is_enough_without_a_uri() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(check(listener.local_addr().unwrap().port(), ""), Ok(()));
        assert_eq!(check(closed_port(), "").unwrap_err().code(), 4);
    }

    #[test]
    fn only_200_is_healthy() {
        assert_eq!(check(serve(&["HTTP/1.1 200 OK\r\n\r\nhello"]), "/"), Ok(()));
        assert_eq!(check(serve(&["HTTP/1.1 204 No Content\r\n\r\n"]), "/").unwrap_err().code(), 6);
        let error = check(serve(&["HTTP/1.1 500 Oh\r\n\r\n"]), "/up").unwrap_err();
        assert!(error.to_string().contains("'/up' on port"), "{error}");
        assert_eq!(check(closed_port(), "/").unwrap_err().code(), 5);
        assert_eq!(check(closed_port(), "no path").unwrap_err().code(), 6);
    }

    #[test]
    fn redirects_are_followed_inside_the_app_only() {
        let inside =
            serve(&["HTTP/1.1 302 Found\r\nLocation: /in\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"]);
        assert_eq!(check(inside, "/"), Ok(()));
        let outside = serve(&["HTTP/1.1 302 Found\r\nlocation: https://example.com/\r\n\r\n"]);
        assert_eq!(check(outside, "/").unwrap_err().code(), 6);
    }

    #[test]
    fn silence_is_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(check(listener.local_addr().unwrap().port(), "/").unwrap_err().code(), 65);
    }

    #[test]
    fn an_interval_changes_what_ends_the_program() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (check, mode) = read(&words("-port=9 -timeout=2s -uri=/x")).unwrap();
        assert_eq!(check, Check { port: 9, uri: "/x".into(), timeout: Duration::from_secs(2) });
        assert_eq!(mode, Mode::Once);
        let (_, mode) = read(&words("-startup-interval=2s -startup-timeout=0s")).unwrap();
        assert_eq!(mode, Mode::UntilHealthy { every: Duration::from_secs(2), within: None });
        let (_, mode) = read(&words("-liveness-interval=30s")).unwrap();
        assert_eq!(mode, Mode::UntilUnhealthy { every: Duration::from_secs(30), name: "Liveness" });
    }
}
