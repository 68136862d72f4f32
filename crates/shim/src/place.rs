//! What a container's processes find: the root file system and the usual kernel file systems on it.
#![expect(unsafe_code, reason = "system calls")]

use std::os::fd::RawFd;

use libc::c_ulong;
use shim::wire::{Bind, Isolation, Start};

use crate::mounts::{self, NO_DEV, NO_EXEC, NO_SUID, READ_ONLY};
use crate::sys::{Result, arg, call, close, done, mkdir_all, text};

/// Of `/proc` and `/sys`: what tells about the host or acts on it.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const FROZEN: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const DEVICES: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Detached mounts on their way into the container, by descriptor.
pub struct Made {
    root: RawFd,
    dev: RawFd,
    sys: RawFd,
    /// In the order of [`binds`].
    binds: Vec<RawFd>,
}

impl Made {
    pub const LARGEST: usize = 4096;

    pub fn to_bytes(&self) -> Vec<u8> {
        let fds = [self.root, self.dev, self.sys].into_iter().chain(self.binds.iter().copied());
        fds.flat_map(RawFd::to_ne_bytes).collect()
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Made> {
        let mut fds = bytes
            .chunks_exact(4)
            .map(|word| RawFd::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        Some(Made { root: fds.next()?, dev: fds.next()?, sys: fds.next()?, binds: fds.collect() })
    }
}

/// From here on mounts concern nobody else.
pub fn unshare_mounts() -> Result<()> {
    // SAFETY: plain numbers.
    done(unsafe { libc::unshare(libc::CLONE_NEWNS) }, "making a mount namespace")?;
    mounts::make_private()
}

/// Makes everything that must be made with the maker's rights; `map` is the user namespace unshifted files are shown through.
pub fn make(start: &Start, map: Option<RawFd>) -> Result<Made> {
    let rootless = matches!(start.isolation, Isolation::Rootless(_));
    let root = overlay(start, map, rootless)?;
    let sys = if rootless {
        let sys = mounts::copy("/sys", true)?;
        mounts::set(sys, READ_ONLY, None, false)?;
        sys
    } else {
        mounts::make("sysfs", &[], READ_ONLY | NO_SUID | NO_DEV | NO_EXEC)?
    };
    let base = if let Isolation::Full(base) = start.isolation { base } else { 0 };
    let dev = devices(rootless, base)?;
    let binds = binds(start).map(|bind| bound(bind, map)).collect::<Result<_>>()?;
    Ok(Made { root, dev, sys, binds })
}

fn binds(start: &Start) -> impl Iterator<Item = &Bind> {
    start.rootfs.cgroups.iter().chain(&start.rootfs.binds)
}

/// Layers are shown through the container's ids in this namespace only; overlayfs takes them from here by path.
fn overlay(start: &Start, map: Option<RawFd>, rootless: bool) -> Result<RawFd> {
    let rootfs = &start.rootfs;
    let mut lower = Vec::new();
    for (number, layer) in rootfs.layers.iter().enumerate() {
        let place = format!("l{number}");
        let copy = mounts::copy(layer, false)?;
        mounts::set(copy, READ_ONLY, map, false)?;
        mounts::attach(copy, &place)?;
        lower.push(place);
    }
    lower.reverse();
    let lower = lower.join(":");
    let mut options = vec![
        ("lowerdir", Some(lower.as_str())),
        ("upperdir", Some(rootfs.upper.as_str())),
        ("workdir", Some(rootfs.work.as_str())),
        // What a container wrote is gone with it, so nothing waits for the disk.
        ("volatile", None),
    ];
    if rootless {
        options.push(("userxattr", None));
    } else {
        forgo_quota_override();
    }
    mounts::make("overlay", &options, NO_DEV | NO_SUID)
}

/// Overlayfs writes with the rights of whoever mounted it, and this one would let containers write past their quota.
fn forgo_quota_override() {
    const SYS_RESOURCE: u32 = 24;
    let mut header = [0x2008_0522_u32, 0];
    let mut data = [0_u32; 6];
    // SAFETY: version 3 of the interface has a header of two words and data of six.
    unsafe {
        if libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) == 0 {
            data[0] &= !(1 << SYS_RESOURCE);
            libc::syscall(libc::SYS_capset, header.as_mut_ptr(), data.as_ptr());
        }
    }
}

fn devices(rootless: bool, owner: u32) -> Result<RawFd> {
    let options = [("mode", Some("755")), ("size", Some("64k")), ("nr_inodes", Some("64"))];
    let dev = mounts::make("tmpfs", &options, NO_SUID | NO_EXEC)?;
    for (name, major, minor) in DEVICES {
        let name_text = text(name)?;
        // SAFETY: the paths are terminated strings, the descriptor is open.
        unsafe {
            if rootless {
                // Without privilege there are no new device nodes: the host's are bound over plain files.
                let kind = libc::S_IFREG | 0o666;
                done(libc::mknodat(dev, name_text.as_ptr(), kind, 0), "making a device's place")?;
            } else {
                let kind = libc::S_IFCHR | 0o666;
                done(
                    libc::mknodat(dev, name_text.as_ptr(), kind, libc::makedev(*major, *minor)),
                    "making a device",
                )?;
                libc::fchownat(dev, name_text.as_ptr(), owner, owner, 0);
            }
        }
    }
    for (name, target) in LINKS {
        let (name, target) = (text(name)?, text(target)?);
        // SAFETY: as above.
        done(unsafe { libc::symlinkat(target.as_ptr(), dev, name.as_ptr()) }, "linking a device")?;
    }
    for name in ["pts", "shm", "mqueue"] {
        let name = text(name)?;
        // SAFETY: as above.
        done(unsafe { libc::mkdirat(dev, name.as_ptr(), 0o755) }, "making a folder of devices")?;
    }
    if owner > 0 {
        let empty = text("")?;
        // SAFETY: as above.
        unsafe { libc::fchownat(dev, empty.as_ptr(), owner, owner, libc::AT_EMPTY_PATH) };
    }
    Ok(dev)
}

fn bound(bind: &Bind, map: Option<RawFd>) -> Result<RawFd> {
    let mount = mounts::copy(&bind.source, !bind.shifted)?;
    let attributes = NO_SUID | NO_DEV | if bind.writable { 0 } else { READ_ONLY };
    mounts::set(mount, attributes, map.filter(|_| bind.shifted), !bind.shifted)?;
    Ok(mount)
}

/// In the keeper: puts everything in place below the new root and goes there. `/proc` is made before the old root goes,
/// since a user namespace may only mount one while it sees one.
pub fn enter(start: &Start, made: &Made) -> Result<()> {
    let hard = NO_SUID | NO_DEV | NO_EXEC;
    let proc = mounts::make("proc", &[], hard)?;
    let old_dev =
        matches!(start.isolation, Isolation::Rootless(_)).then(host_devices).transpose()?;
    mounts::attach(made.root, "root")?;
    mounts::pivot("root")?;
    for folder in ["/proc", "/sys", "/dev"] {
        mkdir_all(folder)?;
    }
    mounts::attach(proc, "/proc")?;
    mounts::attach(made.sys, "/sys")?;
    mounts::attach(made.dev, "/dev")?;
    for ((name, ..), device) in DEVICES.iter().zip(old_dev.unwrap_or_default()) {
        mounts::attach(device, &format!("/dev/{name}"))?;
    }
    terminals(start)?;
    let shm = [("mode", Some("1777")), ("size", Some("64m"))];
    mounts::attach(mounts::make("tmpfs", &shm, hard)?, "/dev/shm")?;
    mounts::attach(mounts::make("mqueue", &[], hard)?, "/dev/mqueue")?;
    put_binds(start, made)?;
    MASKED.iter().try_for_each(|path| mounts::mask(path))?;
    FROZEN.iter().try_for_each(|path| mounts::freeze(path))?;
    name_host(&start.hostname)
}

fn host_devices() -> Result<Vec<RawFd>> {
    DEVICES.iter().map(|(name, ..)| mounts::copy(&format!("/dev/{name}"), false)).collect()
}

fn terminals(start: &Start) -> Result<()> {
    let mut options =
        vec![("newinstance", None), ("ptmxmode", Some("0666")), ("mode", Some("0620"))];
    // The group of terminals, 5 by old custom, exists only where a range of ids is mapped.
    if matches!(start.isolation, Isolation::Full(_)) {
        options.push(("gid", Some("5")));
    }
    mounts::attach(mounts::make("devpts", &options, NO_SUID | NO_EXEC)?, "/dev/pts")
}

fn put_binds(start: &Start, made: &Made) -> Result<()> {
    let (cgroups, given) = made.binds.split_at(start.rootfs.cgroups.len());
    if start.rootfs.cgroups.iter().any(|bind| !bind.target.is_empty()) {
        let options = [("mode", Some("755")), ("size", Some("0")), ("nr_inodes", Some("32"))];
        let here = mounts::make("tmpfs", &options, NO_SUID | NO_DEV | NO_EXEC)?;
        mounts::attach(here, "/sys/fs/cgroup")?;
    }
    for (bind, mount) in start.rootfs.cgroups.iter().zip(cgroups) {
        let target = if bind.target.is_empty() {
            "/sys/fs/cgroup".into()
        } else {
            format!("/sys/fs/cgroup/{}", bind.target)
        };
        mkdir_all(&target)?;
        mounts::attach(*mount, &target)?;
    }
    if !cgroups.is_empty() {
        mounts::freeze("/sys/fs/cgroup")?;
    }
    for (bind, mount) in start.rootfs.binds.iter().zip(given) {
        let file = is_file(*mount);
        if file {
            place_for_file(&bind.target)?;
        } else {
            mkdir_all(&bind.target)?;
        }
        mounts::attach(*mount, &bind.target)?;
    }
    Ok(())
}

fn is_file(mount: RawFd) -> bool {
    // SAFETY: all-zero is a valid value of this plain struct, which the call fills.
    unsafe {
        let mut about: libc::stat = std::mem::zeroed();
        let empty = c"";
        libc::fstatat(mount, empty.as_ptr(), &raw mut about, libc::AT_EMPTY_PATH) == 0
            && about.st_mode & libc::S_IFMT != libc::S_IFDIR
    }
}

fn place_for_file(target: &str) -> Result<()> {
    if let Some((folder, _)) = target.rsplit_once('/') {
        mkdir_all(folder)?;
    }
    let fd = crate::sys::open(
        libc::AT_FDCWD,
        target,
        libc::O_CREAT | libc::O_RDONLY | libc::O_NONBLOCK,
        0o644,
    )?;
    close(fd);
    Ok(())
}

fn name_host(name: &str) -> Result<()> {
    let text = text(name)?;
    let length = name.len().min(63) as c_ulong;
    done(call(libc::SYS_sethostname, [arg(&text), length, 0, 0, 0, 0]), "naming the container")
        .map(drop)
}
