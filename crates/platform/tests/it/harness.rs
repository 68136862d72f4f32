//! A platform per test, with its own data, ports and command line; nothing of it is left, however the test ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Long enough for any machine that can run it at all.
pub const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Linux,
    Process,
}

impl Backend {
    fn flag(self) -> &'static str {
        match self {
            Backend::Linux => "linux",
            Backend::Process => "process",
        }
    }

    /// Real containers need root; without it the test says so and ends.
    pub fn is_possible(self) -> bool {
        let possible = self == Backend::Process || rustix::process::geteuid().is_root();
        if !possible {
            eprintln!("SKIPPED: real containers need root");
        }
        possible
    }
}

pub struct Cupola {
    child: Option<Child>,
    backend: Backend,
    command: &'static str,
    /// Beside those that every platform gets.
    pub args: Vec<String>,
    folder: TempDir,
}

/// What a command left.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub text: String,
}

impl Cupola {
    /// Not started yet, and without a data directory.
    pub fn new(backend: Backend) -> Cupola {
        let folder = tempfile::Builder::new().prefix("cupola-test-").tempdir().unwrap();
        Cupola { child: None, backend, command: "up", args: Vec::new(), folder }
    }

    /// `cupola up` with further settings; not started yet.
    pub fn with_args(backend: Backend, args: &[&str]) -> Cupola {
        let mut cupola = Cupola::new(backend);
        cupola.set_args(args);
        cupola
    }

    /// `cupola server` with these roles and settings; not started yet.
    pub fn as_server(backend: Backend, args: &[&str]) -> Cupola {
        let mut cupola = Cupola::with_args(backend, args);
        cupola.command = "server";
        cupola
    }

    /// For the next start.
    pub fn set_args(&mut self, args: &[&str]) {
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(self.child.as_ref().expect("the platform runs"))
    }

    pub fn start(backend: Backend) -> Cupola {
        let mut cupola = Cupola::new(backend);
        cupola.up();
        cupola
    }

    /// A platform with an org and a space to push to, and its user logged in.
    pub fn with_space(backend: Backend) -> Cupola {
        let cupola = Cupola::start(backend);
        cupola.log_in();
        cupola
    }

    /// Logs the command line in, and makes an org and a space to push to.
    pub fn log_in(&self) {
        let cupola = self;
        cupola.cf(&["api", &cupola.running("api")]);
        cupola.cf(&["auth", "admin", &cupola.password()]);
        cupola.cf(&["create-org", "test"]);
        cupola.cf(&["target", "-o", "test"]);
        cupola.cf(&["create-space", "test"]);
        cupola.cf(&["target", "-s", "test"]);
    }

    /// Starts it (again) on the same data.
    pub fn up(&mut self) {
        self.begin();
        self.wait("the platform to be ready", |cupola| cupola.is_ready().then_some(()));
    }

    /// Starts it and does not wait.
    pub fn begin(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        let child = Command::new(program())
            .args([
                self.command,
                "--listen",
                "127.0.0.1",
                "--http-port",
                "0",
                "--https-port",
                "0",
                "--log",
                "info",
                "--backend",
                self.backend.flag(),
            ])
            .arg("--data")
            .arg(self.data())
            .args(&self.args)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    #[track_caller]
    fn is_ready(&mut self) -> bool {
        let child = self.child.as_mut().expect("the platform was started");
        let ended = child.try_wait().unwrap();
        let pid = child.id();
        assert!(ended.is_none(), "the platform ended: {ended:?}\n{}", self.log());
        self.read_running().is_some_and(|running| running["pid"] == pid)
    }

    /// `kill -9`, and up again on the same data; the command line's session goes on where the platform listens now.
    pub fn kill_and_up(&mut self) {
        let before = self.read_running();
        self.signal(rustix::process::Signal::KILL);
        self.up();
        if let Some(before) = before {
            self.follow(before["api"].as_str().expect("an address"));
        }
    }

    /// The command line's session, begun while the platform listened at `before`, goes on where it listens now.
    pub fn follow(&self, before: &str) {
        let path = self.folder.path().join(".cf/config.json");
        let Ok(text) = std::fs::read_to_string(&path) else { return };
        std::fs::write(path, text.replace(before, &self.running("api"))).unwrap();
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn password(&self) -> String {
        std::fs::read_to_string(self.data().join("admin-password")).unwrap().trim().to_owned()
    }

    fn read_running(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.data().join("running.json")).ok()?).ok()
    }

    pub fn running(&self, key: &str) -> String {
        self.read_running().expect("the platform runs")[key].as_str().unwrap().to_owned()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Our own command line; it must succeed.
    #[track_caller]
    pub fn cf(&self, args: &[&str]) -> String {
        let ran = self.try_cf(args);
        assert!(
            ran.status.success(),
            "cf {}: {}\n{}\n--- platform:\n{}",
            args.join(" "),
            ran.status,
            ran.text,
            self.log()
        );
        ran.text
    }

    pub fn try_cf(&self, args: &[&str]) -> Ran {
        self.run(&mut self.cf_command(args))
    }

    /// Our own command line, not run yet.
    pub fn cf_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("cf").args(args).env("CF_HOME", self.folder.path());
        command
    }

    /// Runs a command to its end, with both its outputs as one text.
    pub fn run(&self, command: &mut Command) -> Ran {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Ran { status: output.status, text }
    }

    /// Writes an app and returns its folder.
    pub fn app(&self, name: &str, files: &[(&str, &str)]) -> String {
        let folder = self.folder.path().join("apps").join(name);
        for (file, text) in files {
            let path = folder.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder.display().to_string()
    }

    /// Asks an app through the router: status and body.
    pub fn get(&self, app: &str, path: &str) -> (u16, String) {
        self.get_with(app, path, "X-Nothing: 1")
    }

    /// The same of one instance.
    pub fn get_from(&self, app: &str, guid: &str, index: u32, path: &str) -> (u16, String) {
        self.get_with(app, path, &format!("X-Cf-App-Instance: {guid}:{index}"))
    }

    fn get_with(&self, app: &str, path: &str, header: &str) -> (u16, String) {
        let host = format!("{app}.localhost");
        let url = format!("{}{path}", self.running("http"));
        let ran = self.run(Command::new("curl").args([
            "--silent",
            "--max-time",
            "20",
            "--write-out",
            "\n%{http_code}",
            "--header",
            &format!("Host: {host}"),
            "--header",
            header,
            &url,
        ]));
        let (body, status) = ran.text.rsplit_once('\n').expect("curl writes the status");
        (status.trim().parse().unwrap_or(0), body.to_owned())
    }

    /// Waits until `ready` has something to give.
    #[track_caller]
    pub fn wait<T>(&mut self, what: &str, mut ready: impl FnMut(&mut Cupola) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(value) = ready(self) {
                return value;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "waited in vain for {what}\n--- platform:\n{}",
                self.log()
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// What the power cut does to processes: the shims of this platform, and with them their containers, end without a word.
    pub fn kill_containers(&self) {
        kill_containers_of(&self.data());
    }

    /// Freezes the platform, or wakes it again.
    pub fn tell(&self, signal: rustix::process::Signal) {
        let child = self.child.as_ref().expect("the platform runs");
        rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
    }

    pub fn signal(&mut self, signal: rustix::process::Signal) -> ExitStatus {
        let mut child = self.child.take().expect("the platform runs");
        // One that has ended already cannot be told anything; its status says why.
        let pid = rustix::process::Pid::from_child(&child);
        let _ = rustix::process::kill_process(pid, signal);
        // One that is frozen would hear nothing else.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::CONT);
        child.wait().expect("our own child")
    }
}

impl Drop for Cupola {
    /// Ctrl-C removes the containers; a platform that was killed is started once more to clean up after itself.
    fn drop(&mut self) {
        if self.child.is_none() && self.data().join("lock").exists() && !std::thread::panicking() {
            self.up();
        }
        if self.child.is_some() {
            let status = self.signal(rustix::process::Signal::INT);
            if !status.success() && !std::thread::panicking() {
                panic!("the platform ended with {status}\n{}", self.log());
            }
        } else {
            self.kill_containers();
        }
    }
}

/// Ends the shims of a cell, and with them its containers, without a word.
pub fn kill_containers_of(data: &Path) {
    let shim = data.join("containers/shim");
    let ours = |pid: &i32| {
        std::fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|exe| exe.to_string_lossy().starts_with(&*shim.to_string_lossy()))
    };
    let shims: Vec<i32> = pids().into_iter().filter(ours).collect();
    let mut doomed = shims.clone();
    let mut parents: Vec<(i32, i32)> =
        pids().into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    while let Some(at) =
        parents.iter().position(|(pid, parent)| doomed.contains(parent) && !doomed.contains(pid))
    {
        doomed.push(parents.swap_remove(at).0);
    }
    for pid in doomed.into_iter().filter_map(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let begun = Instant::now();
    while pids().iter().any(ours) && begun.elapsed() < PATIENCE {
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// The program under test: another build's when `CUPOLA_PROGRAM` names one.
pub fn program() -> PathBuf {
    std::env::var_os("CUPOLA_PROGRAM").map_or(env!("CARGO_BIN_EXE_cupola").into(), PathBuf::from)
}

/// Every process of this machine.
pub fn pids() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Who a process's parent is; `None` when it has ended.
pub fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}
