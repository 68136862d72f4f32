//! A client of Diego's Receptor API.

use std::path::Path;

use anyhow::{Context as _, bail};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;
use tokio::io::AsyncBufReadExt as _;
use tokio_util::io::StreamReader;

use crate::data_dir;

pub struct Receptor {
    http: reqwest::Client,
    url: Url,
}

impl Receptor {
    /// The one of the platform that runs on a data directory.
    pub fn of(data: &Path) -> anyhow::Result<Receptor> {
        let running = data_dir::running(data).with_context(|| {
            format!(
                "no platform runs on {}: start one with `cupola up`, or pass --data",
                data.display()
            )
        })?;
        let password = data_dir::receptor_password(data)?;
        let mut url =
            Url::parse(&running.receptor).context("reading where the Receptor answers")?;
        let named = url
            .set_username(data_dir::RECEPTOR_USER)
            .and_then(|()| url.set_password(Some(&password)));
        anyhow::ensure!(named.is_ok(), "{url} takes no user and password");
        Ok(Receptor { http: base::http::client(None), url })
    }

    pub fn at(url: &str) -> anyhow::Result<Receptor> {
        let url = Url::parse(url).with_context(|| format!("{url:?} is no URL"))?;
        Ok(Receptor { http: base::http::client(None), url })
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.send(Method::GET, path).await?;
        answer.json().await.context("reading the Receptor's answer")
    }

    pub async fn post(&self, path: &str) -> anyhow::Result<()> {
        self.send(Method::POST, path).await.map(drop)
    }

    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(Method::DELETE, path).await.map(drop)
    }

    /// `(name, data)` of every event from now on.
    pub async fn events(
        &self,
    ) -> anyhow::Result<impl Stream<Item = anyhow::Result<(String, Value)>>> {
        let answer = self.send(Method::GET, "/v1/events").await?;
        let lines = StreamReader::new(answer.bytes_stream().map_err(std::io::Error::other)).lines();
        let lines = futures::stream::try_unfold(lines, async |mut lines| {
            anyhow::Ok(lines.next_line().await?.map(|line| (line, lines)))
        });
        let mut name = String::new();
        Ok(lines
            .try_filter_map(move |line| {
                let event = match line.split_once(": ") {
                    Some(("event", text)) => {
                        text.clone_into(&mut name);
                        Ok(None)
                    }
                    Some(("data", text)) => serde_json::from_str(text)
                        .context("reading an event")
                        .map(|body| Some((name.clone(), body))),
                    _ => Ok(None),
                };
                std::future::ready(event)
            })
            .boxed())
    }

    async fn send(&self, method: Method, path: &str) -> anyhow::Result<reqwest::Response> {
        // Errors name the URL, which may hold a password.
        let request = self.http.request(method, self.url.join(path)?);
        let answer = request.send().await.map_err(reqwest::Error::without_url);
        let answer = answer.with_context(|| {
            format!("asking the Receptor at {}", self.url.host_str().unwrap_or_default())
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        if status == StatusCode::UNAUTHORIZED {
            bail!(
                "the Receptor takes no such user and password; its own are {} and what lies in FOLDER/receptor-password: --receptor http://USER:PASSWORD@HOST:PORT",
                data_dir::RECEPTOR_USER
            );
        }
        let body: Value = answer.json().await.unwrap_or_default();
        match (body["name"].as_str(), body["message"].as_str()) {
            (Some(name), Some(message)) => bail!("{message} ({name})"),
            _ => bail!("the Receptor answered {status}"),
        }
    }
}

/// A guid as part of a path.
pub fn segment(text: &str) -> String {
    let mut url = Url::parse("http://h").expect("a valid URL");
    url.path_segments_mut().expect("http has a path").push(text);
    url.path()[1..].to_owned()
}

pub fn query(name: &str, value: &str) -> String {
    let mut url = Url::parse("http://h").expect("a valid URL");
    url.query_pairs_mut().append_pair(name, value);
    url.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_out_of_the_urls_structure() {
        assert_eq!(segment("a/b ?c"), "a%2Fb%20%3Fc");
        assert_eq!(query("domain", "a&b"), "domain=a%26b");
    }
}
