//! A root file system out of the host's own programs.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use garden::{BindMount, Rootfs};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nvcap:x:2000:2000::/home/vcap:/bin/sh\n";

/// The host's `/usr`, and an `/etc` with two users.
pub fn of_host(at: &Path) -> io::Result<Rootfs> {
    for folder in ["etc", "usr", "tmp", "root"] {
        fs::create_dir_all(at.join(folder))?;
    }
    for link in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{link}"), at.join(link))?;
    }
    fs::write(at.join("etc/passwd"), PASSWD)?;
    fs::write(at.join("etc/group"), "root:x:0:\nvcap:x:2000:\n")?;
    let usr = BindMount { source: "/usr".into(), target: "/usr".into(), writable: false };
    Ok(Rootfs { lower: at.into(), binds: vec![usr] })
}
