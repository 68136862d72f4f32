//! Packages: what was sent and what was known already become one checked zip among the blobs, and its large files are
//! remembered for later pushes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use anyhow::Context as _;
use sha1::Sha1;
use sha2::Digest as _;
use tempfile::NamedTempFile;
use tracing::warn;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use super::bits::{self, Received, Resource, invalid, temporary};
use super::zips::{self, Depth, Refused};
use crate::Cc;
use crate::actions::seed::hex;
use crate::blobstore;
use crate::db::resources;
use crate::errors::ApiResult;

/// Files of at least this size are kept to be matched by later pushes.
pub const LEAST_MATCHED: u64 = 64 << 10;
/// Larger ones are not worth keeping twice.
pub const MOST_MATCHED: u64 = 512 << 20;
const MOST_RESOURCES: usize = 500_000;

/// Checks and stores a package, answering its digest. New files go to the cache of resources after that.
///
/// # Errors
/// 400 `AppBitsUploadInvalid` for what must not be unpacked.
pub async fn store(cc: &Cc, received: Received) -> ApiResult<String> {
    let known = known(cc, &received.resources).await?;
    let bits = match received.bits {
        Some(bits) => bits,
        None => empty_zip(temporary(cc)?)?,
    };
    let (unpacked, packed) = (cc.config.limits.unpacked_bytes, cc.config.limits.package_bytes);
    let resources = received.resources;
    let work =
        tokio::task::spawn_blocking(move || assemble(bits, &resources, &known, unpacked, packed));
    let package = work.await.context("checking a package")??;
    let digest = bits::store(cc, "packages", &package).await?;
    let remember = cc.clone();
    cc.tasks.spawn(async move {
        if let Err(error) = remember_files(&remember, package).await {
            warn!(error = %format!("{error:#}"), "a package's files were not kept for later pushes");
        }
    });
    Ok(digest)
}

/// Fetches what the client did not send, each content once, after making sure that all of it is not too much.
async fn known(cc: &Cc, wanted: &[Resource]) -> ApiResult<HashMap<String, NamedTempFile>> {
    if wanted.len() > MOST_RESOURCES {
        return Err(invalid(format_args!("it has more than {MOST_RESOURCES} files")));
    }
    if let Some(out) = wanted.iter().find(|resource| !zips::is_inside(&resource.path)) {
        return Err(invalid(format_args!("the path {:?} leads out of its folder", out.path)));
    }
    let digests: Vec<String> = wanted.iter().map(|resource| resource.sha1.clone()).collect();
    let sizes = resources::sizes(&mut *cc.db.read().await?, &digests).await?;
    let mut total: u64 = 0;
    for resource in wanted {
        let Some(size) = sizes.get(&resource.sha1) else {
            return Err(invalid(format_args!("the file {} is not known here", resource.path)));
        };
        total = total.saturating_add(*size);
    }
    let limit = cc.config.limits.unpacked_bytes;
    if total > limit {
        return Err(invalid(format_args!("unpacked it is larger than {} MB", limit >> 20)));
    }
    let mut fetched = HashMap::new();
    for digest in sizes.into_keys() {
        let file = temporary(cc)?;
        if !cc.blobs.get_to_file(&blobstore::key("resources", &digest), file.path()).await? {
            return Err(invalid(format_args!(
                "the file with the digest {digest} is not known here"
            )));
        }
        fetched.insert(digest, file);
    }
    Ok(fetched)
}

/// One zip of what was sent and what was known; untouched when all was sent.
fn assemble(
    package: NamedTempFile,
    resources: &[Resource],
    known: &HashMap<String, NamedTempFile>,
    unpacked: u64,
    packed: u64,
) -> ApiResult<NamedTempFile> {
    let open = || package.reopen().context("opening a package");
    let wrong = |error| zips::refused(error).into_package_error();
    zips::inspect(open()?, unpacked, Depth::Contents).map_err(Refused::into_package_error)?;
    if resources.is_empty() {
        return Ok(package);
    }
    let file =
        File::options().read(true).write(true).open(package.path()).context("opening a package")?;
    let mut writer = ZipWriter::new_append(file).map_err(wrong)?;
    for resource in resources {
        let options =
            SimpleFileOptions::default().unix_permissions(resource.mode | 0o600).large_file(true);
        writer.start_file(resource.path.as_str(), options).map_err(wrong)?;
        let content = known.get(&resource.sha1).context("every known file was fetched")?;
        let mut content = content.reopen().context("opening a known file")?;
        std::io::copy(&mut content, &mut writer).context("adding a known file to a package")?;
    }
    writer.finish().map_err(wrong)?;
    zips::inspect(open()?, unpacked, Depth::Names).map_err(Refused::into_package_error)?;
    if open()?.metadata().context("measuring a package")?.len() > packed {
        return Err(invalid(format_args!("it is larger than {} MB", packed >> 20)));
    }
    Ok(package)
}

fn empty_zip(file: NamedTempFile) -> anyhow::Result<NamedTempFile> {
    ZipWriter::new(file.reopen()?).finish().context("writing an empty zip")?;
    Ok(file)
}

/// Puts the large files of a package where later pushes find them.
async fn remember_files(cc: &Cc, package: NamedTempFile) -> anyhow::Result<()> {
    let package = Arc::new(package);
    let mut next = 0;
    loop {
        let (archive, empty) = (package.clone(), temporary(cc)?);
        let work = tokio::task::spawn_blocking(move || large_file(&archive, next, empty));
        let Some((index, file, sha1)) = work.await.context("reading a package")?? else {
            return Ok(());
        };
        next = index + 1;
        let _gate = cc.blob_gate.read().await;
        let key = blobstore::key("resources", &sha1);
        if !cc.blobs.exists(&key).await? {
            cc.blobs.put_file(&key, file.path()).await?;
        }
        let bytes = file.as_file().metadata().context("measuring a file")?.len();
        let mut tx = cc.db.begin().await?;
        resources::keep(&mut tx, cc.now(), &sha1, bytes).await?;
        tx.commit().await?;
    }
}

/// The first file from number `from` on that is worth keeping: its number, content and digest.
fn large_file(
    package: &NamedTempFile,
    from: usize,
    mut file: NamedTempFile,
) -> anyhow::Result<Option<(usize, NamedTempFile, String)>> {
    let mut archive = ZipArchive::new(package.reopen()?)?;
    for index in from..archive.len() {
        let mut entry = archive.by_index(index)?;
        if !entry.is_file() || !(LEAST_MATCHED..=MOST_MATCHED).contains(&entry.size()) {
            continue;
        }
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
