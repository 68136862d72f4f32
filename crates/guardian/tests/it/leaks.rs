//! A platform killed at any moment of making and removing containers leaves nothing that its next life does not find.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use garden::contract::{outcome, sh};
use garden::{ContainerSpec, EgressRule, Exit, Garden, Handle, Protocol};
use guardian::linux::{Config, DiskLimits, LinuxGarden};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::bed::{Bed, config, is_root};

const ROUNDS: u64 = 9;
const WAYS: [DiskLimits; 3] = [DiskLimits::Off, DiskLimits::Images, DiskLimits::Btrfs];

/// Enough chance for choosing moments; the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % most
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_killed_at_any_moment_leaves_nothing_behind() {
    if !is_root() {
        return;
    }
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("SEED={seed}");
    let mut chance = Chance(seed);
    for round in 0..ROUNDS {
        let mut bed = Bed::new();
        bed.config.disk_limits = WAYS[round as usize % WAYS.len()];
        bed.config.disk_mb = Some(512);
        bed.config.spares = 0;
        // Twice, so that what one life takes up from another is killed too.
        let mut began = 0;
        for _ in 0..2 {
            began += u32::from(die(&bed, Duration::from_millis(chance.below(400))).await);
        }
        let garden = match LinuxGarden::open(bed.config.clone()).await {
            Ok(garden) => garden,
            Err(error) => {
                eprintln!("skipped: {}: {error:#}", bed.config.disk_limits.name());
                continue;
            }
        };
        assert_eq!(began, 2, "one life begins whatever another left");
        let alive = garden.containers().await.unwrap();
        for one in &alive {
            let said = outcome(&garden, &one.handle, "vcap", "echo whole").await;
            assert_eq!(said, ("whole\n".into(), Exit::Status(0)), "found means whole");
        }
        agree(&bed.config, alive.len()).await;
        garden.shutdown(true).await.unwrap();
        bed.assert_nothing_left();
        gone(&bed.config.state_dir).await;
    }
}

/// Lets a platform of its own work for so long after it has begun, and kills it. Whether it began at all.
async fn die(bed: &Bed, after: Duration) -> bool {
    let mut platform = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "leaks::as_a_platform_that_works", "--nocapture"])
        .env("DIR", bed.dir.path())
        .env("PARENT", std::process::id().to_string())
        .env("NUMBER", bed.config.instance.rsplit('_').next().unwrap())
        .env("WAY", bed.config.disk_limits.name())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(platform.stdout.take().unwrap()).lines();
    let began = loop {
        match lines.next_line().await.unwrap() {
            Some(line) if line == "working" => break true,
            Some(_) => {}
            None => break false,
        }
    };
    tokio::time::sleep(after).await;
    platform.start_kill().unwrap();
    platform.wait().await.unwrap();
    began
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by a_platform_killed_at_any_moment_leaves_nothing_behind"]
async fn as_a_platform_that_works() {
    let text = |name: &str| std::env::var(name).unwrap();
    let number = |name: &str| text(name).parse::<u32>().unwrap();
    let dir = PathBuf::from(std::env::var_os("DIR").unwrap());
    let mut config = config(&dir, number("PARENT"), number("NUMBER"));
    config.disk_limits = DiskLimits::parse(&text("WAY")).unwrap();
    config.disk_mb = Some(512);
    config.spares = 2;
    // Two lives leave more containers than a test's usual share of ports.
    config.host_ports = 40_000..=40_099;
    // Four work at a time, each with a port.
    let garden = std::sync::Arc::new(LinuxGarden::open(config).await.unwrap());
    println!("working");
    let work = (0..4_u8).map(|worker| {
        let (garden, dir) = (garden.clone(), dir.clone());
        tokio::spawn(async move {
            loop {
                let handle = garden.create(spec(&dir, worker)).await.unwrap().handle;
                garden.run(&handle, sh("vcap", "exec sleep 1000")).await.unwrap();
                // Every fourth stays.
                if worker > 0 {
                    garden.destroy(&handle).await.unwrap();
                } else if garden.containers().await.unwrap().len() > 5 {
                    std::future::pending::<()>().await;
                }
            }
        })
    });
    futures::future::join_all(work.collect::<Vec<_>>()).await;
}

fn spec(dir: &Path, worker: u8) -> ContainerSpec {
    let usr = garden::BindMount { source: "/usr".into(), target: "/usr".into(), writable: false };
    let rule = EgressRule {
        protocol: Protocol::Tcp,
        destinations: vec![format!("203.0.113.{worker}")],
        ports: Vec::new(),
        port_range: None,
        icmp_type: None,
        icmp_code: None,
        log: false,
    };
    let mut spec = ContainerSpec {
        handle: Some(Handle::random()),
        rootfs: garden::Rootfs { lower: dir.join("stack"), binds: vec![usr] },
        ports: vec![8080],
        egress: vec![rule],
        ..ContainerSpec::default()
    };
    spec.limits.disk_bytes = 8 << 20;
    spec
}

/// Everything that goes by a container's number on this host is of as many as there are, and of the same ones.
async fn agree(config: &Config, alive: usize) {
    let numbers = |path: PathBuf| -> BTreeSet<u32> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter_map(|one| one.file_name().to_str()?.parse().ok()).collect()
    };
    let folders = numbers(config.state_dir.join("c"));
    assert_eq!(folders.len(), alive, "folders of containers");
    let layers = if config.disk_limits == DiskLimits::Btrfs { "disk" } else { "w" };
    assert_eq!(numbers(config.state_dir.join(layers)), folders, "writable layers");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for line in mounts.lines().filter(|line| line.contains(" - cgroup")) {
        let group = Path::new(line.split(' ').nth(4).unwrap()).join(config.name());
        if group.exists() {
            assert_eq!(numbers(group.clone()), folders, "{}", group.display());
        }
    }
    let interfaces = std::fs::read_dir("/sys/class/net").unwrap().flatten();
    let interfaces: BTreeSet<u32> = interfaces
        .filter_map(|one| {
            one.file_name().to_str()?.strip_prefix(&config.interface_prefix())?.parse().ok()
        })
        .collect();
    assert_eq!(interfaces, folders, "interfaces");
    let table =
        Command::new("nft").args(["list", "table", "inet", &config.name()]).output().await.unwrap();
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert_eq!(table.matches(" : jump e").count(), alive, "rules of egress: {table}");
    assert_eq!(table.matches(" . 8080").count(), alive, "ports: {table}");
    let state = config.state_dir.to_str().unwrap();
    let mounted = mounts.lines().filter(|line| line.contains(state)).count();
    assert_eq!(mounted, usize::from(config.disk_limits == DiskLimits::Btrfs), "mounts: {mounts}");
}

/// No shim is left, nor anything that one has started.
async fn gone(state: &Path) {
    let ours = || -> Vec<PathBuf> {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let programs = processes.filter_map(|one| std::fs::read_link(one.path().join("exe")).ok());
        programs.filter(|program| program.starts_with(state)).collect()
    };
    for _ in 0..300 {
        if ours().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("processes are left: {:?}", ours());
}
