//! How long a container takes: `cargo run --release --example speed -- [count] [at once]`, as root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use garden::{
    BindMount, ContainerSpec, EgressRule, Exit, Garden, Limits, ProcessSpec, Protocol, Rootfs,
};
use guardian::linux::{Config, LinuxGarden};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let (count, at_once) = (args.next().unwrap_or(50), args.next().unwrap_or(1));
    let dir = tempfile::tempdir()?;
    let stack = dir.path().join("stack");
    fs::create_dir(&stack)?;
    for folder in ["etc", "usr", "../layer"] {
        fs::create_dir_all(stack.join(folder))?;
    }
    for link in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{link}"), stack.join(link))?;
    }
    fs::write(
        stack.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nvcap:x:2000:2000::/home/vcap:/bin/sh\n",
    )?;
    let usr = BindMount { source: "/usr".into(), target: "/usr".into(), writable: false };
    let world = EgressRule {
        protocol: Protocol::All,
        destinations: vec!["0.0.0.0-9.255.255.255".into()],
        ports: Vec::new(),
        port_range: None,
        icmp_type: None,
        icmp_code: None,
        log: false,
    };
    let spec = ContainerSpec {
        rootfs: Rootfs { lower: stack.clone(), binds: vec![usr] },
        layers: vec![dir.path().join("layer")],
        ports: vec![8080],
        egress: vec![world],
        limits: Limits { memory_bytes: 256 << 20, disk_bytes: 1 << 30, cpu_shares: 256, pids: 512 },
        ..ContainerSpec::default()
    };
    let mut config = Config::new(dir.path().join("state"), "speed");
    config.network = guardian::linux::Network::parse("10.199.0.0/16").expect("a network");
    config.nameservers = Some(Vec::new());
    // Beside whatever else runs on this host.
    (config.host_ports, config.first_id) = (14_000..=14_999, 3_000_000_000);
    let garden = LinuxGarden::open(config).await?;
    println!("disk limits: {}", garden.disk_limits());
    let result = measure(&garden, &spec, dir.path(), count, at_once).await;
    garden.shutdown(true).await?;
    result
}

async fn measure(
    garden: &LinuxGarden,
    spec: &ContainerSpec,
    dir: &Path,
    count: usize,
    at_once: usize,
) -> anyhow::Result<()> {
    let (mut create, mut run, mut both, mut destroy) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count.div_ceil(at_once) {
        // What was made ahead is made again meanwhile, as between the starts of a real host.
        tokio::time::sleep(Duration::from_millis(if at_once == 1 { 60 } else { 0 })).await;
        let times = futures::future::join_all((0..at_once).map(|_| once(garden, spec))).await;
        for times in times {
            let [one, two, three] = times?;
            create.push(one);
            run.push(two);
            both.push(one + two);
            destroy.push(three);
        }
    }
    for (name, mut times) in
        [("create", create), ("run", run), ("both", both), ("destroy", destroy)]
    {
        times.sort_unstable();
        let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e3;
        println!("{name:8} p50 {:6.2} ms  p90 {:6.2} ms  p99 {:6.2} ms", at(50), at(90), at(99));
    }
    memory(garden, spec, dir).await
}

async fn once(garden: &LinuxGarden, spec: &ContainerSpec) -> anyhow::Result<[Duration; 3]> {
    let start = Instant::now();
    let info = garden.create(spec.clone()).await?;
    let created = start.elapsed();
    let process = ProcessSpec {
        path: "sh".into(),
        args: vec!["-c".into(), "true".into()],
        user: "vcap".into(),
        ..ProcessSpec::default()
    };
    let mut process = garden.run(&info.handle, process).await?;
    anyhow::ensure!(process.wait().await == Some(Exit::Status(0)), "it ends well");
    let ran = start.elapsed() - created;
    let start = Instant::now();
    garden.destroy(&info.handle).await?;
    Ok([created, ran, start.elapsed()])
}

/// What a keeper at rest takes up, alone and among others.
async fn memory(garden: &LinuxGarden, spec: &ContainerSpec, dir: &Path) -> anyhow::Result<()> {
    for others in [0, 9] {
        let mut made = Vec::new();
        for _ in 0..=others {
            made.push(garden.create(spec.clone()).await?.handle);
        }
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let mut total = 0;
        for process in fs::read_dir("/proc")?.flatten() {
            let ours = fs::read_link(process.path().join("exe"))
                .is_ok_and(|program| program.starts_with(dir));
            let status = fs::read_to_string(process.path().join("status")).unwrap_or_default();
            // Keepers are the first of a namespace below this one.
            let first = status
                .lines()
                .any(|line| line.starts_with("NSpid:") && line.split('\t').skip(2).eq(["1"]));
            if ours && first {
                let rollup =
                    fs::read_to_string(process.path().join("smaps_rollup")).unwrap_or_default();
                let pss = rollup
                    .lines()
                    .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB"));
                total += pss.and_then(|pss| pss.trim().parse::<u64>().ok()).unwrap_or(0);
            }
        }
        println!("{} keepers at rest: {} KiB each", others + 1, total / (others + 1));
        for handle in made {
            garden.destroy(&handle).await?;
        }
    }
    Ok(())
}
