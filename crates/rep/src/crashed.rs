//! Crashed instances whose files are kept for a while: listed, read and removed over HTTP.

use std::io::{self, Read};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use base::Timestamp;
use diego::bbs::ErrorKind;
use diego::{BbsError, CellId, Domain, InstanceGuid, ProcessGuid};
use executor::{Crashed, ExecutorError};
use garden::Tar;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::{ReaderStream, SyncIoBridge};

use crate::cell::Rep;
use crate::owner::{Owner, handle};

/// Archives and files that are read at the same time; who comes later is asked to come again.
pub(crate) const READERS: usize = 4;
/// The most that is sent of one archive or file.
const MOST_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// The most that is looked through to list one folder, and the most that is listed.
const MOST_LISTED_BYTES: u64 = 1024 * 1024 * 1024;
const MOST_ENTRIES: usize = 10_000;
const LISTING: Duration = Duration::from_secs(60);
/// Not files of the application, and without an end.
const CLOSED: [&str; 3] = ["/proc", "/sys", "/dev"];

/// A crashed instance that can be looked into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashedInstance {
    pub instance_guid: InstanceGuid,
    pub process_guid: ProcessGuid,
    pub index: u32,
    pub domain: Domain,
    pub cell_id: CellId,
    pub reason: String,
    pub crashed_at: Timestamp,
    /// It goes then at the latest.
    pub kept_until: Timestamp,
    /// What it wrote.
    pub bytes: u64,
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name in the folder.
    pub name: String,
    pub kind: FileKind,
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    pub modified_at: Timestamp,
    /// Where a symbolic link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    File,
    Folder,
    Link,
    Other,
}

/// What a folder holds; of a file, the file itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    pub entries: Vec<FileEntry>,
    /// There is more than is listed.
    #[serde(default)]
    pub truncated: bool,
}

#[derive(Debug, Deserialize)]
struct Wanted {
    path: String,
    #[serde(default, rename = "as")]
    form: Form,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    /// The path with all below it.
    #[default]
    Tar,
    /// The content of one file.
    File,
    List,
}

type Cell = State<Arc<Rep>>;

pub(crate) fn routes() -> Router<Arc<Rep>> {
    Router::new()
        .route("/v2/crashed", get(list))
        .route("/v2/crashed/{guid}", delete(remove))
        .route("/v2/crashed/{guid}/files", get(files))
}

impl Rep {
    fn crashed(&self) -> Vec<CrashedInstance> {
        let all = self.executor.crashed().into_iter();
        all.filter_map(|one| crashed_instance(one, &self.config.cell_id)).collect()
    }
}

fn crashed_instance(one: Crashed, cell_id: &CellId) -> Option<CrashedInstance> {
    let Owner::Lrp { key, instance_guid, .. } = Owner::of(&one.owner)? else { return None };
    Some(CrashedInstance {
        instance_guid,
        process_guid: key.process_guid,
        index: key.index,
        domain: key.domain,
        cell_id: cell_id.clone(),
        reason: one.reason,
        crashed_at: one.crashed_at,
        kept_until: one.kept_until,
        bytes: one.bytes,
    })
}

async fn list(State(rep): Cell) -> Json<Vec<CrashedInstance>> {
    Json(rep.crashed())
}

async fn remove(State(rep): Cell, Path(guid): Path<String>) -> Response {
    match rep.executor.discard(&handle(guid)).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => refused(&error),
    }
}

async fn files(
    State(rep): Cell,
    Path(guid): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    if let Err(why) = readable(&wanted.path) {
        let error = BbsError::new(ErrorKind::InvalidRequest, why);
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    }
    let Ok(turn) = rep.readers.clone().try_acquire_owned() else {
        let text = format!("{READERS} others read from this cell already");
        let error = BbsError::new(ErrorKind::Unreachable, text);
        return (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response();
    };
    let tar = match rep.executor.crashed_files(&handle(guid), &wanted.path).await {
        Ok(tar) => tar,
        Err(error) => return refused(&error),
    };
    match wanted.form {
        Form::Tar => stream("application/x-tar", tar.take(MOST_BYTES), turn),
        Form::File => stream("application/octet-stream", one_file(tar), turn),
        Form::List => match tokio::time::timeout(LISTING, listing(tar)).await {
            Ok(Ok(listing)) => Json(listing).into_response(),
            Ok(Err(error)) => refused(&ExecutorError::Failed(error)),
            Err(_) => refused(&ExecutorError::Failed(anyhow::anyhow!("listing took too long"))),
        },
    }
}

/// A path of which an archive can be made.
fn readable(path: &str) -> Result<(), String> {
    let absolute = path.starts_with('/') && !path.split('/').any(|part| part == "..");
    let clean = path.trim_end_matches('/');
    if !absolute {
        return Err(format!("{path:?} is no absolute path"));
    }
    if clean.is_empty() || clean == "/." {
        return Err("name a folder below /, such as /home/vcap or /tmp".to_owned());
    }
    let below = |folder: &&str| clean == *folder || clean.starts_with(&format!("{folder}/"));
    match CLOSED.into_iter().find(below) {
        Some(folder) => Err(format!("{folder} holds no files of the application")),
        None => Ok(()),
    }
}

fn stream(
    kind: &'static str,
    content: impl tokio::io::AsyncRead + Send + 'static,
    turn: tokio::sync::OwnedSemaphorePermit,
) -> Response {
    let body = ReaderStream::with_capacity(content, 64 * 1024);
    let body = futures::StreamExt::map(body, move |piece| {
        let _turn = &turn;
        piece
    });
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(body)).into_response()
}

/// The content of the first file of an archive; an archive without one shows as an error of the stream.
fn one_file(tar: Tar) -> impl tokio::io::AsyncRead + Send + 'static {
    let (inner, outer) = tokio::io::duplex(64 * 1024);
    let (tar, mut inner) = (SyncIoBridge::new(tar), SyncIoBridge::new(inner));
    let copy = tokio::task::spawn_blocking(move || {
        let mut archive = tar::Archive::new(tar);
        for entry in archive.entries()? {
            let entry = entry?;
            if entry.header().entry_type().is_file() {
                io::copy(&mut entry.take(MOST_BYTES), &mut inner)?;
                return inner.shutdown();
            }
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "this is no file"))
    });
    let ending = futures::stream::once(async move {
        match copy.await {
            Ok(Ok(())) => Ok(bytes::Bytes::new()),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    });
    // What went wrong is told after what could be read.
    let ending = tokio_util::io::StreamReader::new(Box::pin(ending));
    outer.chain(ending)
}

async fn listing(tar: Tar) -> anyhow::Result<Listing> {
    let tar = SyncIoBridge::new(tar.take(MOST_LISTED_BYTES));
    tokio::task::spawn_blocking(move || read_listing(tar)).await?
}

/// The first level of an archive of a folder, or its only file.
fn read_listing(tar: impl Read) -> anyhow::Result<Listing> {
    let mut listing = Listing::default();
    for entry in tar::Archive::new(tar).entries()? {
        let Ok(entry) = entry else {
            // More than is looked through.
            listing.truncated = true;
            break;
        };
        let path = entry.path().context("a name in the archive")?.into_owned();
        let Some(name) = first_level(&path) else { continue };
        if listing.entries.len() == MOST_ENTRIES {
            listing.truncated = true;
            break;
        }
        listing.entries.push(file_entry(name, &entry)?);
    }
    listing.entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listing)
}

fn file_entry(name: String, entry: &tar::Entry<'_, impl Read>) -> anyhow::Result<FileEntry> {
    let header = entry.header();
    let kind = match header.entry_type() {
        kind if kind.is_file() => FileKind::File,
        kind if kind.is_dir() => FileKind::Folder,
        kind if kind.is_symlink() || kind.is_hard_link() => FileKind::Link,
        _ => FileKind::Other,
    };
    let link = entry.link_name().ok().flatten().map(|link| link.display().to_string());
    let modified = i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0);
    Ok(FileEntry {
        name,
        kind,
        size: entry.size(),
        mode: header.mode().context("the mode of a file")?,
        modified_at: Timestamp::from_secs(modified),
        link,
    })
}

fn first_level(path: &FilePath) -> Option<String> {
    let path = path.strip_prefix(".").unwrap_or(path);
    let mut parts = path.components();
    let name = parts.next()?.as_os_str().to_string_lossy().into_owned();
    parts.next().is_none().then_some(name)
}

fn refused(error: &ExecutorError) -> Response {
    let (status, kind) = match error {
        ExecutorError::Unknown(_) | ExecutorError::NoFile(_) => {
            (StatusCode::NOT_FOUND, ErrorKind::ResourceNotFound)
        }
        _ => (StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Unknown),
    };
    let text = match error {
        ExecutorError::Unknown(guid) => format!("no crashed instance {guid} is kept here"),
        ExecutorError::Failed(error) => format!("{error:#}"),
        error => error.to_string(),
    };
    (status, Json(BbsError::new(kind, text))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_an_end_is_read() {
        for fine in ["/home/vcap", "/tmp/", "/etc/passwd", "/system"] {
            assert_eq!(readable(fine), Ok(()), "{fine}");
        }
        for wrong in ["", "app", "/", "/proc", "/proc/1/environ", "/home/../proc", "//", "/dev/"] {
            assert!(readable(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_listing_is_one_level_deep() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |path: &str, kind: tar::EntryType, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o640);
            header.set_mtime(5);
            builder.append_data(&mut header, path, content).unwrap();
        };
        add("./", tar::EntryType::Directory, b"");
        add("./sub", tar::EntryType::Directory, b"");
        add("./sub/deep", tar::EntryType::Regular, b"123");
        add("./a.txt", tar::EntryType::Regular, b"1234");
        let listing = read_listing(&*builder.into_inner().unwrap()).unwrap();
        let told: Vec<_> =
            listing.entries.iter().map(|one| (&*one.name, one.kind, one.size, one.mode)).collect();
        let want = [("a.txt", FileKind::File, 4, 0o640), ("sub", FileKind::Folder, 0, 0o640)];
        assert_eq!(told, want);
        assert!(!listing.truncated);
    }
}
