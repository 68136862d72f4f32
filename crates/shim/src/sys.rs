//! System calls with their errors as values.
#![expect(unsafe_code, reason = "system calls")]

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

use libc::{c_int, c_long, c_ulong};

/// What was being done, and the errno it ended with.
#[derive(Debug)]
pub struct Fault {
    pub what: String,
    pub errno: i32,
}

pub type Result<T> = std::result::Result<T, Fault>;

pub fn errno() -> i32 {
    // SAFETY: the location is valid for as long as the thread lives.
    unsafe { *libc::__errno_location() }
}

pub fn fault<T>(what: impl Into<String>) -> Result<T> {
    Err(Fault { what: what.into(), errno: errno() })
}

/// Turns a call's -1 into a fault.
pub fn done(result: impl Into<i64>, what: &str) -> Result<i64> {
    let result = result.into();
    if result < 0 { fault(what) } else { Ok(result) }
}

pub fn text(value: &str) -> Result<CString> {
    CString::new(value)
        .map_err(|_| Fault { what: "a text with a zero byte".into(), errno: libc::EINVAL })
}

/// A raw system call with up to six arguments.
pub fn call(number: c_long, args: [c_ulong; 6]) -> i64 {
    // SAFETY: callers pass pointers that live through the call; the kernel checks the rest.
    unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) }
}

pub fn close(fd: RawFd) {
    if fd >= 0 {
        // SAFETY: closing a number that is not open only returns an error.
        unsafe { libc::close(fd) };
    }
}

pub fn open(dir: RawFd, path: &str, flags: c_int, mode: u32) -> Result<RawFd> {
    let path = text(path)?;
    // SAFETY: the path is a terminated string.
    let fd = unsafe { libc::openat(dir, path.as_ptr(), flags | libc::O_CLOEXEC, mode) };
    if fd < 0 { fault(format!("opening {}", path.to_string_lossy())) } else { Ok(fd) }
}

/// Writes all of `bytes`, in as many calls as it takes.
pub fn write_all(fd: RawFd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the pointer and length are of one slice.
        let wrote = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match wrote {
            -1 if errno() == libc::EINTR => {}
            -1 => return fault("writing"),
            wrote => bytes = &bytes[wrote as usize..],
        }
    }
    Ok(())
}

/// -1 as in read(2), with EINTR dealt with.
pub fn read(fd: RawFd, buffer: &mut [u8]) -> isize {
    loop {
        // SAFETY: the pointer and length are of one slice.
        let got = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        if got >= 0 || errno() != libc::EINTR {
            return got;
        }
    }
}

pub fn write_file(path: &str, content: &str) -> Result<()> {
    let fd = open(libc::AT_FDCWD, path, libc::O_WRONLY, 0)?;
    let result = write_all(fd, content.as_bytes());
    close(fd);
    result.map_err(|fault| Fault { what: format!("writing {path}"), ..fault })
}

pub fn pipe(flags: c_int) -> Result<[RawFd; 2]> {
    let mut ends = [-1; 2];
    // SAFETY: the array holds two numbers.
    done(unsafe { libc::pipe2(ends.as_mut_ptr(), flags | libc::O_CLOEXEC) }, "making a pipe")?;
    Ok(ends)
}

pub fn mkdir_all(path: &str) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| Fault {
        what: format!("making {path}"),
        errno: error.raw_os_error().unwrap_or(0),
    })
}

pub fn set_dumpable(dumpable: bool) {
    // SAFETY: plain numbers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, c_ulong::from(dumpable), 0, 0, 0) };
}

pub fn exit(status: i32) -> ! {
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(status) }
}

/// For pointers in [`call`].
pub fn arg(text: &CStr) -> c_ulong {
    text.as_ptr() as c_ulong
}
