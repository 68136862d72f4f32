//! The short life between fork and exec: a copy of the keeper gives up everything and becomes a process of the container.
#![expect(unsafe_code, reason = "system calls")]

use std::ffi::CString;
use std::os::fd::RawFd;

use libc::c_ulong;
use shim::wire::{self, Isolation, Refusal, Run, Start};

use crate::sys::{self, Fault, Result, done, fault, text};
use crate::user::{self, User};

const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const USER_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
const DEFAULT_NOFILE: u64 = 16_384;

/// Where a process reads and writes, and where it says why it could not start.
pub struct Ends {
    /// -1 when there is nothing to read.
    pub stdin: RawFd,
    pub stdout: RawFd,
    pub stderr: RawFd,
    pub report: RawFd,
    /// The three are one terminal.
    pub terminal: bool,
}

/// A refusal in the making.
pub struct Failed(pub Refusal);

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Failed {
        Failed(Refusal { kind: wire::REFUSED_OTHER, errno: fault.errno, what: fault.what })
    }
}

/// Becomes the program, or says why not and ends.
pub fn exec(start: &Start, run: Run, ends: &Ends) -> ! {
    let Err(Failed(refusal)) = become_program(start, run, ends);
    // The platform learns it when the pipe closes, with or without words.
    let _ = sys::write_all(ends.report, &wire::encode(&refusal));
    sys::exit(127)
}

fn become_program(
    start: &Start,
    mut run: Run,
    ends: &Ends,
) -> std::result::Result<std::convert::Infallible, Failed> {
    reset();
    limit_files(run.nofile);
    if run.limits.iter().all(|limit| limit.resource != libc::RLIMIT_CORE) {
        limit(&wire::Limit { resource: libc::RLIMIT_CORE, most: 0 })?;
    }
    run.limits.iter().try_for_each(limit)?;
    let user = resolve(start, &run.user)?;
    for stream in [ends.stdin, ends.stdout, ends.stderr] {
        // So that the process can open /dev/stdout by name. SAFETY: plain numbers.
        unsafe { libc::fchown(stream, user.uid, user.gid) };
    }
    if ends.terminal {
        // The session is new and has no terminal yet. SAFETY: plain numbers.
        done(unsafe { libc::ioctl(ends.stdin, libc::TIOCSCTTY, 0) }, "taking the terminal")?;
    }
    become_user(start, &user)?;
    fill_env(&mut run.env, &user);
    enter(&run.dir, &user)?;
    let programs = candidates(&run);
    let (argv, envp) = (texts(std::iter::once(&run.path).chain(&run.args))?, texts(&run.env)?);
    take_streams(ends)?;
    start.filters.iter().try_for_each(|filter| confine(&filter.0))?;
    Err(run_first(&programs, &run, &argv, &envp)?)
}

/// The kernel's, real-time signals included.
const LAST_SIGNAL: i32 = 64;

/// A new session, and signals as any program expects them.
fn reset() {
    // SAFETY: an all-zero set is valid and then emptied; the rest are plain numbers.
    unsafe {
        libc::setsid();
        // The cgroup this copy was born in becomes the top of what it sees. Kernels without it show more, but let do no more.
        libc::unshare(libc::CLONE_NEWCGROUP);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        // Whoever started the platform may have had some ignored, as nohup does, and that would pass on. Two cannot be set.
        for signal in 1..=LAST_SIGNAL {
            libc::signal(signal, libc::SIG_DFL);
        }
        libc::umask(0o022);
    }
}

fn limit_files(wanted: u64) {
    let wanted = if wanted == 0 { DEFAULT_NOFILE } else { wanted };
    // SAFETY: the structs are valid and live through the calls.
    unsafe {
        let mut now: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut now) == 0 {
            let most = wanted.min(now.rlim_max);
            libc::setrlimit(libc::RLIMIT_NOFILE, &libc::rlimit { rlim_cur: most, rlim_max: most });
        }
    }
}

/// No further than this process may be held to already.
fn limit(limit: &wire::Limit) -> Result<()> {
    // SAFETY: the structs are valid and live through the calls; the kernel refuses numbers it does not know.
    unsafe {
        let mut now: libc::rlimit = std::mem::zeroed();
        done(libc::getrlimit(limit.resource, &raw mut now), "reading a limit")?;
        let most = limit.most.min(now.rlim_max);
        let wanted = libc::rlimit { rlim_cur: most, rlim_max: most };
        done(libc::setrlimit(limit.resource, &raw const wanted), "limiting a process").map(drop)
    }
}

pub fn resolve(start: &Start, name: &str) -> std::result::Result<User, Failed> {
    match start.isolation {
        // SAFETY: these calls only return numbers.
        Isolation::Plain(()) => Ok(unsafe {
            let home = std::env::var("HOME").unwrap_or_else(|_| "/".into());
            User {
                name: name.into(),
                uid: libc::geteuid(),
                gid: libc::getegid(),
                groups: Vec::new(),
                home,
            }
        }),
        Isolation::Rootless(id) => {
            let known = user::find(name).ok_or_else(|| no_user(name))?;
            Ok(User { uid: id, gid: id, ..known })
        }
        Isolation::Full(_) => user::find(name).ok_or_else(|| no_user(name)),
    }
}

fn no_user(name: &str) -> Failed {
    Failed(Refusal { kind: wire::REFUSED_NO_USER, errno: 0, what: name.into() })
}

/// Takes the user's ids and gives up every right the container does not grant.
pub fn become_user(start: &Start, user: &User) -> Result<()> {
    if matches!(start.isolation, Isolation::Plain(())) {
        return Ok(());
    }
    let kept = start.capabilities;
    // SAFETY: plain numbers, and a list with its length.
    unsafe {
        for capability in 0..64 {
            if kept & (1 << capability) == 0 {
                // The first unknown number ends the list; there is nothing to drop from there on.
                libc::prctl(libc::PR_CAPBSET_DROP, capability as c_ulong, 0, 0, 0);
            }
        }
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong, 0, 0, 0);
        if matches!(start.isolation, Isolation::Full(_)) {
            done(libc::setgroups(user.groups.len(), user.groups.as_ptr()), "setting groups")?;
            done(libc::setresgid(user.gid, user.gid, user.gid), "setting the group")?;
            done(libc::setresuid(user.uid, user.uid, user.uid), "setting the user")?;
        }
        let held = if user.uid == 0 { kept } else { 0 };
        let (low, high) = (held as u32, (held >> 32) as u32);
        let mut header = [0x2008_0522_u32, 0];
        let data = [low, low, 0, high, high, 0];
        let set = libc::syscall(libc::SYS_capset, header.as_mut_ptr(), data.as_ptr());
        // A set that holds unknown bits is refused; a privileged root simply keeps what it has.
        if user.uid != 0 || kept != u64::MAX {
            done(set, "dropping capabilities")?;
        }
        if kept != u64::MAX {
            done(
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as c_ulong, 0, 0, 0),
                "forgoing new privileges",
            )?;
        }
    }
    Ok(())
}

/// Adds what every program expects and nobody set.
fn fill_env(env: &mut Vec<String>, user: &User) {
    let path = if user.uid == 0 { ROOT_PATH } else { USER_PATH };
    for (key, value) in [("PATH", path), ("HOME", &user.home), ("USER", &user.name)] {
        if lookup(env, key).is_none() && !value.is_empty() {
            env.push(format!("{key}={value}"));
        }
    }
}

fn lookup<'a>(env: &'a [String], key: &str) -> Option<&'a str> {
    env.iter().rev().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

/// Goes to the working folder, which is made when missing; a missing home is no reason not to run.
fn enter(dir: &str, user: &User) -> Result<()> {
    let wanted = if dir.is_empty() { &user.home } else { dir };
    let go = |path: &str| std::env::set_current_dir(path);
    if go(wanted).is_ok() || (std::fs::create_dir_all(wanted).is_ok() && go(wanted).is_ok()) {
        return Ok(());
    }
    let at = if dir.is_empty() { "/" } else { dir };
    go(at).map_err(|error| Fault {
        what: format!("entering {at}"),
        errno: error.raw_os_error().unwrap_or(0),
    })
}

fn candidates(run: &Run) -> Vec<String> {
    if run.path.contains('/') {
        return vec![run.path.clone()];
    }
    let folders = lookup(&run.env, "PATH").unwrap_or(USER_PATH);
    folders
        .split(':')
        .map(|folder| format!("{}/{}", if folder.is_empty() { "." } else { folder }, run.path))
        .collect()
}

fn texts<'a>(values: impl IntoIterator<Item = &'a String>) -> Result<Vec<CString>> {
    values.into_iter().map(|value| text(value)).collect()
}

/// The process gets its three streams and no other descriptor.
fn take_streams(ends: &Ends) -> Result<()> {
    for (from, to) in [(ends.stdin, 0), (ends.stdout, 1), (ends.stderr, 2)] {
        if from >= 0 {
            // SAFETY: plain numbers.
            done(unsafe { libc::dup2(from, to) }, "giving a process its streams")?;
        }
    }
    close_on_exec()
}

fn close_on_exec() -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: c_ulong = 4;
    done(
        sys::call(libc::SYS_close_range, [3, u32::MAX as c_ulong, CLOSE_RANGE_CLOEXEC, 0, 0, 0]),
        "closing",
    )
    .map(drop)
}

/// Closes everything but these.
pub fn keep_only(mut kept: Vec<RawFd>) {
    kept.sort_unstable();
    let mut from = 0;
    for fd in kept.into_iter().chain([RawFd::MAX]) {
        if fd > from {
            sys::call(libc::SYS_close_range, [from as c_ulong, (fd - 1) as c_ulong, 0, 0, 0, 0]);
        }
        from = fd.saturating_add(1);
    }
}

fn confine(filter: &[u8]) -> Result<()> {
    let instructions: Vec<libc::sock_filter> = filter
        .chunks_exact(8)
        .map(|word| libc::sock_filter {
            code: u16::from_le_bytes([word[0], word[1]]),
            jt: word[2],
            jf: word[3],
            k: u32::from_le_bytes([word[4], word[5], word[6], word[7]]),
        })
        .collect();
    let program = libc::sock_fprog {
        len: instructions.len() as u16,
        filter: instructions.as_ptr().cast_mut(),
    };
    let at = &raw const program as c_ulong;
    const SECCOMP_SET_MODE_FILTER: c_ulong = 1;
    done(
        sys::call(libc::SYS_seccomp, [SECCOMP_SET_MODE_FILTER, 0, at, 0, 0, 0]),
        "confining system calls",
    )
    .map(drop)
}

/// Tries each program; a text without an interpreter line goes to the shell, as shells do it.
fn run_first(
    programs: &[String],
    run: &Run,
    argv: &[CString],
    envp: &[CString],
) -> std::result::Result<Failed, Fault> {
    let mut last = libc::ENOENT;
    for program in programs {
        let path = text(program)?;
        execve(&path, argv, envp);
        if sys::errno() == libc::ENOEXEC {
            let shell = text("/bin/sh")?;
            let with_shell: Vec<_> =
                [shell.clone(), path].into_iter().chain(argv.iter().skip(1).cloned()).collect();
            execve(&shell, &with_shell, envp);
        }
        if sys::errno() != libc::ENOENT && sys::errno() != libc::ENOTDIR {
            last = sys::errno();
        }
    }
    let kind = if last == libc::ENOENT { wire::REFUSED_NO_PROGRAM } else { wire::REFUSED_OTHER };
    let what =
        if last == libc::ENOENT { run.path.clone() } else { format!("executing {}", run.path) };
    Ok(Failed(Refusal { kind, errno: last, what }))
}

fn execve(path: &CString, argv: &[CString], envp: &[CString]) {
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: both lists end with null and their texts outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
}

/// For callers that must not go on when a step fails.
pub fn fork() -> Result<i32> {
    // SAFETY: there is one thread.
    match unsafe { libc::fork() } {
        -1 => fault("forking"),
        pid => Ok(pid),
    }
}
