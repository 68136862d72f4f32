//! Limits and counts by control groups, wherever the host has each controller: version 1, version 2, or some here and some there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use garden::{Limits, Metrics};

/// Where each controller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    hierarchies: Vec<Hierarchy>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    version: Version,
    controllers: Vec<Controller>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controller {
    Memory,
    Cpu,
    Cpuacct,
    Pids,
}

const CONTROLLERS: [(Controller, &str); 4] = [
    (Controller::Memory, "memory"),
    (Controller::Cpu, "cpu"),
    (Controller::Cpuacct, "cpuacct"),
    (Controller::Pids, "pids"),
];

/// The keeper is in its container's group, as one more process with a little memory.
const KEEPER_PIDS: u64 = 1;
const KEEPER_BYTES: u64 = 1 << 20;

impl Layout {
    /// What this host has.
    pub fn find() -> io::Result<Layout> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(parse(&mounts, |mount| {
            fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default()
        }))
    }

    /// The controllers that are nowhere.
    pub fn missing(&self) -> Vec<&'static str> {
        let wanted = [Controller::Memory, Controller::Cpu, Controller::Pids];
        let lacks = |wanted: &Controller| {
            !self.hierarchies.iter().any(|one| one.controllers.contains(wanted))
        };
        wanted.iter().filter(|wanted| lacks(wanted)).map(|wanted| name(*wanted)).collect()
    }

    /// Which controller is in which version's hierarchy, in an operator's words.
    pub fn versions(&self) -> String {
        let of = |version: Version, controllers: &[Controller]| {
            let wanted = controllers.iter().filter(|one| **one != Controller::Cpuacct);
            let names: Vec<_> = wanted.map(|one| name(*one)).collect();
            let number = if version == Version::One { 1 } else { 2 };
            (number, names)
        };
        let found: Vec<_> =
            self.hierarchies.iter().map(|one| of(one.version, &one.controllers)).collect();
        let version = |number| {
            let mut names: Vec<&str> = found
                .iter()
                .filter(|(own, _)| *own == number)
                .flat_map(|(_, names)| names.iter().copied())
                .collect();
            names.sort_unstable();
            (!names.is_empty()).then(|| format!("{} by version {number}", names.join(", ")))
        };
        [1, 2].into_iter().filter_map(version).collect::<Vec<_>>().join("; ")
    }

    /// The platform's own group, with the controllers given on to the groups in it.
    pub fn make_parent(&self, parent: &str) -> io::Result<()> {
        for one in &self.hierarchies {
            let path = one.mount.join(parent);
            if one.version == Version::Two {
                give_on(&one.mount, &one.controllers)?;
                make(&path)?;
                give_on(&path, &one.controllers)?;
            } else {
                make(&path)?;
            }
        }
        Ok(())
    }

    pub fn group(&self, parent: &str, child: &str) -> Group {
        let parts =
            self.hierarchies.iter().map(|one| (one.clone(), one.mount.join(parent).join(child)));
        Group { parts: parts.collect() }
    }

    /// The names of the groups in `parent`.
    pub fn children(&self, parent: &str) -> Vec<String> {
        let folders =
            self.hierarchies.iter().filter_map(|one| fs::read_dir(one.mount.join(parent)).ok());
        let entries = folders
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut names: Vec<_> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub fn remove_parent(&self, parent: &str) -> io::Result<()> {
        self.hierarchies.iter().try_for_each(|one| remove(&one.mount.join(parent)))
    }
}

/// The groups of one container, one per hierarchy.
#[derive(Clone, Debug)]
pub struct Group {
    parts: Vec<(Hierarchy, PathBuf)>,
}

impl Group {
    pub fn create(&self) -> io::Result<()> {
        self.parts.iter().try_for_each(|(_, path)| make(path))
    }

    pub fn add(&self, pid: u32) -> io::Result<()> {
        self.parts
            .iter()
            .try_for_each(|(_, path)| fs::write(path.join("cgroup.procs"), pid.to_string()))
    }

    pub fn limit(&self, limits: &Limits) -> io::Result<()> {
        for (one, path) in &self.parts {
            for controller in &one.controllers {
                for (file, value, optional) in settings(one.version, *controller, limits) {
                    match fs::write(path.join(file), value) {
                        Err(error) if optional && error.kind() == io::ErrorKind::NotFound => {}
                        result => result?,
                    }
                }
            }
        }
        Ok(())
    }

    /// From some limits to others, while everything runs. On error what was holds again, as far as that is possible.
    pub fn change(&self, before: &Limits, after: &Limits) -> io::Result<()> {
        self.lift(before, after).and_then(|()| self.limit(after)).inspect_err(|_| {
            // The error that is told says more.
            let _ = self.lift(after, before).and_then(|()| self.limit(before));
        })
    }

    /// Takes away what is limited before and not after, and what must go before another limit may rise.
    fn lift(&self, before: &Limits, after: &Limits) -> io::Result<()> {
        for (one, path) in &self.parts {
            for controller in &one.controllers {
                for (file, value) in lifted(one.version, *controller, before, after) {
                    match fs::write(path.join(file), value) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        result => result?,
                    }
                }
            }
        }
        Ok(())
    }

    /// The file with a line `oom_kill N`.
    pub fn oom_file(&self) -> Option<PathBuf> {
        let (one, path) = self.with(Controller::Memory)?;
        Some(path.join(if one == Version::One { "memory.oom_control" } else { "memory.events" }))
    }

    /// What the container sees below `/sys/fs/cgroup`: its own groups and nothing beside them. (source, folder) pairs.
    pub fn shown(&self) -> Vec<(PathBuf, String)> {
        let two_only = self.parts.iter().all(|(one, _)| one.version == Version::Two);
        let shown = self.parts.iter().filter(|(one, _)| two_only || one.version == Version::One);
        let shown = shown.map(|(one, path)| {
            let folder = one.mount.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            (path.clone(), if two_only { String::new() } else { folder.into() })
        });
        shown.collect()
    }

    pub fn pids(&self) -> Vec<i32> {
        let Some((_, path)) = self.parts.first() else { return Vec::new() };
        let listed = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        listed.lines().filter_map(|line| line.parse().ok()).collect()
    }

    pub fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::default();
        if let Some((version, path)) = self.with(Controller::Memory) {
            let stat = fs::read_to_string(path.join("memory.stat")).unwrap_or_default();
            metrics.memory_bytes = counted_memory(version, &stat);
        }
        match (self.with(Controller::Cpuacct), self.with(Controller::Cpu)) {
            (Some((Version::One, path)), _) => {
                metrics.cpu_nanos = number(&path.join("cpuacct.usage"))
            }
            (_, Some((Version::Two, path))) => {
                metrics.cpu_nanos = field(&path.join("cpu.stat"), "usage_usec") * 1_000
            }
            _ => {}
        }
        if let Some((_, path)) = self.with(Controller::Pids) {
            metrics.pids = number(&path.join("pids.current")).saturating_sub(KEEPER_PIDS);
        }
        metrics
    }

    pub fn remove(&self) -> io::Result<()> {
        self.parts.iter().try_for_each(|(_, path)| remove(path))
    }

    fn with(&self, controller: Controller) -> Option<(Version, &Path)> {
        let (one, path) =
            self.parts.iter().find(|(one, _)| one.controllers.contains(&controller))?;
        Some((one.version, path))
    }
}

fn name(controller: Controller) -> &'static str {
    CONTROLLERS.iter().find(|(known, _)| *known == controller).map_or("", |(_, name)| name)
}

/// Pure: the hierarchies that hold a controller the platform uses. `controllers` reads a version 2 mount's list.
fn parse(mountinfo: &str, controllers: impl Fn(&Path) -> String) -> Layout {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    let known = |text: &str, separator: char| -> Vec<Controller> {
        let names: Vec<_> = text.trim().split(separator).collect();
        CONTROLLERS
            .iter()
            .filter(|(_, name)| names.contains(name))
            .map(|(controller, _)| *controller)
            .collect()
    };
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let Some(mount) = before.split(' ').nth(4).map(PathBuf::from) else { continue };
        let mut after = after.split(' ');
        let (version, found) = match after.next() {
            Some("cgroup") => (Version::One, known(after.nth(1).unwrap_or(""), ',')),
            Some("cgroup2") => (Version::Two, known(&controllers(&mount), ' ')),
            _ => continue,
        };
        let seen = |controller: &Controller| {
            hierarchies.iter().any(|one| one.controllers.contains(controller))
        };
        let found: Vec<_> = found.into_iter().filter(|controller| !seen(controller)).collect();
        if !found.is_empty() {
            hierarchies.push(Hierarchy { mount, version, controllers: found });
        }
    }
    Layout { hierarchies }
}

/// Pure: (file, value, may be missing) in the order they must be written.
fn settings(
    version: Version,
    controller: Controller,
    limits: &Limits,
) -> Vec<(&'static str, String, bool)> {
    let memory =
        (limits.memory_bytes > 0).then(|| (limits.memory_bytes + KEEPER_BYTES).to_string());
    let pids = (limits.pids > 0).then(|| (limits.pids + KEEPER_PIDS).to_string());
    match (version, controller) {
        (Version::One, Controller::Memory) => memory.map_or_else(Vec::new, |bytes| {
            vec![
                ("memory.limit_in_bytes", bytes.clone(), false),
                ("memory.memsw.limit_in_bytes", bytes, true),
            ]
        }),
        (Version::Two, Controller::Memory) => memory.map_or_else(Vec::new, |bytes| {
            vec![("memory.max", bytes, false), ("memory.swap.max", "0".into(), true)]
        }),
        (Version::One, Controller::Cpu) if limits.cpu_shares > 0 => {
            vec![("cpu.shares", limits.cpu_shares.max(2).to_string(), false)]
        }
        (Version::Two, Controller::Cpu) if limits.cpu_shares > 0 => {
            vec![("cpu.weight", weight(limits.cpu_shares).to_string(), false)]
        }
        (_, Controller::Pids) => pids.map_or_else(Vec::new, |most| vec![("pids.max", most, false)]),
        _ => Vec::new(),
    }
}

/// Pure: (file, value) that take a limit away. Version 1 keeps memory with swap above memory alone, so it goes first.
fn lifted(
    version: Version,
    controller: Controller,
    before: &Limits,
    after: &Limits,
) -> Vec<(&'static str, &'static str)> {
    let memory = before.memory_bytes > 0 && before.memory_bytes != after.memory_bytes;
    match (version, controller) {
        (Version::One, Controller::Memory)
            if memory && (after.memory_bytes == 0 || after.memory_bytes > before.memory_bytes) =>
        {
            vec![("memory.memsw.limit_in_bytes", "-1"), ("memory.limit_in_bytes", "-1")]
        }
        (Version::Two, Controller::Memory) if memory && after.memory_bytes == 0 => {
            vec![("memory.max", "max"), ("memory.swap.max", "max")]
        }
        (Version::One, Controller::Cpu) if after.cpu_shares == 0 => vec![("cpu.shares", "1024")],
        (Version::Two, Controller::Cpu) if after.cpu_shares == 0 => vec![("cpu.weight", "100")],
        (_, Controller::Pids) if after.pids == 0 => vec![("pids.max", "max")],
        _ => Vec::new(),
    }
}

/// Version 2 counts from 1 to 10,000 what version 1 counts from 2 to 262,144; 1024 shares are the usual weight of 100.
fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    if shares <= 1024 {
        (shares * 100 / 1024).max(1)
    } else {
        (100 + (shares - 1024) * 9_900 / 261_120).min(10_000)
    }
}

/// Pure: memory of processes, and of files but for those that nobody has looked at lately, with all groups below.
fn counted_memory(version: Version, stat: &str) -> u64 {
    let [processes, files, idle] = match version {
        Version::One => ["total_rss", "total_cache", "total_inactive_file"],
        Version::Two => ["anon", "file", "inactive_file"],
    };
    let of = |key: &str| value(stat, key);
    of(processes) + of(files).saturating_sub(of(idle))
}

fn give_on(path: &Path, controllers: &[Controller]) -> io::Result<()> {
    let wanted: Vec<_> =
        controllers.iter().map(|controller| format!("+{}", name(*controller))).collect();
    fs::write(path.join("cgroup.subtree_control"), wanted.join(" "))
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn number(path: &Path) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn field(path: &Path, key: &str) -> u64 {
    value(&fs::read_to_string(path).unwrap_or_default(), key)
}

/// Of one line of a list.
fn value(list: &str, key: &str) -> u64 {
    let value =
        list.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const UNIFIED: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn controllers_are_found_where_they_are() {
        let layout = parse(HYBRID, |_| "pids\n".into());
        let of = |mount: &str| {
            let found = layout.hierarchies.iter().find(|one| one.mount == Path::new(mount));
            found.map(|one| (one.version, one.controllers.clone()))
        };
        let cpu = vec![Controller::Cpu, Controller::Cpuacct];
        assert_eq!(of("/sys/fs/cgroup/cpu,cpuacct"), Some((Version::One, cpu)));
        assert_eq!(of("/sys/fs/cgroup/unified"), Some((Version::Two, vec![Controller::Pids])));
        assert_eq!(of("/sys/fs/cgroup/systemd"), None);
        assert!(layout.missing().is_empty());
        assert_eq!(layout.versions(), "cpu, memory by version 1; pids by version 2");
        assert_eq!(parse("", |_| String::new()).missing(), ["memory", "cpu", "pids"]);
    }

    #[test]
    fn version_2_has_all_in_one_place() {
        let layout = parse(UNIFIED, |_| "cpuset cpu io memory pids\n".into());
        assert_eq!(layout.hierarchies.len(), 1);
        let group = layout.group("cupola", "7");
        assert_eq!(group.shown(), [(PathBuf::from("/sys/fs/cgroup/cupola/7"), String::new())]);
        assert_eq!(group.oom_file(), Some("/sys/fs/cgroup/cupola/7/memory.events".into()));
    }

    #[test]
    fn limits_in_both_languages() {
        let limits = Limits { memory_bytes: 64 << 20, cpu_shares: 1024, pids: 99, disk_bytes: 0 };
        let said = |version, controller| settings(version, controller, &limits)[0].clone();
        assert_eq!(said(Version::One, Controller::Memory).0, "memory.limit_in_bytes");
        assert_eq!(
            said(Version::Two, Controller::Memory),
            ("memory.max", (65 << 20).to_string(), false)
        );
        assert_eq!(said(Version::Two, Controller::Cpu).1, "100");
        assert_eq!(said(Version::One, Controller::Pids).1, "100");
        assert!(settings(Version::One, Controller::Memory, &Limits::default()).is_empty());
    }

    #[test]
    fn limits_are_lifted_before_they_rise() {
        let limits = |memory_bytes| Limits { memory_bytes, pids: 5, ..Limits::default() };
        let lifts =
            |version, controller, after| lifted(version, controller, &limits(9), &limits(after));
        assert_eq!(lifts(Version::One, Controller::Memory, 10)[0].0, "memory.memsw.limit_in_bytes");
        assert!(lifts(Version::One, Controller::Memory, 8).is_empty());
        assert!(lifts(Version::Two, Controller::Memory, 10).is_empty());
        assert_eq!(lifts(Version::Two, Controller::Memory, 0)[0], ("memory.max", "max"));
        assert!(lifts(Version::One, Controller::Pids, 0).is_empty());
        let none = Limits::default();
        assert_eq!(
            lifted(Version::Two, Controller::Pids, &limits(1), &none),
            [("pids.max", "max")]
        );
    }

    #[test]
    fn memory_counts_as_it_is_limited() {
        let one = "cache 1\ntotal_cache 100\ntotal_rss 20\ntotal_inactive_file 70\n";
        assert_eq!(counted_memory(Version::One, one), 50);
        let two = "anon 20\nfile 100\nkernel 7\ninactive_file 70\n";
        assert_eq!(counted_memory(Version::Two, two), 50);
        assert_eq!(counted_memory(Version::Two, ""), 0);
    }

    #[test]
    fn weights_keep_their_order() {
        assert_eq!([2, 10, 1024, 262_144].map(weight), [1, 1, 100, 10_000]);
    }
}
