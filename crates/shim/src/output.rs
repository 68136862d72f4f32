//! A process's output on disk: two files of which the older gives way. A write that does not fit the disk is dropped
//! and shows as a gap between files, never as a blocked process.
#![expect(unsafe_code, reason = "system calls")]

use std::os::fd::RawFd;

use shim::{CURRENT, OLD, frame};

use crate::sys::{Result, close, done, open, text, write_all};

/// Where the pieces of one process go.
pub struct Output {
    /// The process's folder.
    dir: RawFd,
    file: RawFd,
    /// Bytes in the current file, its header included.
    length: u64,
    /// Payload bytes since the process began.
    position: u64,
    segment: u64,
}

impl Output {
    pub fn create(dir: RawFd, segment: u64) -> Result<Output> {
        let mut output = Output {
            dir,
            file: -1,
            length: 0,
            position: 0,
            segment: segment.max(frame::LARGEST as u64),
        };
        output.begin()?;
        Ok(output)
    }

    /// Takes a piece whole, or loses it whole.
    pub fn append(&mut self, stderr: bool, piece: &mut Piece, length: usize) {
        if self.length + length as u64 > self.segment || self.file < 0 {
            self.rotate();
        }
        let bytes = piece.framed(stderr, length);
        if self.file >= 0 {
            if write_all(self.file, bytes).is_ok() {
                self.length += bytes.len() as u64;
            } else {
                self.abandon();
            }
        }
        self.position += length as u64;
    }

    /// After a failed write the file ends with its last whole frame, and the next piece begins a new one.
    fn abandon(&mut self) {
        // SAFETY: the descriptor is ours.
        unsafe { libc::ftruncate(self.file, self.length as i64) };
        close(self.file);
        self.file = -1;
    }

    fn rotate(&mut self) {
        close(self.file);
        self.file = -1;
        let (Ok(from), Ok(to)) = (text(CURRENT), text(OLD)) else { return };
        // SAFETY: both are terminated strings.
        unsafe { libc::renameat(self.dir, from.as_ptr(), self.dir, to.as_ptr()) };
        // Without room for a header the next piece tries again.
        let _ = self.begin();
    }

    fn begin(&mut self) -> Result<()> {
        let file = open(self.dir, CURRENT, libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC, 0o600)?;
        if let Err(fault) = write_all(file, &frame::header(self.position)) {
            close(file);
            return Err(fault);
        }
        self.file = file;
        self.length = frame::HEADER as u64;
        Ok(())
    }

    /// Writes the exit beside the output; readers see all of it or nothing.
    pub fn finish(&self, line: &str) -> Result<()> {
        let file =
            open(self.dir, "exit.new", libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC, 0o600)?;
        let wrote = write_all(file, line.as_bytes());
        close(file);
        wrote?;
        let (from, to) = (text("exit.new")?, text(shim::EXIT)?);
        // SAFETY: both are terminated strings.
        done(
            unsafe { libc::renameat(self.dir, from.as_ptr(), self.dir, to.as_ptr()) },
            "naming the exit",
        )
        .map(drop)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        close(self.file);
        close(self.dir);
    }
}

/// The one buffer all output passes through, with room for the frame before the payload so that both go in one write.
pub struct Piece([u8; frame::FRAME + Piece::ROOM]);

impl Piece {
    /// Small, since every page of it counts for every container.
    pub const ROOM: usize = 8192 - frame::FRAME;

    pub const fn new() -> Piece {
        Piece([0; frame::FRAME + Piece::ROOM])
    }

    pub fn payload(&mut self) -> &mut [u8] {
        &mut self.0[frame::FRAME..]
    }

    fn framed(&mut self, stderr: bool, length: usize) -> &[u8] {
        self.0[..frame::FRAME].copy_from_slice(&frame::frame(stderr, length));
        &self.0[..frame::FRAME + length]
    }
}
