//! Log lines on disk: compressed, append-only segments, written by a thread of its own as soon as lines come, and synced
//! within a second.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use bytes::{Buf as _, Bytes};
use envelope::{Envelope, Kept, Mark};
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::Config;
use crate::codec::{Record, decode, encode, encode_mark};

/// A segment is closed at this size, so that old lines can go in such pieces.
const SEGMENT_MAX: u64 = 8 << 20;
/// A frame is written at this size, uncompressed, though more lines wait.
const FRAME_MAX: usize = 256 << 10;
const LEVEL: i32 = 1;
/// What a power cut may cost; a kill of this program costs nothing that was written.
const SYNC: Duration = Duration::from_secs(1);
/// Marks remembered of an earlier life; beyond that only those of the newest segment are.
const MARKS_MAX: usize = 50_000;

pub(crate) struct Segments {
    /// There until the end begins.
    queue: Option<mpsc::Sender<Entry>>,
    /// Of an earlier life, until they are asked for.
    marks: Mutex<HashMap<String, Bytes>>,
    /// Counted here and by the writer.
    dropped: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

/// Records that go into one frame, and so to disk together or not at all.
struct Entry {
    bytes: Vec<u8>,
    lines: u64,
    /// Told when they are written, or cannot be.
    done: Option<oneshot::Sender<()>>,
}

impl Segments {
    /// Hands everything that is there to `each`, oldest first, and begins a new segment.
    pub(crate) fn open(config: &Config, each: impl FnMut(Envelope)) -> anyhow::Result<Segments> {
        std::fs::create_dir_all(&config.dir)
            .with_context(|| format!("making {}", config.dir.display()))?;
        let known = list(&config.dir)?;
        let marks = Mutex::new(replay(&known, each)?);
        let next = known.last().map_or(0, |(number, _)| number + 1);
        let (sender, receiver) = mpsc::channel(config.queue);
        let files =
            Files { dir: config.dir.clone(), number: next, max: config.max_disk_bytes, open: None };
        let timer = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = std::thread::Builder::new().name("logs".to_owned()).spawn({
            let dropped = dropped.clone();
            move || timer.block_on(run(receiver, files, &dropped))
        })?;
        Ok(Segments { queue: Some(sender), marks, dropped, writer: Some(writer) })
    }

    /// Completes when all is written. Waits for its turn when the disk does not keep up.
    pub(crate) fn keep(&self, envelopes: &[Envelope], mark: &Mark) -> Kept {
        let mut bytes = Vec::with_capacity(64 + 256 * envelopes.len());
        for envelope in envelopes {
            encode(envelope, &mut bytes);
        }
        encode_mark(mark, &mut bytes);
        let lines = envelopes.len() as u64;
        let (done, written) = oneshot::channel();
        let queue = self.queue.clone();
        Box::pin(async move {
            let Some(queue) = queue else { return };
            if queue.send(Entry { bytes, lines, done: Some(done) }).await.is_ok() {
                // The writer ends only when this program does.
                let _ = written.await;
            }
        })
    }

    pub(crate) fn mark(&self, key: &str) -> Option<Bytes> {
        self.marks.lock().remove(key)
    }

    /// Never waits: when the disk does not keep up, the line is kept in memory alone and counted.
    pub(crate) fn write(&self, envelope: &Envelope) {
        let mut bytes = Vec::with_capacity(256);
        if !encode(envelope, &mut bytes) {
            return;
        }
        let Some(queue) = &self.queue else { return };
        if let Err(TrySendError::Full(_)) = queue.try_send(Entry { bytes, lines: 1, done: None }) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            warn!("the writer of log segments had ended badly");
        }
    }
}

/// Sleeps while nobody says anything; takes all that waits as one frame. What the disk does not take is counted. Alone
/// on its thread, so it may block.
async fn run(mut queue: mpsc::Receiver<Entry>, mut files: Files, dropped: &AtomicU64) {
    let mut failing = false;
    let mut sync_at: Option<Instant> = None;
    loop {
        let next = match sync_at {
            None => queue.recv().await,
            Some(at) => match timeout_at(at, queue.recv()).await {
                Ok(next) => next,
                Err(_) => {
                    files.sync();
                    sync_at = None;
                    continue;
                }
            },
        };
        let Some(Entry { bytes: mut frame, mut lines, done }) = next else { return files.sync() };
        let mut waiting = Vec::from_iter(done);
        while frame.len() < FRAME_MAX
            && let Ok(more) = queue.try_recv()
        {
            frame.extend(more.bytes);
            lines += more.lines;
            waiting.extend(more.done);
        }
        match files.append(&frame) {
            Ok(()) if failing => {
                failing = false;
                info!("log lines get to disk again");
            }
            Ok(()) => {}
            Err(error) => {
                dropped.fetch_add(lines, Ordering::Relaxed);
                // Once: the disk does not get better by many words.
                if !failing {
                    warn!(error = %format!("{error:#}"), "log lines are kept in memory alone until the disk takes them again");
                }
                failing = true;
            }
        }
        for done in waiting {
            // Whoever does not wait any more does not mind.
            let _ = done.send(());
        }
        let now = Instant::now();
        if *sync_at.get_or_insert(now + SYNC) <= now {
            files.sync();
            sync_at = None;
        }
    }
}

struct Files {
    dir: PathBuf,
    number: u64,
    max: u64,
    open: Option<(File, u64)>,
}

impl Files {
    fn append(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        let packed = zstd::bulk::compress(frame, LEVEL)?;
        let (mut file, size) = match self.open.take() {
            Some(open) => open,
            None => (self.begin()?, 0),
        };
        let mut whole = Vec::with_capacity(packed.len() + 8);
        whole.extend(u32::try_from(packed.len())?.to_be_bytes());
        whole.extend(u32::try_from(frame.len())?.to_be_bytes());
        whole.extend(packed);
        if let Err(error) = file.write_all(&whole) {
            // The next frame goes where this one began, else nobody could read what follows.
            if file.set_len(size).is_ok() {
                self.open = Some((file, size));
            }
            return Err(error).context("writing log lines");
        }
        let size = size + whole.len() as u64;
        self.open = Some((file, size));
        if size >= SEGMENT_MAX {
            self.sync();
            self.open = None;
        }
        Ok(())
    }

    fn sync(&self) {
        let Some((file, _)) = &self.open else { return };
        if let Err(error) = file.sync_data() {
            warn!(%error, "the newest log lines may not survive a power cut");
        }
    }

    fn begin(&mut self) -> anyhow::Result<File> {
        self.make_room()?;
        let path = self.dir.join(format!("{:012}.logs", self.number));
        self.number += 1;
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        File::open(&self.dir)?.sync_all().context("syncing the folder of the logs")?;
        Ok(file)
    }

    fn make_room(&self) -> anyhow::Result<()> {
        let mut known = list(&self.dir)?;
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
        let mut total: u64 = known.iter().map(|(_, path)| size(path)).sum();
        while total + SEGMENT_MAX > self.max && !known.is_empty() {
            let (_, oldest) = known.remove(0);
            total -= size(&oldest);
            std::fs::remove_file(&oldest)
                .with_context(|| format!("removing {}", oldest.display()))?;
        }
        Ok(())
    }
}

fn list(dir: &Path) -> anyhow::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let (Some(number), Some("logs")) =
            (number, path.extension().and_then(|extension| extension.to_str()))
        {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Answers the marks, each as it was last.
fn replay(
    known: &[(u64, PathBuf)],
    mut each: impl FnMut(Envelope),
) -> anyhow::Result<HashMap<String, Bytes>> {
    let mut marks = HashMap::new();
    for (_, path) in known {
        if marks.len() > MARKS_MAX {
            marks.clear();
        }
        let mut bytes = Vec::new();
        File::open(path)?
            .read_to_end(&mut bytes)
            .with_context(|| format!("reading {}", path.display()))?;
        let mut bytes = Bytes::from(bytes);
        while let Some(mut frame) = unpack(&mut bytes) {
            while let Some(record) = decode(&mut frame) {
                match record {
                    Record::Envelope(envelope) => each(envelope),
                    // A copy, so that it does not hold the whole frame.
                    Record::Mark(mark) => {
                        marks.insert(mark.key, Bytes::copy_from_slice(&mark.at));
                    }
                }
            }
        }
    }
    Ok(marks)
}

/// The next frame; `None` at the end, and where a write was cut off.
fn unpack(bytes: &mut Bytes) -> Option<Bytes> {
    let packed = bytes.try_get_u32().ok()? as usize;
    let size = bytes.try_get_u32().ok()? as usize;
    // Zeros are what a file system may leave after a power cut.
    if packed == 0 || packed > bytes.len() {
        return None;
    }
    zstd::bulk::decompress(&bytes.split_to(packed), size).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::tests::{line, text};

    fn reopen(config: &Config) -> (Segments, Vec<String>) {
        let mut seen = Vec::new();
        let segments = Segments::open(config, |envelope| seen.push(text(&envelope))).unwrap();
        (segments, seen)
    }

    #[test]
    fn lines_survive_and_a_cut_end_costs_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(folder.path().to_owned());
        let (segments, _) = reopen(&config);
        (0..100).for_each(|n| segments.write(&line("app", &n.to_string(), n)));
        drop(segments);
        let (segments, seen) = reopen(&config);
        assert_eq!(seen, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
        segments.write(&line("app", "cut", 100));
        drop(segments);
        let (_, last) = list(folder.path()).unwrap().pop().unwrap();
        let size = std::fs::metadata(&last).unwrap().len();
        OpenOptions::new().write(true).open(&last).unwrap().set_len(size - 3).unwrap();
        assert_eq!(reopen(&config).1.len(), 100);
    }

    #[tokio::test]
    async fn lines_and_their_mark_are_kept_together() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(folder.path().to_owned());
        let (segments, _) = reopen(&config);
        let mark = |at: &'static str| Mark { key: "process".to_owned(), at: at.into() };
        segments.keep(&[line("app", "one", 1), line("app", "two", 2)], &mark("2")).await;
        // What was kept is on disk though nothing was closed.
        let (_, only) = list(folder.path()).unwrap().pop().unwrap();
        let whole = std::fs::read(&only).unwrap();
        segments.keep(&[line("app", "three", 3)], &mark("3")).await;
        drop(segments);
        let (segments, seen) = reopen(&config);
        assert_eq!(seen, ["one", "two", "three"]);
        assert_eq!((segments.mark("process"), segments.mark("other")), (Some("3".into()), None));
        drop(segments);
        // Cut anywhere in the second frame, its lines go, and so does its mark.
        for cut in [1, 9, 20] {
            OpenOptions::new()
                .write(true)
                .open(&only)
                .unwrap()
                .set_len((whole.len() + cut) as u64)
                .unwrap();
            let (segments, seen) = reopen(&config);
            assert_eq!(
                (seen, segments.mark("process")),
                (vec!["one".to_owned(), "two".to_owned()], Some("2".into()))
            );
        }
    }

    #[test]
    fn old_segments_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            Config { max_disk_bytes: 2 * SEGMENT_MAX, ..Config::new(folder.path().to_owned()) };
        for number in 0..5 {
            std::fs::write(folder.path().join(format!("{number:012}.logs")), vec![0; 4 << 20])
                .unwrap();
        }
        let (segments, _) = reopen(&config);
        segments.write(&line("app", "new", 1));
        drop(segments);
        let left: Vec<u64> =
            list(folder.path()).unwrap().into_iter().map(|(number, _)| number).collect();
        assert_eq!(left, [3, 4, 5]);
    }

    #[test]
    fn what_the_disk_does_not_take_is_counted_and_the_rest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("logs");
        let config = Config::new(dir.clone());
        let (segments, _) = reopen(&config);
        std::fs::remove_dir_all(&dir).unwrap();
        segments.write(&line("app", "lost", 1));
        while segments.dropped() == 0 {
            std::thread::yield_now();
        }
        std::fs::create_dir_all(&dir).unwrap();
        segments.write(&line("app", "kept", 2));
        drop(segments);
        assert_eq!(reopen(&config).1, ["kept"]);
    }

    #[test]
    fn a_frame_that_was_not_written_does_not_hide_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let mut files =
            Files { dir: folder.path().to_owned(), number: 0, max: 1 << 30, open: None };
        let frame = |text: &str| {
            let mut bytes = Vec::new();
            assert!(encode(&line("app", text, 1), &mut bytes));
            bytes
        };
        files.append(&frame("first")).unwrap();
        // Read-only: every write fails.
        let path = folder.path().join("000000000000.logs");
        let (file, size) = files.open.take().unwrap();
        files.open = Some((File::open(&path).unwrap(), size));
        assert!(files.append(&frame("lost")).is_err());
        files.open = Some((file, size));
        files.append(&frame("second")).unwrap();
        let mut seen = Vec::new();
        replay(&list(folder.path()).unwrap(), |envelope| seen.push(text(&envelope))).unwrap();
        assert_eq!(seen, ["first", "second"]);
    }
}
