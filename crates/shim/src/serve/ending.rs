//! Output on its way to disk, and how processes end.

use std::os::fd::RawFd;

use shim::wire::{self, Refusal, Reply};

use super::Keeper;
use super::connection::answer;
use crate::output::{Output, Piece};
use crate::sys::{self, close};

/// More than any pipe holds: what was written before an exit is kept before the exit is told.
const DRAIN: usize = 1 << 21;

impl Keeper<'_> {
    /// Collects everything that has ended, adopted orphans too.
    pub(super) fn reap(&mut self) {
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

    pub(super) fn nothing_left(&mut self) {
        self.killing = None;
        for connection in self.connections.iter_mut().filter(|connection| connection.waits) {
            connection.waits = false;
            answer(connection.fd, &Reply::Done(()));
        }
    }

    pub(super) fn ended(&mut self, at: usize, status: i32) {
        self.reported(at);
        let oom = self.oom_kills();
        let child = &mut self.children[at];
        child.pid = 0;
        close(std::mem::replace(&mut child.input, -1));
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

    pub(super) fn oom_kills(&self) -> u64 {
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

    pub(super) fn move_output(&mut self, fd: RawFd) {
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
    pub(super) fn reported(&mut self, at: usize) {
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
