//! From a fresh process to the first process of a container. Two take part: the *maker*, who has the host's privileges
//! and ends, and the *keeper*, who is the container's first process and stays. They share descriptors, not memory.
#![expect(unsafe_code, reason = "system calls")]

use std::os::fd::RawFd;

use libc::c_int;
use shim::wire::{Isolation, Reply, Start};
use shim::{PROCESSES, SOCKET};

use crate::place::{self, Made};
use crate::serve;
use crate::sys::{
    Fault, Result, close, done, exit, fault, open, read, set_dumpable, write_all, write_file,
};

/// What the keeper holds of the host; it can name nothing else there once its root has changed.
pub struct Held {
    /// Takes requests.
    pub socket: RawFd,
    /// The folder of process folders.
    pub processes: RawFd,
    /// Counts kills for want of memory, or -1.
    pub oom: RawFd,
}

/// Before any message: nobody inside may ever trace this program, and few pages stay behind a large message.
pub fn prepare() {
    set_dumpable(false);
    // The platform gives three; whatever else it may have left open is not meant for here.
    crate::exec::keep_only(vec![0, 1, 2]);
    // SAFETY: plain numbers; the handler is the kernel's own.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 16 * 1024);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 * 1024);
        libc::mallopt(libc::M_TOP_PAD, 0);
        libc::umask(0);
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

pub fn start(start: &Start) -> Result<()> {
    std::env::set_current_dir(&start.dir).map_err(|error| Fault {
        what: format!("entering {}", start.dir),
        errno: error.raw_os_error().unwrap_or(0),
    })?;
    let held = hold(start)?;
    match start.isolation {
        Isolation::Plain(()) => plain(start, &held),
        Isolation::Rootless(id) => rootless(start, &held, id),
        Isolation::Full(base) => full(start, &held, base),
    }
}

/// Opens what the keeper needs while the host's files are still in sight.
fn hold(start: &Start) -> Result<Held> {
    let processes = open(libc::AT_FDCWD, PROCESSES, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let oom = start
        .oom_file
        .as_deref()
        .map_or(Ok(-1), |path| open(libc::AT_FDCWD, path, libc::O_RDONLY, 0))?;
    Ok(Held { socket: bind()?, processes, oom })
}

fn bind() -> Result<RawFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the address is a valid struct whose path is terminated by the zeros it begins with.
    unsafe {
        let socket =
            done(libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | flags, 0), "making a socket")?
                as RawFd;
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as u16;
        for (to, from) in address.sun_path.iter_mut().zip(SOCKET.bytes()) {
            *to = from as libc::c_char;
        }
        let size = size_of::<libc::sockaddr_un>() as u32;
        done(libc::bind(socket, (&raw const address).cast(), size), "binding the control socket")?;
        Ok(socket)
    }
}

/// Without namespaces the keeper is an ordinary process that adopts the orphans below it.
fn plain(start: &Start, held: &Held) -> Result<()> {
    if spawn(0)? > 0 {
        return Ok(());
    }
    // SAFETY: plain numbers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    keep(start, held)
}

/// The keeper makes its own mounts, with the one id it may map.
fn rootless(start: &Start, held: &Held, id: u32) -> Result<()> {
    // SAFETY: these calls only return numbers.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let go = crate::sys::pipe(0)?;
    let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    // The keeper must be dumpable until its maps are written: their owner is the one who may.
    set_dumpable(true);
    let keeper = spawn(flags)?;
    if keeper > 0 {
        let mapped = (|| {
            write_file(&format!("/proc/{keeper}/setgroups"), "deny")?;
            write_file(&format!("/proc/{keeper}/uid_map"), &format!("{id} {uid} 1"))?;
            write_file(&format!("/proc/{keeper}/gid_map"), &format!("{id} {gid} 1"))
        })();
        return mapped.and_then(|()| write_all(go[1], &[0])).inspect_err(|_| kill(keeper));
    }
    await_go(go);
    set_dumpable(false);
    place::unshare_mounts()?;
    let made = place::make(start, None)?;
    place::enter(start, &made)?;
    keep(start, held)
}

/// The maker maps ids and makes what needs the host's privileges; the keeper puts it in place.
fn full(start: &Start, held: &Held, base: u32) -> Result<()> {
    let go = crate::sys::pipe(0)?;
    let user = if base == 0 { 0 } else { libc::CLONE_NEWUSER };
    let flags =
        user | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_FILES;
    place::unshare_mounts()?;
    let keeper = spawn(flags)?;
    if keeper > 0 {
        let made = (|| {
            let map = (base > 0).then(|| map_ids(keeper, base)).transpose()?;
            let made = place::make(start, map)?;
            if let Some(map) = map {
                close(map);
            }
            write_all(go[1], &made.to_bytes())
        })();
        return made.inspect_err(|_| kill(keeper));
    }
    // Should the maker be killed here, this waits on: the platform then kills all that is in the container's groups.
    let Some(made) = receive_made(go[0]) else { exit(1) };
    go.into_iter().for_each(close);
    place::unshare_mounts()?;
    become_root(base)?;
    place::enter(start, &made)?;
    keep(start, held)
}

fn map_ids(keeper: i32, base: u32) -> Result<RawFd> {
    let line = format!("0 {base} 65536");
    write_file(&format!("/proc/{keeper}/uid_map"), &line)?;
    write_file(&format!("/proc/{keeper}/gid_map"), &line)?;
    open(libc::AT_FDCWD, &format!("/proc/{keeper}/ns/user"), libc::O_RDONLY, 0)
}

/// The maker's own ids mean nothing inside; the keeper takes those of the container's root.
fn become_root(base: u32) -> Result<()> {
    if base == 0 {
        return Ok(());
    }
    // SAFETY: plain numbers and an empty list.
    unsafe {
        done(libc::setgroups(0, std::ptr::null()), "dropping groups")?;
        done(libc::setresgid(0, 0, 0), "becoming the container's root group")?;
        done(libc::setresuid(0, 0, 0), "becoming the container's root")?;
    }
    // A change of ids may make a process traceable again.
    set_dumpable(false);
    Ok(())
}

fn receive_made(from: RawFd) -> Option<Made> {
    let mut bytes = [0; Made::LARGEST];
    let got = read(from, &mut bytes);
    Made::from_bytes(bytes.get(..usize::try_from(got).ok()?)?)
}

fn await_go(go: [RawFd; 2]) {
    close(go[1]);
    if read(go[0], &mut [0]) != 1 {
        exit(1);
    }
    close(go[0]);
}

/// Like fork, with new namespaces. Answers 0 in the child.
fn spawn(flags: c_int) -> Result<i32> {
    let flags = flags | libc::SIGCHLD;
    // SAFETY: without a stack of its own the child goes on with a copy of this one, as after fork; there is one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if pid < 0 { fault("making namespaces") } else { Ok(pid as i32) }
}

fn kill(pid: i32) {
    // SAFETY: plain numbers.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// The keeper's life. It tells the platform that it is there, on the socket that was standard input, and lets go of it.
fn keep(start: &Start, held: &Held) -> Result<()> {
    // SAFETY: plain numbers.
    unsafe {
        libc::setsid();
        done(libc::listen(held.socket, 16), "listening")?;
    }
    serve::prepare_signals()?;
    write_all(0, &shim::wire::encode(&Reply::Done(())))?;
    let null = open(libc::AT_FDCWD, "/dev/null", libc::O_RDWR, 0)?;
    for standard in 0..3 {
        // SAFETY: plain numbers; what was open there is closed.
        unsafe { libc::dup2(null, standard) };
    }
    if null > 2 {
        close(null);
    }
    serve::serve(start, held)
}
