//! The tests of containers in a virtual machine of Debian's packages: another kernel, with cgroup version 2 alone and a
//! disk with project quotas. `cargo xtask vm [--kvm] [--cgroups-one] [test names]`, as root.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

/// On the host. All are in Debian's packages of the same names, but for `qemu-system-x86_64` of qemu-system-x86.
const PROGRAMS: [&str; 4] = ["debootstrap", "qemu-system-x86_64", "mkfs.ext4", "tar"];
/// In the machine: a kernel, and what the platform and its tests run.
const PACKAGES: &str = "linux-image-amd64,nftables,iproute2,btrfs-progs,e2fsprogs,kmod,procps,perl";
const SUITE: &str = "bookworm";
/// What the machine does when its kernel is up: the rest comes by its second disk.
const INIT: &str = "#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /run
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir /run/vm
tar -xf /dev/vdb -C /run/vm
. /run/vm/run
echo o > /proc/sysrq-trigger
sleep 60
";
const LAST_WORDS: &str = "the tests ended with ";

/// Makes the machine when there is none, and runs the tests in it.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let folder = fs::canonicalize(env!("CARGO_MANIFEST_DIR"))?.join("../target/vm");
    fs::create_dir_all(&folder)?;
    let folder = fs::canonicalize(folder)?;
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let (one, kvm) = (has("--cgroups-one"), has("--kvm"));
    let names: Vec<&str> =
        args.iter().map(String::as_str).filter(|arg| !arg.starts_with("--")).collect();
    PROGRAMS.iter().try_for_each(|program| present(program))?;
    if !folder.join("root.ext4").exists() {
        install(&folder).context("installing the machine")?;
    }
    let program = build()?;
    let tests = folder.join("tests.tar");
    pack(&folder, &program, &script(one, &names), &tests)?;
    let data = folder.join("data.ext4");
    disk(&data, 6, &["-O", "quota,project", "-E", "quotatype=prjquota"])?;
    boot(&folder, one, kvm)
}

fn present(program: &str) -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    ensure!(
        found,
        "{program} is missing: apt-get install -y debootstrap qemu-system-x86 e2fsprogs"
    );
    Ok(())
}

fn install(folder: &Path) -> anyhow::Result<()> {
    let root = folder.join("root");
    println!("==> installing Debian {SUITE} into {}", root.display());
    call(
        Command::new("debootstrap")
            .args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE])
            .arg(&root),
    )?;
    take_over(folder, &root)
}

/// Out of an installed folder become a disk, a kernel and its first files.
fn take_over(folder: &Path, root: &Path) -> anyhow::Result<()> {
    for mounted in ["proc", "sys"] {
        // Only where the installation left it so.
        let _ = Command::new("umount").arg(root.join(mounted)).stderr(Stdio::null()).status();
    }
    for name in ["vmlinuz", "initrd.img"] {
        let boot = fs::read_dir(root.join("boot"))?.flatten();
        let mut found: Vec<_> = boot
            .filter(|one| one.file_name().to_string_lossy().starts_with(&format!("{name}-")))
            .map(|one| one.path())
            .collect();
        found.sort();
        let newest = found.iter().rfind(|path| !path.to_string_lossy().ends_with("bak"));
        fs::copy(newest.with_context(|| format!("no {name}"))?, folder.join(name))?;
    }
    fs::write(root.join("init-vm"), INIT)?;
    call(Command::new("chmod").arg("755").arg(root.join("init-vm")))?;
    let text = root.to_str().context("a path of text")?;
    disk(&folder.join("root.new"), 4, &["-d", text])?;
    fs::rename(folder.join("root.new"), folder.join("root.ext4"))?;
    Ok(fs::remove_dir_all(root)?)
}

/// A sparse file of so many GiB with an empty file system, or one that holds a folder.
fn disk(path: &Path, gib: u64, options: &[&str]) -> anyhow::Result<()> {
    fs::File::create(path)?.set_len(gib << 30)?;
    call(Command::new("mkfs.ext4").args(["-q", "-F"]).args(options).arg(path))
}

/// The program of guardian's integration tests.
fn build() -> anyhow::Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut cargo = Command::new(cargo);
    // What this program was told by its own build would make others build anew.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_")) {
        let meant = ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_BUILD_JOBS"].contains(&&*name);
        if !meant && !name.starts_with("CARGO_NET") && !name.starts_with("CARGO_REG") {
            cargo.env_remove(name);
        }
    }
    let output = cargo
        .args(["test", "--package", "guardian", "--test", "it", "--no-run"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "building the tests ended with {}", output.status);
    let messages = output.stdout.lines().map_while(Result::ok);
    let values = messages.filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).ok());
    let program = values
        .filter(|one| one["target"]["name"] == "it")
        .find_map(|one| one["executable"].as_str().map(PathBuf::from));
    program.context("the tests have no program")
}

/// What the machine runs. Its data disk holds all that tests write.
fn script(one: bool, names: &[&str]) -> String {
    let groups = if one {
        "mount -t tmpfs tmpfs /sys/fs/cgroup
for c in memory cpu,cpuacct pids; do mkdir /sys/fs/cgroup/$c; mount -t cgroup -o $c cgroup /sys/fs/cgroup/$c; done"
    } else {
        "mount -t cgroup2 cgroup2 /sys/fs/cgroup"
    };
    format!(
        "modprobe -a overlay btrfs loop veth nf_tables quota_v2
mount -o prjquota /dev/vdc /tmp
chmod 1777 /tmp
{groups}
ip link set lo up
uname -r
grep cgroup /proc/self/mountinfo
nft --version
export RUST_BACKTRACE=0 HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd /run/vm
./it --test-threads=1 --show-output {}
echo \"{LAST_WORDS}$?\"
",
        names.join(" ")
    )
}

fn pack(folder: &Path, program: &Path, script: &str, to: &Path) -> anyhow::Result<()> {
    let inside = folder.join("tests");
    fs::create_dir_all(&inside)?;
    fs::copy(program, inside.join("it"))?;
    fs::write(inside.join("run"), script)?;
    call(Command::new("tar").arg("-cf").arg(to).arg("-C").arg(&inside).args(["it", "run"]))
}

/// Whatever happens to the machine's own disk is forgotten. Without `kvm` it is slow, and works on every host.
fn boot(folder: &Path, one: bool, kvm: bool) -> anyhow::Result<()> {
    let drive = |name: &str| format!("file={},format=raw,if=virtio", folder.join(name).display());
    let groups = if one { "" } else { "cgroup_no_v1=all" };
    let line = format!("root=/dev/vda rw quiet console=ttyS0 init=/init-vm panic=-1 {groups}");
    let mut machine = Command::new("qemu-system-x86_64");
    machine
        .args(if kvm {
            ["-accel", "kvm", "-cpu", "host"]
        } else {
            ["-accel", "tcg", "-cpu", "max"]
        })
        .args(["-m", "3072", "-smp", "2"])
        .args(["-display", "none", "-serial", "stdio", "-monitor", "none", "-nic", "none"])
        .args(["-no-reboot", "-snapshot", "-append", &line])
        .arg("-kernel")
        .arg(folder.join("vmlinuz"))
        .arg("-initrd")
        .arg(folder.join("initrd.img"))
        .args(["-drive", &drive("root.ext4"), "-drive", &drive("tests.tar")])
        .args(["-drive", &drive("data.ext4")]);
    let mut machine = machine.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let said = machine.stdout.take().context("its console was asked for")?;
    let mut status = None;
    for line in BufReader::new(said).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
        println!("{line}");
        if let Some(number) = line.strip_prefix(LAST_WORDS) {
            status = Some(number.to_owned());
        }
    }
    machine.wait()?;
    match status.as_deref() {
        Some("0") => Ok(()),
        Some(status) => bail!("the tests in the machine ended with {status}"),
        None => bail!("the machine ended before its tests"),
    }
}

fn call(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
