//! A buildpack's content on its way to the server: a file as it is, a directory zipped, a URL downloaded.

use std::path::{Path, PathBuf};

use reqwest::Method;
use tempfile::NamedTempFile;

use crate::bits::zip_directory;
use crate::client::{Body, File, Upload, fetch};
use crate::command::Context;
use crate::commands::push::source::bar;
use crate::error::{Error, Result, failed};
use crate::ui::say;

pub struct Bits {
    /// The name the server shows.
    name: String,
    path: PathBuf,
    /// Holds what was downloaded or zipped as long as it is needed.
    _temporary: Option<NamedTempFile>,
}

impl Bits {
    /// Refuses a path that leads nowhere.
    pub fn check(cx: &Context, given: &str) -> Result<()> {
        if is_url(given) || cx.ui.io.dir.join(given).exists() {
            return Ok(());
        }
        Err(Error::Usage(format!("The specified path '{given}' does not exist.")))
    }

    /// Makes one file of what a person gave.
    pub async fn prepare(cx: &Context<'_>, given: &str) -> Result<Bits> {
        if is_url(given) {
            return download(given).await;
        }
        let path = cx.ui.io.dir.join(given);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_else(|| "buildpack".to_owned());
        if path.is_file() {
            return Ok(Bits { name, path, _temporary: None });
        }
        let is_empty = std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
        if is_empty {
            return failed(format!("The specified path '{given}' cannot be an empty directory."));
        }
        let zip = zip_directory(&path)?;
        Ok(Bits { name: format!("{name}.zip"), path: zip.path().to_owned(), _temporary: Some(zip) })
    }

    /// Uploads, and waits until the server has looked into it.
    pub async fn upload(self, cx: &mut Context<'_>, buildpack: &str, guid: &str) -> Result<()> {
        let (shown, me) = (cx.ui.name(buildpack), cx.me()?);
        say!(cx.ui, "Uploading buildpack {shown} as {me}...");
        let bar = bar(cx, true);
        let file = File { field: "bits", name: self.name.clone(), path: self.path.clone() };
        let upload = Upload { texts: Vec::new(), file: Some(file), bar: bar.clone() };
        let path = format!("/v3/buildpacks/{guid}/upload");
        let reply = cx.client.send(Method::POST, &path, &[], Body::Upload(upload)).await;
        bar.finish_and_clear();
        let reply = reply?;
        cx.ui.ok();
        say!(cx.ui, "Processing uploaded buildpack {shown}...");
        cx.client.finish(&reply).await?;
        cx.ui.ok();
        Ok(())
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

async fn download(url: &str) -> Result<Bits> {
    let file = NamedTempFile::new()
        .map_err(|error| Error::Failed(format!("making a file to download to: {error}")))?;
    fetch(url, file.path()).await?;
    let name = url.split(['?', '#']).next().map(Path::new).and_then(Path::file_name);
    let name =
        name.map_or_else(|| "buildpack.zip".to_owned(), |n| n.to_string_lossy().into_owned());
    Ok(Bits { name, path: file.path().to_owned(), _temporary: Some(file) })
}
