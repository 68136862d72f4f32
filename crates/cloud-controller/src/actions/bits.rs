//! Files on their way in: received to disk within a limit, and put among the blobs.

use std::convert::Infallible;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::Context as _;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;

use crate::Cc;
use crate::actions::seed::hex;
use crate::actions::zips;
use crate::blobstore;
use crate::errors::{ApiError, ApiResult, Kind};

const MOST_RESOURCES_BYTES: usize = 64 << 20;
/// What an upload's temporary file is named by, so that one a crash left behind is known.
const PREFIX: &str = "upload-";

/// What a multipart body held.
#[derive(Debug, Default)]
pub struct Received {
    pub bits: Option<NamedTempFile>,
    /// The name the client gave the file.
    pub filename: Option<String>,
    pub resources: Vec<Resource>,
}

/// A file the client did not send, because it is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub path: String,
    pub sha1: String,
    pub mode: u32,
}

/// A file in the folder for uploads; gone when dropped.
pub fn temporary(cc: &Cc) -> anyhow::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX);
    let made = match &cc.config.temp_dir {
        Some(folder) => builder.tempfile_in(folder),
        None => builder.tempfile(),
    };
    made.context("making a temporary file")
}

/// Makes the folder for uploads, and removes what uploads cut off by a crash left in it.
pub async fn tidy_folder(folder: &Path) -> anyhow::Result<()> {
    let about = || format!("clearing {}", folder.display());
    tokio::fs::create_dir_all(folder).await.with_context(about)?;
    let mut entries = tokio::fs::read_dir(folder).await.with_context(about)?;
    while let Some(entry) = entries.next_entry().await.with_context(about)? {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            tokio::fs::remove_file(entry.path()).await.with_context(about)?;
        }
    }
    Ok(())
}

/// The connection broke, or what came is no multipart body.
fn broken(error: &MultipartError) -> ApiError {
    let detail = format!("The upload is not complete, send it again: {}", error.body_text());
    ApiError::bad_request(&detail)
}

/// An upload's body. One that is not of several parts holds nothing of what an upload brings.
pub struct Upload(Option<Multipart>);

impl FromRequest<Cc> for Upload {
    type Rejection = Infallible;

    async fn from_request(request: Request, cc: &Cc) -> Result<Upload, Infallible> {
        Ok(Upload(Multipart::from_request(request, cc).await.ok()))
    }
}

pub async fn receive(cc: &Cc, upload: Upload, limit: u64) -> ApiResult<Received> {
    let mut received = Received::default();
    let Some(mut multipart) = upload.0 else { return Ok(received) };
    while let Some(field) = multipart.next_field().await.map_err(|error| broken(&error))? {
        match field.name().unwrap_or_default() {
            "bits" => {
                received.filename = field.file_name().map(str::to_owned);
                received.bits = Some(to_disk(cc, field, limit, |error| broken(&error)).await?);
            }
            "resources" => received.resources = resources(&text(field).await?)?,
            _ => {}
        }
    }
    Ok(received)
}

/// All of a body in a file.
///
/// # Errors
/// 400 when it is larger than `limit` bytes, and whatever `cut_off` makes of a body that breaks off.
pub async fn to_disk<E>(
    cc: &Cc,
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    limit: u64,
    cut_off: impl Fn(E) -> ApiError,
) -> ApiResult<NamedTempFile> {
    let file = temporary(cc)?;
    let mut writer = tokio::fs::File::from_std(file.reopen().context("opening a temporary file")?);
    let mut size = 0;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(&cut_off)?;
        size += piece.len() as u64;
        if size > limit {
            return Err(invalid(format_args!("it is larger than {} MB", limit >> 20)));
        }
        writer.write_all(&piece).await.context("writing an upload")?;
    }
    writer.flush().await.context("writing an upload")?;
    Ok(file)
}

async fn text(mut field: Field<'_>) -> ApiResult<String> {
    let mut bytes = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(|error| broken(&error))? {
        if bytes.len() + piece.len() > MOST_RESOURCES_BYTES {
            return Err(ApiError::bad_request("The list of resources is too long"));
        }
        bytes.extend_from_slice(&piece);
    }
    String::from_utf8(bytes).map_err(|_| ApiError::parse())
}

/// Reads the list as v3 clients write it, and as older ones did.
fn resources(text: &str) -> ApiResult<Vec<Resource>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let Ok(Value::Array(items)) = serde_json::from_str(text) else { return Err(ApiError::parse()) };
    let one = |item: &Value| {
        let path = item.get("path").or_else(|| item.get("fn"))?.as_str()?.to_owned();
        let sha1 =
            item.pointer("/checksum/value").or_else(|| item.get("sha1"))?.as_str()?.to_owned();
        let mode = item
            .get("mode")
            .and_then(Value::as_str)
            .and_then(|mode| u32::from_str_radix(mode, 8).ok());
        Some(Resource { path, sha1, mode: mode.unwrap_or(0o644) & 0o777 })
    };
    let read: Option<Vec<Resource>> = items.iter().map(one).collect();
    read.ok_or_else(|| ApiError::unprocessable("Resources must have a path and a checksum"))
}

/// 400 for bits that are no good, whatever is tried with them.
pub fn invalid(detail: impl std::fmt::Display) -> ApiError {
    Kind::AppBitsUploadInvalid.with(format!("The app upload is invalid: {detail}"))
}

/// Puts a file among the blobs of `kind`, unless they have it; answers its digest.
pub async fn store(cc: &Cc, kind: &str, file: &NamedTempFile) -> anyhow::Result<String> {
    let path = file.path().to_owned();
    let work = tokio::task::spawn_blocking(move || sha256(&path));
    let digest = work.await.context("reading an upload")??;
    cc.blobs.put_file(&blobstore::key(kind, &digest), file.path()).await?;
    Ok(digest)
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut hasher).with_context(|| format!("reading {}", path.display()))?;
    Ok(hex(&hasher.finalize()))
}

/// A droplet is a gzipped tar that can be read to its end, of plain things inside its folder.
///
/// # Errors
/// 400 for anything else, and for what unpacks to more than `limit` bytes.
pub fn check_droplet(path: &Path, limit: u64) -> ApiResult<()> {
    let wrong = |why: &dyn std::fmt::Display| {
        Kind::DropletUploadInvalid.with(format!("The droplet upload is invalid: {why}"))
    };
    let broken =
        |error: std::io::Error| wrong(&format_args!("it is no gzipped tar file ({error})"));
    let file = File::open(path).context("opening a droplet")?;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(BufReader::new(file)));
    let mut size: u64 = 0;
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.to_string_lossy().into_owned();
        let kind = entry.header().entry_type();
        let plain = kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link();
        if !plain && kind != tar::EntryType::XGlobalHeader {
            return Err(wrong(&format_args!("{name:?} is neither file, folder nor link")));
        }
        if plain && !zips::is_inside(&name) {
            return Err(wrong(&format_args!("the path {name:?} leads out of the droplet")));
        }
        size = size.saturating_add(entry.size());
        if size > limit {
            return Err(wrong(&format_args!("unpacked it is larger than {} MB", limit >> 20)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_resources_are_read() {
        let sha1 = "a".repeat(40);
        let new = format!(
            r#"[{{"path":"a","mode":"755","checksum":{{"value":"{sha1}"}},"size_in_bytes":1}}]"#
        );
        let old = format!(r#"[{{"fn":"a","mode":"755","sha1":"{sha1}","size":1}}]"#);
        assert_eq!(resources(&new).unwrap(), resources(&old).unwrap());
        assert_eq!(resources(&new).unwrap()[0].mode, 0o755);
        assert!(resources("{}").is_err());
    }
}
