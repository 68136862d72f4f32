//! A platform on PostgreSQL, on one machine and on several: processes with data directories of their own that find each
//! other, stand in for each other, and lose no request over it.

use std::process::Command;
use std::time::Instant;

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::harness::{Backend, Cupola, Ran, program};
use crate::load::{Load, SERVER};

const SITE: [(&str, &str); 2] = [("index.html", "hello\n"), ("Staticfile", "")];

/// An empty database whose address holds a password that must never be seen; `None`, aloud, without a server.
fn database() -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = runtime.block_on(sql::testing::postgres_url())?;
    Some(url.replacen("postgres@", "postgres:unseen@", 1))
}

fn ask(cupola: &Cupola, args: &[&str]) -> Ran {
    cupola.run(Command::new(program()).args(args).arg("--data").arg(cupola.data()))
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn first(roles: &str, database: &str) -> Cupola {
    let listen = format!("127.0.0.1:{}", free_port());
    let mut cupola = Cupola::as_server(
        Backend::Process,
        &["--roles", roles, "--database", database, "--cells-listen", &listen],
    );
    cupola.up();
    cupola
}

fn joined(first: &Cupola, roles: &str) -> Cupola {
    let token = ask(first, &["cell", "token"]);
    let listen = format!("127.0.0.1:{}", free_port());
    let args = ["--roles", roles, "--join", token.text.trim(), "--cells-listen", &listen];
    let mut cupola = Cupola::as_server(Backend::Process, &args);
    cupola.up();
    cupola
}

/// Logs in and makes a space, through the door of `router`, as the first user of `first`.
fn log_in(router: &Cupola, first: &Cupola) {
    router.cf(&["api", &router.running("api")]);
    router.cf(&["auth", "admin", &first.password()]);
    router.cf(&["create-org", "test"]);
    router.cf(&["target", "-o", "test"]);
    router.cf(&["create-space", "test"]);
    router.cf(&["target", "-s", "test"]);
}

/// How `cupola status` on `machine` sees the brain of `of`: `leads`, `stands_by`, `silent`.
fn brain(machine: &Cupola, of: &Cupola) -> Option<String> {
    let name = std::fs::read_to_string(of.data().join("server-name")).ok()?;
    let ran = ask(machine, &["status", "--json"]);
    let told: Value = serde_json::from_str(&ran.text).ok()?;
    let servers = told["facts"]["servers"].as_array()?.clone();
    let server = servers.into_iter().find(|server| server["name"] == name.trim())?;
    Some(match &server["brain"] {
        Value::String(word) => word.clone(),
        Value::Object(map) => map.keys().next()?.clone(),
        _ => return None,
    })
}

#[track_caller]
fn until_it(machine: &mut Cupola, of: &Cupola, word: &str) {
    machine.wait(&format!("a brain that {word}"), |machine| {
        (brain(machine, of).as_deref() == Some(word)).then_some(())
    });
}

#[test]
fn a_platform_on_postgresql_survives_kill_and_restart_and_tells_no_password() {
    let Some(database) = database() else { return };
    let mut cupola = Cupola::with_args(Backend::Process, &["--database", &database]);
    cupola.up();
    cupola.log_in();
    let site = cupola.app("site", &SITE);
    cupola.cf(&["push", "site", "-p", &site, "-m", "32M"]);
    assert_eq!(cupola.get("site", "/"), (200, "hello\n".to_owned()));
    let status = ask(&cupola, &["status"]);
    assert!(status.text.contains("database   postgres://postgres@127.0.0.1"), "{}", status.text);
    assert!(status.text.contains("no problems"), "{}", status.text);
    // The database is remembered: nobody finds an empty platform by leaving the setting out.
    cupola.set_args(&[]);
    cupola.kill_and_up();
    cupola.wait("the app to answer again", |cupola| {
        (cupola.get("site", "/") == (200, "hello\n".to_owned())).then_some(())
    });
    cupola.cf(&["scale", "site", "-i", "2"]);
    let lrps = ask(&cupola, &["diego", "lrps"]);
    assert!(lrps.status.success(), "{}", lrps.text);
    for told in [&cupola.log(), &status.text, &ask(&cupola, &["status", "--json"]).text] {
        assert!(!told.contains("unseen"), "{told}");
    }
    for name in ["cloud_controller.db", "uaa.db", "bbs.db"] {
        assert!(!cupola.data().join(name).exists(), "{name} is there");
    }
}

#[test]
fn another_brain_takes_over_from_one_that_is_killed_or_frozen_and_no_request_is_lost() {
    let Some(database) = database() else { return };
    let mut home = first("api,logs,router,cell", &database);
    let (one, other) = (joined(&home, "brain"), joined(&home, "brain"));
    until_it(&mut home, &one, "leads");
    until_it(&mut home, &other, "stands_by");
    home.log_in();
    let app = home.app("app", &[("serve.py", SERVER)]);
    let start = ["-b", "binary_buildpack", "-m", "32M", "-c", "python3 serve.py"];
    home.cf(&[&["push", "app", "-p", &app][..], &start].concat());
    let born = home.get("app", "/").1;
    // It knows the first machine alone, which has no brain, and is told of the others.
    let _cell = JoinedCell::join(&home, "elsewhere");
    home.wait("the cell to join", |home| {
        ask(home, &["diego", "cells"]).text.contains("elsewhere").then_some(())
    });
    let load = Load::begin(&home, "app", 1);
    let (mut active, mut idle) = (one, other);
    for (round, instances) in [(1, "2"), (2, "3")] {
        active.signal(Signal::KILL);
        let died = Instant::now();
        places(&home, instances, &format!("kill -9 in round {round}"), died);
        until_it(&mut home, &idle, "leads");
        active.up();
        until_it(&mut home, &active, "stands_by");
        (active, idle) = (idle, active);
    }
    let frozen = active.pid();
    rustix::process::kill_process(frozen, Signal::STOP).unwrap();
    let thaw = Thaw(frozen);
    places(&home, "4", "SIGSTOP", Instant::now());
    until_it(&mut home, &idle, "leads");
    drop(thaw);
    until_it(&mut home, &active, "stands_by");
    until_it(&mut home, &idle, "leads");
    assert_eq!(on_cell(&home, "elsewhere"), 2, "the zones share the four instances");
    // Commands on every machine find the one that leads.
    for machine in [&home, &active, &idle] {
        let lrps = ask(machine, &["diego", "lrps", "--json"]);
        assert!(lrps.text.contains("serve.py"), "{}", lrps.text);
    }
    let (asked, lost) = load.end();
    assert!(asked > 50, "{asked} requests are no load");
    assert_eq!(lost, Vec::<String>::new(), "of {asked} requests");
    let answers: Vec<String> = (0..40).map(|_| home.get("app", "/").1).collect();
    assert!(answers.contains(&born), "the first instance was never restarted");
}

#[test]
fn on_machines_of_their_own_no_request_is_lost_with_a_brain() {
    if !Backend::Linux.is_possible() {
        return;
    }
    let Some(database) = database() else { return };
    // The program fails when nothing new runs after a brain is lost, or the lost one does not stand by again.
    let output = Command::new(program())
        .args(["bench", "brain-loss", "--rounds", "1", "--json", "--database", &database])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    eprintln!("{figures}");
    assert!(figures["brain_loss_requests"].as_u64().unwrap() > 0, "{figures}");
    assert_eq!(figures["brain_loss_lost"], 0, "{figures}");
}

/// Scales the app, and says how long after `since` the new instance ran.
fn places(home: &Cupola, instances: &str, what: &str, since: Instant) {
    home.cf(&["scale", "app", "-i", instances]);
    let accepted = since.elapsed();
    let begun = Instant::now();
    let count =
        || (0..40).map(|_| home.get("app", "/").1).collect::<std::collections::BTreeSet<_>>().len();
    while count().to_string() != instances {
        assert!(begun.elapsed() < crate::harness::PATIENCE, "no placement\n{}", home.log());
    }
    eprintln!(
        "{what}: scaled after {accepted:?}, {instances} instances after {:?}",
        since.elapsed()
    );
}

/// A cell in a process of its own, as on a machine of its own.
struct JoinedCell {
    child: std::process::Child,
    _folder: tempfile::TempDir,
}

impl JoinedCell {
    fn join(server: &Cupola, name: &str) -> JoinedCell {
        let token = ask(server, &["cell", "token"]);
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(program())
            .args(["cell", "join", "--backend", "process", "--address", "127.0.0.1", "--port", "0"])
            .args(["--memory-mb", "1024", "--zone", name, "--name", name, "--token"])
            .arg(token.text.trim())
            .arg("--data")
            .arg(folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        JoinedCell { child, _folder: folder }
    }
}

impl Drop for JoinedCell {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::INT);
        let _ = self.child.wait();
    }
}

/// The running instances of each cell, as the brain that leads sees them.
fn on_cell(machine: &Cupola, cell: &str) -> usize {
    let lrps = ask(machine, &["diego", "lrps", "--json"]).text;
    let lrps: Value = serde_json::from_str(&lrps).unwrap_or_default();
    let guids = lrps.as_array().into_iter().flatten();
    let guids = guids.filter_map(|lrp| lrp["process_guid"].as_str());
    let instances = guids.flat_map(|guid| {
        let one = ask(machine, &["diego", "lrp", guid, "--json"]).text;
        let one: Value = serde_json::from_str(&one).unwrap_or_default();
        one["actual_lrps"].as_array().cloned().unwrap_or_default()
    });
    instances.filter(|lrp| lrp["cell_id"] == cell && lrp["state"] == "RUNNING").count()
}

/// Wakes a process, whatever happens.
struct Thaw(Pid);

impl Drop for Thaw {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.0, Signal::CONT);
    }
}

#[test]
fn routers_apart_serve_the_api_and_apps_and_a_dead_one_holds_nobody_up() {
    let Some(database) = database() else { return };
    let home = first("api,brain,logs", &database);
    let near = joined(&home, "router,cell");
    let mut far = joined(&home, "router");
    log_in(&far, &home);
    let app = far.app("app", &[("serve.py", SERVER), ("padding", &"x".repeat(1 << 20))]);
    let start = ["-b", "binary_buildpack", "-m", "32M", "-i", "2", "-c", "python3 serve.py"];
    far.cf(&[&["push", "app", "-p", &app][..], &start].concat());
    for router in [&near, &far] {
        assert_eq!(router.get("app", "/").0, 200);
    }
    assert!(
        far.cf(&["logs", "app", "--recent"]).contains("RTR"),
        "the routers' lines reach the log"
    );
    let loads = [Load::begin(&near, "app", 1), Load::begin(&far, "app", 1)];
    far.cf(&["restart", "app", "--strategy", "rolling"]);
    for load in loads {
        let (asked, lost) = load.end();
        assert_eq!(lost, Vec::<String>::new(), "of {asked} requests");
    }
    let before = near.running("api");
    far.signal(Signal::KILL);
    // The session goes on through the other router.
    log_in(&near, &home);
    let load = Load::begin(&near, "app", 1);
    near.cf(&["restart", "app", "--strategy", "rolling"]);
    let (asked, lost) = load.end();
    assert_eq!(lost, Vec::<String>::new(), "of {asked} requests beside a dead router");
    assert_eq!(near.running("api"), before);
    far.up();
    far.wait("the router that came back to serve", |far| {
        (far.get("app", "/").0 == 200).then_some(())
    });
    // A machine without a router asks those that have one.
    let explained = ask(&home, &["explain", "app"]);
    assert!(explained.text.contains("2 instances in the router's table"), "{}", explained.text);
    for machine in [&home, &near, &far] {
        let status = ask(machine, &["status"]);
        assert!(status.text.contains("router,cell"), "{}", status.text);
    }
    // Containers go with the cell that holds them.
    near.cf(&["delete", "app", "-f"]);
}

#[test]
fn what_would_be_half_a_platform_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |args: &[&str]| {
        let output = Command::new(program())
            .args(["server", "--backend", "process", "--listen", "127.0.0.1", "--http-port", "0"])
            .args(["--https-port", "0", "--data"])
            .arg(folder.path().join("data"))
            .args(args)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (args, said) in [
        (&["--roles", "api,logs"][..], "--database"),
        (&["--roles", "cook"], "api, brain, router, logs, cell"),
        (&["--roles", "brain", "--join", "word"], "cupola cell token"),
        (&["--roles", "brain", "--database", "postgres://a:unseen@127.0.0.1:1/x"], "api and logs"),
        (
            &[
                "--roles",
                "api,brain,router,logs,cell",
                "--database",
                "postgres://a:unseen@127.0.0.1:1/x",
            ],
            "see that the server runs",
        ),
        (&["--roles", "brain", "--database", "mysql://a:unseen@h/x"], "postgres://USER"),
    ] {
        let text = refused(args);
        assert!(text.contains(said), "{args:?}: {text}");
        assert!(!text.contains("unseen"), "{text}");
    }
}
