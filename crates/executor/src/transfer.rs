//! Files on their way into containers and out of them.

use std::io::{Read, Seek};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use garden::Tar;
use tokio::sync::Semaphore;
use tokio_util::io::SyncIoBridge;
use tracing::debug;

use crate::cache::Cache;
use crate::checksum::digests;
use crate::config::Timings;

const ATTEMPTS: u32 = 3;

pub(crate) struct Transfers {
    pub cache: Cache,
    pub client: reqwest::Client,
    pub uploads: Semaphore,
    pub timings: Timings,
    pub temp_dir: std::path::PathBuf,
}

impl Transfers {
    /// Posts `file` and answers with its size. Errors do not name the URL: it may hold a password.
    pub async fn upload(&self, file: tempfile::NamedTempFile, url: &str) -> anyhow::Result<u64> {
        let _slot = self.uploads.acquire().await.context("waiting for an upload slot")?;
        let (file, digests, size) = tokio::task::spawn_blocking(move || {
            let mut reader = file.reopen()?;
            let digests = digests(&mut reader)?;
            let size = reader.stream_position()?;
            anyhow::Ok((file, digests, size))
        })
        .await??;
        let mut last = None;
        for attempt in 1..=ATTEMPTS {
            let body = tokio::fs::File::open(file.path())
                .await
                .context("reading what is to be uploaded")?;
            let request = self
                .client
                .post(url)
                .header("Content-Type", "application/octet-stream")
                .header("Content-Length", size)
                .header("Content-MD5", STANDARD.encode(digests.md5))
                .header("Content-Digest", format!("sha-256=:{}:", STANDARD.encode(digests.sha256)))
                .body(body);
            match post(request, self.timings.upload).await {
                Ok(()) => return Ok(size),
                Err(error) => {
                    debug!(attempt, error = %format!("{error:#}"), "upload did not succeed");
                    last = Some(error);
                }
            }
        }
        Err(last.expect("at least one attempt was made"))
    }

    /// Takes the one file out of an archive that garden streams. A file with holes takes no room in its container and
    /// all of it outside, so there is a limit here too.
    pub async fn first_file(
        &self,
        tar: Tar,
        most: Option<u64>,
    ) -> anyhow::Result<tempfile::NamedTempFile> {
        let most = most.unwrap_or(u64::MAX - 1);
        let bridge = SyncIoBridge::new(tar);
        let dir = self.temp_dir.clone();
        tokio::task::spawn_blocking(move || {
            let mut file =
                tempfile::NamedTempFile::new_in(dir).context("making a temporary file")?;
            let mut size = 0;
            with_first(bridge, |entry| {
                size = std::io::copy(&mut entry.take(most + 1), &mut file)?;
                Ok(())
            })?;
            ensure!(
                size <= most,
                "the file is larger than the container's disk, {}",
                crate::text::size(most)
            );
            Ok(file)
        })
        .await?
    }
}

async fn post(request: reqwest::RequestBuilder, limit: Duration) -> anyhow::Result<()> {
    let response = request.timeout(limit).send().await.map_err(reqwest::Error::without_url)?;
    ensure!(
        response.status().as_u16() < 400,
        "Upload failed: Status code {}",
        response.status().as_u16()
    );
    Ok(())
}

/// The content of the one file in `tar`, if it is not larger than `most`.
pub(crate) async fn small_file(tar: Tar, most: usize) -> anyhow::Result<Vec<u8>> {
    let bridge = SyncIoBridge::new(tar);
    tokio::task::spawn_blocking(move || {
        let mut content = Vec::new();
        with_first(bridge, |entry| {
            entry.take(most as u64 + 1).read_to_end(&mut content).map(|_| ())
        })?;
        ensure!(
            content.len() <= most,
            "the file is larger than {}",
            crate::text::size(most as u64)
        );
        Ok(content)
    })
    .await?
}

fn with_first(
    tar: impl Read,
    take: impl FnOnce(&mut dyn Read) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_file() {
            return Ok(take(&mut entry)?);
        }
    }
    bail!("no file in the archive")
}

/// Where downloads and temporary files lie.
pub(crate) fn folders(dir: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    (dir.join("downloads"), dir.join("temporary"))
}
