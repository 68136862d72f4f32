//! A temporary place to stage and start an app in, laid out as a container is.

use std::fs;
use std::hash::Hasher;
use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_lifecycle");
const PATIENCE: Duration = Duration::from_secs(60);

/// The folder stands for the container's root: the programs are told so by `CUPOLA_ROOT`.
pub struct Workshop {
    pub root: TempDir,
    order: Vec<String>,
    pub variables: Vec<(String, String)>,
}

pub struct Built {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Workshop {
    pub fn new() -> Workshop {
        let root = tempfile::tempdir().unwrap();
        for folder in ["tmp/app", "tmp/buildpacks", "tmp/lifecycle", "home/vcap"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        std::os::unix::fs::symlink(PROGRAM, root.path().join("tmp/lifecycle/launcher")).unwrap();
        Workshop { root, order: vec![], variables: vec![] }
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.path().join(inside)
    }

    /// A file of the app.
    pub fn app(&self, name: &str, text: &str) -> &Workshop {
        write(&self.path("tmp/app").join(name), text, 0o644);
        self
    }

    pub fn read(&self, inside: &str) -> String {
        fs::read_to_string(self.path(inside)).unwrap_or_else(|error| panic!("{inside}: {error}"))
    }

    pub fn folder_of(&self, key: &str) -> PathBuf {
        let mut hasher = twox_hash::XxHash64::with_seed(0);
        hasher.write(key.as_bytes());
        self.path("tmp/buildpacks").join(format!("{:016x}", hasher.finish()))
    }

    /// A buildpack of these scripts, next in the order.
    pub fn buildpack(&mut self, key: &str, scripts: &[(&str, &str)]) -> &mut Workshop {
        let folder = self.folder_of(key);
        fs::create_dir_all(folder.join("bin")).unwrap();
        for (name, text) in scripts {
            write(&folder.join("bin").join(name), &format!("#!/bin/bash\nset -e\n{text}\n"), 0o755);
        }
        self.ordered(key)
    }

    pub fn ordered(&mut self, key: &str) -> &mut Workshop {
        self.order.push(key.to_owned());
        self
    }

    /// One of the platform's own buildpacks, next in the order.
    pub fn system_buildpack(&mut self, name: &str) -> &mut Workshop {
        let all = lifecycle::buildpacks::system_buildpacks();
        let found = all.into_iter().find(|buildpack| buildpack.name == name).unwrap();
        zip::ZipArchive::new(Cursor::new(found.zip))
            .unwrap()
            .extract(self.folder_of(name))
            .unwrap();
        self.ordered(name)
    }

    pub fn variable(&mut self, name: &str, value: &str) -> &mut Workshop {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn build(&self, flags: &[&str]) -> Built {
        let output = Command::new(PROGRAM)
            .arg("builder")
            .arg(format!("-buildpackOrder={}", self.order.join(",")))
            .args(flags)
            .env("CUPOLA_ROOT", self.root.path())
            .env_remove("TMPDIR")
            .envs(self.variables.iter().cloned())
            .current_dir(self.path("home/vcap"))
            .output()
            .unwrap();
        Built::of(&output)
    }

    /// Builds with the buildpacks in their order, which must work.
    pub fn stage(&self) -> Built {
        let built = self.build(&["-skipDetect=true"]);
        assert_eq!(built.code, 0, "{}\n{}", built.stdout, built.stderr);
        built
    }

    pub fn result(&self) -> Value {
        serde_json::from_str(&self.read("tmp/result.json")).unwrap()
    }

    /// Names in an archive, as they are written there.
    pub fn entries(&self, archive: &str) -> Vec<String> {
        let file = fs::File::open(self.path(archive)).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let names =
            archive.entries().unwrap().map(|entry| entry.unwrap().path_bytes().into_owned());
        names.map(|name| String::from_utf8(name).unwrap()).collect()
    }

    /// Moves what was built to where apps run, and the cache to where the next build finds it. The folders of the
    /// build are gone then, as they are in a new container.
    pub fn deploy(&self) {
        self.unpack("tmp/droplet", "home/vcap");
        for gone in ["tmp/app", "tmp/cache"] {
            fs::remove_dir_all(self.path(gone)).unwrap();
            fs::create_dir_all(self.path(gone)).unwrap();
        }
        self.unpack("tmp/output-cache", "tmp/cache");
    }

    fn unpack(&self, archive: &str, folder: &str) {
        let _ = fs::remove_dir_all(self.path(folder));
        fs::create_dir_all(self.path(folder)).unwrap();
        let file = fs::File::open(self.path(archive)).unwrap();
        tar::Archive::new(flate2::read::GzDecoder::new(file)).unpack(self.path(folder)).unwrap();
    }

    pub fn launcher(&self, command: &str) -> Command {
        let mut launcher = Command::new(self.path("tmp/lifecycle/launcher"));
        launcher
            .args(["app", command, ""])
            .env("CUPOLA_ROOT", self.root.path())
            .envs(self.variables.iter().cloned())
            .current_dir(self.path("home/vcap"));
        launcher
    }

    pub fn launch(&self, command: &str) -> Built {
        Built::of(&self.launcher(command).output().unwrap())
    }

    /// Starts the deployed app as its droplet says, and waits until it listens.
    pub fn start(&self) -> Running {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = self.launcher("");
        command
            .env("PORT", port.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0);
        let mut child = command.spawn().unwrap();
        let (send, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        let mut running = Running { child, lines, port };
        running.wait_for_port();
        running
    }
}

impl Built {
    fn of(output: &Output) -> Built {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Built {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

pub fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// An app that runs; it ends with this value.
pub struct Running {
    child: Child,
    pub lines: mpsc::Receiver<String>,
    pub port: u16,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

impl Running {
    fn wait_for_port(&mut self) {
        let started = std::time::Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(self.child.try_wait().unwrap().is_none(), "the app ended before it listened");
            assert!(started.elapsed() < PATIENCE, "the app does not listen");
            // Its output is the sign that something has happened.
            let _ = self.lines.recv_timeout(Duration::from_millis(20));
        }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[])
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end =
            answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("an answer has a head");
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: answer[end + 4..].to_vec() }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Asks it to stop; whether it did so well.
    pub fn terminate(mut self) -> bool {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.pid()),
            nix::sys::signal::Signal::SIGTERM,
        )
        .unwrap();
        self.child.wait().unwrap().success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = nix::sys::signal::killpg(
            nix::unistd::Pid::from_raw(self.pid()),
            nix::sys::signal::Signal::SIGKILL,
        );
        let _ = self.child.wait();
    }
}
