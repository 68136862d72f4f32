//! A root file system out of the host's own programs, and a garden that leaves nothing behind.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use garden::contract::Fixture;
use garden::{BindMount, Rootfs};
use guardian::linux::{Config, DiskLimits, LinuxGarden, Network};
use tempfile::TempDir;

/// The host's `/usr`, and an `/etc` with two users.
pub fn rootfs(at: &Path) -> Fixture {
    for folder in ["etc", "usr", "tmp", "root"] {
        fs::create_dir_all(at.join(folder)).unwrap();
    }
    for link in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{link}"), at.join(link)).unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nvcap:x:2000:2000::/home/vcap:/bin/sh\n";
    fs::write(at.join("etc/passwd"), passwd).unwrap();
    fs::write(at.join("etc/group"), "root:x:0:\nvcap:x:2000:\ntty:x:5:\n").unwrap();
    symlink("/etc/alternatives-of-the-host", at.join("etc/alternatives")).unwrap();
    let usr = BindMount { source: "/usr".into(), target: "/usr".into(), writable: false };
    Fixture {
        rootfs: Rootfs { lower: at.into(), binds: vec![usr] },
        mounts: Vec::new(),
        user: "vcap".into(),
    }
}

/// One platform's worth of containers, beside any other on this host.
pub struct Bed {
    pub dir: TempDir,
    pub fixture: Fixture,
    pub config: Config,
}

impl Bed {
    pub fn new() -> Bed {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::tempdir().unwrap();
        let fixture = rootfs(&dir.path().join("stack"));
        let config = config(dir.path(), std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        Bed { dir, fixture, config }
    }

    pub async fn open(&self) -> Arc<LinuxGarden> {
        Arc::new(LinuxGarden::open(self.config.clone()).await.unwrap())
    }

    /// Runs `test` and then removes everything, whether it went well or not.
    pub async fn run<F: Future<Output = ()> + Send + 'static>(
        self,
        test: impl FnOnce(Arc<LinuxGarden>, Fixture) -> F,
    ) {
        let garden = self.open().await;
        let result = tokio::spawn(test(garden.clone(), self.fixture.clone())).await;
        garden.shutdown(true).await.unwrap();
        self.assert_nothing_left();
        if let Err(error) = result {
            std::panic::resume_unwind(error.into_panic());
        }
    }

    pub fn assert_nothing_left(&self) {
        let (name, prefix) = (self.config.name(), self.config.interface_prefix());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let state = self.config.state_dir.to_str().unwrap();
        assert!(!mounts.contains(state), "mounts are left: {mounts}");
        for line in mounts.lines().filter(|line| line.contains(" - cgroup")) {
            let mount = line.split(' ').nth(4).unwrap();
            assert!(!Path::new(mount).join(&name).exists(), "{mount}/{name} is left");
        }
        let interfaces = fs::read_dir("/sys/class/net").unwrap().flatten();
        let left: Vec<_> = interfaces
            .filter(|one| one.file_name().to_str().unwrap().starts_with(&prefix))
            .collect();
        assert!(left.is_empty(), "interfaces are left: {left:?}");
        let nft = std::process::Command::new("nft").args(["list", "tables"]).output().unwrap();
        assert!(
            !String::from_utf8_lossy(&nft.stdout).contains(&name),
            "the packet filter's table is left"
        );
        let addresses = fs::read_to_string("/proc/net/fib_trie").unwrap();
        for address in [self.config.network.gateway(), self.config.network.parts().0] {
            let left = addresses.lines().any(|line| line.contains(&format!("-- {address}")));
            assert!(!left, "{address} is left");
        }
    }
}

/// What one platform of one test process has to itself, whatever else runs on this machine.
pub fn config(dir: &Path, process: u32, number: u32) -> Config {
    let mut config = Config::new(dir.join("state"), &format!("t{process}_{number}"));
    let network = format!("10.{}.{}.0/24", 100 + process % 90, (process / 90 + number * 37) % 250);
    config.network = Network::parse(&network).unwrap();
    config.spares = 1;
    // A file system of its own for each test would be most of its time.
    config.disk_limits = DiskLimits::Off;
    let ports = 15_000 + (process % 150 * 100 + number * 10) as u16;
    config.host_ports = ports..=ports + 9;
    config.nameservers = Some(Vec::new());
    // Below 2^31: the kernel lets no group beyond that send echo requests.
    config.first_id = 100_000_000 + (process % 1000) * 2_000_000 + number * 50_000;
    config
}

/// Says so aloud when a test must be passed over.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can isolate containers");
    }
    root
}
