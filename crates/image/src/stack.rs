//! The stack that needs no download: this machine's `/usr`, read-only, in a skeleton of its own with a generated `/etc`.
//! Nothing else of the machine shows.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use garden::{BindMount, Rootfs};
use sha2::{Digest as _, Sha256};

use crate::{VCAP, etc};

/// Counts on when what is generated changes.
const GENERATION: u32 = 3;
/// Links into `/usr` on merged systems, folders of their own on others.
const USR_MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
const FOLDERS: [(&str, u32); 22] = [
    ("usr", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("root", 0o700),
    ("tmp", 0o1777),
    ("proc", 0o555),
    ("sys", 0o555),
    ("dev", 0o755),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("mnt", 0o755),
    ("media", 0o755),
    ("opt", 0o755),
    ("srv", 0o755),
    ("var", 0o755),
    ("var/tmp", 0o1777),
    ("var/log", 0o755),
    ("var/lib", 0o755),
    ("var/cache", 0o755),
    ("var/spool", 0o755),
    ("var/mail", 0o755),
    ("home/vcap", 0o755),
];

/// The skeleton for this machine as it is now, made when there is none.
pub(crate) fn host(stacks: &Path, workshop: &Path) -> anyhow::Result<Rootfs> {
    let lower = stacks.join(format!("host-{}", fingerprint()));
    if !lower.is_dir() {
        let draft = tempfile::Builder::new().prefix("stack-").tempdir_in(workshop)?;
        build(draft.path()).context("making the stack of this machine's /usr")?;
        match std::fs::rename(draft.path(), &lower) {
            Ok(()) => drop(draft.keep()),
            Err(_) if lower.is_dir() => {}
            Err(error) => return Err(error).context("putting the stack in its place"),
        }
    }
    let own = USR_MERGED
        .iter()
        .map(|name| Path::new("/").join(name))
        .filter(|path| path.is_dir() && !path.is_symlink());
    let binds = std::iter::once(PathBuf::from("/usr")).chain(own);
    let binds = binds
        .map(|path| BindMount { source: path.clone(), target: path, writable: false })
        .collect();
    Ok(Rootfs { lower, binds })
}

/// Differs when something that is copied from the machine has changed.
fn fingerprint() -> String {
    let mut seen = format!("{GENERATION}");
    for name in etc::COPIED {
        if let Ok(meta) = std::fs::metadata(Path::new("/etc").join(name)) {
            // Writing to a string cannot fail.
            let _ = write!(seen, " {name} {} {}", meta.mtime(), meta.mtime_nsec());
        }
    }
    Sha256::digest(seen.as_bytes())[..8]
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn build(root: &Path) -> anyhow::Result<()> {
    std::fs::set_permissions(root, Permissions::from_mode(0o755))?;
    for (name, mode) in FOLDERS {
        std::fs::create_dir(root.join(name))?;
        std::fs::set_permissions(root.join(name), Permissions::from_mode(mode))?;
    }
    symlink("/run", root.join("var/run"))?;
    symlink("/run/lock", root.join("var/lock"))?;
    if rustix::process::geteuid().is_root() {
        chown(root.join("home/vcap"), Some(VCAP), Some(VCAP))?;
    }
    for name in USR_MERGED {
        let host = Path::new("/").join(name);
        match std::fs::read_link(&host) {
            Ok(target) => symlink(target, root.join(name))?,
            Err(_) if host.is_dir() => std::fs::create_dir(root.join(name))?,
            Err(_) => {}
        }
    }
    etc::build(Path::new("/etc"), &root.join("etc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_shows_usr_and_nothing_private() {
        let folder = tempfile::tempdir().unwrap();
        let (stacks, workshop) = (folder.path().join("stacks"), folder.path().join("tmp"));
        std::fs::create_dir(&stacks).unwrap();
        std::fs::create_dir(&workshop).unwrap();
        let rootfs = host(&stacks, &workshop).unwrap();
        assert_eq!(rootfs, host(&stacks, &workshop).unwrap(), "made once");
        assert!(rootfs.binds.iter().any(|bind| bind.source == Path::new("/usr") && !bind.writable));
        let passwd = std::fs::read_to_string(rootfs.lower.join("etc/passwd")).unwrap();
        assert!(passwd.contains("vcap:x:2000:2000:"), "{passwd}");
        for private in ["etc/shadow", "etc/gshadow", "etc/machine-id", "etc/ssh", "etc/ssl/private"]
        {
            assert!(!rootfs.lower.join(private).exists(), "{private}");
        }
        assert_eq!(std::fs::metadata(rootfs.lower.join("tmp")).unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(std::fs::read_dir(&workshop).unwrap().count(), 0);
    }
}
