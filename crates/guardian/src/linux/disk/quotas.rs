//! Quotas by project of the file system that holds the layers: ext4 and xfs have them when mounted with `prjquota`. A
//! folder and all that comes to be in it belong to one project, and the number of its files is bounded as well.
#![expect(unsafe_code, reason = "quotas have no other interface")]

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use libc::{c_ulong, dqblk};

use crate::containers::remove_tree;
use crate::linux::IDS;

/// The folder of all layers, and the project of the first.
#[derive(Debug)]
pub struct Quotas {
    root: PathBuf,
    first: u32,
}

#[repr(C)]
struct Attributes {
    flags: u32,
    extent: u32,
    extents: u32,
    project: u32,
    cow_extent: u32,
    padding: [u8; 8],
}

const GET_ATTRIBUTES: c_ulong = 0x801c_581f;
const SET_ATTRIBUTES: c_ulong = 0x401c_5820;
/// What is made in a folder belongs to its project.
const INHERIT: u32 = 0x200;

const GET_QUOTA: u32 = 0x80_0007;
const SET_QUOTA: u32 = 0x80_0008;
const GET_STATE: u32 = 0x5808;
const PROJECTS: u32 = 2;
/// In the state's flags: limits of projects are enforced.
const ENFORCED: u16 = 1 << 5;
/// The most files are one to so many bytes, but some in any case.
const BYTES_PER_FILE: u64 = 4096;
const FEWEST_FILES: u64 = 1024;

impl Quotas {
    pub fn open(root: PathBuf, first: u32) -> io::Result<Quotas> {
        fs::create_dir_all(&root)?;
        let folder = File::open(&root)?;
        // Version 1 is asked for in the first byte; the flags are two bytes behind it.
        let mut state = [0_u64; 20];
        state[0] = u64::from_ne_bytes([1, 0, 0, 0, 0, 0, 0, 0]);
        quota(&folder, GET_STATE, 0, &mut state)?;
        let [_, _, low, high, ..] = state[0].to_ne_bytes();
        if u16::from_ne_bytes([low, high]) & ENFORCED == 0 {
            let why = "the file system enforces no project quotas (mount it with prjquota)";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        Ok(Quotas { root, first })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn create(&self, index: u32, bytes: u64) -> io::Result<PathBuf> {
        let path = self.folder(index);
        fs::create_dir(&path)?;
        let folder = File::open(&path)?;
        let mut attributes = Attributes {
            flags: 0,
            extent: 0,
            extents: 0,
            project: 0,
            cow_extent: 0,
            padding: [0; 8],
        };
        request(&folder, GET_ATTRIBUTES, &mut attributes)?;
        attributes.flags |= INHERIT;
        attributes.project = self.project(index);
        request(&folder, SET_ATTRIBUTES, &mut attributes)?;
        self.limit(&folder, index, bytes)?;
        Ok(path)
    }

    pub fn set_limit(&self, index: u32, bytes: u64) -> io::Result<()> {
        self.limit(&File::open(self.folder(index))?, index, bytes)
    }

    pub fn used(&self, index: u32) -> u64 {
        let counted = File::open(self.folder(index)).and_then(|folder| {
            let mut found = empty();
            quota(&folder, GET_QUOTA, self.project(index), &mut found)?;
            Ok(found.dqb_curspace)
        });
        counted.unwrap_or(0)
    }

    pub fn remove(&self, index: u32) -> io::Result<()> {
        let path = self.folder(index);
        if let Ok(folder) = File::open(&path) {
            // Without limits and files nothing of a project is kept.
            self.limit(&folder, index, 0)?;
        }
        remove_tree(&path)
    }

    fn limit(&self, folder: &File, index: u32, bytes: u64) -> io::Result<()> {
        quota(folder, SET_QUOTA, self.project(index), &mut limits(bytes))
    }

    /// As unique on the host as the container's own ids.
    fn project(&self, index: u32) -> u32 {
        self.first + index * IDS
    }

    fn folder(&self, index: u32) -> PathBuf {
        self.root.join(index.to_string())
    }
}

/// Pure: in the kernel's form, which counts kibibytes.
fn limits(bytes: u64) -> dqblk {
    let files = if bytes == 0 { 0 } else { (bytes / BYTES_PER_FILE).max(FEWEST_FILES) };
    const BLOCKS_AND_FILES: u32 = 1 | 4;
    dqblk {
        dqb_bhardlimit: bytes.div_ceil(1024),
        dqb_ihardlimit: files,
        dqb_valid: BLOCKS_AND_FILES,
        ..empty()
    }
}

fn empty() -> dqblk {
    // SAFETY: a plain struct of numbers.
    unsafe { std::mem::zeroed() }
}

fn request<T>(file: &File, request: c_ulong, argument: &mut T) -> io::Result<()> {
    // SAFETY: both requests are numbered with the size of the struct they are called with, which lives through the call.
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), request as _, std::ptr::from_mut(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn quota<T>(file: &File, command: u32, project: u32, argument: &mut T) -> io::Result<()> {
    let command = c_ulong::from(command << 8 | PROJECTS);
    // SAFETY: each command is called with the struct it fills or reads, which lives through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            file.as_raw_fd(),
            command,
            c_ulong::from(project),
            std::ptr::from_mut(argument),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_in_the_kernels_units() {
        let one = limits(1 << 30);
        assert_eq!((one.dqb_bhardlimit, one.dqb_ihardlimit), (1 << 20, 1 << 18));
        let none = limits(0);
        assert_eq!((none.dqb_bhardlimit, none.dqb_ihardlimit, none.dqb_valid), (0, 0, 5));
        assert_eq!(limits(4096).dqb_ihardlimit, FEWEST_FILES);
    }

    #[test]
    fn requests_are_numbered_with_their_size() {
        assert_eq!(size_of::<Attributes>() as c_ulong, GET_ATTRIBUTES >> 16 & 0x3fff);
        assert_eq!(size_of::<Attributes>() as c_ulong, SET_ATTRIBUTES >> 16 & 0x3fff);
    }
}
