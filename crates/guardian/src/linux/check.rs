//! What a host must offer for isolated containers, as data: each with what to do when it does not.

use std::fs;
use std::path::Path;

use super::cgroups::Layout;

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do about it; empty when all is well.
    pub remedy: &'static str,
}

/// Looks at everything, changes nothing.
pub fn check() -> Vec<Check> {
    vec![root(), user_namespaces(), kernel(), overlay(), cgroups(), nft(), forwarding()]
}

fn result(name: &'static str, ok: bool, detail: impl Into<String>, remedy: &'static str) -> Check {
    Check { name, ok, detail: detail.into(), remedy: if ok { "" } else { remedy } }
}

fn root() -> Check {
    let root = rustix::process::geteuid().is_root();
    let detail = format!("user {}", rustix::process::geteuid().as_raw());
    result("root", root, detail, "run as root, or use plain processes")
}

fn user_namespaces() -> Check {
    let most = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    let most: u64 = most.trim().parse().unwrap_or(0);
    result(
        "user namespaces",
        most > 0,
        format!("at most {most}"),
        "set the sysctl user.max_user_namespaces to some thousands",
    )
}

/// Id-mapped mounts came with 5.12, their use below overlayfs with 5.19.
fn kernel() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    result("kernel", version(release) >= (5, 19), release, "use a kernel of 5.19 or newer")
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn overlay() -> Check {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let known = known.lines().any(|line| line.split_whitespace().last() == Some("overlay"));
    let module = Path::new("/sys/module/overlay").exists();
    result(
        "overlayfs",
        known || module,
        if known { "there" } else { "not loaded" },
        "load it: modprobe overlay",
    )
}

fn cgroups() -> Check {
    let layout = Layout::find();
    let missing = layout.as_ref().map_or_else(
        |error| vec![error.to_string()],
        |layout| layout.missing().iter().map(|one| (*one).into()).collect(),
    );
    let found = layout.map_or_else(|_| String::new(), |layout| layout.versions());
    let detail = match (missing.is_empty(), found.is_empty()) {
        (true, _) => found,
        (false, true) => format!("without {}", missing.join(", ")),
        (false, false) => format!("{found}; without {}", missing.join(", ")),
    };
    result(
        "control groups",
        missing.is_empty(),
        detail,
        "mount cgroup2 on /sys/fs/cgroup with the controllers memory, cpu and pids",
    )
}

fn nft() -> Check {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|folder| folder.join("nft")).find(|path| path.is_file());
    let detail =
        found.as_ref().map_or_else(|| "not in PATH".into(), |path| path.display().to_string());
    result("nft", found.is_some(), detail, "install nftables: apt-get install -y nftables")
}

/// Made so at start; here only whether that is possible.
fn forwarding() -> Check {
    let now = fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
    let detail = match &now {
        Ok(now) if now.trim() == "1" => "on".into(),
        Ok(_) => "off, switched on at start".into(),
        Err(error) => error.to_string(),
    };
    result("IPv4 forwarding", now.is_ok(), detail, "mount /proc/sys writable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_read() {
        assert_eq!(version("6.18.44-fc"), (6, 18));
        assert_eq!(version("5.19"), (5, 19));
        assert_eq!(version(""), (0, 0));
    }

    #[test]
    fn what_is_well_needs_no_remedy() {
        assert!(check().iter().all(|check| check.ok == check.remedy.is_empty()));
    }
}
