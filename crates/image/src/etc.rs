//! The stack's `/etc`: accounts of its own, and from the machine only what programs under `/usr` need to work.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::Context as _;

/// Copied from the machine where present. What not everybody may read there is left out.
pub(crate) const COPIED: [&str; 46] = [
    // Where programs find libraries, and one another.
    "alternatives",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    // Whom TLS trusts.
    "ssl/certs",
    "ssl/openssl.cnf",
    "ca-certificates.conf",
    "pki",
    "crypto-policies",
    // What system this is.
    "os-release",
    "lsb-release",
    "debian_version",
    "issue",
    // Language and time.
    "localtime",
    "timezone",
    "locale.alias",
    "locale.conf",
    "default/locale",
    // Names of protocols, types and terminals.
    "services",
    "protocols",
    "rpc",
    "networks",
    "host.conf",
    "gai.conf",
    "mime.types",
    "magic",
    "terminfo",
    "inputrc",
    // Shells.
    "profile",
    "profile.d",
    "bash.bashrc",
    "bash_completion.d",
    "skel",
    // Language runtimes and their package managers: a site's mirrors are set here.
    "pip.conf",
    "npmrc",
    "gemrc",
    "gitconfig",
    "python3",
    "python3.11",
    "python3.13",
    "perl",
    "php",
    "java-17-openjdk",
    "java-21-openjdk",
    "fonts",
    "ImageMagick-6",
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
    bin:x:2:2:bin:/bin:/usr/sbin/nologin\nsys:x:3:3:sys:/dev:/usr/sbin/nologin\n\
    www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nvcap:x:2000:2000:vcap:/home/vcap:/bin/bash\n\
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nmail:x:8:\nwww-data:x:33:\n\
    staff:x:50:\nusers:x:100:\nvcap:x:2000:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n";

pub(crate) fn build(host: &Path, etc: &Path) -> anyhow::Result<()> {
    for name in COPIED {
        let (from, to) = (host.join(name), etc.join(name));
        if from.symlink_metadata().is_ok() {
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent)?;
            }
            copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        }
    }
    let written = [
        ("passwd", PASSWD),
        ("group", GROUP),
        ("nsswitch.conf", NSSWITCH),
        ("hostname", "container\n"),
        ("hosts", "127.0.0.1 localhost\n"),
        ("resolv.conf", ""),
    ];
    for (name, text) in written {
        std::fs::write(etc.join(name), text)?;
    }
    for path in SITE_SETTINGS.map(|name| etc.join(name)) {
        // A link leads to the machine's own file, which is not ours to write.
        if path.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
            let bytes = std::fs::read(&path)?;
            std::fs::write(path, without_credentials(&String::from_utf8_lossy(&bytes)))?;
        }
    }
    if !etc.join("lsb-release").exists() {
        let system = std::fs::read_to_string(host.join("os-release")).unwrap_or_default();
        std::fs::write(etc.join("lsb-release"), lsb_release(&system))?;
    }
    symlink("/proc/self/mounts", etc.join("mtab"))?;
    Ok(())
}

/// Settings of package managers, without the lines that hold credentials: those are the machine's, not its apps'.
const SITE_SETTINGS: [&str; 4] = ["pip.conf", "npmrc", "gemrc", "gitconfig"];

fn without_credentials(text: &str) -> String {
    const SECRETS: [&str; 5] = ["auth", "password", "token", "secret", "credential"];
    let holds = |line: &str| {
        let line = line.to_ascii_lowercase();
        let user_in_address = line
            .split_once("://")
            .is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|host| host.contains('@')));
        user_in_address || SECRETS.iter().any(|secret| line.contains(secret))
    };
    text.lines().filter(|line| !holds(line)).map(|line| format!("{line}\n")).collect()
}

/// What `os-release` says, in the older form that programs for Ubuntu look for.
fn lsb_release(os_release: &str) -> String {
    const KEYS: [(&str, &str); 4] = [
        ("DISTRIB_ID", "NAME"),
        ("DISTRIB_RELEASE", "VERSION_ID"),
        ("DISTRIB_CODENAME", "VERSION_CODENAME"),
        ("DISTRIB_DESCRIPTION", "PRETTY_NAME"),
    ];
    let value = |key: &str| {
        let mut lines = os_release.lines().filter_map(|line| line.split_once('='));
        lines.find(|(name, _)| *name == key).map(|(_, value)| value)
    };
    KEYS.iter().filter_map(|(ours, theirs)| Some(format!("{ours}={}\n", value(theirs)?))).collect()
}

/// Links are kept as links: those of `/etc/alternatives` lead to `/usr`, which the stack has at the same place.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let meta = from.symlink_metadata()?;
    if meta.is_symlink() {
        symlink(std::fs::read_link(from)?, to)?;
    } else if meta.mode() & 0o004 == 0 {
        return Ok(());
    } else if meta.is_dir() {
        std::fs::create_dir_all(to)?;
        std::fs::set_permissions(to, Permissions::from_mode(0o755))?;
        for entry in std::fs::read_dir(from)? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
    } else if meta.is_file() {
        std::fs::copy(from, to)?;
        std::fs::set_permissions(to, Permissions::from_mode(meta.mode() & 0o755))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_on_the_machine() {
        let text = "[global]\nindex-url = https://me:pw@mirror.example/simple\ncert = /etc/ssl/ca.crt\n\
                    //registry.example/:_authToken=abc\nregistry=https://registry.example/@scope\n";
        let want = "[global]\ncert = /etc/ssl/ca.crt\nregistry=https://registry.example/@scope\n";
        assert_eq!(without_credentials(text), want);
    }

    #[test]
    fn lsb_release_says_what_os_release_says() {
        let text = lsb_release(
            "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n",
        );
        let want =
            "DISTRIB_ID=\"Debian GNU/Linux\"\nDISTRIB_RELEASE=\"12\"\nDISTRIB_CODENAME=bookworm\n";
        assert_eq!(text, want);
    }
}
