//! TCP routes on the whole platform: from the command line to bytes in an app.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::{Backend, Cupola, PATIENCE, program};

#[test]
fn an_echo_app_on_ports() {
    for backend in
        [Backend::Process, Backend::Linux].into_iter().filter(|backend| backend.is_possible())
    {
        eprintln!("over {backend:?}");
        on_ports(backend);
    }
}

fn on_ports(backend: Backend) {
    let [first, second, third] = free_ports();
    let range = format!("{first}-{third}");
    let mut cupola = Cupola::with_args(backend, &["--tcp-ports", &range]);
    cupola.up();
    cupola.log_in();
    let groups = cupola.cf(&["router-groups"]);
    assert!(groups.ends_with("name          type\ndefault-tcp   tcp\n"), "{groups}");
    cupola.cf(&["create-shared-domain", "tcp.localhost", "--router-group", "default-tcp"]);
    assert!(cupola.cf(&["domains"]).contains("tcp.localhost   shared                    tcp"));

    // A manifest names the port.
    let manifest = format!(
        "applications:\n- name: echo\n  memory: 64M\n  buildpacks: [binary_buildpack]\n  command: python3 echo.py\n  routes:\n  - route: tcp.localhost:{first}\n"
    );
    let app = cupola.app("echo", &[("echo.py", ECHO), ("manifest.yml", &manifest)]);
    cupola.cf(&["push", "-f", &format!("{app}/manifest.yml"), "-p", &app]);
    let born = conversation(&mut cupola, first, "hello");

    // A second port is chosen, a third one is another program's.
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, third)).unwrap();
    cupola.cf(&["map-route", "echo", "tcp.localhost", "--port", &third.to_string()]);
    let status = cupola.wait("the taken port to be told", |cupola| {
        let text = status(cupola);
        text.contains(&format!("the port {third} of a TCP route cannot be opened")).then_some(text)
    });
    assert!(status.contains(&format!("(process {})", std::process::id())), "{status}");
    drop(held);
    assert_eq!(conversation(&mut cupola, third, "late"), born);
    let text = cupola.cf(&["map-route", "echo", "tcp.localhost"]);
    assert!(text.contains(&format!("Mapping route tcp.localhost:{second} to app echo")), "{text}");
    assert_eq!(conversation(&mut cupola, second, "by chance"), born);
    let none = cupola.try_cf(&["create-route", "tcp.localhost"]);
    assert!(none.text.contains("There are no more ports available for this domain."), "{none:?}");

    scaled(&mut cupola, first);

    // The ports are there again after the platform was killed.
    cupola.kill_and_up();
    conversation(&mut cupola, first, "again");
    conversation(&mut cupola, second, "again");

    let mut lasting = open(&mut cupola, first);
    name(&mut lasting);
    cupola.cf(&["delete-route", "tcp.localhost", "--port", &first.to_string(), "-f"]);
    closed(&mut cupola, first);
    // Who was connected stays so.
    lasting.write_all(b"still here").unwrap();
    assert_eq!(read(&mut lasting, 10), "still here");
    conversation(&mut cupola, second, "the other one");
    let check = cupola.cf(&["check-route", "tcp.localhost", "--port", &first.to_string()]);
    assert!(check.contains(&format!("Route 'tcp.localhost:{first}' does not exist.")), "{check}");
    if backend == Backend::Linux {
        other_port(&mut cupola, first);
    }
    cupola.cf(&["delete", "echo", "-f", "-r"]);
    for port in [first, second, third] {
        closed(&mut cupola, port);
    }
}

/// Two instances share a port, and no connection is lost while there are two, and then one again.
fn scaled(cupola: &mut Cupola, port: u16) {
    let calls = Calls::start(port);
    cupola.cf(&["scale", "echo", "-i", "2"]);
    cupola.wait("both instances to be connected to", |cupola| {
        let names: Vec<String> = (0..4).map(|_| name(&mut open(cupola, port))).collect();
        let of = |index: &str| names.iter().any(|name| name.starts_with(index));
        (of("0 ") && of("1 ")).then_some(())
    });
    cupola.cf(&["scale", "echo", "-i", "1"]);
    cupola.wait("one instance to be left", |cupola| {
        let text = cupola.cf(&["app", "echo"]);
        let names: Vec<String> = (0..4).map(|_| name(&mut open(cupola, port))).collect();
        (text.contains("1/1") && names.iter().all(|name| name.starts_with("0 "))).then_some(())
    });
    let (made, failed) = calls.stop();
    assert!(made > 0 && failed.is_empty(), "{made} connections, of which failed: {failed:?}");
}

/// The route leads to a port of the app's own choice, from its next start on.
fn other_port(cupola: &mut Cupola, port: u16) {
    let text = port.to_string();
    cupola.cf(&["create-route", "tcp.localhost", "--port", &text]);
    let id = |cupola: &Cupola, path: &str| {
        let found = cupola.cf(&["curl", path]);
        let found: serde_json::Value = serde_json::from_str(&found).unwrap();
        found["resources"][0]["guid"].as_str().unwrap().to_owned()
    };
    let (route, app) =
        (id(cupola, &format!("/v3/routes?ports={port}")), id(cupola, "/v3/apps?names=echo"));
    let body = format!(r#"{{"destinations":[{{"app":{{"guid":"{app}"}},"port":7000}}]}}"#);
    cupola.cf(&["curl", &format!("/v3/routes/{route}/destinations"), "-X", "POST", "-d", &body]);
    cupola.cf(&["restart", "echo"]);
    let mut stream = open(cupola, port);
    assert!(name(&mut stream).ends_with(" 7000"));
}

/// Connects again and again, and counts what goes wrong.
struct Calls {
    stop: Arc<AtomicBool>,
    calls: JoinHandle<(u32, Vec<String>)>,
}

impl Calls {
    fn start(port: u16) -> Calls {
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let calls = std::thread::spawn(move || {
            let (mut made, mut failed) = (0, Vec::new());
            while !until.load(Ordering::Relaxed) {
                made += 1;
                if let Err(error) = call(port) {
                    failed.push(error.to_string());
                }
            }
            (made, failed)
        });
        Calls { stop, calls }
    }

    fn stop(self) -> (u32, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.calls.join().unwrap()
    }
}

/// One whole conversation: a name, an echo, an end.
fn call(port: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"ping")?;
    stream.shutdown(Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    match text.ends_with("\npingbye") {
        true => Ok(()),
        false => Err(std::io::Error::new(ErrorKind::UnexpectedEof, format!("only {text:?}"))),
    }
}

/// A connection to an instance, as soon as the port is open.
fn open(cupola: &mut Cupola, port: u16) -> TcpStream {
    let stream = cupola
        .wait("the port to be open", |_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn closed(cupola: &mut Cupola, port: u16) {
    cupola.wait("the port to be closed", |_| {
        let error = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).err()?;
        (error.kind() == ErrorKind::ConnectionRefused).then_some(())
    });
}

fn read(stream: &mut TcpStream, count: usize) -> String {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// What the instance says first: its index, when it was born, its port.
fn name(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.ends_with('\n') {
        text += &read(stream, 1);
    }
    text.trim_end().to_owned()
}

/// Bytes both ways, one end after the other. Answers the instance's name.
fn conversation(cupola: &mut Cupola, port: u16, text: &str) -> String {
    let mut stream = open(cupola, port);
    let name = name(&mut stream);
    stream.write_all(text.as_bytes()).unwrap();
    assert_eq!(read(&mut stream, text.len()), text);
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "bye", "the app goes on after our end");
    name
}

fn status(cupola: &Cupola) -> String {
    cupola.run(Command::new(program()).arg("status").arg("--data").arg(cupola.data())).text
}

/// Three ports in a row that nobody has: below those that the system gives away by itself, and other ones each time.
fn free_ports() -> [u16; 3] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = (NEXT.fetch_add(1, Ordering::Relaxed) + std::process::id()) * 3;
        let first = 12_000 + u16::try_from(next % 20_000).unwrap();
        let ports = [first, first + 1, first + 2];
        if ports.iter().all(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok()) {
            return ports;
        }
    }
}

/// On each of its ports: tells who it is, sends back what it gets, says goodbye when the other side has ended. Whoever is
/// connected when it is told to stop has time to finish.
const ECHO: &str = r#"
import os, signal, socketserver, threading, time
BORN = time.time_ns()
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        port = self.server.server_address[1]
        self.request.sendall(f"{os.environ['CF_INSTANCE_INDEX']} {BORN} {port}\n".encode())
        while data := self.request.recv(65536):
            self.request.sendall(data)
        self.request.sendall(b"bye")
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 100
    daemon_threads = True
signal.signal(signal.SIGTERM, lambda *_: threading.Timer(2, os._exit, [0]).start())
if os.environ.get("PORT") == "8080":
    threading.Thread(target=Server(("0.0.0.0", 7000), Handler).serve_forever).start()
Server(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// A peer that goes away is noticed by the app too.
#[test]
fn an_instance_that_is_killed_ends_its_connections() {
    let [port, _, last] = free_ports();
    let range = format!("{port}-{last}");
    let mut cupola = Cupola::with_args(Backend::Process, &["--tcp-ports", &range]);
    cupola.up();
    cupola.log_in();
    cupola.cf(&["create-shared-domain", "tcp.localhost", "--router-group", "default-tcp"]);
    let app = cupola.app("echo", &[("echo.py", ECHO)]);
    let push = ["push", "echo", "-p", &app, "-m", "64M", "-b", "binary_buildpack"];
    cupola.cf(&[&push[..], &["-c", "python3 echo.py", "--no-route"]].concat());
    cupola.cf(&["map-route", "echo", "tcp.localhost", "--port", &port.to_string()]);
    let mut stream = open(&mut cupola, port);
    let first = name(&mut stream);
    cupola.cf(&["restart-app-instance", "echo", "0"]);
    let mut rest = Vec::new();
    // Reset or ended, but not left hanging.
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty());
    let again = cupola.wait("the next instance", |_| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        let mut text = [0; 64];
        let count = stream.read(&mut text).ok().filter(|count| *count > 0)?;
        let name = String::from_utf8_lossy(&text[..count]).trim_end().to_owned();
        (name != first).then_some(name)
    });
    assert!(again.starts_with("0 "), "{again}");
}
