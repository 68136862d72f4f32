//! Finding a buildpack on disk, and fetching one that is named by its URL.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::settings::{Settings, is_url, url_path};
use crate::services::database_url;

/// How long a download may take, in seconds.
const DOWNLOAD_SECONDS: &str = "600";
const DOWNLOAD_BYTES: &str = "4294967296";

pub struct Buildpack {
    pub key: String,
    pub folder: PathBuf,
}

impl Buildpack {
    pub fn has(&self, script: &str) -> bool {
        self.path(script).exists()
    }

    /// Scripts see what the app will see of its database.
    pub fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.path(name));
        command.envs(
            std::env::var("VCAP_SERVICES")
                .ok()
                .and_then(|bound| Some(("DATABASE_URL", database_url(&bound)?))),
        );
        command
    }

    pub fn is_executable(&self, script: &str) -> Result<bool> {
        let path = self.path(script);
        let facts =
            fs::metadata(&path).with_context(|| format!("looking at {}", path.display()))?;
        Ok(facts.permissions().mode() & 0o111 == 0o111)
    }

    fn path(&self, script: &str) -> PathBuf {
        self.folder.join("bin").join(script)
    }
}

/// A buildpack's scripts lie in its folder, or in the only folder in that.
pub fn find(settings: &Settings, key: &str) -> Result<Buildpack> {
    let folders = settings.folders_of(key);
    let whole = folders.iter().find(|folder| has_bin(folder)).cloned();
    let nested =
        || folders.iter().find_map(|folder| only_entry(folder).filter(|nested| has_bin(nested)));
    if let Some(folder) = whole.or_else(nested) {
        return Ok(Buildpack { key: key.to_owned(), folder });
    }
    if !folders.iter().any(|folder| folder.is_dir()) {
        bail!(
            "Failed to read buildpack directory '{}' for buildpack '{key}'",
            folders[0].display()
        );
    }
    bail!("malformed buildpack does not contain a /bin dir: {key}")
}

fn has_bin(folder: &Path) -> bool {
    folder.join("bin").exists()
}

fn only_entry(folder: &Path) -> Option<PathBuf> {
    let mut entries = fs::read_dir(folder).ok()?;
    let first = entries.next()?.ok()?;
    entries.next().is_none().then(|| first.path())
}

/// Fetches `key` when it is a URL: a zip file is downloaded and unpacked, anything else is a git repository.
pub fn fetch(settings: &Settings, key: &str) -> Result<()> {
    if !is_url(key) {
        return Ok(());
    }
    let [folder, _] = settings.folders_of(key);
    super::make_folder(&settings.downloads_dir)?;
    if url_path(key).extension().is_some_and(|extension| extension == "zip") {
        return download(settings, key, &folder);
    }
    clone(settings, key, &folder)
}

fn download(settings: &Settings, url: &str, folder: &Path) -> Result<()> {
    let archive = tempfile::NamedTempFile::new_in(&settings.temp_dir)
        .context("making a file for the download")?;
    let mut curl = Command::new("curl");
    curl.args(["--fail", "--silent", "--show-error", "--location", "--retry", "2"]);
    curl.args(["--max-time", DOWNLOAD_SECONDS, "--max-filesize", DOWNLOAD_BYTES]);
    curl.args(settings.skip_cert_verify.then_some("--insecure"));
    let output = curl
        .arg("--output")
        .arg(archive.path())
        .arg("--")
        .arg(url)
        .output()
        .context("starting curl")?;
    if !output.status.success() {
        bail!(
            "Failed to download buildpack '{url}': {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let bytes = archive.as_file().metadata().context("looking at the download")?.len();
    let unpacked = zip::ZipArchive::new(archive.reopen().context("opening the download")?)
        .and_then(|mut archive| archive.extract(folder));
    unpacked.with_context(|| format!("Failed to extract buildpack '{url}'"))?;
    println!("Downloaded buildpack `{url}` ({})", in_words(bytes));
    Ok(())
}

fn in_words(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes}B"),
        1024..1_048_576 => format!("{:.1}K", bytes as f64 / 1024.0),
        _ => format!("{:.1}M", bytes as f64 / 1_048_576.0),
    }
}

/// A shallow clone first; not every server can give one.
fn clone(settings: &Settings, key: &str, folder: &Path) -> Result<()> {
    let (url, branch) = key.split_once('#').unwrap_or((key, ""));
    ensure!(!url.starts_with('-') && !branch.starts_with('-'), "invalid buildpack url {key:?}");
    let mut said = String::new();
    for depth in [&["--depth", "1"][..], &[]] {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
        }
        let mut git = Command::new("git");
        if settings.skip_cert_verify {
            git.args(["-c", "http.sslVerify=false"]);
        }
        git.arg("clone").args(depth).arg("--recursive");
        if !branch.is_empty() {
            git.args(["-b", branch]);
        }
        let output = git.arg("--").arg(url).arg(folder).env("GIT_TERMINAL_PROMPT", "0").output();
        let output = output.context("starting git")?;
        if output.status.success() {
            return Ok(());
        }
        said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    }
    bail!("Failed to clone git repository at {url}: {said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_words() {
        assert_eq!([in_words(12), in_words(2048), in_words(3 << 20)].join(" "), "12B 2.0K 3.0M");
    }
}
