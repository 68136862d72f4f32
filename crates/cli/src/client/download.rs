//! Large answers, written to a file as they come.

use std::path::Path;

use reqwest::header::LOCATION;
use reqwest::{Response, StatusCode};
use tokio::io::AsyncWriteExt;

use super::{Client, LONGEST_UPLOAD, MOST_BODY, RENEW_BEFORE_UPLOAD, chain, header};
use crate::error::{ApiError, Error, Result, unopened};

/// Writes what is at a URL anywhere to a file.
pub async fn fetch(url: &str, to: &Path) -> Result<()> {
    let response = elsewhere()?.get(url).send().await;
    let response = response.map_err(|error| Error::Request(chain(&error)))?;
    if !response.status().is_success() {
        return Err(Error::Failed(format!(
            "Download attempt failed; server returned {}\nUnable to install; buildpack is not available from the given URL.",
            response.status()
        )));
    }
    write(response, to).await
}

/// For places that are not the API: reached as this machine reaches all others, and never shown a token.
fn elsewhere() -> Result<reqwest::Client> {
    base::http::install_crypto();
    let built = reqwest::Client::builder().timeout(LONGEST_UPLOAD).build();
    built.map_err(|error| Error::Request(chain(&error)))
}

async fn write(mut response: Response, to: &Path) -> Result<()> {
    let creating = |error| Error::Failed(format!("Error creating file: {}", unopened(to, &error)));
    let mut file = tokio::fs::File::create(to).await.map_err(creating)?;
    while let Some(chunk) = response.chunk().await.map_err(|error| Error::Request(chain(&error)))? {
        file.write_all(&chunk).await.map_err(creating)?;
    }
    file.flush().await.map_err(creating)
}

/// A server that sends a download on more often than this goes in circles.
const MOST_HOPS: usize = 3;

impl Client {
    /// Writes what is at `path` (of the API, or a URL) to a file; the file is made only once the answer is a good one.
    pub async fn download(&self, path: &str, to: &Path) -> Result<()> {
        let response = self.open(path).await?;
        write(response, to).await
    }

    /// The answer behind a path, wherever the server keeps it. Only the API itself is shown the token.
    async fn open(&self, path: &str) -> Result<Response> {
        self.renew_when_due(RENEW_BEFORE_UPLOAD).await?;
        let (api, token) = {
            let config = self.config();
            (config.target.clone(), config.access_token.clone())
        };
        let mut url = self.url(path, &[])?;
        for _ in 0..MOST_HOPS {
            let is_api = url.as_str().starts_with(&api);
            let request = if is_api {
                self.http.get(url.clone()).headers(self.headers(&token)).timeout(LONGEST_UPLOAD)
            } else {
                elsewhere()?.get(url.clone())
            };
            let response = request.send().await.map_err(|error| self.request_error(&error))?;
            let moved = header(response.headers(), LOCATION.as_str())
                .filter(|_| response.status().is_redirection());
            match moved {
                Some(location) => {
                    let next = url.join(&location);
                    url = next.map_err(|error| Error::Request(format!("{location}: {error}")))?;
                }
                None if response.status().is_success() => return Ok(response),
                None => return Err(self.refused(response).await),
            }
        }
        Err(Error::Failed(format!("the download {path} is sent on more than {MOST_HOPS} times")))
    }

    async fn refused(&self, mut response: Response) -> Error {
        let (status, url): (StatusCode, String) = (response.status(), response.url().to_string());
        let request_id = header(response.headers(), "x-vcap-request-id");
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            if body.len() + chunk.len() > MOST_BODY {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Error::Api(ApiError::new(status.as_u16(), url, request_id, &body))
    }
}
