//! The keeper's loop: takes requests, moves output to disk, reaps, and writes down exits.
#![expect(unsafe_code, reason = "system calls")]

mod child;
mod connection;
mod ending;

use std::os::fd::RawFd;

use shim::wire::{self, Isolation, Refusal, Reply, Request, Start};

use crate::archive::Way;
use crate::output::Piece;
use crate::rest;
use crate::start::Held;
use crate::sys::{self, Result, close, done, fault};
use child::Child;
use connection::{Connection, Received, answer, read_message};

/// Who asks at a time; one more is hung up on.
const MOST_CONNECTIONS: usize = 32;

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
            Request::Input(index) => {
                self.input(fd, index);
                Ok(())
            }
            Request::CloseInput(index) => {
                answer(fd, &self.close_input(index));
                Ok(())
            }
            Request::Resize(resize) => {
                answer(fd, &self.resize(&resize));
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
}

fn poll(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
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
