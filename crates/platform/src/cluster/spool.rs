//! Envelopes on a joined cell's disk until the log store has them. What is kept together is there whole or not at all
//! when the cell's program is killed; a power cut costs what the kernel had not written yet.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::{Buf as _, Bytes};
use envelope::{Mark, wire};
use tracing::{info, warn};

/// A segment is closed at this size; one that the store has goes as a whole.
const SEGMENT: u64 = 8 << 20;
/// So many segments stay though the store has them: their marks say how far output was read.
const STAY: usize = 2;
/// What one request carries, or a little more.
const BATCH: usize = 512 << 10;
const MAGIC: &[u8; 4] = b"CSP1";
/// Magic and the segment's guid.
const HEADER: u64 = 40;
/// Kind and length.
const FRONT: usize = 5;
/// A record is one of these; zeros are what a file system may leave after a power cut.
const PART: u8 = 1;
const END: u8 = 2;

/// Where a batch lies: from here to there in a segment, which has a name that no other ever had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub segment: String,
    pub from: u64,
    pub to: u64,
}

/// An encoded `EnvelopeBatch`: parts that follow each other are one as well.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub place: Place,
    pub body: Bytes,
}

/// A queue in files. Whoever is slow to take from it holds up nobody; at `most` bytes nothing more is taken in.
pub(super) struct Spool {
    dir: PathBuf,
    most: u64,
    /// In order. Those before `reading` are the store's already.
    segments: VecDeque<Segment>,
    next: u64,
    reading: usize,
    /// How much of the segment at `reading` the store has.
    at: u64,
    /// The last segment, when there is room in it.
    open: Option<File>,
    cursor: Option<File>,
}

#[derive(Debug)]
struct Segment {
    id: String,
    path: PathBuf,
    file: File,
    end: u64,
}

impl Spool {
    /// Takes up what an earlier life left; answers the marks that were kept with it, each as it was last.
    pub fn open(dir: &Path, most: u64) -> anyhow::Result<(Spool, HashMap<String, Bytes>)> {
        let (mut segments, mut marks, mut next) = (VecDeque::new(), HashMap::new(), 0);
        for (number, path) in list(dir)? {
            next = number + 1;
            match scan(&path, &mut marks)? {
                Some(segment) => segments.push_back(segment),
                None => {
                    std::fs::remove_file(&path)
                        .with_context(|| format!("removing {}", path.display()))?;
                }
            }
        }
        let path = dir.join("cursor");
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        let cursor = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
        let cursor = cursor.with_context(|| format!("opening {}", path.display()))?;
        let (dir, cursor) = (dir.to_owned(), Some(cursor));
        let mut spool =
            Spool { dir, most, segments, next, reading: 0, at: HEADER, open: None, cursor };
        if let Some((id, at)) = known.split_once(' ')
            && let Ok(at) = at.trim().parse()
            && let Some(found) = spool.segments.iter().position(|segment| segment.id == id)
        {
            (spool.reading, spool.at) = (found, u64::clamp(at, HEADER, spool.segments[found].end));
        }
        if spool.waiting() > 0 {
            info!(bytes = spool.waiting(), "envelopes of an earlier life wait for the log store");
        }
        Ok((spool, marks))
    }

    /// Bytes that the store has not taken.
    pub fn waiting(&self) -> u64 {
        let ends: u64 = self.segments.iter().skip(self.reading).map(|one| one.end - HEADER).sum();
        if self.reading < self.segments.len() { ends.saturating_sub(self.at - HEADER) } else { 0 }
    }

    /// Whether so many bytes more fit.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.waiting() + bytes <= self.most
    }

    /// Keeps encoded batches with a mark, all or nothing; `false` when there is no room.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn append(&mut self, parts: &[Vec<u8>], mark: Option<&Mark>) -> anyhow::Result<bool> {
        let mut group = Vec::with_capacity(parts.iter().map(|part| part.len() + FRONT).sum());
        for part in parts {
            record(PART, &[part], &mut group)?;
        }
        match mark {
            None => record(END, &[], &mut group)?,
            Some(mark) => {
                let length = u32::try_from(mark.key.len())?.to_be_bytes();
                record(END, &[&length, mark.key.as_bytes(), &mark.at], &mut group)?;
            }
        }
        if !self.has_room(group.len() as u64) {
            return Ok(false);
        }
        let mut file = match self.open.take() {
            Some(file) => file,
            None => self.begin()?,
        };
        let segment = self.segments.back_mut().expect("one was begun");
        if let Err(error) = file.write_all(&group) {
            // The next group goes where this one began, else nobody could read what follows.
            if file.set_len(segment.end).is_ok() {
                self.open = Some(file);
            }
            return Err(error).context("writing envelopes");
        }
        segment.end += group.len() as u64;
        if segment.end < SEGMENT {
            self.open = Some(file);
        }
        Ok(true)
    }

    /// What the store gets next; the same until it was told of as taken.
    pub fn next(&mut self) -> anyhow::Result<Option<Batch>> {
        while let Some(segment) = self.segments.get(self.reading) {
            let (mut body, mut to) = (Vec::new(), self.at);
            while to < segment.end && body.len() < BATCH {
                let (kind, length) = front(&segment.file, to)?;
                to += FRONT as u64;
                if kind == PART {
                    let begin = body.len();
                    body.resize(begin + length as usize, 0);
                    segment.file.read_exact_at(&mut body[begin..], to)?;
                }
                to += u64::from(length);
            }
            if !body.is_empty() {
                let place = Place { segment: segment.id.clone(), from: self.at, to };
                return Ok(Some(Batch { place, body: body.into() }));
            }
            // Marks alone are nothing to the store.
            self.at = to;
            if self.reading + 1 == self.segments.len() {
                return Ok(None);
            }
            (self.reading, self.at) = (self.reading + 1, HEADER);
            self.tidy();
        }
        Ok(None)
    }

    /// The store has all of a segment up to `at`.
    pub fn taken(&mut self, segment: &str, at: u64) {
        let Some(current) = self.segments.get(self.reading).filter(|one| one.id == segment) else {
            return;
        };
        self.at = at.clamp(self.at, current.end);
        // Lost, it costs only that the store hears again what it knows.
        let text = format!("{segment} {:020}", self.at);
        if let Some(file) = &self.cursor
            && let Err(error) = file.write_all_at(text.as_bytes(), 0)
        {
            warn!(%error, "how much the log store has could not be noted");
            self.cursor = None;
        }
    }

    /// Leaves out the rest of the segment that is being read.
    pub fn skip(&mut self) {
        self.at = self.segments.get(self.reading).map_or(HEADER, |segment| segment.end);
    }

    fn begin(&mut self) -> anyhow::Result<File> {
        let path = self.dir.join(format!("{:012}.spool", self.next));
        let id = base::new_guid();
        let open = |options: &mut OpenOptions| {
            options.open(&path).with_context(|| format!("opening {}", path.display()))
        };
        let mut file = open(OpenOptions::new().append(true).create_new(true))?;
        file.write_all(MAGIC).and_then(|()| file.write_all(id.as_bytes())).inspect_err(|_| {
            // The next start removes it as well.
            let _ = std::fs::remove_file(&path);
        })?;
        let reader = open(OpenOptions::new().read(true))?;
        self.next += 1;
        self.segments.push_back(Segment { id, path, file: reader, end: HEADER });
        Ok(file)
    }

    /// Removes what the store has, but for the newest.
    fn tidy(&mut self) {
        while self.reading > 0 && self.segments.len() > STAY {
            let gone = self.segments.pop_front().expect("there are some");
            self.reading -= 1;
            if let Err(error) = std::fs::remove_file(&gone.path) {
                warn!(%error, file = %gone.path.display(), "a spent segment stays");
            }
        }
    }
}

fn record(kind: u8, pieces: &[&[u8]], group: &mut Vec<u8>) -> anyhow::Result<()> {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    group.push(kind);
    group.extend(u32::try_from(length).context("a record is too large")?.to_be_bytes());
    pieces.iter().for_each(|piece| group.extend_from_slice(piece));
    Ok(())
}

fn front(file: &File, at: u64) -> anyhow::Result<(u8, u32)> {
    let mut front = [0; FRONT];
    file.read_exact_at(&mut front, at).context("reading envelopes back")?;
    let [kind, length @ ..] = front;
    Ok((kind, u32::from_be_bytes(length)))
}

fn list(dir: &Path) -> anyhow::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(number) = name.strip_suffix(".spool").and_then(|number| number.parse().ok()) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a segment up to the last group that is whole; `None` when not even its name is.
fn scan(path: &Path, marks: &mut HashMap<String, Bytes>) -> anyhow::Result<Option<Segment>> {
    let (mut file, mut bytes) = (File::open(path)?, Vec::new());
    file.read_to_end(&mut bytes).with_context(|| format!("reading {}", path.display()))?;
    let mut left = Bytes::from(bytes);
    let whole = left.len();
    if left.len() < HEADER as usize || !left.starts_with(MAGIC) {
        return Ok(None);
    }
    let name = left.split_to(HEADER as usize).slice(MAGIC.len()..);
    let Ok(id) = String::from_utf8(name.to_vec()) else { return Ok(None) };
    let mut end = HEADER;
    while let Some((kind, payload)) = take(&mut left) {
        match kind {
            PART if wire::decode(&payload).is_ok() => {}
            END => {
                end = (whole - left.len()) as u64;
                if let Some(mark) = mark_of(payload) {
                    // A copy, so that it does not hold the whole segment.
                    marks.insert(mark.key, Bytes::copy_from_slice(&mark.at));
                }
            }
            _ => break,
        }
    }
    Ok(Some(Segment { id, path: path.to_owned(), file, end }))
}

fn take(left: &mut Bytes) -> Option<(u8, Bytes)> {
    let (kind, length) = (left.try_get_u8().ok()?, left.try_get_u32().ok()? as usize);
    (length <= left.len()).then(|| (kind, left.split_to(length)))
}

fn mark_of(mut payload: Bytes) -> Option<Mark> {
    let length = payload.try_get_u32().ok()? as usize;
    let key = (length <= payload.len()).then(|| payload.split_to(length))?;
    Some(Mark { key: String::from_utf8(key.to_vec()).ok()?, at: payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Timestamp;
    use envelope::{Envelope, LogType, Message, Source};
    use std::sync::Arc;

    const MOST: u64 = 64 << 20;

    fn part(text: &str) -> Vec<u8> {
        let source = Source { id: "app".into(), instance: "0".into(), tags: Arc::default() };
        let at = Timestamp::from_secs(1);
        wire::encode(&[Envelope::log(&source, "APP", LogType::Out, text.to_owned(), at)])
    }

    fn mark(at: &'static str) -> Mark {
        Mark { key: "process".to_owned(), at: at.into() }
    }

    fn texts(body: &[u8]) -> Vec<String> {
        let text = |envelope: &Envelope| match &envelope.message {
            Message::Log { payload, .. } => String::from_utf8_lossy(payload).into_owned(),
            other => format!("{other:?}"),
        };
        wire::decode(body).unwrap().iter().map(text).collect()
    }

    /// Takes all there is, as a store does.
    fn drain(spool: &mut Spool) -> Vec<String> {
        let mut found = vec![];
        while let Some(batch) = spool.next().unwrap() {
            found.extend(texts(&batch.body));
            spool.taken(&batch.place.segment, batch.place.to);
        }
        found
    }

    #[test]
    fn what_was_not_taken_is_there_after_a_kill_and_what_was_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (mut spool, marks) = Spool::open(folder.path(), MOST).unwrap();
        assert!(marks.is_empty() && spool.next().unwrap().is_none());
        assert!(spool.append(&[part("one"), part("two")], Some(&mark("2"))).unwrap());
        let first = spool.next().unwrap().unwrap();
        assert_eq!(texts(&first.body), ["one", "two"]);
        assert!(spool.append(&[part("three")], Some(&mark("3"))).unwrap());
        assert_eq!(texts(&spool.next().unwrap().unwrap().body), ["one", "two", "three"]);
        spool.taken(&first.place.segment, first.place.to);
        drop(spool);
        let (mut spool, marks) = Spool::open(folder.path(), MOST).unwrap();
        assert_eq!(marks["process"], "3");
        assert!(spool.append(&[part("four")], None).unwrap());
        assert_eq!(drain(&mut spool), ["three", "four"]);
        assert_eq!(spool.waiting(), 0);
    }

    #[test]
    fn a_group_that_was_cut_off_goes_with_its_mark() {
        let folder = tempfile::tempdir().unwrap();
        let (mut spool, _) = Spool::open(folder.path(), MOST).unwrap();
        assert!(spool.append(&[part("one")], Some(&mark("1"))).unwrap());
        let path = spool.segments[0].path.clone();
        let whole = spool.segments[0].end;
        assert!(spool.append(&[part("two"), part("three")], Some(&mark("3"))).unwrap());
        let end = spool.segments[0].end;
        drop(spool);
        for length in (whole..end).rev() {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
            let (mut spool, marks) = Spool::open(folder.path(), MOST).unwrap();
            assert_eq!(marks["process"], "1");
            let batch = spool.next().unwrap().unwrap();
            assert_eq!(texts(&batch.body), ["one"]);
        }
    }

    #[test]
    fn spent_segments_go_and_a_full_spool_takes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (mut spool, _) = Spool::open(folder.path(), 3 * SEGMENT).unwrap();
        let large = part(&"x".repeat(1 << 20));
        let mut kept = 0;
        while spool.append(std::slice::from_ref(&large), None).unwrap() {
            kept += 1;
        }
        assert!((20..24).contains(&kept), "{kept}");
        assert!(!spool.has_room(large.len() as u64));
        assert_eq!(drain(&mut spool).len(), kept);
        assert!(spool.append(&[part("more")], None).unwrap());
        assert_eq!(drain(&mut spool), ["more"]);
        assert_eq!(list(folder.path()).unwrap().len(), STAY);
    }
}
