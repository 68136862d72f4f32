//! The machine loses its power: what was not synced is gone, and nothing that was acknowledged may be among it.
//!
//! The data directory is a file system of its own, which is shut down in the middle of things without writing anything
//! back (ext4's shutdown call, as file systems are tested with); every process of the platform goes with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::Signal;
use sha2::{Digest as _, Sha256};

use super::world::settle;
use crate::harness::{Backend, Cupola, program};

/// A file system that can be cut off.
struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

/// The kernel's `EXT4_IOC_SHUTDOWN`, with the flag that nothing is written any more, not even the journal.
const CUT: &str = "import fcntl, os, struct, sys; \
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

impl Disk {
    /// `None`, said aloud, where the host does not let us.
    fn new(image: PathBuf, mount: PathBuf) -> Option<Disk> {
        // As large as apps ask for; only what is written takes room.
        std::fs::File::create(&image).unwrap().set_len(32 << 30).unwrap();
        std::fs::create_dir_all(&mount).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).status();
        let disk = Disk { image, mount };
        let possible = made.is_ok_and(|status| status.success()) && disk.mount();
        if !possible {
            eprintln!("SKIPPED: a file system of its own needs root, loop devices and ext4");
        }
        possible.then_some(disk)
    }

    /// Nothing gets to disk by the way: no commit by the clock, no guessing of what a program meant to sync.
    fn mount(&self) -> bool {
        let mut command = Command::new("mount");
        command.args(["-o", "loop,commit=900,noauto_da_alloc"]).arg(&self.image).arg(&self.mount);
        command.output().is_ok_and(|output| output.status.success())
    }

    fn cut(&self) {
        let status = Command::new("python3").args(["-c", CUT]).arg(&self.mount).status().unwrap();
        assert!(status.success(), "the file system cannot be cut off");
    }

    /// As the machine finds it when the power is back. What was cut off is never written again, so a copy is what there
    /// is; the original stays dead for as long as anybody's mount namespace knows it.
    fn replug(&mut self) {
        let begun = std::time::Instant::now();
        while !self.unmount() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the file system is busy");
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let copy = self.image.with_extension("copy");
        let copied = Command::new("cp").arg("--sparse=always").arg(&self.image).arg(&copy).status();
        assert!(copied.unwrap().success(), "the file system cannot be copied");
        std::fs::remove_file(&self.image).unwrap();
        std::fs::rename(&copy, &self.image).unwrap();
        assert!(self.mount(), "the file system does not come back");
    }

    fn unmount(&self) -> bool {
        Command::new("umount").arg(&self.mount).output().is_ok_and(|output| output.status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !self.unmount() {
            // Whatever holds it goes on a file system that nobody finds any more.
            let _ = Command::new("umount").arg("--lazy").arg(&self.mount).status();
        }
    }
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let mut cupola = Cupola::new(Backend::Process);
    let Some(mut disk) = Disk::new(cupola.path().join("disk"), cupola.data()) else { return };
    let seed = std::env::var("CUPOLA_SURVIVAL_SEEDS").ok().and_then(|text| text.parse().ok());
    let mut rng = StdRng::seed_from_u64(seed.unwrap_or(1));
    cupola.up();
    cupola.log_in();
    // The first cut comes soon after the very first start: what it made for itself must last.
    let mut known = Known::default();
    for round in 0..3 {
        let folder = cupola.app("site", &[("index.html", &format!("{round}")), ("Staticfile", "")]);
        cupola.cf(&["push", "site", "-p", &folder, "-m", "32M"]);
        let busy = Busy::begin(&cupola, round);
        std::thread::park_timeout(Duration::from_millis(rng.random_range(300..2500)));
        let secrets = secrets(&cupola.data());
        disk.cut();
        cupola.signal(Signal::KILL);
        cupola.kill_containers();
        known.add(busy.end());
        disk.replug();
        after_a_boot(&cupola.data());
        assert_eq!(self::secrets(&cupola.data()), secrets, "what the platform made for itself");
        cupola.up();
        cupola.follow(&known.api);
        settle(&cupola, &format!("after power cut {round}"));
        known.check(&cupola, round);
        digests(&cupola.data().join("blobs/blobs"));
        let site = cupola.wait("the site to answer", |cupola| {
            let (status, text) = cupola.get("site", "/");
            (status == 200).then_some(text)
        });
        assert_eq!(site, round.to_string(), "the version that was pushed last");
    }
    // The platform first: it is the last to use the disk.
    drop(cupola);
    drop(disk);
}

/// Another boot of the machine is another boot id; this machine has but one.
fn after_a_boot(data: &Path) {
    for file in ["images/boot", "executor/boot"] {
        std::fs::write(data.join(file), "another boot").unwrap();
    }
}

/// What must be there in the same form for ever: everything else hangs on it.
fn secrets(data: &Path) -> BTreeMap<&'static str, String> {
    let files =
        ["secret", "encryption-key", "admin-password", "internal-port", "tls.key", "tls.crt"];
    files
        .into_iter()
        .map(|file| (file, std::fs::read_to_string(data.join(file)).expect(file)))
        .collect()
}

/// A blob is named for its content.
fn digests(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            digests(&path);
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let digest = Sha256::digest(std::fs::read(&path).unwrap());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        // Those that are matched by later pushes bear another digest, and are checked when they are used.
        assert!(
            name == digest || name.len() == 40,
            "{} does not hold what it says",
            path.display()
        );
    }
}

/// Works at the API until the power is gone, and writes down what was acknowledged.
struct Busy {
    stop: Arc<AtomicBool>,
    done: Arc<Mutex<Vec<String>>>,
    worker: std::thread::JoinHandle<()>,
    api: String,
}

impl Busy {
    fn begin(cupola: &Cupola, round: usize) -> Busy {
        let (stop, done): (Arc<AtomicBool>, Arc<Mutex<Vec<String>>>) = Default::default();
        let api = cupola.running("api");
        let home = cupola.path().to_owned();
        let worker = {
            let (stop, done) = (stop.clone(), done.clone());
            std::thread::spawn(move || work(&home, round, &stop, &done))
        };
        Busy { stop, done, worker, api }
    }

    fn end(self) -> (String, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.worker.join().unwrap();
        let done = std::mem::take(&mut *self.done.lock());
        (self.api, done)
    }
}

fn work(home: &Path, round: usize, stop: &AtomicBool, done: &Mutex<Vec<String>>) {
    for number in 0.. {
        let name = format!("r{round}n{number}");
        let route = ["create-route", "localhost", "--hostname", &name].map(str::to_owned);
        let jobs: [Vec<String>; 4] = [
            ["create-org", &name].map(str::to_owned).to_vec(),
            ["create-user", &name, "password-of-a-user"].map(str::to_owned).to_vec(),
            ["set-env", "site", &name, "value"].map(str::to_owned).to_vec(),
            route.to_vec(),
        ];
        for job in jobs {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let mut command = Command::new(program());
            command.arg("cf").args(&job).env("CF_HOME", home);
            if command.output().unwrap().status.success() {
                done.lock().push(format!("{} {name}", job[0]));
            }
        }
    }
}

#[derive(Default)]
struct Known {
    /// Where the platform listened last.
    api: String,
    done: Vec<String>,
}

impl Known {
    fn add(&mut self, (api, done): (String, Vec<String>)) {
        self.api = api;
        self.done.extend(done);
    }

    /// All that was ever acknowledged is there.
    fn check(&self, cupola: &Cupola, round: usize) {
        let text = [
            cupola.cf(&["orgs"]),
            cupola.cf(&["routes"]),
            cupola.cf(&["env", "site"]),
            cupola.cf(&["curl", "/v3/users?per_page=5000"]),
        ]
        .concat();
        let words: Vec<&str> = text
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .collect();
        for job in &self.done {
            let (what, name) = job.split_once(' ').unwrap();
            let kept = match what {
                "create-user" => {
                    text.contains(&format!("\"username\": \"{name}\""))
                        || text.contains(&format!("\"username\":\"{name}\""))
                }
                _ => words.contains(&name),
            };
            assert!(kept, "after power cut {round}: {job} was acknowledged and is lost\n{text}");
        }
        eprintln!("power cut {round}: {} acknowledged changes are there", self.done.len());
    }
}
