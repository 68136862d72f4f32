//! Starting, stopping and starting again.

use std::process::Command;

use rustix::process::Signal;

use crate::harness::{Backend, Cupola};

const SITE: [(&str, &str); 2] = [("index.html", "hello\n"), ("Staticfile", "")];

#[test]
fn help_explains_every_setting() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_cupola")).args(["up", "--help"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for flag in [
        "--data",
        "--domain",
        "--http-port",
        "--https-port",
        "--admin-password",
        "--config",
        "--backend",
    ] {
        assert!(text.contains(flag), "{flag} is missing:\n{text}");
    }
}

#[test]
fn a_second_platform_on_the_same_data_is_refused() {
    let cupola = Cupola::start(Backend::Process);
    let second = cupola.run(
        Command::new(env!("CARGO_BIN_EXE_cupola"))
            .args(["up", "--backend", "process", "--http-port", "0", "--https-port", "0", "--data"])
            .arg(cupola.data()),
    );
    assert!(!second.status.success());
    assert!(second.text.contains("another platform runs on"), "{}", second.text);
}

#[test]
fn desired_apps_come_back_after_ctrl_c() {
    for backend in
        [Backend::Process, Backend::Linux].into_iter().filter(|backend| backend.is_possible())
    {
        let mut cupola = Cupola::with_space(backend);
        let site = cupola.app("site", &SITE);
        cupola.cf(&["push", "site", "-p", &site, "-m", "32M"]);
        assert_eq!(cupola.get("site", "/"), (200, "hello\n".to_owned()));
        assert!(cupola.signal(Signal::INT).success());
        assert_eq!(leftovers(&cupola), "", "after Ctrl-C nothing of the platform is left");
        cupola.up();
        cupola.wait("the app to answer again", |cupola| {
            (cupola.get("site", "/") == (200, "hello\n".to_owned())).then_some(())
        });
    }
}

#[test]
fn apps_run_on_while_the_platform_is_killed_and_started() {
    for backend in [Backend::Linux].into_iter().filter(|backend| backend.is_possible()) {
        let mut cupola = Cupola::with_space(backend);
        let app = cupola.app("pid", &[("server.py", PID_SERVER), ("requirements.txt", "")]);
        cupola.cf(&["push", "pid", "-p", &app, "-m", "64M", "-c", "python3 server.py"]);
        let (status, born) = cupola.get("pid", "/");
        assert_eq!(status, 200, "{born}");
        for signal in [Signal::TERM, Signal::KILL] {
            cupola.signal(signal);
            cupola.up();
            let again =
                cupola.wait("the app to answer again", |cupola| match cupola.get("pid", "/") {
                    (200, body) => Some(body),
                    _ => None,
                });
            assert_eq!(again, born, "the same process answers after {signal:?}");
        }
    }
}

/// Answers when it was started, to the nanosecond.
const PID_SERVER: &str = r#"
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

/// Processes and mounts that name the platform's data directory.
fn leftovers(cupola: &Cupola) -> String {
    let data = cupola.data().display().to_string();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut left: Vec<String> =
        mounts.lines().filter(|line| line.contains(&data)).map(str::to_owned).collect();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&data) {
            left.push(command);
        }
    }
    left.join("\n")
}
