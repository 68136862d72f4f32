//! Processes and archives from the request to the fork, and what they read.

use std::os::fd::RawFd;

use shim::wire::{self, Refusal, Reply, Resize, Run, Stream, Window};

use super::Keeper;
use super::connection::{answer, answer_with};
use crate::archive::{self, Way};
use crate::exec::{self, Ends};
use crate::output::Output;
use crate::sys::{self, Result, close, done, open, pipe};

/// Processes and archives at a time; what exceeds it is refused.
const MOST_CHILDREN: usize = 256;

pub(super) struct Child {
    /// 0 once it has ended; then only its orphans' output is left.
    pub pid: i32,
    pub index: u32,
    pub streams: [RawFd; 2],
    /// Where a failure to start is told; -1 once it is known how that went.
    pub report: RawFd,
    /// Who waits for the report.
    pub asker: RawFd,
    pub output: Option<Output>,
    /// The writing end of what it reads: a pipe or its terminal; -1 when there is none (any more).
    pub input: RawFd,
    pub source: Source,
    pub killed: bool,
}

/// What a process reads from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Nothing,
    Pipe,
    Terminal,
}

/// Both ends of a process's streams: those it is given, and those that stay.
struct Streams {
    given: Ends,
    outputs: [RawFd; 2],
    report: RawFd,
    input: RawFd,
    source: Source,
}

impl Keeper<'_> {
    pub(super) fn run(&mut self, asker: RawFd, run: Run) -> Result<()> {
        self.make_room()?;
        let index = run.index;
        let dir =
            open(self.held.processes, &index.to_string(), libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
        let output = Output::create(dir, self.start.segment_bytes)?;
        let streams = Streams::make(&run)?;
        // A container at its limit of processes is asked again and again.
        let pid = exec::fork().inspect_err(|_| streams.let_go())?;
        if pid == 0 {
            exec::exec(self.start, run, &streams.given);
        }
        streams.let_go_of_given();
        let Streams { outputs, report, input, source, .. } = streams;
        // Somebody else writes to the input, and must not block for want of a reader either.
        outputs.into_iter().chain([report, input]).filter(|fd| *fd >= 0).for_each(unblock);
        let (output, streams) = (Some(output), outputs);
        let child =
            Child { pid, index, streams, report, asker, output, input, source, killed: false };
        self.children.push(child);
        Ok(())
    }

    pub(super) fn stream(&mut self, asker: RawFd, way: Way, stream: &Stream) -> Result<()> {
        self.make_room()?;
        let Some(connection) =
            self.connections.iter_mut().find(|connection| connection.fd == asker)
        else {
            return Ok(());
        };
        let data = std::mem::replace(&mut connection.passed, -1);
        let report = pipe(0)?;
        let pid = exec::fork().inspect_err(|_| report.into_iter().chain([data]).for_each(close))?;
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
            input: -1,
            source: Source::Nothing,
            killed: false,
        });
        Ok(())
    }

    pub(super) fn make_room(&self) -> Result<()> {
        if self.children.len() < MOST_CHILDREN {
            return Ok(());
        }
        Err(sys::Fault { what: "too many processes".into(), errno: libc::EAGAIN })
    }

    /// Hands over the writing end of what a process reads.
    pub(super) fn input(&mut self, asker: RawFd, index: u32) {
        match self.reader(index) {
            Some(child) if child.input >= 0 => {
                answer_with(asker, &Reply::Done(()), child.input);
            }
            _ => answer(asker, &no_input()),
        }
    }

    pub(super) fn close_input(&mut self, index: u32) -> Reply {
        let Some(child) = self.reader(index) else { return no_input() };
        if child.source == Source::Terminal {
            // What its user would type; a terminal that takes nothing more has been typed on enough.
            let _ = sys::write_all(child.input, &[end_of_file(child.input)]);
        } else {
            close(std::mem::replace(&mut child.input, -1));
        }
        Reply::Done(())
    }

    pub(super) fn resize(&mut self, resize: &Resize) -> Reply {
        match self.reader(resize.index) {
            Some(child) if child.source == Source::Terminal => {
                set_size(child.input, &resize.window);
                Reply::Done(())
            }
            _ => no_input(),
        }
    }

    /// One that runs and was given something to read from.
    fn reader(&mut self, index: u32) -> Option<&mut Child> {
        let mut children = self.children.iter_mut();
        children
            .find(|child| child.pid > 0 && child.index == index && child.source != Source::Nothing)
    }
}

fn no_input() -> Reply {
    Reply::Refused(Refusal { kind: wire::REFUSED_NO_INPUT, ..Refusal::default() })
}

impl Streams {
    fn make(run: &Run) -> Result<Streams> {
        match &run.tty {
            Some(window) => Streams::terminal(window),
            None => Streams::pipes(run.stdin),
        }
    }

    fn pipes(stdin: bool) -> Result<Streams> {
        let (stdout, stderr, report) = (pipe(0)?, pipe(0)?, pipe(0)?);
        let [theirs, input] = if stdin { pipe(0)? } else { [-1, -1] };
        let given = Ends {
            stdin: theirs,
            stdout: stdout[1],
            stderr: stderr[1],
            report: report[1],
            terminal: false,
        };
        let source = if stdin { Source::Pipe } else { Source::Nothing };
        Ok(Streams { given, outputs: [stdout[0], stderr[0]], report: report[0], input, source })
    }

    /// The container's own, where it has its own.
    fn terminal(window: &Window) -> Result<Streams> {
        let open_flags = libc::O_RDWR | libc::O_NOCTTY;
        let master = open(libc::AT_FDCWD, "/dev/ptmx", open_flags, 0)?;
        let unlocked = 0;
        // SAFETY: the request reads one number.
        done(
            unsafe { libc::ioctl(master, libc::TIOCSPTLCK, &raw const unlocked) },
            "unlocking a terminal",
        )?;
        set_size(master, window);
        let flags = open_flags | libc::O_CLOEXEC;
        // By the descriptor, since names may lead elsewhere. SAFETY: plain numbers.
        let slave =
            done(unsafe { libc::ioctl(master, libc::TIOCGPTPEER, flags) }, "opening a terminal")?
                as RawFd;
        // SAFETY: plain numbers.
        let input =
            done(unsafe { libc::fcntl(master, libc::F_DUPFD_CLOEXEC, 3) }, "keeping a terminal")?
                as RawFd;
        let report = pipe(0)?;
        let given =
            Ends { stdin: slave, stdout: slave, stderr: slave, report: report[1], terminal: true };
        let (report, source) = (report[0], Source::Terminal);
        Ok(Streams { given, outputs: [master, -1], report, input, source })
    }

    fn let_go(&self) {
        self.let_go_of_given();
        self.outputs.into_iter().chain([self.report, self.input]).for_each(close);
    }

    fn let_go_of_given(&self) {
        let Ends { stdin, stdout, stderr, report, terminal } = &self.given;
        close(*report);
        close(*stdin);
        if !terminal {
            close(*stdout);
            close(*stderr);
        }
    }
}

fn set_size(terminal: RawFd, window: &Window) {
    let (ws_row, ws_col) = (window.rows, window.columns);
    let size = libc::winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request reads the struct.
    unsafe { libc::ioctl(terminal, libc::TIOCSWINSZ, &raw const size) };
}

/// The character that means the end, which programs may change.
fn end_of_file(terminal: RawFd) -> u8 {
    const USUAL: u8 = 4;
    // SAFETY: all-zero is a valid value of this plain struct, which the call fills.
    unsafe {
        let mut modes: libc::termios = std::mem::zeroed();
        if libc::tcgetattr(terminal, &raw mut modes) == 0 { modes.c_cc[libc::VEOF] } else { USUAL }
    }
}

fn unblock(fd: RawFd) {
    // SAFETY: plain numbers.
    unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
}
