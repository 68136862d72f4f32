//! An app that costs nothing: one page, served by the static file server that the platform brings along.

use anyhow::Context as _;

use super::platform::Platform;

pub const APP: &str = "trivial";

/// Pushes it with one instance; returns its guid.
pub async fn push(platform: &Platform) -> anyhow::Result<String> {
    platform.log_in().await?;
    let folder = platform.app(APP, &[("index.html", "trivial\n"), ("Staticfile", "")])?;
    let folder = folder.display().to_string();
    platform.cf(&["push", APP, "-p", &folder, "-m", "16M", "-k", "16M"]).await?;
    let apps = platform.api().await?.get(&format!("/v3/apps?names={APP}")).await?;
    let guid = apps["resources"][0]["guid"].as_str().context("the app is not listed")?;
    Ok(guid.to_owned())
}
