//! Steady requests through the router while instances are killed: none is lost.

use std::collections::BTreeSet;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Backend, Cupola, pids};
use crate::load::{Load, SERVER};

const CLIENTS: usize = 6;

#[test]
fn no_request_is_lost_when_instances_are_killed() {
    for backend in
        [Backend::Process, Backend::Linux].into_iter().filter(|backend| backend.is_possible())
    {
        let mut cupola = Cupola::with_space(backend);
        // Names the processes of this test alone.
        let marker = format!("serve-{}.py", std::process::id());
        let folder = cupola.app("twins", &[(&marker, SERVER)]);
        let start = format!("python3 {marker}");
        cupola.cf(&[
            "push",
            "twins",
            "-p",
            &folder,
            "-m",
            "64M",
            "-b",
            "binary_buildpack",
            "-c",
            &start,
            "-i",
            "2",
        ]);
        both(&mut cupola, &BTreeSet::new());
        let load = Load::begin(&cupola, "twins", CLIENTS);
        // Twice each: from the third crash in a row on, Diego lets an instance wait.
        for index in ["0", "1", "0", "1"] {
            let before = born(&cupola);
            let victim = process(&marker, index);
            kill_process(victim, Signal::KILL).unwrap();
            both(&mut cupola, &before);
        }
        let (asked, lost) = load.end();
        assert!(asked > 200, "{asked} requests are no load");
        assert_eq!(lost, Vec::<String>::new(), "of {asked} requests over {backend:?}");
        eprintln!("{asked} requests over {backend:?}, none lost");
    }
}

/// Index and birth of those that answer.
fn born(cupola: &Cupola) -> BTreeSet<String> {
    (0..8)
        .map(|_| cupola.get("twins", "/"))
        .filter(|(status, _)| *status == 200)
        .map(|(_, text)| text)
        .collect()
}

/// Waits until two answer, and not the same two as `before`.
fn both(cupola: &mut Cupola, before: &BTreeSet<String>) {
    cupola.wait("both instances to answer", |cupola| {
        let now = born(cupola);
        (now.len() == 2 && now != *before).then_some(())
    });
}

/// The app's own process of one instance, as this host numbers it.
fn process(marker: &str, index: &str) -> Pid {
    let wanted = format!("CF_INSTANCE_INDEX={index}");
    let is_it = |pid: &i32| {
        let read = |file| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let (command, env) = (read("cmdline"), read("environ"));
        let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
        words.get(1).is_some_and(|word| *word == marker.as_bytes())
            && env.split(|byte| *byte == 0).any(|var| var == wanted.as_bytes())
    };
    let pid = pids().into_iter().find(is_it).expect("the instance runs");
    Pid::from_raw(pid).unwrap()
}
