//! What a platform leaves on its host: after Ctrl-C nothing, whatever happened before.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Backend, Cupola, pids};

#[test]
fn after_ctrl_c_nothing_is_left_also_after_kills() {
    for backend in
        [Backend::Process, Backend::Linux].into_iter().filter(|backend| backend.is_possible())
    {
        let mut cupola = Cupola::with_space(backend);
        let folder = cupola.app("site", &[("index.html", "here"), ("Staticfile", "")]);
        let push = ["push", "site", "-p", &folder, "-m", "32M", "-i", "2"];
        cupola.cf(&push);
        cupola.kill_and_up();
        // In the middle of making containers, and of clearing away what the last kill left half made.
        for pause in [300, 700] {
            let mut command = cupola.cf_command(&push);
            let mut pushing = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::park_timeout(Duration::from_millis(pause));
            cupola.kill_and_up();
            let _ = pushing.kill();
            pushing.wait().unwrap();
        }
        cupola.wait("the app to answer", |cupola| (cupola.get("site", "/").0 == 200).then_some(()));
        assert!(!traces(&cupola).is_empty(), "while it runs there is something to be found");
        assert!(cupola.signal(Signal::INT).success(), "{}", cupola.log());
        assert_eq!(traces(&cupola), Vec::<String>::new(), "over {backend:?}");
    }
}

#[test]
fn sigterm_leaves_apps_running_and_serving_their_connections() {
    for backend in
        [Backend::Process, Backend::Linux].into_iter().filter(|backend| backend.is_possible())
    {
        let mut cupola = Cupola::with_space(backend);
        let folder = cupola.app("site", &[("index.html", "here"), ("Staticfile", "")]);
        cupola.cf(&["push", "site", "-p", &folder, "-m", "32M"]);
        let before = super::world::instances(&cupola);
        let api = cupola.running("api");
        assert!(cupola.signal(Signal::TERM).success());
        assert!(!processes(&cupola.data()).is_empty(), "its process runs on");
        cupola.up();
        cupola.follow(&api);
        assert_eq!(
            cupola.wait("the app to answer", |cupola| {
                let answer = cupola.get("site", "/");
                (answer.0 == 200).then_some(answer.1)
            }),
            "here"
        );
        assert_eq!(super::world::instances(&cupola), before, "the same instance");
    }
}

/// Processes, mounts, loop devices, control groups, interfaces, packet filter tables.
pub fn traces(cupola: &Cupola) -> Vec<String> {
    traces_of(&cupola.data(), None)
}

/// The same of any data directory; networks are looked for in this namespace, or in the named one.
pub fn traces_of(data: &Path, namespace: Option<&str>) -> Vec<String> {
    let name = data.display().to_string();
    let mut found = processes(data);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    found.extend(mounts.lines().filter(|line| line.contains(&name)).map(str::to_owned));
    let entries = |folder: &str| std::fs::read_dir(folder).into_iter().flatten().flatten();
    for device in entries("/sys/block") {
        let file = std::fs::read_to_string(device.path().join("loop/backing_file"));
        found.extend(file.into_iter().filter(|file| file.contains(&name)));
    }
    let Ok(instance) = std::fs::read_to_string(data.join("instance")) else { return found };
    let instance = instance.trim();
    let named = |text: &str| text.contains(instance);
    let config = guardian::linux::Config::new(data.join("containers"), instance);
    let prefix = config.interface_prefix();
    let there = |program: &[&str]| {
        let enter = namespace.map(|name| format!("--net=/run/netns/{name}"));
        let mut command = Command::new("nsenter");
        let output = command.args(enter).arg("--").args(program).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let interfaces = there(&["ip", "-oneline", "link"]);
    let interfaces = interfaces.lines().filter_map(|line| line.split(": ").nth(1));
    found.extend(interfaces.filter(|name| name.starts_with(&prefix)).map(str::to_owned));
    groups(Path::new("/sys/fs/cgroup"), instance, 0, &mut found);
    let tables = there(&["nft", "list", "tables"]);
    found.extend(tables.lines().filter(|line| named(line)).map(str::to_owned));
    found
}

/// Those that run from the data directory, or in it.
fn processes(data: &Path) -> Vec<String> {
    let at_home = |pid: i32| {
        ["exe", "cwd", "root"].into_iter().find_map(|link| {
            let to = std::fs::read_link(format!("/proc/{pid}/{link}")).ok()?;
            to.starts_with(data).then(|| format!("process {pid}: {link} {}", to.display()))
        })
    };
    pids().into_iter().filter_map(at_home).collect()
}

fn groups(folder: &Path, instance: &str, depth: usize, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().contains(instance) {
            found.push(entry.path().display().to_string());
        } else if depth < 3 {
            groups(&entry.path(), instance, depth + 1, found);
        }
    }
}
