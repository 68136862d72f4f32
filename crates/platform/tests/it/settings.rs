//! What the program says when it is told something wrong, or finds its place taken, closed or full. Nothing is lost by it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::harness::{Backend, Cupola};

/// What the program said when it could not start.
#[track_caller]
pub fn refused(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success(), "it was expected to refuse, and said: {text}");
    text
}

/// `cupola up` with plain processes on ports of its own.
pub fn up(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    command.args(["up", "--listen", "127.0.0.1", "--http-port", "0", "--https-port", "0"]);
    command.args(["--backend", "process", "--data"]).arg(data);
    command
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// As somebody without any right, where the test itself has all of them.
fn as_nobody(command: &mut Command) -> &mut Command {
    const NOBODY: u32 = 65_534;
    if is_root() { command.uid(NOBODY).gid(NOBODY) } else { command }
}

/// Whether somebody without any right reaches the program; where it lies in a closed home, tests say so and end.
fn nobody_can_run_it() -> bool {
    let is_open =
        |path: &Path| path.metadata().is_ok_and(|about| about.permissions().mode() & 0o001 != 0);
    let open = !is_root() || Path::new(env!("CARGO_BIN_EXE_cupola")).ancestors().all(is_open);
    if !open {
        eprintln!("SKIPPED: the program lies where only root reaches it");
    }
    open
}

#[test]
fn a_port_in_use_is_named_with_its_holder() {
    let folder = tempfile::tempdir().unwrap();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    for flag in ["--http-port", "--https-port"] {
        let other = if flag == "--http-port" { "--https-port" } else { "--http-port" };
        let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
        command.args(["up", "--listen", "127.0.0.1", flag, &port, other, "0"]);
        command.args(["--backend", "process", "--data"]).arg(folder.path().join("data"));
        let text = refused(&mut command);
        let pid = std::process::id().to_string();
        says(&text, &[&format!("127.0.0.1:{port}"), flag, "held by", &pid]);
    }
    drop(held);
    // What the refused starts left behind is no hindrance.
    drop(Started::on(&folder.path().join("data")));
}

/// A platform that was started by hand; killed at the end, for plain processes leave nothing but its own folder.
pub struct Started(std::process::Child);

impl Started {
    pub fn on(data: &Path) -> Started {
        Started::with(data, &[])
    }

    pub fn with(data: &Path, args: &[&str]) -> Started {
        let child =
            up(data).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut started = Started(child);
        let begun = std::time::Instant::now();
        while !data.join("running.json").exists() {
            assert!(started.0.try_wait().unwrap().is_none(), "the platform ended");
            assert!(begun.elapsed() < crate::harness::PATIENCE, "the platform does not start");
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
        started
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.0.wait();
    }
}

#[test]
fn values_that_cannot_be_are_named_with_what_can() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let with = |args: &[&str]| refused(up(&data).args(args));
    says(&with(&["--memory-mb", "much"]), &["--memory-mb", "much"]);
    says(&with(&["--domain", "no domain"]), &["domain", "no domain", "apps.example.com"]);
    says(&with(&["--container-network", "10.0.0.0"]), &["container_network", "10.254.0.0/16"]);
    says(&with(&["--log", "bbs=loud"]), &["log", "bbs=loud", "debug"]);
    says(&with(&["--stack", "../x"]), &["stacks", "../x"]);
    says(&with(&["--tls-key", "x"]), &["--tls-certificate"]);
    says(
        &with(&["--tls-certificate", "/nowhere.crt", "--tls-key", "/nowhere.key"]),
        &["tls_certificate", "/nowhere.crt"],
    );
    says(&with(&["--colour", "red"]), &["--colour"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    says(
        &refused(command.args(["up", "--http-port", "99999"])),
        &["--http-port", "99999", "65535"],
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    says(&refused(command.args(["up", "--backend", "docker"])), &["docker", "linux", "process"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    says(&refused(command.args(["up", "--listen", "here"])), &["--listen", "here"]);
    assert!(!data.exists(), "a start that was refused for its settings makes nothing");
}

#[test]
fn a_certificate_that_does_not_fit_its_key_is_told_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    drop(Started::on(&data));
    let key = data.join("tls.key");
    let broken = folder.path().join("broken.crt");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    let text = refused(up(&data).arg("--tls-certificate").arg(&broken).arg("--tls-key").arg(&key));
    says(&text, &["tls_certificate"]);
}

#[test]
fn a_broken_configuration_names_file_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cupola.toml");
    let data = folder.path().join("data");
    let with = |text: &str| {
        std::fs::write(&file, text).unwrap();
        refused(up(&data).arg("--config").arg(&file))
    };
    let path = file.display().to_string();
    says(&with("# mine\ndomian = 'x'\n"), &[&path, "line 2", "domian", "did you mean \"domain\""]);
    says(&with("memory_mb = 'all'\n"), &[&path, "line 1", "memory_mb", "a whole number"]);
    says(&with("log = 'warn'\n[apps\n"), &[&path, "line 2"]);
    says(
        &refused(up(&data).args(["--config", "/nowhere.toml"])),
        &["/nowhere.toml", "CUPOLA_CONFIG", "No such file"],
    );
    assert!(!data.exists());
}

#[test]
fn a_configuration_is_used_and_flags_win() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let file = folder.path().join("cupola.toml");
    let text = format!("data = '{}'\ndomain = 'from.test'\nlog = 'nonsense=='\n", data.display());
    std::fs::write(&file, text).unwrap();
    // The wrong filter is not seen where a flag says another; the data directory comes from the file.
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    command.args(["status", "--config"]).arg(&file);
    let ran = command.output().unwrap();
    assert_eq!(ran.status.code(), Some(2));
    says(&String::from_utf8_lossy(&ran.stdout), &[&data.display().to_string()]);
}

#[test]
fn without_root_it_is_said_what_is_missing_and_what_goes_instead() {
    if !nobody_can_run_it() {
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    let text =
        refused(as_nobody(command.args(["up", "--backend", "linux", "--data", "/tmp/never"])));
    says(&text, &["needs root", "sudo", "--backend process", "no limits"]);
}

#[test]
fn without_root_plain_processes_are_used_and_it_says_so() {
    if !nobody_can_run_it() {
        return;
    }
    let folder = open_folder();
    let data = folder.path().join("data");
    let log = folder.path().join("log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    command.args([
        "up",
        "--listen",
        "127.0.0.1",
        "--http-port",
        "0",
        "--https-port",
        "0",
        "--data",
    ]);
    command.arg(&data).stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let mut started = Started(as_nobody(&mut command).spawn().unwrap());
    let begun = std::time::Instant::now();
    while !data.join("running.json").exists() {
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(started.0.try_wait().unwrap().is_none(), "the platform ended: {said}");
        assert!(begun.elapsed() < crate::harness::PATIENCE, "the platform does not start: {said}");
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    let said = std::fs::read_to_string(&log).unwrap();
    says(&said, &["limits"]);
    drop(started);
}

/// Where anybody may make something.
fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    folder
}

#[test]
fn a_data_directory_of_somebody_else_is_named_with_the_remedy() {
    if !nobody_can_run_it() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(if is_root() { 0o700 } else { 0 }))
        .unwrap();
    for data in [folder.path().join("new"), closed.clone()] {
        // Without root, the test's own folder is open to the test.
        if !is_root() && data != closed {
            continue;
        }
        let text = refused(as_nobody(&mut up(&data)));
        says(&text, &[&data.display().to_string(), "Permission denied", "owner", "--data"]);
    }
    let file = folder.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    says(&refused(&mut up(&file)), &["a file is in the way", "--data"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

/// Every file below with its content.
fn content(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut found, mut folders) = (Vec::new(), vec![path.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => {
                    found.push((entry.path(), std::fs::read(entry.path()).unwrap()))
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_data_directory_of_a_newer_program_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    drop(Started::on(&data));
    let mark = data.join("version");
    let own = std::fs::read_to_string(&mark).unwrap();
    std::fs::write(&mark, "format = 4711\nprogram = \"47.11.0\"\n").unwrap();
    let before = content(&data);
    let text = refused(&mut up(&data));
    says(&text, &["newer cupola", "47.11.0", "format 4711", "Nothing was changed"]);
    assert!(before == content(&data), "the directory was touched");
    std::fs::write(&mark, own).unwrap();
    drop(Started::on(&data));
}

#[test]
fn an_older_data_directory_is_brought_forward_and_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    drop(Started::on(&data));
    std::fs::remove_file(data.join("version")).unwrap();
    let log = folder.path().join("log");
    let child =
        up(&data).stderr(std::fs::File::create(&log).unwrap()).stdout(Stdio::null()).spawn();
    let started = Started(child.unwrap());
    let begun = std::time::Instant::now();
    while !data.join("running.json").exists() {
        assert!(begun.elapsed() < crate::harness::PATIENCE, "the platform does not start");
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    says(&std::fs::read_to_string(&log).unwrap(), &["brought from format 0 to 1"]);
    says(&std::fs::read_to_string(data.join("version")).unwrap(), &["format = 1"]);
    drop(started);
}

/// A small disk of its own; gone at the end.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` where nobody may mount.
    pub fn new(megabytes: u64) -> Option<SmallDisk> {
        if !is_root() {
            eprintln!("SKIPPED: a disk of a given size needs root");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .status();
        assert!(mounted.unwrap().success(), "mounting a small disk");
        Some(SmallDisk(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room there is, and only of this disk.
    pub fn fill(&self) {
        use std::io::Write as _;
        use std::os::unix::fs::MetadataExt as _;
        let device = |path: &Path| path.metadata().unwrap().dev();
        assert_ne!(device(self.path()), device(self.path().parent().unwrap()), "it is mounted");
        let mut file = std::fs::File::create(self.path().join("ballast")).unwrap();
        for piece in [1 << 16, 1 << 10, 1] {
            while file.write_all(&vec![0; piece]).is_ok() {}
        }
    }

    /// Takes all the room there is but so many megabytes.
    pub fn leave(&self, megabytes: u64) {
        self.fill();
        let file = std::fs::File::options().write(true).open(self.path().join("ballast")).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length.checked_sub(megabytes << 20).expect("there is that much room"))
            .unwrap();
    }

    pub fn make_room(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_at_start_is_told_and_leaves_what_is_there() {
    let Some(disk) = SmallDisk::new(64) else { return };
    let data = disk.path().join("data");
    drop(Started::on(&data));
    let secret = std::fs::read(data.join("secret")).unwrap();
    disk.fill();
    says(&refused(&mut up(&data)), &["disk is full", "--data"]);
    says(&refused(&mut up(&disk.path().join("other"))), &["disk is full"]);
    disk.make_room();
    drop(Started::on(&data));
    assert_eq!(std::fs::read(data.join("secret")).unwrap(), secret);
}

#[test]
fn a_second_platform_is_told_who_is_there_and_the_first_runs_on() {
    let cupola = Cupola::start(Backend::Process);
    let text = refused(&mut up(&cupola.data()));
    says(&text, &["another platform runs on", &cupola.running("api"), "--data"]);
    assert_eq!(cupola.get("nothing", "/").0, 404, "the first one serves");
}
