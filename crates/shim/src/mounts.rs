//! The new mount interface: every mount is made detached, then put in its place by descriptor.
#![expect(unsafe_code, reason = "system calls")]

use std::os::fd::RawFd;

use libc::{c_int, c_ulong};

use crate::sys::{Fault, Result, arg, call, close, done, fault, text};

pub const READ_ONLY: u64 = 0x1;
pub const NO_SUID: u64 = 0x2;
pub const NO_DEV: u64 = 0x4;
pub const NO_EXEC: u64 = 0x8;
const IDMAP: u64 = 0x10_0000;

const CLONE: c_ulong = 1;
const RECURSIVE: c_ulong = 0x8000;
const EMPTY_PATH: c_ulong = 0x1000;
const CLOEXEC: c_ulong = libc::O_CLOEXEC as c_ulong;
const HERE: c_ulong = libc::AT_FDCWD as c_ulong;

const FSCONFIG_SET_FLAG: c_ulong = 0;
const FSCONFIG_SET_STRING: c_ulong = 1;
const FSCONFIG_CMD_CREATE: c_ulong = 6;

const MOVE_MOUNT_F_EMPTY_PATH: c_ulong = 4;

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Makes a file system of `kind`; options without a value are flags.
pub fn make(kind: &str, options: &[(&str, Option<&str>)], attributes: u64) -> Result<RawFd> {
    let name = text(kind)?;
    let fs = done(call(libc::SYS_fsopen, [arg(&name), 1, 0, 0, 0, 0]), &format!("opening {kind}"))?;
    let made = (|| {
        for (key, value) in options {
            let key_text = text(key)?;
            let result = match value {
                Some(value) => {
                    let value = text(value)?;
                    call(
                        libc::SYS_fsconfig,
                        [fs as _, FSCONFIG_SET_STRING, arg(&key_text), arg(&value), 0, 0],
                    )
                }
                None => {
                    call(libc::SYS_fsconfig, [fs as _, FSCONFIG_SET_FLAG, arg(&key_text), 0, 0, 0])
                }
            };
            done(result, &format!("setting {key} of {kind}"))?;
        }
        done(
            call(libc::SYS_fsconfig, [fs as _, FSCONFIG_CMD_CREATE, 0, 0, 0, 0]),
            &format!("making {kind}"),
        )?;
        done(
            call(libc::SYS_fsmount, [fs as _, 1, attributes, 0, 0, 0]),
            &format!("mounting {kind}"),
        )
    })();
    close(fs as RawFd);
    Ok(made? as RawFd)
}

/// A detached copy of the mount at `path`, with all below it when `recursive`.
pub fn copy(path: &str, recursive: bool) -> Result<RawFd> {
    let path = text(path)?;
    let flags = CLONE | CLOEXEC | if recursive { RECURSIVE } else { 0 };
    let result = call(libc::SYS_open_tree, [HERE, arg(&path), flags, 0, 0, 0]);
    Ok(done(result, &format!("taking {}", path.to_string_lossy()))? as RawFd)
}

/// Adds attributes to a detached mount; `map` is the user namespace its ids are shown through.
pub fn set(mount: RawFd, attributes: u64, map: Option<RawFd>, recursive: bool) -> Result<()> {
    let attr = MountAttr {
        set: attributes | if map.is_some() { IDMAP } else { 0 },
        clear: 0,
        propagation: 0,
        userns_fd: map.unwrap_or(0) as u64,
    };
    let empty = text("")?;
    let flags = EMPTY_PATH | if recursive { RECURSIVE } else { 0 };
    let size = size_of::<MountAttr>() as c_ulong;
    let at = &raw const attr as c_ulong;
    let result = call(libc::SYS_mount_setattr, [mount as _, arg(&empty), flags, at, size, 0]);
    done(result, if map.is_some() { "mapping the ids of a mount" } else { "restricting a mount" })?;
    Ok(())
}

/// Puts a detached mount in its place and forgets the descriptor.
pub fn attach(mount: RawFd, target: &str) -> Result<()> {
    let (empty, path) = (text("")?, text(target)?);
    let result = call(
        libc::SYS_move_mount,
        [mount as _, arg(&empty), HERE, arg(&path), MOVE_MOUNT_F_EMPTY_PATH, 0],
    );
    close(mount);
    done(result, &format!("mounting on {target}")).map(drop)
}

/// Hides what lies at `target`: a file behind the null device, a folder behind an empty one. What does not exist needs no hiding.
pub fn mask(target: &str) -> Result<()> {
    let Ok(about) = std::fs::symlink_metadata(target) else { return Ok(()) };
    let cover = if about.is_dir() {
        make(
            "tmpfs",
            &[("size", Some("0")), ("nr_inodes", Some("1"))],
            READ_ONLY | NO_SUID | NO_DEV | NO_EXEC,
        )?
    } else {
        copy("/dev/null", false)?
    };
    attach(cover, target)
}

/// Makes `target` read-only where it is.
pub fn freeze(target: &str) -> Result<()> {
    if std::fs::symlink_metadata(target).is_err() {
        return Ok(());
    }
    let again = copy(target, true)?;
    set(again, READ_ONLY, None, true)?;
    attach(again, target)
}

/// Keeps mount events of this namespace from every other one.
pub fn make_private() -> Result<()> {
    let root = text("/")?;
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: the unused pointers may be null; the path is a terminated string.
    let result = unsafe {
        libc::mount(std::ptr::null(), root.as_ptr(), std::ptr::null(), flags, std::ptr::null())
    };
    done(result, "making mounts private").map(drop)
}

/// Makes the folder `path` the root and forgets the old one.
pub fn pivot(path: &str) -> Result<()> {
    std::env::set_current_dir(path).map_err(|error| Fault {
        what: "entering the root".into(),
        errno: error.raw_os_error().unwrap_or(0),
    })?;
    let here = text(".")?;
    done(call(libc::SYS_pivot_root, [arg(&here), arg(&here), 0, 0, 0, 0]), "changing the root")?;
    // SAFETY: the path is a terminated string.
    let result: c_int = unsafe { libc::umount2(here.as_ptr(), libc::MNT_DETACH) };
    if result < 0 {
        return fault("leaving the old root");
    }
    let root = text("/")?;
    // SAFETY: the path is a terminated string.
    done(unsafe { libc::chdir(root.as_ptr()) }, "entering the new root").map(drop)
}
