//! Files on their way in: received to disk within a limit, checked, merged with what is known already, and stored.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use axum::extract::Multipart;
use axum::extract::multipart::Field;
use serde_json::Value;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tracing::warn;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use crate::Cc;
use crate::actions::seed::hex;
use crate::blobstore;
use crate::errors::{ApiError, ApiResult, Kind};

/// Files of at least this size are kept to be matched by later pushes.
pub const LEAST_MATCHED: u64 = 64 << 10;
/// Larger ones are not worth keeping twice.
pub const MOST_MATCHED: u64 = 512 << 20;
const MOST_ENTRIES: usize = 500_000;
const MOST_RESOURCES_BYTES: usize = 64 << 20;

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

pub async fn receive(mut multipart: Multipart, limit: u64) -> ApiResult<Received> {
    let broken =
        |error: axum::extract::multipart::MultipartError| ApiError::bad_request(&error.body_text());
    let mut received = Received::default();
    while let Some(field) = multipart.next_field().await.map_err(broken)? {
        match field.name().unwrap_or_default() {
            "bits" => {
                received.filename = field.file_name().map(str::to_owned);
                received.bits = Some(to_disk(field, limit).await?);
            }
            "resources" => received.resources = resources(&text(field).await?)?,
            _ => {}
        }
    }
    Ok(received)
}

async fn to_disk(mut field: Field<'_>, limit: u64) -> ApiResult<NamedTempFile> {
    let file = NamedTempFile::new().context("making a temporary file")?;
    let mut writer = tokio::fs::File::from_std(file.reopen().context("opening a temporary file")?);
    let mut size = 0;
    while let Some(piece) =
        field.chunk().await.map_err(|error| ApiError::bad_request(&error.body_text()))?
    {
        size += piece.len() as u64;
        if size > limit {
            let detail = format!("The app upload is invalid: it is larger than {} MB", limit >> 20);
            return Err(Kind::AppBitsUploadInvalid.with(detail));
        }
        tokio::io::AsyncWriteExt::write_all(&mut writer, &piece)
            .await
            .context("writing an upload")?;
    }
    tokio::io::AsyncWriteExt::flush(&mut writer).await.context("writing an upload")?;
    Ok(file)
}

async fn text(mut field: Field<'_>) -> ApiResult<String> {
    let mut bytes = Vec::new();
    while let Some(piece) =
        field.chunk().await.map_err(|error| ApiError::bad_request(&error.body_text()))?
    {
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

fn invalid(detail: impl std::fmt::Display) -> ApiError {
    Kind::AppBitsUploadInvalid.with(format!("The app upload is invalid: {detail}"))
}

/// Checks and stores a package, answering its digest. New files go to the cache of resources after that.
pub async fn store_package(cc: &Cc, received: Received) -> ApiResult<String> {
    let mut fetched = Vec::new();
    for resource in &received.resources {
        let file = NamedTempFile::new().context("making a temporary file")?;
        if !is_inside(&resource.path) {
            return Err(invalid(format_args!("the path {:?} leads out of the app", resource.path)));
        }
        if !is_sha1(&resource.sha1)
            || !cc
                .blobs
                .get_to_file(&blobstore::key("resources", &resource.sha1), file.path())
                .await?
        {
            return Err(invalid(format_args!("the file {} is not known here", resource.path)));
        }
        fetched.push((resource.clone(), file));
    }
    let limit = cc.config.limits.unpacked_bytes;
    let bits = received.bits;
    let work = tokio::task::spawn_blocking(move || assemble(bits, fetched, limit));
    let (package, digest) = work.await.context("checking a package")??;
    let key = blobstore::key("packages", &digest);
    cc.blobs.put_file(&key, package.path()).await?;
    let remember = cc.clone();
    cc.tasks.spawn(async move {
        if let Err(error) = remember_files(&remember, package).await {
            warn!(error = %format!("{error:#}"), "a package's files were not kept for later pushes");
        }
    });
    Ok(digest)
}

/// One zip of what was sent and what was known; untouched when all was sent.
fn assemble(
    bits: Option<NamedTempFile>,
    known: Vec<(Resource, NamedTempFile)>,
    limit: u64,
) -> ApiResult<(NamedTempFile, String)> {
    let package = match bits {
        Some(bits) => bits,
        None => empty_zip()?,
    };
    check(&package, limit)?;
    if !known.is_empty() {
        let file = File::options()
            .read(true)
            .write(true)
            .open(package.path())
            .context("opening a package")?;
        let mut writer = ZipWriter::new_append(file).map_err(invalid)?;
        for (resource, content) in &known {
            let options = SimpleFileOptions::default()
                .unix_permissions(resource.mode | 0o600)
                .large_file(true);
            writer.start_file(resource.path.as_str(), options).map_err(invalid)?;
            let mut content = content.reopen().context("opening a known file")?;
            std::io::copy(&mut content, &mut writer).context("adding a known file to a package")?;
        }
        writer.finish().map_err(invalid)?;
        check(&package, limit)?;
    }
    let digest = sha256(package.path())?;
    Ok((package, digest))
}

fn empty_zip() -> anyhow::Result<NamedTempFile> {
    let file = NamedTempFile::new().context("making a temporary file")?;
    ZipWriter::new(file.reopen()?).finish().context("writing an empty zip")?;
    Ok(file)
}

/// A zip that can be unpacked without harm: readable, inside of its folder, links too, and not larger than told.
fn check(package: &NamedTempFile, limit: u64) -> ApiResult<()> {
    let mut archive =
        ZipArchive::new(package.reopen().context("opening a package")?).map_err(invalid)?;
    if archive.len() > MOST_ENTRIES {
        return Err(invalid(format_args!("it has more than {MOST_ENTRIES} files")));
    }
    let mut size: u64 = 0;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(invalid)?;
        let name = entry.name().to_owned();
        if !is_inside(&name) {
            return Err(invalid(format_args!("the path {name:?} leads out of the app")));
        }
        size = size.saturating_add(entry.size());
        if size > limit {
            return Err(invalid(format_args!("unpacked it is larger than {} MB", limit >> 20)));
        }
        if entry.is_symlink() {
            let mut target = String::new();
            entry.by_ref().take(4096).read_to_string(&mut target).map_err(invalid)?;
            if !link_stays_inside(&name, &target) {
                return Err(invalid(format_args!("the link {name:?} leads out of the app")));
            }
        }
    }
    Ok(())
}

/// Relative, and never above where it starts.
fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && !path.contains(['\0', '\\'])
        && depth(path).is_some()
}

/// How deep a path ends; `None` when it climbs out on the way.
fn depth(path: &str) -> Option<usize> {
    path.split('/').try_fold(0_usize, |depth, part| match part {
        "" | "." => Some(depth),
        ".." => depth.checked_sub(1),
        _ => Some(depth + 1),
    })
}

fn link_stays_inside(name: &str, target: &str) -> bool {
    let folder = name.trim_end_matches('/').rsplit_once('/').map_or("", |(folder, _)| folder);
    !target.starts_with('/')
        && !target.contains('\0')
        && depth(&format!("{folder}/{target}")).is_some()
}

fn is_sha1(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub fn sha256(path: &Path) -> anyhow::Result<String> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut hasher).with_context(|| format!("reading {}", path.display()))?;
    Ok(hex(&hasher.finalize()))
}

/// A droplet is a gzipped tar whose first entry can be read.
pub fn check_droplet(path: &Path) -> ApiResult<()> {
    let wrong = |_| {
        Kind::DropletUploadInvalid
            .with("The droplet upload is invalid: it is not a gzipped tar file")
    };
    let file = File::open(path).context("opening a droplet")?;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    for entry in archive.entries().map_err(wrong)?.take(1) {
        entry.map_err(wrong)?;
    }
    Ok(())
}

/// Puts the large files of a package where later pushes find them.
async fn remember_files(cc: &Cc, package: NamedTempFile) -> anyhow::Result<()> {
    let package = std::sync::Arc::new(package);
    let mut next = 0;
    loop {
        let archive = package.clone();
        let work = tokio::task::spawn_blocking(move || large_file(&archive, next));
        let Some((index, file, sha1)) = work.await.context("reading a package")?? else {
            return Ok(());
        };
        next = index + 1;
        let key = blobstore::key("resources", &sha1);
        if !cc.blobs.exists(&key).await? {
            cc.blobs.put_file(&key, file.path()).await?;
        }
    }
}

/// The first file from number `from` on that is worth keeping: its number, content and digest.
fn large_file(
    package: &NamedTempFile,
    from: usize,
) -> anyhow::Result<Option<(usize, NamedTempFile, String)>> {
    let mut archive = ZipArchive::new(package.reopen()?)?;
    for index in from..archive.len() {
        let mut entry = archive.by_index(index)?;
        if !entry.is_file() || !(LEAST_MATCHED..=MOST_MATCHED).contains(&entry.size()) {
            continue;
        }
        let mut file = NamedTempFile::new()?;
        let mut hasher = Sha1::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = entry.read(&mut buffer)?;
            if read == 0 {
                return Ok(Some((index, file, hex(&hasher.finalize()))));
            }
            hasher.update(&buffer[..read]);
            file.write_all(&buffer[..read])?;
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_links_must_stay_inside() {
        for good in ["a", "a/b", "./a", "a/../b", "dir/"] {
            assert!(is_inside(good), "{good}");
        }
        for bad in ["", "/a", "../a", "a/../../b", "a\\b", "a\0b"] {
            assert!(!is_inside(bad), "{bad}");
        }
        assert!(link_stays_inside("a/link", "../b"));
        assert!(!link_stays_inside("a/link", "../../b"));
        assert!(!link_stays_inside("link", "/etc/passwd"));
    }

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
