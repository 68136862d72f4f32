//! Getting an app's source to the server: files, an image's name, or a droplet.

use std::collections::BTreeSet;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::package_body;
use crate::bits::{Bits, Resource, known_resources};
use crate::client::{Body, File, Pace, Upload};
use crate::command::Context;
use crate::error::{Error, Result, failed};
use crate::manifest::Docker;
use crate::resources::{App, Droplet, Package};
use crate::ui::say;

/// As many files as the server takes in one question.
const MATCHED_AT_ONCE: usize = 1000;

/// Uploads what the server does not have of a directory or an archive; answers the package.
pub async fn upload_bits(cx: &mut Context<'_>, app: &App, path: &Path) -> Result<String> {
    let bits = Bits::gather(path)?;
    let asked = bits.resources()?;
    let known = known(cx, &asked).await?;
    let body = package_body(&app.guid, "bits", json!({}));
    let package: Package = cx.client.post("/v3/packages", body).await?.json()?;
    say!(cx.ui, "Packaging files to upload...");
    let zip = bits.pack(&asked, &known)?;
    let file = zip.as_ref().map(|zip| File {
        field: "bits",
        name: "package.zip".to_owned(),
        path: zip.path().to_owned(),
    });
    match &file {
        Some(_) => say!(cx.ui, "Uploading files..."),
        None => say!(cx.ui, "All files found in remote cache; nothing to upload."),
    }
    let texts = vec![("resources", known_resources(&asked, &known).to_string())];
    let package: Package =
        upload(cx, &format!("/v3/packages/{}/upload", package.guid), texts, file).await?;
    say!(cx.ui, "Waiting for API to complete processing files...");
    ready(cx, package).await
}

/// The checksums of the files the server has.
async fn known(cx: &Context<'_>, asked: &[Resource]) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Matched {
        resources: Vec<Match>,
    }
    #[derive(Deserialize)]
    struct Match {
        checksum: Sum,
    }
    #[derive(Deserialize)]
    struct Sum {
        value: String,
    }
    let mut known = BTreeSet::new();
    for some in asked.chunks(MATCHED_AT_ONCE) {
        let matched: Matched =
            cx.client.post("/v3/resource_matches", json!({ "resources": some })).await?.json()?;
        known.extend(matched.resources.into_iter().map(|found| found.checksum.value));
    }
    Ok(known)
}

pub async fn upload<T: serde::de::DeserializeOwned>(
    cx: &mut Context<'_>,
    path: &str,
    texts: Vec<(&'static str, String)>,
    file: Option<File>,
) -> Result<T> {
    let bar = bar(cx, file.is_some());
    let upload = Upload { texts, file, bar: bar.clone() };
    let reply = cx.client.send(Method::POST, path, &[], Body::Upload(upload)).await;
    bar.finish_and_clear();
    reply?.json()
}

/// Only a person at a terminal wants to watch bytes go.
pub fn bar(cx: &Context, is_needed: bool) -> ProgressBar {
    if !is_needed || !cx.ui.io.terminal.stderr {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template(" {bytes} / {total_bytes} [{bar:40}] {percent}% {eta}")
            .expect("the template is constant and valid");
    ProgressBar::new(0).with_style(style.progress_chars("=>-"))
}

/// Waits until the server has taken the package in.
pub async fn ready(cx: &Context<'_>, mut package: Package) -> Result<String> {
    let (path, mut pace) = (format!("/v3/packages/{}", package.guid), Pace::default());
    loop {
        match package.state.as_str() {
            "READY" => return Ok(package.guid),
            "EXPIRED" => return failed("Package expired after upload"),
            "FAILED" => {
                let why = package.data["error"]
                    .as_str()
                    .map(|why| format!(": {why}"))
                    .unwrap_or_default();
                return failed(format!("Package failed to process correctly after upload{why}"));
            }
            _ => {}
        }
        let reply = cx.client.send(Method::GET, &path, &[], Body::None).await?;
        package = reply.json()?;
        if package.state != "READY" {
            pace.wait(reply.took).await;
        }
    }
}

/// A package that names an image.
pub async fn docker_package(
    cx: &Context<'_>,
    app: &App,
    docker: &Docker,
    password: Option<&str>,
) -> Result<String> {
    let mut data = json!({ "image": docker.image });
    if let Some(username) = &docker.username {
        data["username"] = json!(username);
        data["password"] = json!(password.unwrap_or_default());
    }
    let body = package_body(&app.guid, "docker", data);
    let package: Package = cx.client.post("/v3/packages", body).await?.json()?;
    ready(cx, package).await
}

/// Uploads a droplet that was staged elsewhere.
pub async fn upload_droplet(cx: &mut Context<'_>, app: &App, path: &Path) -> Result<String> {
    if !path.is_file() {
        return Err(Error::Failed(format!(
            "Incorrect Usage: The specified path '{}' does not exist.",
            path.display()
        )));
    }
    let body = json!({ "relationships": { "app": { "data": { "guid": app.guid } } } });
    let droplet: Droplet = cx.client.post("/v3/droplets", body).await?.json()?;
    say!(cx.ui, "Uploading droplet bits...");
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = File { field: "bits", name, path: path.to_owned() };
    let bar = bar(cx, true);
    let upload = Upload { texts: Vec::new(), file: Some(file), bar: bar.clone() };
    let sent = cx
        .client
        .send(
            Method::POST,
            &format!("/v3/droplets/{}/upload", droplet.guid),
            &[],
            Body::Upload(upload),
        )
        .await;
    bar.finish_and_clear();
    cx.client.finish(&sent?).await?;
    say!(cx.ui, "Waiting for API to complete processing files...");
    let (path, mut pace) = (format!("/v3/droplets/{}", droplet.guid), Pace::default());
    loop {
        let reply = cx.client.send(Method::GET, &path, &[], Body::None).await?;
        let droplet: Droplet = reply.json()?;
        match droplet.state.as_str() {
            "STAGED" => return Ok(droplet.guid),
            "FAILED" | "EXPIRED" => {
                return failed("The droplet could not be processed after upload");
            }
            _ => pace.wait(reply.took).await,
        }
    }
}
