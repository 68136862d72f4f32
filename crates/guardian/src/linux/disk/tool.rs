//! Programs and requests of the host that more than one way of limiting needs.
#![expect(unsafe_code, reason = "a program that ends with its parent")]

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a program of the host to its end; what it complained of is the error. Should this program be killed, so is that
/// one: what it would still do then nobody would take back.
pub fn run(command: &mut Command) -> io::Result<()> {
    // SAFETY: the closure makes one system call with plain numbers, and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0);
            Ok(())
        });
    }
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        let program = command.get_program().to_string_lossy().into_owned();
        io::Error::new(error.kind(), format!("{program}: {error}"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(&output.stderr).chars().take(500).collect();
    Err(io::Error::other(format!("{}: {}", command.get_program().to_string_lossy(), said.trim())))
}

/// Whether something is mounted on this folder.
pub fn is_mounted(mount: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|about| about.dev());
    match device(mount) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        here => Ok(here? != device(&mount.join(".."))?),
    }
}

/// The loop device goes with the mount.
pub fn unmount(mount: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH)?)
}
