//! The host's own limits, which hundreds of containers reach sooner than memory or disk: raised where that is allowed,
//! complained of where it is not. Nothing is ever lowered.

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::info;

/// Files this program holds open for one container: its keeper, its folder, watches, pipes of a transfer.
const FILES_EACH: u64 = 24;
/// Folders of output that are watched for one container; ended processes are kept for a while.
const WATCHES_EACH: u64 = 128;
/// What one container's applications may run; far above the usual, for the sum is bounded by memory.
const PIDS_EACH: u64 = 128;
/// Connections that the host tracks for one container.
const CONNECTIONS_EACH: u64 = 512;
/// For everything else on the host.
const FILES_BESIDES: u64 = 4096;

/// A limit that is too low for so many containers, and could not be raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// As the host names it: `fs.inotify.max_user_instances`.
    pub limit: String,
    pub is: u64,
    pub wanted: u64,
    /// What goes wrong, and what an operator can do.
    pub remedy: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Complaint { limit, is, wanted, remedy } = self;
        write!(f, "{limit} is {is}, too low for this cell, which wants {wanted}: {remedy}")
    }
}

/// One number below `/proc/sys`.
#[derive(Clone, Copy, Debug)]
struct Knob {
    name: &'static str,
    wanted: u64,
    consequence: &'static str,
}

impl Knob {
    fn path(&self, root: &Path) -> PathBuf {
        root.join(self.name.replace('.', "/"))
    }

    fn complaint(&self, is: u64) -> Complaint {
        let Knob { name, wanted, consequence } = *self;
        let remedy = format!(
            "{consequence}; run `sysctl -w {name}={wanted}` as root and add {name} = {wanted} to a file in /etc/sysctl.d"
        );
        Complaint { limit: name.to_owned(), is, wanted, remedy }
    }
}

fn knobs(instances: u64) -> [Knob; 8] {
    let knob = |name, wanted, consequence| Knob { name, wanted, consequence };
    [
        knob(
            "fs.inotify.max_user_instances",
            512.max(instances),
            "applications that watch files fail to start",
        ),
        knob(
            "fs.inotify.max_user_watches",
            65_536.max(instances * WATCHES_EACH),
            "output of containers is not seen in time",
        ),
        knob(
            "fs.file-max",
            instances * FILES_EACH * 4 + FILES_BESIDES,
            "files cannot be opened any more, anywhere on this host",
        ),
        knob(
            "kernel.pid_max",
            32_768.max(instances * PIDS_EACH),
            "processes cannot be started any more",
        ),
        knob(
            "kernel.threads-max",
            32_768.max(instances * PIDS_EACH),
            "processes and threads cannot be started any more",
        ),
        knob(
            "net.netfilter.nf_conntrack_max",
            65_536.max(instances * CONNECTIONS_EACH),
            "the host drops new connections to and from containers",
        ),
        knob(
            "net.ipv4.neigh.default.gc_thresh3",
            1024.max(instances * 4),
            "containers lose their neighbours on the network",
        ),
        knob("net.core.somaxconn", 4096, "bursts of connections are refused"),
    ]
}

/// Makes the host ready for so many containers. Answers with what remains too low; that is no reason not to start.
pub fn prepare(instances: u64) -> Vec<Complaint> {
    let mut complaints = prepare_below(Path::new("/proc/sys"), instances);
    complaints.extend(open_files(instances * FILES_EACH + FILES_BESIDES));
    complaints
}

/// What [`prepare`] would complain of. Nothing is changed but this program's own limit of open files.
pub fn look(instances: u64) -> Vec<Complaint> {
    let root = Path::new("/proc/sys");
    let mut complaints: Vec<_> =
        knobs(instances).iter().filter_map(|knob| stuck(root, knob)).collect();
    complaints.extend(open_files(instances * FILES_EACH + FILES_BESIDES));
    complaints
}

/// Too low, and nothing that this program may raise.
fn stuck(root: &Path, knob: &Knob) -> Option<Complaint> {
    let path = knob.path(root);
    let is = read(&path).filter(|is| *is < knob.wanted)?;
    let raisable = std::fs::OpenOptions::new().write(true).open(&path).is_ok();
    (!raisable).then(|| knob.complaint(is))
}

fn prepare_below(root: &Path, instances: u64) -> Vec<Complaint> {
    knobs(instances).iter().filter_map(|knob| turn(root, knob)).collect()
}

/// A limit that this host does not have is no limit.
fn turn(root: &Path, knob: &Knob) -> Option<Complaint> {
    let path = knob.path(root);
    let is = read(&path).filter(|is| *is < knob.wanted)?;
    let raised = std::fs::write(&path, knob.wanted.to_string()).is_ok();
    let now = read(&path).unwrap_or(is);
    if raised && now >= knob.wanted {
        info!(limit = knob.name, from = is, to = now, "raised a limit of the host");
        return None;
    }
    Some(knob.complaint(now))
}

fn read(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

/// Of this program: its soft limit goes up to what is wanted, its hard limit too where that is allowed.
fn open_files(wanted: u64) -> Option<Complaint> {
    let now = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    if enough(now.current) {
        return None;
    }
    let both = Rlimit {
        current: Some(wanted),
        maximum: if enough(now.maximum) { now.maximum } else { Some(wanted) },
    };
    if setrlimit(Resource::Nofile, both).is_ok() {
        return None;
    }
    let soft = Rlimit { current: now.maximum, maximum: now.maximum };
    let is = match setrlimit(Resource::Nofile, soft) {
        Ok(()) => now.maximum.unwrap_or(u64::MAX),
        Err(_) => now.current.unwrap_or(u64::MAX),
    };
    Some(Complaint {
        limit: "open files (RLIMIT_NOFILE)".to_owned(),
        is,
        wanted,
        remedy: format!(
            "containers cannot be followed any more; start the program under `ulimit -n {wanted}`, or with LimitNOFILE={wanted} in its systemd unit"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(values: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, value) in values {
            let path = dir.path().join(name.replace('.', "/"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, value).unwrap();
        }
        dir
    }

    #[test]
    fn what_is_too_low_is_raised_and_the_rest_left_alone() {
        let host = host(&[
            ("fs.inotify.max_user_instances", "128\n"),
            ("kernel.pid_max", "4194304\n"),
            ("net.core.somaxconn", "4096\n"),
        ]);
        assert_eq!(prepare_below(host.path(), 1000), []);
        let low = Knob { name: "fs.inotify.max_user_instances", wanted: 2000, consequence: "" };
        assert_eq!(stuck(host.path(), &low), None, "whoever may raise it need not be told");
        let read = |name: &str| read(&host.path().join(name.replace('.', "/")));
        assert_eq!(read("fs.inotify.max_user_instances"), Some(1000));
        assert_eq!(read("kernel.pid_max"), Some(4_194_304));
        assert_eq!(read("fs.inotify.max_user_watches"), None);
    }

    #[test]
    fn what_cannot_be_raised_is_complained_of_with_a_remedy() {
        // The kernel lets nobody write this one.
        let knob = Knob { name: "kernel.ngroups_max", wanted: 1 << 40, consequence: "groups lack" };
        let complaint = turn(Path::new("/proc/sys"), &knob).unwrap();
        assert_eq!(stuck(Path::new("/proc/sys"), &knob), Some(complaint.clone()));
        assert_eq!((complaint.is, complaint.wanted), (65_536, 1 << 40));
        assert_eq!(
            complaint.to_string(),
            "kernel.ngroups_max is 65536, too low for this cell, which wants 1099511627776: groups lack; \
             run `sysctl -w kernel.ngroups_max=1099511627776` as root and add kernel.ngroups_max = 1099511627776 \
             to a file in /etc/sysctl.d"
        );
    }

    #[test]
    fn open_files_go_up_to_what_is_allowed() {
        let limit = getrlimit(Resource::Nofile);
        let modest = limit.current.map_or(1024, |current| current.min(1024));
        assert_eq!(open_files(modest), None);
        if let Some(complaint) = open_files(u64::MAX / 2) {
            assert!(complaint.remedy.contains("ulimit -n"), "{complaint}");
            assert!(complaint.is >= modest);
        }
    }
}
