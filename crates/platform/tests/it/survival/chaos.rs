//! Kills the platform at a moment chosen by a seed, in the middle of something, and looks at what is left.
//!
//! `CUPOLA_SURVIVAL_SEEDS=7` runs one seed, `=1-200` a range; a failure names its seed.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::Signal;

use super::world::{instances, settle};
use crate::harness::{Backend, Cupola};

/// Each costs some seconds; the real containers' take part in real ones only.
const IN_CI: std::ops::RangeInclusive<u64> = 1..=6;
const IN_CI_REAL: std::ops::RangeInclusive<u64> = 1..=2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    PushNew,
    Push,
    PushRolling,
    ScaleUp,
    ScaleDown,
    Delete,
    RunTask,
    Rename,
    Restart,
    RestartRolling,
    Stop,
    Start,
    Restage,
}

use Operation::*;

const ALL: [Operation; 13] = [
    PushNew,
    Push,
    PushRolling,
    ScaleUp,
    ScaleDown,
    Delete,
    RunTask,
    Rename,
    Restart,
    RestartRolling,
    Stop,
    Start,
    Restage,
];

impl Operation {
    /// About as long as it takes here, so that kills fall before, into and after each of its parts.
    fn span(self) -> Duration {
        Duration::from_millis(match self {
            PushNew | Push | PushRolling | Restage => 1500,
            RunTask | RestartRolling => 800,
            Restart | Start => 500,
            ScaleUp | ScaleDown | Delete | Rename | Stop => 200,
        })
    }
}

#[test]
fn a_kill_at_any_moment_loses_nothing_and_leaves_nothing() {
    run(Backend::Process, seeds(IN_CI));
}

#[test]
fn a_kill_at_any_moment_with_real_containers() {
    if Backend::Linux.is_possible() {
        run(Backend::Linux, seeds(IN_CI_REAL));
    }
}

fn seeds(usual: std::ops::RangeInclusive<u64>) -> std::ops::RangeInclusive<u64> {
    let Ok(text) = std::env::var("CUPOLA_SURVIVAL_SEEDS") else { return usual };
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    first.parse().expect("a seed")..=last.parse().expect("a seed")
}

fn run(backend: Backend, seeds: std::ops::RangeInclusive<u64>) {
    let mut stage = Stage::new(backend);
    for seed in seeds {
        stage.play(seed);
    }
}

struct Stage {
    cupola: Cupola,
    /// An app that nobody touches; its one instance must live through everything.
    bystander: String,
    folder: String,
}

/// The app that is dealt with, and its other name.
const APP: &str = "app";
const RENAMED: &str = "renamed";

impl Stage {
    fn new(backend: Backend) -> Stage {
        let cupola = Cupola::with_space(backend);
        let folder = cupola.app("bystander", &[("index.html", "bystander"), ("Staticfile", "")]);
        cupola.cf(&["push", "bystander", "-p", &folder, "-m", "32M"]);
        let bystander = instances(&cupola).into_values().next().expect("it runs");
        let folder = cupola.app(APP, &[("index.html", "0"), ("Staticfile", "")]);
        Stage { cupola, bystander, folder }
    }

    fn play(&mut self, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let operation = ALL[rng.random_range(0..ALL.len())];
        let delay = operation.span().mul_f64(rng.random_range(0.0..1.2));
        let again = rng.random_bool(0.25).then(|| rng.random_range(0..600));
        let what =
            format!("seed {seed}, {operation:?} killed after {delay:?}, again after {again:?} ms");
        self.prepare(operation);
        let old = self.cupola.running("api");
        let begun = Instant::now();
        let mut command = self
            .cupola
            .cf_command(&self.words(operation, seed))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::park_timeout(delay);
        self.cupola.signal(Signal::KILL);
        // It may go on asking for a while, and has nobody to ask.
        let _ = command.kill();
        command.wait().unwrap();
        if let Some(after) = again {
            self.cupola.begin();
            std::thread::park_timeout(Duration::from_millis(after));
            self.cupola.signal(Signal::KILL);
        }
        self.cupola.up();
        self.cupola.follow(&old);
        let settled = settle(&self.cupola, &what);
        assert!(
            instances(&self.cupola).values().any(|guid| *guid == self.bystander),
            "{what}: the bystander was restarted\n{}",
            self.cupola.log()
        );
        self.check(&what, "bystander", "bystander");
        self.repeat(operation, seed, &what);
        eprintln!("{what}: came right in {settled:?}, whole {:?}", begun.elapsed());
    }

    /// What must be there for the operation to make sense.
    fn prepare(&self, operation: Operation) {
        let text = self.cupola.cf(&["apps"]);
        let has = |name: &str| text.lines().any(|line| line.starts_with(&format!("{name} ")));
        if has(RENAMED) {
            self.cupola.cf(&["delete", RENAMED, "-f", "-r"]);
        }
        match (operation, has(APP)) {
            (PushNew, true) => drop(self.cupola.cf(&["delete", APP, "-f", "-r"])),
            (PushNew, false) => {}
            (_, true) => {}
            (_, false) => {
                self.write("0");
                self.cupola.cf(&["push", APP, "-p", &self.folder, "-m", "32M"]);
            }
        }
        match operation {
            ScaleUp => drop(self.cupola.cf(&["scale", APP, "-i", "1"])),
            ScaleDown => drop(self.cupola.cf(&["scale", APP, "-i", "3"])),
            Start => drop(self.cupola.cf(&["stop", APP])),
            PushNew => {}
            _ => drop(self.cupola.cf(&["start", APP])),
        }
        settle(&self.cupola, &format!("before {operation:?}"));
    }

    fn write(&self, text: &str) {
        std::fs::write(format!("{}/index.html", self.folder), text).unwrap();
    }

    fn words(&self, operation: Operation, seed: u64) -> Vec<&str> {
        if matches!(operation, PushNew | Push | PushRolling) {
            self.write(&seed.to_string());
        }
        let folder = self.folder.as_str();
        match operation {
            PushNew | Push => vec!["push", APP, "-p", folder, "-m", "32M"],
            PushRolling => vec!["push", APP, "-p", folder, "-m", "32M", "--strategy", "rolling"],
            ScaleUp => vec!["scale", APP, "-i", "3"],
            ScaleDown => vec!["scale", APP, "-i", "1"],
            Delete => vec!["delete", APP, "-f", "-r"],
            RunTask => vec!["run-task", APP, "--command", "sleep 0.3", "-w"],
            Rename => vec!["rename", APP, RENAMED],
            Restart => vec!["restart", APP],
            RestartRolling => vec!["restart", APP, "--strategy", "rolling"],
            Stop => vec!["stop", APP],
            Start => vec!["start", APP],
            Restage => vec!["restage", APP],
        }
    }

    /// The same again must succeed now, and have its effect.
    fn repeat(&self, operation: Operation, seed: u64, what: &str) {
        let words = self.words(operation, seed);
        let ran = self.cupola.try_cf(&words);
        let fine = ran.status.success()
            || (operation == Rename && self.cupola.try_cf(&["app", RENAMED]).status.success());
        assert!(fine, "{what}: again: {}\n--- platform:\n{}", ran.text, self.cupola.log());
        settle(&self.cupola, &format!("{what}, done again"));
        match operation {
            PushNew | Push | PushRolling => self.check(what, APP, &seed.to_string()),
            Delete | Stop => assert_eq!(self.cupola.get(APP, "/").0, 404, "{what}"),
            _ => {}
        }
    }

    fn check(&self, what: &str, app: &str, want: &str) {
        let got = self.cupola.get(app, "/");
        assert_eq!(got, (200, want.to_owned()), "{what}: {app}\n{}", self.cupola.log());
    }
}
