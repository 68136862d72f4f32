//! The backup's file: written beside its place and moved there when it is whole; read with every name checked.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use super::contents::{DATABASES, FILES};
use crate::data_dir::format::{self, Mark};

const LEVEL: i32 = 3;
/// The last entry: whatever lacks it was cut off.
const END: &str = "end";

pub struct Writer {
    tar: tar::Builder<zstd::Encoder<'static, File>>,
    fresh: PathBuf,
    place: PathBuf,
}

impl Writer {
    pub fn create(place: &Path) -> anyhow::Result<Writer> {
        let mut fresh = place.as_os_str().to_owned();
        fresh.push(".part");
        let fresh = PathBuf::from(fresh);
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh);
        let file = file.with_context(|| format!("making {}", fresh.display()))?;
        let mut packed = zstd::Encoder::new(file, LEVEL)?;
        packed.include_checksum(true)?;
        Ok(Writer { tar: tar::Builder::new(packed), fresh, place: place.to_owned() })
    }

    pub fn text(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        self.tar
            .append_data(&mut header, name, text.as_bytes())
            .with_context(|| format!("writing {}", self.fresh.display()))
    }

    pub fn file(&mut self, name: &str, path: &Path) -> anyhow::Result<()> {
        let file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
        let mut header = tar::Header::new_gnu();
        header.set_size(file.metadata()?.len());
        header.set_mode(0o600);
        self.tar
            .append_data(&mut header, name, BufReader::new(file))
            .with_context(|| format!("writing {name} to {}", self.fresh.display()))
    }

    /// Answers the file's size.
    pub fn finish(mut self) -> anyhow::Result<u64> {
        self.text(END, "")?;
        let writing = || format!("writing {}", self.fresh.display());
        self.tar.finish().with_context(writing)?;
        let packed = std::mem::replace(&mut self.tar, tar::Builder::new(nowhere()?));
        let file = packed.into_inner().with_context(writing)?.finish().with_context(writing)?;
        file.sync_all().with_context(writing)?;
        let size = file.metadata()?.len();
        std::fs::rename(&self.fresh, &self.place)
            .with_context(|| format!("making {}", self.place.display()))?;
        Ok(size)
    }
}

fn nowhere() -> anyhow::Result<zstd::Encoder<'static, File>> {
    Ok(zstd::Encoder::new(OpenOptions::new().write(true).open("/dev/null")?, LEVEL)?)
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Gone already when it is whole.
        let _ = std::fs::remove_file(&self.fresh);
    }
}

/// Unpacks into an empty folder.
///
/// # Errors
/// When the file is no backup, is cut off or damaged, or comes from a newer program.
pub fn unpack(file: &Path, into: &Path) -> anyhow::Result<Mark> {
    let name = file.display();
    let packed = File::open(file).with_context(|| format!("reading {name}"))?;
    let packed = zstd::Decoder::new(packed).with_context(|| format!("reading {name}"))?;
    let mut archive = tar::Archive::new(packed);
    let damaged = || format!("{name} is damaged, or no backup");
    let mut mark = None;
    for entry in archive.entries().with_context(damaged)? {
        let mut entry = entry.with_context(damaged)?;
        let path = entry.path().with_context(damaged)?.into_owned();
        match (path.to_str(), &mark) {
            (Some(format::FILE), None) => {
                let mut text = String::new();
                entry.read_to_string(&mut text).with_context(damaged)?;
                let found: Mark = toml::from_str(&text).with_context(damaged)?;
                found.must_be_known(&format!("the backup {name}"))?;
                std::fs::write(into.join(format::FILE), text)?;
                mark = Some(found);
            }
            (Some(END), Some(_)) => {
                // The rest holds the checksum.
                let rest = archive.into_inner();
                std::io::copy(&mut { rest }, &mut std::io::sink()).with_context(damaged)?;
                return mark.context("the mark was read before");
            }
            (Some(known), Some(_)) if is_known(known) => {
                let at = into.join(&path);
                let folder = at.parent().context("a file lies in a folder")?;
                std::fs::create_dir_all(folder)?;
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&at)
                    .with_context(|| format!("making {}", at.display()))?;
                std::io::copy(&mut entry, &mut file)
                    .with_context(|| format!("unpacking {}", path.display()))?;
                file.sync_all()?;
            }
            _ => bail!("{name} is no backup: it holds {}", path.display()),
        }
    }
    ensure!(mark.is_some(), "{name} is no backup: it is empty");
    bail!("{name} was cut off: its end is missing")
}

/// Nothing leads out of the folder, and nothing is written that a backup does not hold.
fn is_known(name: &str) -> bool {
    let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let listed = FILES.contains(&name) || DATABASES.contains(&name);
    inside && (listed || name.starts_with("blobs/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &Path, name: &str, mark: &Mark, files: &[&str]) -> PathBuf {
        let path = folder.join(name);
        let mut writer = Writer::create(&path).unwrap();
        writer.text(format::FILE, &toml::to_string(mark).unwrap()).unwrap();
        files.iter().for_each(|name| writer.text(name, &"x".repeat(100_000)).unwrap());
        writer.finish().unwrap();
        path
    }

    fn refused(file: &Path) -> String {
        let into = tempfile::tempdir().unwrap();
        format!("{:#}", unpack(file, into.path()).unwrap_err())
    }

    #[test]
    fn what_went_in_comes_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), "a", &Mark::own(), &["secret", "blobs/blobs/x/y"]);
        let into = tempfile::tempdir().unwrap();
        assert_eq!(unpack(&path, into.path()).unwrap(), Mark::own());
        let text = std::fs::read_to_string(into.path().join("blobs/blobs/x/y")).unwrap();
        assert_eq!(text.len(), 100_000);
        assert!(!folder.path().join("a.part").exists());
    }

    #[test]
    fn what_is_not_whole_or_not_a_backup_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), "a", &Mark::own(), &["secret", "uaa.db"]);
        let whole = std::fs::read(&path).unwrap();
        let cut = folder.path().join("cut");
        for end in [0, 10, whole.len() / 2, whole.len() - 3] {
            std::fs::write(&cut, &whole[..end]).unwrap();
            refused(&cut);
        }
        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        std::fs::write(&cut, &changed).unwrap();
        refused(&cut);
        let odd = written(folder.path(), "odd", &Mark::own(), &["etc/passwd"]);
        assert!(refused(&odd).contains("it holds etc/passwd"));
        let newer = Mark { format: 99, program: "9.0.0".into() };
        let newer = written(folder.path(), "newer", &newer, &["secret"]);
        assert!(refused(&newer).contains("newer cupola"), "{}", refused(&newer));
    }

    #[test]
    fn names_that_lead_out_are_unknown() {
        for name in ["../secret", "/secret", "blobs/../../x", "instance", "lock"] {
            assert!(!is_known(name), "{name}");
        }
        assert!(is_known("blobs/blobs/droplets/ab/c") && is_known("bbs.db"));
    }
}
