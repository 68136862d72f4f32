//! What an operator does: look, ask why, copy, bring back, and run out of disk.

use std::io::Read as _;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Backend, Cupola, Ran};
use crate::settings::{SmallDisk, Started};

const SITE: [(&str, &str); 2] = [("index.html", "hello\n"), ("Staticfile", "")];

fn ask(cupola: &Cupola, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    cupola.run(command.args(args).arg("--data").arg(cupola.data()))
}

fn ask_json(cupola: &Cupola, args: &[&str]) -> Value {
    let mut args = args.to_vec();
    args.push("--json");
    let ran = ask(cupola, &args);
    serde_json::from_str(&ran.text).unwrap_or_else(|error| panic!("{error}: {}", ran.text))
}

fn verdict(cupola: &Cupola, app: &str) -> String {
    let told = ask_json(cupola, &["explain", app]);
    told["explanation"]["verdict"].as_str().unwrap().to_owned()
}

#[test]
fn status_tells_whether_it_runs_and_what_is_wrong() {
    let mut cupola = Cupola::with_space(Backend::Process);
    let ran = ask(&cupola, &["status"]);
    assert_eq!(ran.status.code(), Some(0), "{}", ran.text);
    for part in ["cloud controller", "bbs", "cell-0", "no problems", "process: "] {
        assert!(ran.text.contains(part), "{part:?} is missing:\n{}", ran.text);
    }
    let site = cupola.app("site", &SITE);
    cupola.cf(&["push", "site", "-p", &site, "-m", "32M", "-i", "2"]);
    let facts = &ask_json(&cupola, &["status"])["facts"];
    assert_eq!(facts["instances"]["desired"], 2, "{facts}");
    let held = &facts["cells"][0]["state"]["Ok"];
    assert!(held["available"]["memory_mb"].as_u64() < held["capacity"]["memory_mb"].as_u64());
    let ends = cupola.app("ends", &[("x.sh", "")]);
    cupola.try_cf(&[
        "push",
        "ends",
        "-p",
        &ends,
        "-b",
        "binary_buildpack",
        "-c",
        "exit 3",
        "-m",
        "32M",
    ]);
    cupola.wait("the crash to be a problem", |cupola| {
        let ran = ask(cupola, &["status"]);
        (ran.status.code() == Some(1) && ran.text.contains("cupola explain ends")).then_some(())
    });
    cupola.signal(Signal::KILL);
    let ran = ask(&cupola, &["status"]);
    assert_eq!(ran.status.code(), Some(2));
    assert!(ran.text.contains("ended without stopping in order"), "{}", ran.text);
    cupola.up();
    assert!(cupola.signal(Signal::INT).success());
    let ran = ask(&cupola, &["status"]);
    assert_eq!(
        (ran.status.code(), ran.text.contains("start it with")),
        (Some(2), true),
        "{}",
        ran.text
    );
    for args in [&["explain", "site"][..], &["explain", "site", "--json"]] {
        assert_eq!(ask(&cupola, args).status.code(), Some(2));
    }
}

#[test]
fn explain_finds_the_reason() {
    let mut cupola = Cupola::with_space(Backend::Process);
    assert!(verdict(&cupola, "site").contains("never pushed"));
    let site = cupola.app("site", &SITE);
    cupola.cf(&["push", "site", "-p", &site, "-m", "32M"]);
    let ran = ask(&cupola, &["explain", "site"]);
    assert_eq!(ran.status.code(), Some(0), "{}", ran.text);
    assert!(ran.text.contains("site runs: 1 instance, at site.localhost"), "{}", ran.text);
    assert!(ran.text.contains("1 instance in the router's table"), "{}", ran.text);
    assert!(verdict(&cupola, "sites").contains("did you mean site?"));

    let other = cupola.app("other", &SITE);
    cupola.cf(&["push", "other", "-p", &other, "-m", "32M", "--no-route"]);
    assert!(verdict(&cupola, "other").contains("no route leads to it"));
    cupola.cf(&["stop", "other"]);
    assert!(verdict(&cupola, "other").contains("other is stopped"));

    let nothing = cupola.app("nothing", &[("notes.txt", "no app\n")]);
    cupola.try_cf(&["push", "nothing", "-p", &nothing, "-m", "32M"]);
    let ran = ask(&cupola, &["explain", "nothing"]);
    assert_eq!(ran.status.code(), Some(1));
    for part in
        ["staging nothing failed: NoAppDetectedError", "cf push -b", "last lines of its log"]
    {
        assert!(ran.text.contains(part), "{part:?} is missing:\n{}", ran.text);
    }

    let binary = ["-b", "binary_buildpack", "-m", "32M"];
    let push = |cupola: &Cupola, name: &str, args: &[&str]| {
        let app = cupola.app(name, &[("x.sh", "")]);
        cupola.try_cf(&[&["push", name, "-p", &app], &binary[..], args].concat());
    };
    push(&cupola, "typo", &["-c", "no-such-command"]);
    cupola.wait("the reason of the crash", |cupola| {
        let ran = ask(cupola, &["explain", "typo"]);
        (ran.text.contains("start command was not found: no-such-command")
            && ran.text.contains("cf push typo -c"))
        .then_some(())
    });
    push(&cupola, "deaf", &["-c", "sleep 1000", "-t", "1"]);
    cupola.wait("the health check's verdict", |cupola| {
        verdict(cupola, "deaf").contains("did not listen on its port within 1 s").then_some(())
    });
    let org = cupola.cf(&["org", "test", "--guid"]);
    let quota = format!(
        r#"{{"name":"tiny","apps":{{"total_memory_in_mb":10}},"relationships":{{"organizations":{{"data":[{{"guid":"{}"}}]}}}}}}"#,
        org.trim()
    );
    cupola.cf(&["curl", "-X", "POST", "/v3/organization_quotas", "-d", &quota]);
    let ran = ask(&cupola, &["explain", "other"]);
    let said = "other is stopped and cannot be started: the quota tiny of the org test allows 10 MB of memory";
    assert!(ran.text.contains(said), "{}", ran.text);
}

#[test]
fn doctor_knows_whether_up_could_work() {
    let folder = tempfile::tempdir().unwrap();
    let ports = ["--http-port", "0", "--https-port", "0"];
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
        command.arg("doctor").args(args).arg("--data").arg(folder.path().join("data"));
        command.output().unwrap()
    };
    let fine = run(&[&ports[..], &["--backend", "process"]].concat());
    let text = String::from_utf8_lossy(&fine.stdout).into_owned();
    assert!(
        fine.status.success() && text.contains("cupola up can run here, with plain processes"),
        "{text}"
    );
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    let taken =
        run(&["--backend", "process", "--listen", "127.0.0.1", "--http-port", &port, "--json"]);
    let told: Value = serde_json::from_slice(&taken.stdout).unwrap();
    assert_eq!((taken.status.code(), &told["fit"]), (Some(1), &Value::Bool(false)));
    let findings = told["findings"].as_array().unwrap();
    let finding = findings.iter().find(|one| one["name"] == "HTTP port").unwrap();
    assert_eq!(finding["level"], "fail");
    assert!(finding["remedy"].as_str().unwrap().contains("--http-port"), "{finding}");
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "a doctor leaves nothing");
}

#[test]
fn doctor_proves_that_containers_can_be_made() {
    if !Backend::Linux.is_possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    command.args(["doctor", "--json", "--http-port", "0", "--https-port", "0", "--data"]);
    let output = command.arg(folder.path().join("data")).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = told["findings"].as_array().unwrap();
    let container = findings.iter().find(|one| one["name"] == "container");
    assert!(container.is_some_and(|one| one["level"] == "ok"), "{told:#}");
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "a doctor leaves nothing");
}

#[test]
fn what_was_backed_up_while_it_ran_serves_again_elsewhere() {
    let mut cupola = Cupola::with_space(Backend::Process);
    let site = cupola.app("site", &SITE);
    cupola.cf(&["push", "site", "-p", &site, "-m", "32M"]);
    cupola.cf(&["set-env", "site", "SECRET", "kept"]);
    let file = cupola.path().join("backup.tar.zst");
    let path = file.to_str().unwrap();
    let ran = ask(&cupola, &["backup", path]);
    assert!(ran.status.success() && ran.text.contains("backed up"), "{}", ran.text);
    let again = ask(&cupola, &["backup", path]);
    assert!(!again.status.success() && again.text.contains("is there already"), "{}", again.text);
    // What happens after the backup is not in it.
    cupola.cf(&["delete", "site", "-f", "-r"]);
    let left = std::fs::read_dir(cupola.data()).unwrap().flatten();
    let left: Vec<_> =
        left.filter(|entry| entry.file_name().to_string_lossy().starts_with("backup-")).collect();
    assert!(left.is_empty(), "{left:?}");
    let password = cupola.password();
    assert!(cupola.signal(Signal::INT).success());

    // Neither into the old place, nor half of it.
    let ran = ask(&cupola, &["restore", path]);
    assert!(!ran.status.success() && ran.text.contains("is not empty"), "{}", ran.text);
    let half = cupola.path().join("half");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&half, &whole[..whole.len() / 2]).unwrap();
    let new = cupola.path().join("new");
    let restore = |file: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
        cupola.run(command.arg("restore").arg(file).arg("--data").arg(&new))
    };
    assert!(!restore(&half).status.success());
    assert!(std::fs::read_dir(&new).unwrap().next().is_none(), "half a backup leaves nothing");
    let ran = restore(&file);
    assert!(ran.status.success() && ran.text.contains("start it: cupola up"), "{}", ran.text);

    std::fs::rename(cupola.data(), cupola.path().join("old")).unwrap();
    std::fs::rename(&new, cupola.data()).unwrap();
    cupola.up();
    assert_eq!(cupola.password(), password);
    cupola.wait("the app to serve again", |cupola| {
        (cupola.get("site", "/") == (200, "hello\n".to_owned())).then_some(())
    });
    cupola.cf(&["api", &cupola.running("api")]);
    cupola.cf(&["auth", "admin", &password]);
    cupola.cf(&["target", "-o", "test", "-s", "test"]);
    let env = cupola.cf(&["env", "site"]);
    assert!(env.contains("kept"), "what is sealed can be opened again: {env}");
    cupola.cf(&["restage", "site"]);
    assert_eq!(cupola.get("site", "/").0, 200, "its package is there as well");
}

/// SIGTERM, another start, as at an upgrade: containers live on.
#[test]
fn an_upgrade_is_no_event_for_apps() {
    if !Backend::Linux.is_possible() {
        return;
    }
    let mut cupola = Cupola::with_space(Backend::Linux);
    let app = cupola.app("born", &[("serve.py", BORN), ("requirements.txt", "")]);
    cupola.cf(&["push", "born", "-p", &app, "-m", "64M", "-c", "python3 serve.py"]);
    let (status, born) = cupola.get("born", "/");
    assert_eq!(status, 200, "{born}");
    assert!(cupola.signal(Signal::TERM).success());
    let ran = ask(&cupola, &["status"]);
    assert_eq!(ran.status.code(), Some(2), "{}", ran.text);
    cupola.up();
    let again = cupola.wait("the app to answer again", |cupola| match cupola.get("born", "/") {
        (200, body) => Some(body),
        _ => None,
    });
    assert_eq!(again, born, "the same process answers");
    assert!(verdict(&cupola, "born").starts_with("born runs: 1 instance"));
}

/// Answers when it was started, to the nanosecond.
const BORN: &str = r#"
import http.server, os, time
BORN = str(time.time_ns()).encode()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(BORN)))
        self.end_headers()
        self.wfile.write(BORN)
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// A platform whose disk can be filled, with an app on it. It promises more disk than there is, so that apps fit by quota.
struct OnSmallDisk {
    /// It ends before its disk goes.
    started: Option<Started>,
    home: tempfile::TempDir,
    disk: SmallDisk,
}

/// More disk than there is.
const OVERSOLD: &[&str] = &["--disk-mb", "10000"];

impl OnSmallDisk {
    /// `None` where nobody may mount.
    fn new() -> Option<OnSmallDisk> {
        let disk = SmallDisk::new(256)?;
        let started = Started::with(&disk.path().join("data"), OVERSOLD);
        let home = tempfile::tempdir().unwrap();
        let platform = OnSmallDisk { disk, home, started: Some(started) };
        platform.log_in();
        for args in [
            &["create-org", "before"][..],
            &["target", "-o", "before"],
            &["create-space", "before"],
            &["target", "-s", "before"],
        ] {
            platform.cf(args);
        }
        platform.cf(&["push", "site", "-p", &platform.app("site", 0), "-m", "32M"]);
        assert_eq!(platform.get("site"), "hello\n");
        Some(platform)
    }

    fn data(&self) -> std::path::PathBuf {
        self.disk.path().join("data")
    }

    fn running(&self, key: &str) -> String {
        let file = std::fs::read(self.data().join("running.json")).unwrap();
        let running: Value = serde_json::from_slice(&file).unwrap();
        running[key].as_str().unwrap().to_owned()
    }

    fn log_in(&self) {
        let password = std::fs::read_to_string(self.data().join("admin-password")).unwrap();
        self.cf(&["api", &self.running("api")]);
        self.cf(&["auth", "admin", password.trim()]);
    }

    fn try_cf(&self, args: &[&str]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
        let output =
            command.arg("cf").args(args).env("CF_HOME", self.home.path()).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), text)
    }

    #[track_caller]
    fn cf(&self, args: &[&str]) -> String {
        let (done, text) = self.try_cf(args);
        assert!(done, "cf {}: {text}", args.join(" "));
        text
    }

    /// What a command says that must fail.
    #[track_caller]
    fn refused(&self, args: &[&str], parts: &[&str]) {
        let (done, text) = self.try_cf(args);
        assert!(!done, "cf {} was expected to fail: {text}", args.join(" "));
        for part in parts {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
    }

    /// A folder outside of the disk with a site, and a file of that many megabytes that nothing packs.
    fn app(&self, name: &str, megabytes: u64) -> String {
        let folder = self.home.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (file, text) in SITE {
            std::fs::write(folder.join(file), text).unwrap();
        }
        let mut noise = std::fs::File::open("/dev/urandom").unwrap().take(megabytes << 20);
        let mut file = std::fs::File::create(folder.join("noise")).unwrap();
        std::io::copy(&mut noise, &mut file).unwrap();
        folder.display().to_string()
    }

    fn get(&self, app: &str) -> String {
        let mut command = Command::new("curl");
        let host = format!("Host: {app}.localhost");
        command.args(["--silent", "--max-time", "20", "--header", &host]);
        let output = command.arg(self.running("http")).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn status(&self) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
        let output = command.args(["status", "--data"]).arg(self.data()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[test]
fn a_disk_that_fills_up_refuses_changes_and_loses_nothing() {
    let Some(mut platform) = OnSmallDisk::new() else { return };
    platform.disk.fill();
    let begun = std::time::Instant::now();
    // Databases have a little room left in pages they hold already.
    let refused = (0..).find_map(|number| {
        assert!(begun.elapsed() < crate::harness::PATIENCE, "everything is accepted");
        let (done, text) = platform.try_cf(&["create-org", &format!("full-{number}")]);
        (!done).then_some((number, text))
    });
    let (accepted, text) = refused.unwrap();
    assert!(text.contains("disk is full") && text.contains("cupola status"), "{text}");
    // Apps serve on. What they log is in memory, and counted.
    let text = loop {
        assert_eq!(platform.get("site"), "hello\n");
        assert!(begun.elapsed() < crate::harness::PATIENCE, "every log line finds room");
        let (code, text) = platform.status();
        assert_eq!(code, Some(1), "{text}");
        if text.contains("could not be written to disk") {
            break text;
        }
    };
    assert!(text.contains("is full") && text.contains("make room"), "{text}");
    platform.refused(&["restage", "site"], &["disk is full"]);
    assert!(platform.cf(&["logs", "site", "--recent"]).contains("GET / HTTP"));
    assert_eq!(platform.get("site"), "hello\n");

    platform.disk.make_room();
    platform.cf(&["create-org", "after"]);
    platform.cf(&["restage", "site"]);
    let orgs = platform.cf(&["orgs"]);
    for number in 0..accepted {
        assert!(orgs.contains(&format!("full-{number}")), "an accepted change was lost:\n{orgs}");
    }
    assert!(orgs.contains("before") && orgs.contains("after"), "{orgs}");
    // What is logged from now on finds room again, and nothing on disk is broken.
    assert_eq!(platform.get("site"), "hello\n");
    platform.started = None;
    platform.started = Some(Started::with(&platform.data(), OVERSOLD));
    platform.log_in();
    platform.cf(&["target", "-o", "before", "-s", "before"]);
    let begun = std::time::Instant::now();
    while platform.get("site") != "hello\n" {
        assert!(begun.elapsed() < crate::harness::PATIENCE, "the app does not come back");
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
}

#[test]
fn an_upload_for_which_there_is_no_room_is_refused_and_can_be_sent_again() {
    let Some(platform) = OnSmallDisk::new() else { return };
    let large = platform.app("large", 24);
    platform.disk.leave(8);
    platform.refused(&["push", "large", "-p", &large, "-m", "32M"], &["disk is full"]);
    assert!(platform.cf(&["logs", "large", "--recent"]).contains("push again"));
    assert_eq!(platform.get("site"), "hello\n");
    // What came of it is gone again.
    platform.cf(&["create-org", "fits"]);
    platform.disk.make_room();
    platform.cf(&["push", "large", "-p", &large, "-m", "32M"]);
    assert_eq!(platform.get("large"), "hello\n");
}

#[test]
fn staging_for_which_there_is_no_room_says_so_and_can_be_done_again() {
    let Some(platform) = OnSmallDisk::new() else { return };
    let large = platform.app("large", 24);
    // The package fits, what staging makes of it does not.
    platform.disk.leave(64);
    let push = ["push", "large", "-p", &large, "-m", "32M"];
    platform.refused(&push, &["StagingError", "disk is full", "cupola status"]);
    let logs = platform.cf(&["logs", "large", "--recent"]);
    assert!(logs.contains("disk is full"), "{logs}");
    assert_eq!(platform.get("site"), "hello\n");
    platform.disk.make_room();
    platform.cf(&["restage", "large"]);
    assert_eq!(platform.get("large"), "hello\n");
}
