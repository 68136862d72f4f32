//! The folder of one container: its recipe, its journal, and how far its output was read. All is written without waiting
//! for the disk: it must outlive this program, not the host, with which the containers go as well.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use garden::Handle;
use parking_lot::Mutex;
use tracing::warn;

use crate::container::ContainerRequest;
use crate::failure::Failure;
use crate::lines::Position;
use crate::progress::{Entry, Progress};

const RECIPE: &str = "recipe.json";
const JOURNAL: &str = "journal";

pub(crate) struct Journal {
    dir: PathBuf,
    file: Mutex<File>,
    progress: Mutex<Progress>,
}

impl Journal {
    /// Begins the folder of a new container.
    pub fn begin(root: &Path, request: &ContainerRequest) -> anyhow::Result<Journal> {
        let dir = root.join(folder(&request.guid)?);
        make_folder(&dir)?;
        let recipe = serde_json::to_vec(request)?;
        let whole = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(dir.join(RECIPE))
            .and_then(|mut file| file.write_all(&recipe));
        whole.with_context(|| format!("writing the recipe of {}", request.guid))?;
        let file = OpenOptions::new().create(true).append(true).open(dir.join(JOURNAL))?;
        Ok(Journal { dir, file: Mutex::new(file), progress: Mutex::default() })
    }

    /// Every container that has a folder, with how far it got. Folders that cannot be read are removed.
    pub fn open_all(root: &Path) -> anyhow::Result<Vec<(ContainerRequest, Journal)>> {
        make_folder(root)?;
        let mut found = Vec::new();
        for folder in fs::read_dir(root)? {
            let dir = folder?.path();
            match Journal::open(&dir) {
                Ok(one) => found.push(one),
                Err(error) => {
                    warn!(folder = %dir.display(), error = %format!("{error:#}"), "removing a recipe that cannot be read");
                    fs::remove_dir_all(&dir).ok();
                }
            }
        }
        Ok(found)
    }

    fn open(dir: &Path) -> anyhow::Result<(ContainerRequest, Journal)> {
        let request = serde_json::from_slice(&fs::read(dir.join(RECIPE))?)?;
        let path = dir.join(JOURNAL);
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        // What comes next must begin on a line of its own.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let file = OpenOptions::new().append(true).open(&path)?;
        file.set_len(whole as u64)?;
        let progress = Mutex::new(Progress::replay(&text[..whole]));
        Ok((request, Journal { dir: dir.to_owned(), file: Mutex::new(file), progress }))
    }

    pub fn note(&self, entry: Entry) {
        let mut line = serde_json::to_vec(&entry).expect("entries are plain data");
        line.push(b'\n');
        if let Err(error) = self.file.lock().write_all(&line) {
            warn!(journal = %self.dir.display(), %error, "what happens now will be forgotten at a restart");
        }
        self.progress.lock().note(entry);
    }

    pub fn progress(&self) -> Progress {
        self.progress.lock().clone()
    }

    /// How a step ended in an earlier life.
    pub fn ended(&self, step: &str) -> Option<Result<(), Failure>> {
        self.progress.lock().ended.get(step).map(|failure| failure.clone().map_or(Ok(()), Err))
    }

    /// Whatever stopped a step from the outside may not be there the next time, so only an end of its own counts.
    pub fn end(&self, step: &str, result: &Result<(), Failure>) {
        let failure = match result {
            Ok(()) => None,
            Err(failure @ Failure::Told(_)) => Some(failure.clone()),
            Err(_) => return,
        };
        self.note(Entry::Ended { step: step.to_owned(), failure });
    }

    pub fn position(&self, process: &str) -> io::Result<PositionFile> {
        PositionFile::open(&self.dir.join(format!("{process}.position")))
    }

    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Recipes hold secrets.
fn make_folder(path: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("making {}", path.display()))
}

/// A handle is chosen by others; it must not lead out of the folder.
fn folder(guid: &Handle) -> anyhow::Result<&str> {
    let name = guid.as_str();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    anyhow::ensure!(
        !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.bytes().all(plain),
        "{name:?} cannot name a container"
    );
    Ok(name)
}

/// How far the output of one process was dealt with: three numbers that are overwritten in place.
pub(crate) struct PositionFile(File);

impl PositionFile {
    fn open(path: &Path) -> io::Result<PositionFile> {
        OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(path)
            .map(PositionFile)
    }

    pub fn read(&self) -> Position {
        let mut bytes = [0; 24];
        match self.0.read_exact_at(&mut bytes, 0) {
            Ok(()) => Position::from_bytes(bytes),
            Err(_) => Position::default(),
        }
    }

    pub fn write(&self, position: Position) -> io::Result<()> {
        self.0.write_all_at(&position.to_bytes(), 0)
    }
}
