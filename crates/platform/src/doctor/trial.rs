//! The proof: a container is made as the platform makes them, runs a program, and goes without a trace.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use garden::{ContainerSpec, Garden as _, Limits, ProcessSpec};
use guardian::linux::{Config, LinuxGarden, Network};

use super::{Finding, host};
use crate::cell::network::{free, turn};
use crate::settings::Settings;

const LIMITS: Limits =
    Limits { memory_bytes: 64 << 20, disk_bytes: 16 << 20, cpu_shares: 256, pids: 64 };
/// Enough for the writable layers' file system.
const DISK_MB: u64 = 256;

pub async fn trial(settings: &Settings) -> Vec<Finding> {
    match run(settings).await {
        Ok(trial) => {
            let made = Finding::ok(
                "container",
                format!("made, ran and was removed in {} ms", trial.took_ms),
            );
            let limits = if trial.limits.starts_with("enforced") {
                Finding::ok("disk limits", trial.limits)
            } else {
                Finding::warn(
                    "disk limits",
                    trial.limits,
                    "for limits that hold at each write: apt-get install -y btrfs-progs, and a kernel with btrfs",
                )
            };
            vec![made, limits]
        }
        Err(error) => vec![Finding::fail(
            "container",
            format!("{error:#}"),
            "what is named is missing or not allowed here (in a container or virtual machine: its host decides); \
             --backend process does without, and isolates nothing",
        )],
    }
}

struct Trial {
    took_ms: u128,
    limits: &'static str,
}

async fn run(settings: &Settings) -> anyhow::Result<Trial> {
    let place = host::nearest(&settings.data);
    let folder = tempfile::Builder::new().prefix(".cupola-doctor-").tempdir_in(&place);
    let folder = folder.with_context(|| format!("making a folder in {}", place.display()))?;
    // As in a data directory, containers' users must be able to pass through.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
    let stack = settings.stacks.first().context("there is no stack")?;
    let store = image::Store::open(image::Config {
        dir: folder.path().join("images"),
        stacks: BTreeSet::from([stack.clone()]),
        limits: image::Limits::default(),
    })?;
    let rootfs = store.stack(stack).await?;
    let garden = {
        // As at a start: nobody else chooses a network meanwhile.
        let _turn = tokio::task::spawn_blocking(turn).await??;
        let mut config = Config::new(folder.path().join("containers"), &base::new_guid()[..8]);
        let routes =
            std::fs::read_to_string("/proc/net/route").context("reading this machine's routes")?;
        let range = free(&routes)
            .context("no range below 10.0.0.0/8 is free: name one with --container-network")?;
        config.network = Network::parse(&range).context("the range that was chosen")?;
        config.disk_mb = Some(DISK_MB);
        config.spares = 1;
        LinuxGarden::open(config).await?
    };
    let began = Instant::now();
    let ran = one(&garden, rootfs).await;
    let took_ms = began.elapsed().as_millis();
    let limits = garden.disk_limits();
    let gone = garden.shutdown(true).await.context("removing what the trial made");
    ran.and(gone).map(|()| Trial { took_ms, limits })
}

async fn one(garden: &LinuxGarden, rootfs: garden::Rootfs) -> anyhow::Result<()> {
    let spec = ContainerSpec { rootfs, limits: LIMITS, ..ContainerSpec::default() };
    let info = garden.create(spec).await.context("making a container")?;
    let process = ProcessSpec {
        path: "sh".into(),
        args: vec!["-c".into(), "echo hello > /tmp/hello".into()],
        user: "vcap".into(),
        ..ProcessSpec::default()
    };
    let mut process =
        garden.run(&info.handle, process).await.context("running a program in a container")?;
    let exit = process.wait().await.context("a program's end was not told")?;
    ensure!(exit.success(), "a program in a container ended with status {}", exit.status());
    garden.destroy(&info.handle).await.context("removing a container")
}
