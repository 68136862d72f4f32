//! The builder's flags, and the folder names that follow from them.

use std::hash::Hasher;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use md5::{Digest, Md5};
use twox_hash::XxHash64;

use crate::flags::Flags;
use crate::root::Root;

const NAMES: [&str; 10] = [
    "buildDir",
    "outputDroplet",
    "outputMetadata",
    "outputBuildArtifactsCache",
    "buildpacksDir",
    "buildpacksDownloadDir",
    "buildArtifactsCacheDir",
    "buildpackOrder",
    // Accepted and unused: Cloud Foundry's stagers write them.
    "credhubConnectAttempts",
    "credhubRetryDelay",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub build_dir: PathBuf,
    pub droplet: PathBuf,
    pub metadata: PathBuf,
    pub cache_output: PathBuf,
    pub buildpacks_dir: PathBuf,
    pub downloads_dir: PathBuf,
    pub cache_dir: PathBuf,
    /// Keys of stored buildpacks, or URLs.
    pub order: Vec<String>,
    pub skip_detect: bool,
    pub skip_cert_verify: bool,
    /// Where the droplet comes together; moves with `TMPDIR`.
    pub temp_dir: PathBuf,
}

impl Settings {
    pub fn read(arguments: &[String]) -> Result<Settings> {
        let temp_dir = std::env::var_os("TMPDIR").filter(|folder| !folder.is_empty());
        Settings::from_flags(arguments, &Root::from_env(), temp_dir.map(PathBuf::from))
    }

    fn from_flags(
        arguments: &[String],
        root: &Root,
        temp_dir: Option<PathBuf>,
    ) -> Result<Settings> {
        let flags = Flags::parse(arguments, &NAMES, &["skipDetect", "skipCertVerify"])?;
        let path = |name: &str, default: &str| root.path(flags.get(name).unwrap_or(default));
        let order: Vec<String> =
            flags.get("buildpackOrder").unwrap_or_default().split(',').map(str::to_owned).collect();
        ensure!(order.iter().all(|key| !key.is_empty()), "missing flag: -buildpackOrder");
        Ok(Settings {
            build_dir: path("buildDir", "/tmp/app"),
            droplet: path("outputDroplet", "/tmp/droplet"),
            metadata: path("outputMetadata", "/tmp/result.json"),
            cache_output: path("outputBuildArtifactsCache", "/tmp/output-cache"),
            buildpacks_dir: path("buildpacksDir", "/tmp/buildpacks"),
            downloads_dir: path("buildpacksDownloadDir", "/tmp/buildpackdownloads"),
            cache_dir: path("buildArtifactsCacheDir", "/tmp/cache"),
            order,
            skip_detect: flags.is_on("skipDetect")?,
            skip_cert_verify: flags.is_on("skipCertVerify")?,
            temp_dir: root.path(temp_dir.unwrap_or_else(|| PathBuf::from("/tmp"))),
        })
    }

    /// All but the last buildpack when they were named; none when one is to be found.
    pub fn supplying(&self) -> &[String] {
        match self.skip_detect {
            true => &self.order[..self.order.len() - 1],
            false => &[],
        }
    }

    /// A buildpack's number as its folder below `deps` is named: as wide as the count of buildpacks.
    pub fn index(&self, number: usize) -> String {
        let width = (self.supplying().len() + 1).to_string().len();
        format!("{number:0width$}")
    }

    /// Where a buildpack lies: in the folder named by today's hash of its key, or by that of long ago.
    pub fn folders_of(&self, key: &str) -> [PathBuf; 2] {
        let base = if is_url(key) { &self.downloads_dir } else { &self.buildpacks_dir };
        let old: String =
            Md5::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        [base.join(hash(key)), base.join(old)]
    }

    /// Where a supplying buildpack keeps what it wants to see again.
    pub fn cache_of(&self, key: &str) -> PathBuf {
        self.cache_dir.join(hash(key))
    }
}

/// XXH64 as 16 hex digits.
pub fn hash(key: &str) -> String {
    let mut hasher = XxHash64::with_seed(0);
    hasher.write(key.as_bytes());
    format!("{:016x}", hasher.finish())
}

/// Whether a buildpack is named by where to fetch it.
pub fn is_url(key: &str) -> bool {
    key.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

/// A URL's path, without query and fragment.
pub fn url_path(url: &str) -> &Path {
    Path::new(url.split(['?', '#']).next().unwrap_or(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(order: &str, skip_detect: bool) -> Settings {
        let words = [format!("-buildpackOrder={order}"), format!("-skipDetect={skip_detect}")];
        Settings::from_flags(&words, &Root::default(), None).unwrap()
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let settings = settings("a,b", false);
        assert_eq!(settings.build_dir, Path::new("/tmp/app"));
        assert_eq!(settings.droplet, Path::new("/tmp/droplet"));
        assert_eq!(settings.metadata, Path::new("/tmp/result.json"));
        assert_eq!(settings.cache_output, Path::new("/tmp/output-cache"));
        assert_eq!(settings.cache_dir, Path::new("/tmp/cache"));
        let error = Settings::from_flags(&[], &Root::default(), None).unwrap_err();
        assert_eq!(error.to_string(), "missing flag: -buildpackOrder");
    }

    #[test]
    fn paths_move_with_the_root_of_a_plain_process() {
        let words = ["-buildpackOrder=a".to_owned(), "-buildDir=/tmp/app".to_owned()];
        let settings = Settings::from_flags(&words, &Root::at("/c"), None).unwrap();
        assert_eq!(settings.build_dir, Path::new("/c/tmp/app"));
        assert_eq!(settings.temp_dir, Path::new("/c/tmp"));
    }

    #[test]
    fn an_index_is_as_wide_as_the_count() {
        assert_eq!(settings("a,b", true).index(1), "1");
        assert_eq!(settings("a,b,c,d,e,f,g,h,i,j", true).index(3), "03");
        assert_eq!(settings("a,b,c,d,e,f,g,h,i,j", false).index(0), "0");
    }

    #[test]
    fn folders_are_named_by_hashes_of_the_key() {
        let settings = settings("a", true);
        let [new, old] = settings.folders_of("abc");
        assert_eq!(new, Path::new("/tmp/buildpacks/44bc2cf5ad770999"));
        assert_eq!(old, Path::new("/tmp/buildpacks/900150983cd24fb0d6963f7d28e17f72"));
        let [new, _] = settings.folders_of("https://example.com/x.zip");
        assert!(new.starts_with("/tmp/buildpackdownloads"));
    }

    #[test]
    fn urls_have_a_scheme() {
        assert!(is_url("https://example.com/a.git#main") && is_url("file:///x"));
        assert!(!is_url("0e1f_sha256") && !is_url("/plain/path:1") && !is_url(":x"));
        assert_eq!(url_path("https://h/x.zip?token=1#b"), Path::new("https://h/x.zip"));
    }
}
