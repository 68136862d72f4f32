//! A cell on a machine of its own, killed and started again beside a platform that is: every line comes once, the files of
//! crashed instances are read from afar, and nothing is left of it.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::lines::{lines, oddities};
use super::traces::traces_of;
use super::world::places;
use crate::harness::{Backend, Cupola, kill_containers_of, program};

/// The cell's name, and the one that the platform's own has.
const NAME: &str = "joined";
const OWN: &str = "cell-0";
/// How many lines each instance says; fewer than the log store keeps of a source.
const LAST: u64 = 2500;
/// Nobody is taken for lost while it is away for a moment.
const PATIENT: &str = "[timings.rep]\npresence_ttl = 120000\n";

/// Another machine: a network namespace with a wire to this one.
struct Machine {
    namespace: String,
    wire: String,
    net: String,
}

impl Machine {
    fn new() -> Machine {
        let id = base::new_guid()[..6].to_owned();
        let byte = |at: usize| u8::from_str_radix(&id[at..at + 2], 16).unwrap();
        // Away from where platforms look for networks of their own: 10.254 and downwards.
        let net = format!("10.{}.{}", byte(0) % 128, byte(2));
        let machine = Machine { namespace: format!("cupola-{id}"), wire: format!("cuj{id}"), net };
        let Machine { namespace, wire, .. } = &machine;
        let (here, there) = (format!("{}/24", machine.home()), format!("{}/24", machine.address()));
        for command in [
            vec!["netns", "add", namespace],
            vec!["link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", namespace],
            vec!["addr", "add", &here, "dev", wire],
            vec!["link", "set", wire, "up"],
            vec!["-n", namespace, "addr", "add", &there, "dev", "eth0"],
            vec!["-n", namespace, "link", "set", "eth0", "up"],
            vec!["-n", namespace, "link", "set", "lo", "up"],
            vec!["-n", namespace, "route", "add", "default", "via", &machine.home()],
        ] {
            let status = Command::new("ip").args(&command).status().unwrap();
            assert!(status.success(), "ip {command:?}");
        }
        machine
    }

    fn home(&self) -> String {
        format!("{}.1", self.net)
    }

    fn address(&self) -> String {
        format!("{}.2", self.net)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for command in [["netns", "del", &self.namespace], ["link", "del", &self.wire]] {
            let _ = Command::new("ip").args(command).stderr(Stdio::null()).status();
        }
    }
}

/// A platform and a cell that joined it. The fields are dropped in this order.
struct Joined {
    child: Option<Child>,
    cupola: Cupola,
    machine: Machine,
}

impl Joined {
    /// `None` where real containers are impossible. Both read `config`.
    fn new(config: &str) -> Option<Joined> {
        if !Backend::Linux.is_possible() {
            return None;
        }
        let (machine, mut cupola) = (Machine::new(), Cupola::new(Backend::Linux));
        let path = cupola.path().join("config.toml");
        std::fs::write(&path, config).unwrap();
        cupola.args = vec![
            "--cells-listen".into(),
            format!("{}:8444", machine.home()),
            "--config".into(),
            path.display().to_string(),
        ];
        cupola.up();
        cupola.log_in();
        let mut joined = Joined { child: None, cupola, machine };
        joined.start();
        Some(joined)
    }

    fn data(&self) -> PathBuf {
        self.cupola.path().join(NAME)
    }

    /// Starts the cell (again) and does not wait.
    fn begin(&mut self) {
        let folder = self.cupola.path();
        let log = folder.join("joined.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        // Written by its life before.
        let _ = std::fs::remove_file(self.data().join("cell.json"));
        let token = std::fs::read_to_string(self.cupola.data().join("join-token")).unwrap();
        let child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.machine.namespace))
            .arg(program())
            .args(["cell", "join", "--name", NAME, "--backend", "linux", "--log", "info"])
            .args(["--address", &self.machine.address(), "--token", token.trim(), "--data"])
            .arg(self.data())
            .arg("--config")
            .arg(folder.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    fn start(&mut self) {
        self.begin();
        let (at_work, log) = (self.data().join("cell.json"), self.cupola.path().join("joined.log"));
        let child = self.child.as_mut().unwrap();
        self.cupola.wait("the cell to be at work", |_| {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", std::fs::read_to_string(&log).unwrap());
            at_work.exists().then_some(())
        });
    }

    fn signal(&mut self, signal: Signal) {
        let mut child = self.child.take().expect("the cell runs");
        // One that has ended needs no signal.
        let _ = kill_process(Pid::from_child(&child), signal);
        child.wait().unwrap();
    }

    fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    /// Pushes an app of one Python file of which an instance runs on each cell, and answers its guid.
    fn push(&mut self, name: &str, text: &str) -> String {
        let folder = self.cupola.app(name, &[("main.py", text)]);
        let command = ["-b", "binary_buildpack", "-c", "python3 -u main.py", "-i", "2"];
        self.cupola.cf(&[&["push", name, "-p", &folder, "-m", "64M"][..], &command].concat());
        self.on_both();
        self.cupola.cf(&["app", name, "--guid"]).trim().to_owned()
    }

    /// Waits until both cells have an instance.
    fn on_both(&mut self) {
        self.cupola.wait("an instance on each cell", |cupola| {
            let places = places(cupola);
            let cells: BTreeSet<_> = places.values().map(|(_, cell)| cell.as_str()).collect();
            (cells == BTreeSet::from([NAME, OWN])).then_some(())
        });
    }

    /// Has the instance on a cell crash; answers what is kept of it and is none of `before`.
    fn crash(&mut self, app: &str, cell: &str, path: &str, before: &[&Value]) -> Value {
        let places = places(&self.cupola);
        let index = *places.iter().find(|(_, (_, at))| at == cell).expect("one is there").0;
        let data = self.cupola.data();
        self.cupola.wait("the instance to be routed to", |cupola| {
            (cupola.get_from("crasher", app, index, "/").0 == 200).then_some(())
        });
        self.cupola.get_from("crasher", app, index, path);
        self.cupola.wait("the crashed instance to be kept", |_| {
            let newest = kept(&data, cell).into_iter().next()?;
            let known = before.iter().any(|one| one["instance_guid"] == newest["instance_guid"]);
            (!known).then_some(newest)
        })
    }
}

/// What `cupola cell crashed …` prints about the cell or platform at `data`.
fn crashed(data: &Path, args: &[&str]) -> Vec<u8> {
    let mut command = Command::new(program());
    let output =
        command.args(["cell", "crashed"]).args(args).arg("--data").arg(data).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn text(data: &Path, args: &[&str]) -> String {
    String::from_utf8(crashed(data, args)).unwrap()
}

/// Those that are kept on a cell, the latest first.
fn kept(data: &Path, cell: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_slice(&crashed(data, &["list", "--json"])).unwrap();
    all.into_iter().filter(|one| one["cell_id"] == cell).collect()
}

impl Drop for Joined {
    fn drop(&mut self) {
        if self.child.is_none() && self.data().join("lock").exists() && !std::thread::panicking() {
            self.start();
        }
        if self.child.is_some() {
            self.signal(Signal::INT);
        }
        kill_containers_of(&self.data());
        // Where it failed, at least the disk is free again.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points: Vec<_> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).collect();
        for point in
            points.iter().rev().filter(|point| point.starts_with(&*self.data().to_string_lossy()))
        {
            let _ = Command::new("umount").args(["--lazy", point]).status();
        }
    }
}

fn pause(milliseconds: u64) {
    std::thread::park_timeout(Duration::from_millis(milliseconds));
}

#[test]
fn every_line_of_a_joined_cell_comes_once_whatever_is_killed() {
    let Some(mut joined) = Joined::new(PATIENT) else { return };
    joined.push("talker", TALKER);
    let before = places(&joined.cupola);
    for round in 0..6 {
        pause(150 * round);
        let api = joined.cupola.running("api");
        match round % 3 {
            // The cell alone, whose lines go somewhere else than to disk in vain.
            0 => {
                joined.kill();
                pause(200);
                joined.start();
            }
            // The platform goes, then the cell that keeps lines for it; they come back in turn.
            1 => {
                joined.cupola.signal(Signal::KILL);
                pause(400);
                joined.kill();
                pause(200);
                joined.start();
                pause(400);
                joined.cupola.up();
                joined.cupola.follow(&api);
            }
            // The platform hears nothing for a while, and the cell is killed over it.
            _ => {
                joined.cupola.tell(Signal::STOP);
                pause(400);
                joined.kill();
                joined.start();
                pause(400);
                joined.cupola.tell(Signal::CONT);
            }
        }
    }
    for index in [0, 1] {
        let (begin, end) = (format!("line {index} "), format!("line {index} {LAST}"));
        let lines = joined.cupola.wait("the last line", |cupola| {
            let lines = lines(cupola, "talker");
            lines.contains(&end).then_some(lines)
        });
        let said: Vec<u64> =
            lines.iter().filter_map(|line| line.strip_prefix(&begin)?.parse().ok()).collect();
        assert!(
            said.iter().copied().eq(1..=LAST),
            "lines 1 to {LAST} were said on {}, and heard was: {}",
            before[&index].1,
            oddities(&said)
        );
    }
    assert_eq!(places(&joined.cupola), before, "the same instances run");
}

#[test]
fn files_of_crashed_instances_are_read_on_whichever_cell_within_bounds() {
    let config = format!("{PATIENT}[crashed]\ntime = 600000\nof_one_group = 2\nmb = 4\n");
    let Some(mut joined) = Joined::new(&config) else { return };
    let guid = joined.push("crasher", CRASHER);
    let (data, at_cell) = (joined.cupola.data(), joined.data());
    for cell in [OWN, NAME] {
        // The first one's index may come back on the other cell.
        let small = joined.crash(&guid, cell, "/small", &[]);
        let one = small["instance_guid"].as_str().unwrap();
        let note = format!("left by {one}\n");
        assert!(small["reason"].as_str().unwrap().contains("Exited with status 3"), "{small}");
        // The platform knows of all, a cell of its own.
        let asked = if cell == NAME { &at_cell } else { &data };
        for data in [&data, asked] {
            let list = text(data, &["list"]);
            assert!(list.contains(one), "{list}");
            let folder = text(data, &["ls", one, "/home/vcap/app/evidence"]);
            assert!(folder.contains("note.txt") && folder.contains("deep"), "{folder}");
            let file = text(data, &["cat", one, "/home/vcap/app/evidence/note.txt"]);
            assert_eq!(file, note);
            let tar = crashed(data, &["tar", one, "/home/vcap/app/evidence"]);
            let (mut archive, mut found) = (tar::Archive::new(&*tar), vec![]);
            for entry in archive.entries().unwrap() {
                let (mut entry, mut bytes) = (entry.unwrap(), vec![]);
                entry.read_to_end(&mut bytes).unwrap();
                let path = entry.path().unwrap().display().to_string();
                found.push((path, bytes.len(), bytes == note.as_bytes()));
            }
            let holds = |end: &str, length: usize| {
                found.iter().any(|(path, bytes, _)| path.ends_with(end) && *bytes == length)
            };
            assert!(holds("deep/bulk", 10) && holds("note.txt", note.len()), "{found:?}");
            assert!(found.iter().any(|(path, _, same)| path.ends_with("note.txt") && *same));
        }
        joined.on_both();
        let large = joined.crash(&guid, cell, "/large", &[&small]);
        let bytes = large["bytes"].as_u64().unwrap();
        assert!(bytes >= 3 << 20, "{large}");
        assert_eq!(kept(&data, cell).len(), 2, "both fit");
        let removed = large["instance_guid"].as_str().unwrap();
        text(&data, &["rm", removed]);
        let left = kept(&data, cell);
        assert!(left.len() == 1 && left[0]["instance_guid"] == small["instance_guid"], "{left:?}");
    }
}

#[test]
fn files_of_crashed_instances_give_way_by_number_bytes_and_age() {
    if !Backend::Linux.is_possible() {
        return;
    }
    let bounds = [
        ("containers = 2", "/small", 3, 2),
        ("mb = 4", "/large", 2, 1),
        // They are there, and go by themselves.
        ("time = 10000", "/small", 1, 0),
    ];
    for (bound, path, crashes, left) in bounds {
        let mut cupola = Cupola::new(Backend::Linux);
        let config = cupola.path().join("config.toml");
        std::fs::write(&config, format!("[crashed]\n{bound}\n")).unwrap();
        cupola.args = vec!["--config".into(), config.display().to_string()];
        cupola.up();
        cupola.log_in();
        // An app each, for who crashes often is started later and later.
        let mut seen = BTreeSet::new();
        for number in 0..crashes {
            let name = format!("crasher-{number}");
            let folder = cupola.app(&name, &[("main.py", CRASHER)]);
            let command = ["-b", "binary_buildpack", "-c", "python3 -u main.py"];
            cupola.cf(&[&["push", &name, "-p", &folder, "-m", "64M"][..], &command].concat());
            cupola.get(&name, path);
            let one = cupola.wait("the crashed instance", |cupola| {
                let all = kept(&cupola.data(), OWN);
                let guid = all.first()?["instance_guid"].as_str()?.to_owned();
                (!seen.contains(&guid)).then_some(guid)
            });
            seen.insert(one);
        }
        let newest = seen.len();
        assert_eq!(newest, crashes, "each was kept at first, with {bound}");
        cupola.wait(&format!("{left} to be left with {bound}"), |cupola| {
            (kept(&cupola.data(), OWN).len() == left).then_some(())
        });
    }
}

#[test]
fn a_joined_cell_that_was_killed_leaves_nothing_when_it_ends() {
    let Some(mut joined) = Joined::new(PATIENT) else { return };
    joined.push("talker", TALKER);
    joined.kill();
    joined.start();
    // In the middle of making containers, and of clearing away what the last kill left half made.
    for (instances, pause_ms) in [("6", 300), ("2", 150), ("5", 700)] {
        joined.cupola.cf(&["scale", "talker", "-i", instances]);
        pause(pause_ms);
        joined.kill();
        joined.start();
    }
    joined.on_both();
    let namespace = joined.machine.namespace.clone();
    let traces = |joined: &Joined| traces_of(&joined.data(), Some(&namespace));
    assert!(!traces(&joined).is_empty(), "while it runs there is something to be found");
    joined.kill();
    assert!(!traces(&joined).is_empty(), "what was killed leaves its containers");
    joined.start();
    joined.signal(Signal::INT);
    assert_eq!(traces(&joined), Vec::<String>::new());
}

#[test]
fn every_instance_shows_a_certificate_that_others_can_check() {
    let Some(mut joined) = Joined::new(PATIENT) else { return };
    let app = joined.push("shower", SHOWER);
    let folder = joined.cupola.path().to_owned();
    let org = joined.cupola.cf(&["org", "test", "--guid"]).trim().to_owned();
    let space = joined.cupola.cf(&["space", "test", "--guid"]).trim().to_owned();
    let mut roots = BTreeSet::new();
    for (index, (guid, cell)) in places(&joined.cupola) {
        let mut ask = |path: &str| {
            joined.cupola.wait("the instance to answer", |cupola| {
                match cupola.get_from("shower", &app, index, path) {
                    (200, text) => Some(text),
                    _ => None,
                }
            })
        };
        let (shown, root, address) = (ask("/cert"), ask("/root"), ask("/address"));
        assert_eq!(ask("/key-fits"), "yes", "on {cell}");
        assert_eq!(ask("/writes"), "no", "on {cell}");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.join(name), text).unwrap();
            folder.join(name).display().to_string()
        };
        let (shown, trusted) = (write("shown", &shown), write("trusted", &root));
        roots.insert(root);
        let openssl = |args: &[&str]| {
            let output = Command::new("openssl").args(args).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        openssl(&["verify", "-x509_strict", "-CAfile", &trusted, "-untrusted", &shown, &shown]);
        let text = openssl(&["x509", "-in", &shown, "-noout", "-text", "-nameopt", "RFC2253"]);
        let subject = format!("CN={guid},OU=app:{app},OU=space:{space},OU=organization:{org}");
        for part in [subject, format!("DNS:{guid}, IP Address:{address}")] {
            assert!(text.contains(&part), "{part} is missing on {cell}: {text}");
        }
    }
    assert_eq!(roots.len(), 1, "cells share a root");
}

/// Counts aloud, fifty times a second, with its index, up to [`LAST`].
const TALKER: &str = r#"
import http.server, os, threading, time
INDEX = os.environ["CF_INSTANCE_INDEX"]
def talk():
    for number in range(1, 2501):
        print(f"line {INDEX} {number}", flush=True)
        time.sleep(0.02)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass
threading.Thread(target=talk, daemon=True).start()
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// Shows its certificate and whether the key belongs to it.
const SHOWER: &str = r#"
import http.server, os, ssl
CERT, KEY = os.environ["CF_INSTANCE_CERT"], os.environ["CF_INSTANCE_KEY"]
def read(path):
    with open(path) as file:
        return file.read()
def key_fits():
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(CERT, KEY)
    return "yes"
def writes():
    try:
        open(os.path.join(os.path.dirname(KEY), "more"), "w")
        return "yes"
    except OSError:
        return "no"
ANSWERS = {
    "/cert": lambda: read(CERT),
    "/root": lambda: read(os.path.join(os.environ["CF_SYSTEM_CERT_PATH"], "instance-identity-ca.crt")),
    "/address": lambda: os.environ["CF_INSTANCE_INTERNAL_IP"],
    "/key-fits": key_fits,
    "/writes": writes,
}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = ANSWERS.get(self.path, lambda: "")()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// Leaves files behind when it is asked for `/small` or `/large`, and ends.
const CRASHER: &str = r#"
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        size = {"/small": 10, "/large": 3 << 20}.get(self.path)
        if size:
            os.makedirs("evidence/deep", exist_ok=True)
            with open("evidence/note.txt", "w") as note:
                note.write("left by " + os.environ["CF_INSTANCE_GUID"] + "\n")
            with open("evidence/deep/bulk", "wb") as bulk:
                bulk.write(os.urandom(size))
            os._exit(3)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;
