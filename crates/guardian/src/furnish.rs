//! What the platform itself puts into a container's writable layer before anything runs.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

/// Who an application runs as.
const VCAP: u32 = 2000;

/// Names and addresses a container begins with.
pub struct Identity<'a> {
    pub hostname: &'a str,
    pub hosts: String,
    pub resolv_conf: String,
    /// The host's id for the container's root; without one everything stays this program's own user's.
    pub owner: Option<u32>,
}

/// Fills a new layer, which is empty and of this program alone, so that no link in it leads anywhere.
pub fn furnish(upper: &Path, identity: &Identity) -> io::Result<()> {
    own(upper, identity.owner, 0, 0o755)?;
    for (folder, user, mode) in
        [("etc", 0, 0o755), ("home", 0, 0o755), ("home/vcap", VCAP, 0o755), ("tmp", 0, 0o1777)]
    {
        let path = upper.join(folder);
        fs::create_dir(&path)?;
        own(&path, identity.owner, user, mode)?;
    }
    let hostname = format!("{}\n", identity.hostname);
    for (file, content) in [
        ("etc/hostname", &hostname),
        ("etc/hosts", &identity.hosts),
        ("etc/resolv.conf", &identity.resolv_conf),
    ] {
        let path = upper.join(file);
        fs::write(&path, content)?;
        own(&path, identity.owner, 0, 0o644)?;
    }
    Ok(())
}

/// What `/etc/hosts` says in a container.
pub fn hosts(address: Ipv4Addr, hostname: &str) -> String {
    format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{address} {hostname}\n")
}

fn own(path: &Path, owner: Option<u32>, user: u32, mode: u32) -> io::Result<()> {
    if let Some(owner) = owner {
        chown(path, Some(owner + user), Some(owner + user))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// A host name out of a handle, which may hold anything.
pub fn hostname(handle: &str) -> String {
    let allowed = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let name: String = handle.chars().map(allowed).take(63).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "container".into() } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_host_names() {
        assert_eq!(hostname("3f2a-app_1"), "3f2a-app-1");
        assert_eq!(hostname("__"), "container");
        assert_eq!(hostname(&"a".repeat(80)).len(), 63);
    }
}
