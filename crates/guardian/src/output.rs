//! Reads what a keeper writes down: the pieces of a process's output in order, saying what was lost between them.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use garden::{Exit, Output, Stream};
use shim::{CURRENT, EXIT, OLD, frame};

/// Takes in this much at once.
const CHUNK: usize = frame::LARGEST + frame::FRAME;

/// Goes through the output files of one process.
pub struct Reader {
    dir: PathBuf,
    segment: Option<Segment>,
    /// The first byte that has not been handed over.
    position: u64,
}

struct Segment {
    file: File,
    inode: u64,
    /// Where the file goes on, and the position of its next frame's payload.
    offset: u64,
    next: u64,
    /// Read and not yet handed over: the bytes from `offset` on.
    ahead: Bytes,
}

impl Reader {
    pub fn new(dir: &Path, from: u64) -> Reader {
        Reader { dir: dir.into(), segment: None, position: from }
    }

    /// The next piece; `None` when there is no more for now.
    pub fn next(&mut self) -> io::Result<Option<Output>> {
        loop {
            let segment = match &mut self.segment {
                Some(segment) => segment,
                None => match open_for(&self.dir, self.position)? {
                    Some(segment) => self.segment.insert(segment),
                    None => return Ok(None),
                },
            };
            if let Some((stderr, data, at)) = segment.take()? {
                let end = at + data.len() as u64;
                if end <= self.position {
                    continue;
                }
                let known = self.position.saturating_sub(at) as usize;
                let lost = at.saturating_sub(self.position);
                self.position = end;
                let stream = if stderr { Stream::Stderr } else { Stream::Stdout };
                return Ok(Some(Output { stream, data: data.slice(known..), end, lost }));
            }
            if !segment.is_complete(&self.dir)? {
                return Ok(None);
            }
            // What was written between the last look and the file's end.
            if segment.refill()? == 0 {
                self.position = self.position.max(segment.next);
                self.segment = None;
            }
        }
    }
}

/// The file with the byte `position`, or with the first one after it that is still kept.
fn open_for(dir: &Path, position: u64) -> io::Result<Option<Segment>> {
    // Files change names while they are opened; each round sees a later state, and a process writes only so fast.
    for _ in 0..64 {
        let Some(current) = Segment::open(&dir.join(CURRENT))? else {
            match Segment::open(&dir.join(OLD))? {
                // Between two names, or its successor could not be made.
                Some(old) => {
                    return Ok((old.next >= position || !old.is_spent(position)?).then_some(old));
                }
                None => return Ok(None),
            }
        };
        if current.next <= position {
            return Ok(Some(current));
        }
        match Segment::open(&dir.join(OLD))? {
            Some(old) if old.next < current.next => return Ok(Some(old)),
            Some(_) => {}
            None => return Ok(Some(current)),
        }
    }
    Err(io::Error::other("output files change faster than they can be opened"))
}

impl Segment {
    /// `None` when there is no such file or its header is not written yet.
    fn open(path: &Path) -> io::Result<Option<Segment>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut header = [0; frame::HEADER];
        let got = file.read_at(&mut header, 0)?;
        let Some(next) = frame::start(&header[..got]) else { return Ok(None) };
        let inode = file.metadata()?.ino();
        Ok(Some(Segment { file, inode, offset: frame::HEADER as u64, next, ahead: Bytes::new() }))
    }

    /// The next whole frame with the position of its first byte.
    fn take(&mut self) -> io::Result<Option<(bool, Bytes, u64)>> {
        if !self.has_frame() && self.refill()? == 0 {
            return Ok(None);
        }
        let Some((stderr, length)) = frame::parse(&self.ahead) else { return Ok(None) };
        if length > frame::LARGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a damaged output file"));
        }
        if self.ahead.len() < frame::FRAME + length {
            return Ok(None);
        }
        let mut data = self.ahead.split_to(frame::FRAME + length);
        let data = data.split_off(frame::FRAME);
        let at = self.next;
        self.offset += (frame::FRAME + length) as u64;
        self.next += length as u64;
        Ok(Some((stderr, data, at)))
    }

    fn has_frame(&self) -> bool {
        frame::parse(&self.ahead)
            .is_some_and(|(_, length)| self.ahead.len() >= frame::FRAME + length)
    }

    /// Reads on from `offset`; how many bytes more than before are there.
    fn refill(&mut self) -> io::Result<usize> {
        let before = self.ahead.len();
        let left = self.file.metadata()?.len().saturating_sub(self.offset);
        let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        if wanted <= before {
            return Ok(0);
        }
        let mut buffer = BytesMut::zeroed(wanted);
        let got = self.file.read_at(&mut buffer, self.offset)?;
        buffer.truncate(got);
        self.ahead = buffer.freeze();
        Ok(got.saturating_sub(before))
    }

    /// Whether another file has taken the name that is written to.
    fn is_complete(&self, dir: &Path) -> io::Result<bool> {
        match std::fs::metadata(dir.join(CURRENT)) {
            Ok(current) => Ok(current.ino() != self.inode),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_spent(&self, position: u64) -> io::Result<bool> {
        let payload = self.file.metadata()?.len().saturating_sub(frame::HEADER as u64);
        Ok(self.next + payload <= position)
    }
}

/// How the process of `dir` ended, once it has.
pub fn exit(dir: &Path) -> Option<Exit> {
    parse_exit(&std::fs::read_to_string(dir.join(EXIT)).ok()?)
}

fn parse_exit(line: &str) -> Option<Exit> {
    let (kind, number) = line.trim_end().split_once(' ')?;
    let number = number.parse().ok()?;
    match kind {
        "status" => Some(Exit::Status(number)),
        "signal" => Some(Exit::Signal(number)),
        "memory" => Some(Exit::OutOfMemory(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Writes as the shim does.
    struct Writer {
        dir: PathBuf,
        position: u64,
    }

    impl Writer {
        fn new(dir: &Path) -> Writer {
            std::fs::write(dir.join(CURRENT), frame::header(0)).unwrap();
            Writer { dir: dir.into(), position: 0 }
        }

        fn piece(&mut self, stderr: bool, text: &str) {
            let mut file = File::options().append(true).open(self.dir.join(CURRENT)).unwrap();
            file.write_all(&frame::frame(stderr, text.len())).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            self.position += text.len() as u64;
        }

        fn rotate(&mut self) {
            std::fs::rename(self.dir.join(CURRENT), self.dir.join(OLD)).unwrap();
            std::fs::write(self.dir.join(CURRENT), frame::header(self.position)).unwrap();
        }
    }

    fn rest(reader: &mut Reader) -> String {
        let mut text = String::new();
        while let Some(piece) = reader.next().unwrap() {
            let mark = if piece.stream == Stream::Stderr { "!" } else { "" };
            let lost =
                if piece.lost > 0 { format!("({} lost)", piece.lost) } else { String::new() };
            text += &format!("{lost}{mark}{}@{} ", String::from_utf8_lossy(&piece.data), piece.end);
        }
        text
    }

    #[test]
    fn pieces_come_in_order_across_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(dir.path());
        let mut reader = Reader::new(dir.path(), 0);
        assert_eq!(rest(&mut reader), "");
        writer.piece(false, "one");
        writer.piece(true, "two");
        assert_eq!(rest(&mut reader), "one@3 !two@6 ");
        writer.piece(false, "3");
        writer.rotate();
        writer.piece(false, "4");
        assert_eq!(rest(&mut reader), "3@7 4@8 ");
        assert_eq!(rest(&mut Reader::new(dir.path(), 0)), "one@3 !two@6 3@7 4@8 ");
        assert_eq!(rest(&mut Reader::new(dir.path(), 4)), "!wo@6 3@7 4@8 ");
        assert_eq!(rest(&mut Reader::new(dir.path(), 8)), "");
    }

    #[test]
    fn what_gave_way_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(dir.path());
        let mut slow = Reader::new(dir.path(), 0);
        writer.piece(false, "aaaa");
        assert_eq!(rest(&mut slow), "aaaa@4 ");
        writer.piece(false, "bbbb");
        writer.rotate();
        writer.piece(false, "cccc");
        writer.rotate();
        writer.piece(false, "dd");
        // The slow reader still holds the first file, so it loses nothing; a new one does.
        assert_eq!(rest(&mut slow), "bbbb@8 cccc@12 dd@14 ");
        assert_eq!(rest(&mut Reader::new(dir.path(), 0)), "(8 lost)cccc@12 dd@14 ");
    }

    #[test]
    fn exits_read_back() {
        assert_eq!(parse_exit("status 3\n"), Some(Exit::Status(3)));
        assert_eq!(parse_exit("signal 15\n"), Some(Exit::Signal(15)));
        assert_eq!(parse_exit("memory 137\n"), Some(Exit::OutOfMemory(137)));
        assert_eq!(parse_exit("sta"), None);
    }
}
