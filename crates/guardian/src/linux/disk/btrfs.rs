//! A btrfs in a file of the host, with a subvolume and a quota per container. Making one is a matter of microseconds and
//! so is asking how full it is. The file is sparse: it takes what containers write, and gives back what they remove.
#![expect(unsafe_code, reason = "file system requests have no other interface")]

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tool::{is_mounted, run, unmount};
use crate::containers::remove_tree;

const IMAGE: &str = "disk.btrfs";
const MOUNT: &str = "disk";
/// Smaller ones are not worth the overhead of their own bookkeeping.
const SMALLEST_MB: u64 = 256;

/// The file system, mounted.
#[derive(Debug)]
pub struct Btrfs {
    mount: PathBuf,
    /// Where the kernel shows each quota's use.
    quotas: PathBuf,
}

const QUOTA_ENABLE: u64 = 1;
/// Counts who wrote, instead of who refers; cheaper, from 6.7 on.
const QUOTA_ENABLE_SIMPLE: u64 = 4;
const LIMIT_REFERENCED: u64 = 1;
/// Takes a limit away.
const NO_LIMIT: u64 = u64::MAX;
/// The root folder of every subvolume.
const FIRST_INODE: u64 = 256;

#[repr(C)]
struct Volume {
    fd: i64,
    name: [u8; 4088],
}

#[repr(C)]
struct Quota {
    command: u64,
    status: u64,
}

#[repr(C)]
struct Limit {
    group: u64,
    flags: u64,
    referenced: u64,
    exclusive: u64,
    reserved: [u64; 2],
}

#[repr(C)]
struct Lookup {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

#[repr(C)]
struct Info {
    devices: [u64; 2],
    id: [u8; 16],
    rest: [u8; 992],
}

const WRITE: u64 = 1;
const READ: u64 = 2;

/// Requests as `_IOWR` numbers them.
const fn request<T>(direction: u64, number: u64) -> u64 {
    direction << 30 | (size_of::<T>() as u64) << 16 | 0x94 << 8 | number
}

const CREATE: u64 = request::<Volume>(WRITE, 14);
const DESTROY: u64 = request::<Volume>(WRITE, 15);
const LOOKUP: u64 = request::<Lookup>(READ | WRITE, 18);
const INFO: u64 = request::<Info>(READ, 31);
const QUOTA: u64 = request::<Quota>(READ | WRITE, 40);
const LIMIT: u64 = request::<Limit>(READ, 43);

impl Btrfs {
    pub fn open(state: &Path, size_mb: Option<u64>) -> io::Result<Btrfs> {
        let (image, mount) = (state.join(IMAGE), state.join(MOUNT));
        if !is_mounted(&mount)? {
            fs::create_dir_all(&mount)?;
            make(&image, state, size_mb)?;
            let options = "loop,noatime,nodatasum,discard=async";
            run(Command::new("mount").args(["-t", "btrfs", "-o", options]).args([&image, &mount]))?;
        }
        // Whatever is missing here, the next best way is tried without this one's remains.
        Btrfs::take_up(&mount).inspect_err(|_| _ = Btrfs::clear(state))
    }

    fn take_up(mount: &Path) -> io::Result<Btrfs> {
        let root = File::open(mount)?;
        let enable = |command| ioctl(&root, QUOTA, &mut Quota { command, status: 0 });
        enable(QUOTA_ENABLE_SIMPLE).or_else(|_| enable(QUOTA_ENABLE)).or_else(|error| {
            // One that was taken up has them already.
            if error.raw_os_error() == Some(libc::EEXIST) { Ok(()) } else { Err(error) }
        })?;
        let mut info = Info { devices: [0; 2], id: [0; 16], rest: [0; 992] };
        ioctl(&root, INFO, &mut info)?;
        let quotas = Path::new("/sys/fs/btrfs").join(uuid(&info.id)).join("qgroups");
        fs::read_dir(&quotas)?;
        Ok(Btrfs { mount: mount.into(), quotas })
    }

    pub fn root(&self) -> &Path {
        &self.mount
    }

    pub fn create(&self, index: u32, bytes: u64) -> io::Result<PathBuf> {
        ioctl(&File::open(&self.mount)?, CREATE, &mut volume(index))?;
        if bytes > 0 {
            self.set_limit(index, bytes)?;
        }
        Ok(self.mount.join(index.to_string()))
    }

    pub fn set_limit(&self, index: u32, bytes: u64) -> io::Result<()> {
        let folder = File::open(self.mount.join(index.to_string()))?;
        // Group 0 is the subvolume's own.
        let mut limit = Limit {
            group: 0,
            flags: LIMIT_REFERENCED,
            referenced: if bytes > 0 { bytes } else { NO_LIMIT },
            exclusive: 0,
            reserved: [0; 2],
        };
        ioctl(&folder, LIMIT, &mut limit)
    }

    /// Written and about to be written.
    pub fn used(&self, index: u32) -> u64 {
        let Ok(id) = self.subvolume(index) else { return 0 };
        let folder = self.quotas.join(format!("0_{id}"));
        let number = |file: &str| -> u64 {
            fs::read_to_string(folder.join(file))
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0)
        };
        number("referenced") + number("rsv_data")
    }

    fn subvolume(&self, index: u32) -> io::Result<u64> {
        let folder = File::open(self.mount.join(index.to_string()))?;
        let mut lookup = Lookup { tree: 0, object: FIRST_INODE, name: [0; 4080] };
        ioctl(&folder, LOOKUP, &mut lookup)?;
        Ok(lookup.tree)
    }

    /// What is in it goes in the background, and its quota with it.
    pub fn remove(&self, index: u32) -> io::Result<()> {
        match ioctl(&File::open(&self.mount)?, DESTROY, &mut volume(index)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Takes away what is in `state`, mounted or not.
    pub fn clear(state: &Path) -> io::Result<()> {
        let mount = state.join(MOUNT);
        if is_mounted(&mount)? {
            unmount(&mount)?;
        }
        remove_tree(&mount)?;
        match fs::remove_file(state.join(IMAGE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

fn make(image: &Path, state: &Path, size_mb: Option<u64>) -> io::Result<()> {
    let about = rustix::fs::statvfs(state)?;
    let free_mb = about.f_bavail.saturating_mul(about.f_frsize) >> 20;
    // The host keeps some for itself whatever containers do.
    let size_mb = size_mb.unwrap_or(u64::MAX).min(free_mb / 10 * 9);
    if size_mb < SMALLEST_MB {
        return Err(io::Error::other(format!("only {size_mb} MB for containers' files")));
    }
    let file = File::create(image)?;
    file.set_len(size_mb << 20)?;
    drop(file);
    let made = run(Command::new("mkfs.btrfs")
        .args(["--quiet", "--nodiscard", "--metadata", "single"])
        .arg(image));
    made.inspect_err(|_| _ = fs::remove_file(image))
}

fn volume(index: u32) -> Volume {
    let mut volume = Volume { fd: 0, name: [0; 4088] };
    let name = index.to_string();
    volume.name[..name.len()].copy_from_slice(name.as_bytes());
    volume
}

fn ioctl<T>(file: &File, request: u64, argument: &mut T) -> io::Result<()> {
    // SAFETY: every request above is numbered with the size of the struct it is called with, which lives through the call.
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), request as _, std::ptr::from_mut(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn uuid(id: &[u8; 16]) -> String {
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_numbered_as_the_kernel_does() {
        assert_eq!([CREATE, DESTROY, LOOKUP], [0x5000_940e, 0x5000_940f, 0xd000_9412]);
        assert_eq!([INFO, QUOTA, LIMIT], [0x8400_941f, 0xc010_9428, 0x8030_942b]);
    }

    #[test]
    fn ids_read_as_folders_are_named() {
        let id = std::array::from_fn(|place| place as u8);
        assert_eq!(uuid(&id), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }
}
