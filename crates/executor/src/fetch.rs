//! Fetches one URL into a file, with retries and limits.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use base::Backoff;
use reqwest::header::{ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::{Client, Response, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tracing::debug;

use crate::checksum::hex;
use crate::config::Timings;

const ATTEMPTS: u32 = 4;

/// What a server says about the version it sent; shown to it the next time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Version {
    pub etag: Option<String>,
    pub last_modified: Option<String>,
}

impl Version {
    fn of(headers: &HeaderMap) -> Version {
        let text =
            |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Version { etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
    }

    pub fn is_known(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// The version that was shown is still the right one.
    Unchanged,
    /// The digest of what came is known on the way.
    File { size: u64, sha256: String, version: Version },
}

/// Why one attempt failed, and whether another may do better.
enum Miss {
    Again(anyhow::Error),
    Final(anyhow::Error),
}

pub(crate) struct Fetcher {
    pub client: Client,
    pub timings: Timings,
    pub most_bytes: u64,
}

impl Fetcher {
    /// Errors do not name the URL: it may hold a password.
    pub async fn fetch(&self, url: &str, held: &Version, to: &Path) -> anyhow::Result<Fetched> {
        let mut backoff = Backoff::new(self.timings.first_retry, self.timings.last_retry);
        for attempt in 1..=ATTEMPTS {
            let missed = match timeout(self.timings.download, self.attempt(url, held, to)).await {
                Ok(Ok(fetched)) => return Ok(fetched),
                Ok(Err(Miss::Final(error))) => return Err(error),
                Ok(Err(Miss::Again(error))) => error,
                Err(_) => {
                    anyhow::anyhow!("took longer than {}", crate::text::span(self.timings.download))
                }
            };
            if attempt == ATTEMPTS {
                return Err(missed);
            }
            debug!(attempt, error = %format!("{missed:#}"), "download will be tried again");
            tokio::time::sleep(backoff.step()).await;
        }
        bail!("no attempt was made")
    }

    async fn attempt(&self, url: &str, held: &Version, to: &Path) -> Result<Fetched, Miss> {
        let mut request = self.client.get(url);
        if let Some(etag) = &held.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some(moment) = &held.last_modified {
            request = request.header(IF_MODIFIED_SINCE, moment);
        }
        let idle = self.timings.download_idle;
        let response = in_time(idle, request.send()).await?;
        match response.status() {
            StatusCode::NOT_MODIFIED if held.is_known() => return Ok(Fetched::Unchanged),
            status if status.is_success() => {}
            status => {
                let error = anyhow::anyhow!("the server answered {status}");
                let passing = status.is_server_error()
                    || matches!(
                        status,
                        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
                    );
                return Err(if passing { Miss::Again(error) } else { Miss::Final(error) });
            }
        }
        let version = Version::of(response.headers());
        let (size, sha256) = self.save(response, to, idle).await?;
        Ok(Fetched::File { size, sha256, version })
    }

    async fn save(
        &self,
        mut response: Response,
        to: &Path,
        idle: Duration,
    ) -> Result<(u64, String), Miss> {
        let local = |error: std::io::Error| {
            Miss::Final(anyhow::Error::new(error).context("keeping a download"))
        };
        let mut file = tokio::fs::File::create(to).await.map_err(local)?;
        let (mut size, mut digest) = (0, Sha256::new());
        while let Some(chunk) = in_time(idle, response.chunk()).await? {
            size += chunk.len() as u64;
            if size > self.most_bytes {
                return Err(Miss::Final(anyhow::anyhow!(
                    "larger than {}",
                    crate::text::size(self.most_bytes)
                )));
            }
            digest.update(&chunk);
            file.write_all(&chunk).await.map_err(local)?;
        }
        file.flush().await.map_err(local)?;
        Ok((size, hex(&digest.finalize())))
    }
}

async fn in_time<T>(
    idle: Duration,
    step: impl Future<Output = reqwest::Result<T>>,
) -> Result<T, Miss> {
    let result = timeout(idle, step)
        .await
        .context("the server sent nothing for too long")
        .map_err(Miss::Again)?;
    result.map_err(|error| {
        let unusable = error.is_builder();
        let error = anyhow::Error::new(error.without_url());
        if unusable { Miss::Final(error) } else { Miss::Again(error) }
    })
}
