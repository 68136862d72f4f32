//! The keeper's loop: takes requests, moves output to disk, reaps, and writes down exits.
#![expect(unsafe_code, reason = "system calls")]

use std::os::fd::RawFd;

use shim::wire::{self, Isolation, Refusal, Reply, Request, Run, Start, Stream};

use crate::archive::{self, Way};
use crate::exec::{self, Ends};
use crate::output::{Output, Piece};
use crate::rest;
use crate::start::Held;
use crate::sys::{self, Result, close, done, fault, open, pipe};

/// Processes and archives at a time; what exceeds it is refused.
const MOST_CHILDREN: usize = 256;
const MOST_CONNECTIONS: usize = 32;
/// More than any pipe holds: what was written before an exit is kept before the exit is told.
const DRAIN: usize = 1 << 21;

struct Keeper<'a> {
    start: &'a Start,
    held: &'a Held,
    children: Vec<Child>,
    connections: Vec<Connection>,
    piece: Box<Piece>,
    /// Kills for want of memory that have been told already.
    oom_told: u64,
    /// The signal everything is to end by.
    killing: Option<i32>,
}

struct Child {
    /// 0 once it has ended; then only its orphans' output is left.
    pid: i32,
    index: u32,
    streams: [RawFd; 2],
    /// Where a failure to start is told; -1 once it is known how that went.
    report: RawFd,
    /// Who waits for the report.
    asker: RawFd,
    output: Option<Output>,
    killed: bool,
}

struct Connection {
    fd: RawFd,
    bytes: Vec<u8>,
    /// A descriptor that came with a message.
    passed: RawFd,
    /// Waits until nothing runs.
    waits: bool,
}

/// Exits are read from a descriptor, so that nothing interrupts anything.
pub fn prepare_signals() -> Result<()> {
    signals(libc::SIG_BLOCK).map(drop)
}

fn signals(how: i32) -> Result<libc::sigset_t> {
    // SAFETY: an all-zero set is valid and then filled.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        done(libc::sigprocmask(how, &raw const set, std::ptr::null_mut()), "blocking signals")?;
        Ok(set)
    }
}

pub fn serve(start: &Start, held: &Held) -> Result<()> {
    let set = signals(libc::SIG_BLOCK)?;
    // SAFETY: the set is valid.
    let exits =
        unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if exits < 0 {
        return fault("watching for exits");
    }
    let (children, connections) = (Vec::new(), Vec::new());
    let piece = Box::new(Piece::new());
    let mut keeper =
        Keeper { start, held, children, connections, piece, oom_told: 0, killing: None };
    loop {
        keeper.turn(exits);
    }
}

impl Keeper<'_> {
    /// Waits for anything and deals with it.
    fn turn(&mut self, exits: RawFd) {
        let mut waiting = vec![poll(exits), poll(self.held.socket)];
        waiting.extend(self.connections.iter().map(|connection| poll(connection.fd)));
        for child in &self.children {
            waiting.extend(child.streams.iter().chain([&child.report]).map(|fd| poll(*fd)));
        }
        if !rest::wait(&mut waiting) {
            return;
        }
        let ready: Vec<RawFd> =
            waiting.iter().filter(|entry| entry.revents != 0).map(|entry| entry.fd).collect();
        for fd in ready {
            if fd == exits {
                let mut info = [0; 128];
                while sys::read(exits, &mut info) > 0 {}
                self.reap();
            } else if fd == self.held.socket {
                self.accept();
            } else if self.connections.iter().any(|connection| connection.fd == fd) {
                self.receive(fd);
            } else {
                self.move_output(fd);
            }
        }
        self.children
            .retain(|child| child.pid > 0 || child.report >= 0 || child.streams != [-1, -1]);
    }

    fn accept(&mut self) {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let null = std::ptr::null_mut();
        // SAFETY: the address is not asked for.
        let fd = unsafe { libc::accept4(self.held.socket, null, null.cast(), flags) };
        if fd >= 0 && self.connections.len() >= MOST_CONNECTIONS {
            close(fd);
        } else if fd >= 0 {
            self.connections.push(Connection { fd, bytes: Vec::new(), passed: -1, waits: false });
        }
    }

    fn receive(&mut self, fd: RawFd) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.fd == fd)
        else {
            return;
        };
        match read_message(connection) {
            Received::More => {}
            Received::Closed => self.hang_up(fd),
            Received::Message(request) => self.request(fd, request),
        }
    }

    fn hang_up(&mut self, fd: RawFd) {
        self.connections.retain(|connection| {
            if connection.fd == fd {
                close(connection.fd);
                close(connection.passed);
            }
            connection.fd != fd
        });
        for child in self.children.iter_mut().filter(|child| child.asker == fd) {
            child.asker = -1;
        }
    }

    fn request(&mut self, fd: RawFd, request: Request) {
        let result = match request {
            Request::Run(run) => self.run(fd, run),
            Request::Unpack(stream) => self.stream(fd, Way::Unpack, &stream),
            Request::Pack(stream) => self.stream(fd, Way::Pack, &stream),
            Request::Kill(kill) => {
                answer(fd, &self.kill(kill.index, kill.signal));
                Ok(())
            }
            Request::List(()) => {
                let running =
                    self.children.iter().filter(|child| child.pid > 0 && child.output.is_some());
                answer(fd, &Reply::Running(running.map(|child| child.index).collect()));
                Ok(())
            }
            Request::KillAll(signal) => {
                self.kill_all(fd, signal);
                Ok(())
            }
        };
        if let Err(fault) = result {
            answer(
                fd,
                &Reply::Refused(Refusal {
                    kind: wire::REFUSED_OTHER,
                    errno: fault.errno,
                    what: fault.what,
                }),
            );
        }
        // SAFETY: gives memory of a large message back to the system.
        unsafe { libc::malloc_trim(0) };
    }

    fn run(&mut self, asker: RawFd, run: Run) -> Result<()> {
        self.make_room()?;
        let index = run.index;
        let dir =
            open(self.held.processes, &index.to_string(), libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
        let output = Output::create(dir, self.start.segment_bytes)?;
        let (stdout, stderr, report) = (pipe(0)?, pipe(0)?, pipe(0)?);
        let pid = exec::fork()?;
        if pid == 0 {
            exec::exec(
                self.start,
                run,
                &Ends { stdout: stdout[1], stderr: stderr[1], report: report[1] },
            );
        }
        [stdout[1], stderr[1], report[1]].into_iter().for_each(close);
        let streams = [stdout[0], stderr[0]];
        streams.into_iter().chain([report[0]]).for_each(unblock);
        let output = Some(output);
        self.children.push(Child {
            pid,
            index,
            streams,
            report: report[0],
            asker,
            output,
            killed: false,
        });
        Ok(())
    }

    fn stream(&mut self, asker: RawFd, way: Way, stream: &Stream) -> Result<()> {
        self.make_room()?;
        let Some(connection) =
            self.connections.iter_mut().find(|connection| connection.fd == asker)
        else {
            return Ok(());
        };
        let data = std::mem::replace(&mut connection.passed, -1);
        let report = pipe(0)?;
        let pid = exec::fork()?;
        if pid == 0 {
            archive::run(self.start, way, stream, data, report[1]);
        }
        close(report[1]);
        close(data);
        unblock(report[0]);
        let (streams, report) = ([-1, -1], report[0]);
        self.children.push(Child {
            pid,
            index: u32::MAX,
            streams,
            report,
            asker,
            output: None,
            killed: false,
        });
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
        if self.children.len() < MOST_CHILDREN {
            return Ok(());
        }
        Err(sys::Fault { what: "too many processes".into(), errno: libc::EAGAIN })
    }

    fn kill(&mut self, index: u32, signal: i32) -> Reply {
        for child in self.children.iter_mut().filter(|child| child.pid > 0 && child.index == index)
        {
            child.killed |= signal == libc::SIGKILL;
            // The process leads a session of its own, so its group is its children. SAFETY: plain numbers.
            if unsafe { libc::kill(-child.pid, signal) } < 0 {
                // It has not got so far as to make its session.
                unsafe { libc::kill(child.pid, signal) };
            }
        }
        Reply::Done(())
    }

    fn kill_all(&mut self, asker: RawFd, signal: i32) {
        self.killing = Some(signal);
        if signal == libc::SIGKILL {
            self.children.iter_mut().for_each(|child| child.killed = true);
        }
        if let Some(connection) =
            self.connections.iter_mut().find(|connection| connection.fd == asker)
        {
            connection.waits = true;
        }
        self.signal_all(signal);
        self.reap();
    }

    fn signal_all(&self, signal: i32) {
        if matches!(self.start.isolation, Isolation::Plain(())) {
            // SAFETY: plain numbers, of processes below this one.
            descendants().into_iter().for_each(|pid| _ = unsafe { libc::kill(pid, signal) });
        } else {
            // The first process of a namespace reaches all others of it, and only those. SAFETY: plain numbers.
            unsafe { libc::kill(-1, signal) };
        }
    }

    /// Collects everything that has ended, adopted orphans too.
    fn reap(&mut self) {
        loop {
            let mut status = 0;
            // SAFETY: the status lives through the call.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
            if pid <= 0 {
                if pid < 0 && sys::errno() == libc::ECHILD {
                    self.nothing_left();
                } else if let (0, Some(libc::SIGKILL)) = (pid, self.killing) {
                    // Whoever was born while the others were killed.
                    self.signal_all(libc::SIGKILL);
                }
                return;
            }
            if let Some(at) = self.children.iter().position(|child| child.pid == pid) {
                self.ended(at, status);
            }
        }
    }

    fn nothing_left(&mut self) {
        self.killing = None;
        for connection in self.connections.iter_mut().filter(|connection| connection.waits) {
            connection.waits = false;
            answer(connection.fd, &Reply::Done(()));
        }
    }

    fn ended(&mut self, at: usize, status: i32) {
        self.reported(at);
        let oom = self.oom_kills();
        let child = &mut self.children[at];
        child.pid = 0;
        let Some(output) = &mut child.output else { return };
        for (number, stream) in child.streams.iter_mut().enumerate() {
            drain(stream, number == 1, &mut self.piece, output, DRAIN);
        }
        let memory = oom > self.oom_told && !child.killed;
        let line = if libc::WIFSIGNALED(status) {
            let signal = libc::WTERMSIG(status);
            if memory && signal == libc::SIGKILL {
                "memory 137\n".into()
            } else {
                format!("signal {signal}\n")
            }
        } else {
            let code = libc::WEXITSTATUS(status);
            if memory && code == 128 + libc::SIGKILL {
                "memory 137\n".into()
            } else {
                format!("status {code}\n")
            }
        };
        if line.starts_with("memory") {
            self.oom_told = oom;
        }
        // On a full disk the exit is lost with the rest; the platform then sees a process it cannot account for.
        let _ = output.finish(&line);
    }

    fn oom_kills(&self) -> u64 {
        let mut bytes = [0_u8; 512];
        // SAFETY: the pointer and length are of one array.
        let got = unsafe { libc::pread(self.held.oom, bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        let content = usize::try_from(got)
            .ok()
            .and_then(|got| std::str::from_utf8(&bytes[..got]).ok())
            .unwrap_or("");
        content
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
            .unwrap_or(0)
    }

    fn move_output(&mut self, fd: RawFd) {
        let Some(at) = self
            .children
            .iter()
            .position(|child| child.report == fd || child.streams.contains(&fd))
        else {
            return;
        };
        if self.children[at].report == fd {
            return self.reported(at);
        }
        let child = &mut self.children[at];
        for (number, stream) in child.streams.iter_mut().enumerate() {
            if let (true, Some(output)) = (*stream == fd, &mut child.output) {
                drain(stream, number == 1, &mut self.piece, output, 1);
            }
        }
    }

    /// A report that closes in silence is a start (or an archive) that went well.
    fn reported(&mut self, at: usize) {
        let child = &mut self.children[at];
        if child.report < 0 {
            return;
        }
        let mut bytes = [0; 4096];
        let got = sys::read(child.report, &mut bytes);
        if got < 0 && sys::errno() == libc::EAGAIN {
            return;
        }
        close(child.report);
        child.report = -1;
        let refusal =
            usize::try_from(got).ok().and_then(|got| wire::decode::<Refusal>(&bytes[..got]));
        let asker = std::mem::replace(&mut child.asker, -1);
        if refusal.is_some() {
            // It never ran, so it has no exit.
            child.output = None;
            child.streams.iter_mut().for_each(|stream| close(std::mem::replace(stream, -1)));
        }
        answer(asker, &refusal.map_or(Reply::Done(()), Reply::Refused));
    }
}

/// Moves output until there is none for now, at most about `most` bytes.
fn drain(stream: &mut RawFd, stderr: bool, piece: &mut Piece, output: &mut Output, most: usize) {
    let mut moved = 0;
    while *stream >= 0 && moved < most {
        let got = sys::read(*stream, piece.payload());
        if got < 0 && sys::errno() == libc::EAGAIN {
            return;
        }
        if got <= 0 {
            close(std::mem::replace(stream, -1));
            return;
        }
        output.append(stderr, piece, got as usize);
        moved += got as usize;
    }
}

enum Received {
    More,
    Closed,
    Message(Request),
}

/// Takes in what has come, with a descriptor that may travel along.
fn read_message(connection: &mut Connection) -> Received {
    let mut chunk = [0_u8; 4096];
    let mut control = [0_u64; 4];
    let mut part = libc::iovec { iov_base: chunk.as_mut_ptr().cast(), iov_len: chunk.len() };
    // SAFETY: the header points at the buffers above with their sizes; control messages are walked as the macros do.
    let got = unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        let got = libc::recvmsg(connection.fd, &raw mut header, libc::MSG_CMSG_CLOEXEC);
        if got > 0 {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            if !first.is_null() && (*first).cmsg_type == libc::SCM_RIGHTS {
                close(connection.passed);
                connection.passed =
                    std::ptr::read_unaligned(libc::CMSG_DATA(first).cast::<RawFd>());
            }
        }
        got
    };
    if got < 0 && matches!(sys::errno(), libc::EAGAIN | libc::EINTR) {
        return Received::More;
    }
    if got <= 0 {
        return Received::Closed;
    }
    connection.bytes.extend_from_slice(&chunk[..got as usize]);
    match wire::length(&connection.bytes) {
        Ok(Some(length)) if length <= connection.bytes.len() => {
            let message = wire::decode(&connection.bytes[..length]);
            connection.bytes = Vec::new();
            message.map_or(Received::Closed, Received::Message)
        }
        Ok(_) => Received::More,
        Err(wire::TooLong) => Received::Closed,
    }
}

fn answer(fd: RawFd, reply: &Reply) {
    if fd >= 0 {
        // Whoever does not take its small answer has gone away.
        let _ = sys::write_all(fd, &wire::encode(reply));
    }
}

fn poll(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

fn unblock(fd: RawFd) {
    // SAFETY: plain numbers.
    unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
}

/// Every process below this one, as `/proc` tells it.
fn descendants() -> Vec<i32> {
    let mut found = Vec::new();
    let mut next = vec![std::process::id() as i32];
    while let Some(pid) = next.pop() {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let children =
                std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            next.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
        }
        found.push(pid);
    }
    found.retain(|pid| *pid != std::process::id() as i32);
    found
}
