//! An app's files: which ones count, which ones the server may know already, and the zip of the others.

mod entries;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use tempfile::NamedTempFile;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::error::{Error, Result, failed};
use entries::{Archive, Entry, Kind, open_archive};

/// Smaller files are sent quicker than asked for.
const SMALLEST_MATCHED: u64 = 64 << 10;
const DIR_MODE: u32 = 0o755;

/// The files of an app, in the order of their paths.
#[derive(Debug)]
pub struct Bits {
    root: PathBuf,
    is_archive: bool,
    entries: Vec<Entry>,
}

/// A file as the server is asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resource {
    pub path: String,
    pub mode: String,
    pub checksum: Checksum,
    pub size_in_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checksum {
    pub value: String,
}

impl Bits {
    /// Finds the files below a directory, or inside a zip file.
    pub fn gather(path: &Path) -> Result<Bits> {
        let about = |error: io::Error| Error::Failed(format!("{}: {error}", path.display()));
        let root = path.canonicalize().map_err(about)?;
        let is_archive = !fs::metadata(&root).map_err(about)?.is_dir();
        let mut entries = if is_archive {
            entries::of_archive(&root).map_err(|error| no_zip(path, &error))?
        } else {
            entries::of_app(&root).map_err(about)?
        };
        if entries.is_empty() {
            return failed(format!("No app files found in '{}'", path.display()));
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Bits { root, is_archive, entries })
    }

    /// The files worth asking the server for, with their checksums.
    pub fn resources(&self) -> Result<Vec<Resource>> {
        let large = |entry: &&Entry| matches!(entry.kind, Kind::File { size, .. } if size >= SMALLEST_MATCHED);
        let mut archive = if self.is_archive {
            Some(open_archive(&self.root).map_err(unreadable)?)
        } else {
            None
        };
        let mut resources = Vec::new();
        for entry in self.entries.iter().filter(large) {
            let Kind::File { mode, size } = entry.kind else { continue };
            let sum = match &mut archive {
                None => checksum(
                    File::open(self.root.join(&entry.path))
                        .map_err(|error| unreadable(error.into()))?,
                ),
                Some(archive) => checksum(archive.by_name(&entry.path).map_err(unreadable)?),
            };
            let value = sum.map_err(|error| Error::Failed(format!("{}: {error}", entry.path)))?;
            resources.push(Resource {
                path: entry.path.clone(),
                mode: format!("{mode:o}"),
                checksum: Checksum { value },
                size_in_bytes: size,
            });
        }
        Ok(resources)
    }

    /// Packs everything but `known` (files the server has); `None` when that is everything.
    /// A file that is no longer what was asked for ends it.
    pub fn pack(
        &self,
        asked: &[Resource],
        known: &BTreeSet<String>,
    ) -> Result<Option<NamedTempFile>> {
        let is_known = |path: &str| {
            asked.iter().any(|file| file.path == path && known.contains(&file.checksum.value))
        };
        let wanted: Vec<&Entry> =
            self.entries.iter().filter(|entry| !is_known(&entry.path)).collect();
        if wanted.is_empty() {
            return Ok(None);
        }
        let temp = NamedTempFile::new()
            .map_err(|error| Error::Failed(format!("making a file to pack into: {error}")))?;
        let mut zip = ZipWriter::new(io::BufWriter::new(temp.as_file()));
        let mut archive = if self.is_archive {
            Some(open_archive(&self.root).map_err(unreadable)?)
        } else {
            None
        };
        for entry in wanted {
            let before = asked
                .iter()
                .find(|file| file.path == entry.path)
                .map(|file| file.checksum.value.as_str());
            let now = self
                .add(&mut zip, entry, archive.as_mut())
                .map_err(|error| Error::Failed(format!("{}: {error}", entry.path)))?;
            if before.is_some_and(|before| now.as_deref() != Some(before)) {
                return failed(format!(
                    "Aborting push: File {} has been modified since the start of push. Validate the correct state of the file and try again.",
                    entry.path
                ));
            }
        }
        let flushed = zip
            .finish()
            .map_err(unreadable)?
            .into_inner()
            .map_err(|error| unreadable(error.into_error().into()));
        flushed?;
        Ok(Some(temp))
    }

    /// Adds one entry; answers the checksum of a file's content.
    fn add<W: Write + io::Seek>(
        &self,
        zip: &mut ZipWriter<W>,
        entry: &Entry,
        archive: Option<&mut Archive>,
    ) -> zip::result::ZipResult<Option<String>> {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        let source = self.root.join(&entry.path);
        match &entry.kind {
            Kind::Dir => {
                zip.add_directory(format!("{}/", entry.path), options.unix_permissions(DIR_MODE))?
            }
            Kind::Link => {
                let target = match archive {
                    None => fs::read_link(&source)?.to_string_lossy().into_owned(),
                    Some(archive) => io::read_to_string(archive.by_name(&entry.path)?)?,
                };
                zip.add_symlink(&entry.path, target, options)?;
            }
            Kind::File { mode, size } => {
                let options =
                    options.unix_permissions(*mode).large_file(*size >= u64::from(u32::MAX));
                return match archive {
                    None => {
                        let file = File::open(&source)?;
                        zip.start_file(&entry.path, options.last_modified_time(modified(&file)))?;
                        copy(file, zip).map(Some).map_err(Into::into)
                    }
                    Some(archive) => {
                        let file = archive.by_name(&entry.path)?;
                        zip.start_file(
                            &entry.path,
                            options.last_modified_time(file.last_modified().unwrap_or_default()),
                        )?;
                        copy(file, zip).map(Some).map_err(Into::into)
                    }
                };
            }
        }
        Ok(None)
    }
}

/// Zips all there is below a directory, whatever its name.
pub fn zip_directory(path: &Path) -> Result<NamedTempFile> {
    let about = |error: io::Error| Error::Failed(format!("{}: {error}", path.display()));
    let root = path.canonicalize().map_err(about)?;
    let mut entries = entries::of_directory(&root).map_err(about)?;
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let bits = Bits { root, is_archive: false, entries };
    bits.pack(&[], &BTreeSet::new())?
        .ok_or_else(|| Error::Failed(format!("{} is empty", path.display())))
}

/// The resources the server has, as an upload names them.
pub fn known_resources(asked: &[Resource], known: &BTreeSet<String>) -> Value {
    json!(asked.iter().filter(|file| known.contains(&file.checksum.value)).collect::<Vec<_>>())
}

/// A file that was given instead of a folder, and is no zip.
fn no_zip(path: &Path, error: &zip::result::ZipError) -> Error {
    let path = path.display();
    match error {
        zip::result::ZipError::InvalidArchive(_) => Error::Failed(format!(
            "{path} is not a valid zip file ({error}): name a folder, or a zip, jar or war file"
        )),
        error => Error::Failed(format!("{path}: {error}")),
    }
}

fn unreadable(error: zip::result::ZipError) -> Error {
    Error::Failed(format!("packing the app's files: {error}"))
}

fn checksum(from: impl Read) -> io::Result<String> {
    copy(from, &mut io::sink())
}

/// Copies, and answers the SHA-1 of what went through.
fn copy(mut from: impl Read, to: &mut impl Write) -> io::Result<String> {
    let (mut sum, mut buffer) = (Sha1::new(), vec![0; 64 << 10]);
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        sum.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
    }
}

/// When a file was changed, as zips keep it (from 1980 on, to two seconds).
fn modified(file: &File) -> zip::DateTime {
    let time = file.metadata().and_then(|metadata| metadata.modified()).ok();
    let moment = time
        .and_then(|time| jiff::Timestamp::try_from(time).ok())
        .map(|moment| moment.to_zoned(jiff::tz::TimeZone::UTC));
    let part = |number: i8| u8::try_from(number).unwrap_or(0);
    moment
        .and_then(|m| {
            let year = u16::try_from(m.year()).ok()?;
            zip::DateTime::from_date_and_time(
                year,
                part(m.month()),
                part(m.day()),
                part(m.hour()),
                part(m.minute()),
                part(m.second()),
            )
            .ok()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use expect_test::{Expect, expect};

    use super::*;

    fn app(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    #[track_caller]
    fn check(files: &[(&str, &str)], want: Expect) {
        let dir = app(files);
        let paths: Vec<String> =
            Bits::gather(dir.path()).unwrap().entries.into_iter().map(|entry| entry.path).collect();
        want.assert_eq(&paths.join(" "));
    }

    #[test]
    fn some_files_never_count() {
        check(
            &[
                ("app.rb", ""),
                ("manifest.yml", ""),
                (".git/config", ""),
                ("sub/.gitignore", ""),
                ("sub/x", ""),
            ],
            expect!["app.rb sub sub/x"],
        );
    }

    #[test]
    fn cfignore_has_its_say() {
        check(
            &[
                (".cfignore", "*.log\n/tmp\nnode_modules/\n"),
                ("a.log", ""),
                ("tmp/x", ""),
                ("lib/tmp/y", ""),
                ("node_modules/z/w", ""),
                ("main", ""),
            ],
            expect!["lib lib/tmp lib/tmp/y main"],
        );
        check(
            &[(".cfignore", "data/*\n!data/keep\n"), ("data/a", ""), ("data/keep", "")],
            expect!["data data/keep"],
        );
    }

    #[test]
    fn nothing_to_push_is_an_error() {
        let dir = app(&[("manifest.yml", "")]);
        assert!(
            Bits::gather(dir.path())
                .unwrap_err()
                .to_string()
                .starts_with("No app files found in '")
        );
    }

    fn listing(zip: &NamedTempFile) -> String {
        let mut archive = open_archive(zip.path()).unwrap();
        let line = |index| {
            let mut file = archive.by_index(index).unwrap();
            let mode = file.unix_mode().unwrap();
            let name = file.name().to_owned();
            let text = if file.size() < 100 {
                io::read_to_string(&mut file).unwrap()
            } else {
                format!("{} bytes", file.size())
            };
            format!("{mode:o} {name} {text}")
        };
        (0..open_archive(zip.path()).unwrap().len()).map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_pack_keeps_modes_and_links() {
        let dir = app(&[("bin/run", "#!/bin/sh"), ("plain", "text")]);
        fs::set_permissions(dir.path().join("bin/run"), fs::Permissions::from_mode(0o750)).unwrap();
        fs::set_permissions(dir.path().join("plain"), fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("bin/run", dir.path().join("start")).unwrap();
        let zip = Bits::gather(dir.path()).unwrap().pack(&[], &BTreeSet::new()).unwrap().unwrap();
        expect![[r#"
            40755 bin/ 
            100750 bin/run #!/bin/sh
            100640 plain text
            120777 start bin/run"#]]
        .assert_eq(&listing(&zip));
    }

    #[test]
    fn a_directory_is_zipped_whole() {
        let dir = app(&[("manifest.yml", "m"), (".cfignore", "bin"), ("bin/detect", "d")]);
        let listed = listing(&zip_directory(dir.path()).unwrap());
        let names: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(names, [".cfignore", "bin/", "bin/detect", "manifest.yml"]);
    }

    #[test]
    fn known_files_stay_out() {
        let large = "x".repeat(70_000);
        let dir = app(&[("large", &large), ("small", "s")]);
        fs::set_permissions(dir.path().join("large"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(dir.path().join("small"), fs::Permissions::from_mode(0o644)).unwrap();
        let bits = Bits::gather(dir.path()).unwrap();
        let asked = bits.resources().unwrap();
        expect![[r#"[{"checksum":{"value":"c470329cc624dc097102eb4fc87a0ecfdf013186"},"mode":"644","path":"large","size_in_bytes":70000}]"#]]
            .assert_eq(&json!(asked).to_string());
        let known = BTreeSet::from([asked[0].checksum.value.clone()]);
        expect!["100644 small s"].assert_eq(&listing(&bits.pack(&asked, &known).unwrap().unwrap()));
        fs::remove_file(dir.path().join("small")).unwrap();
        assert!(Bits::gather(dir.path()).unwrap().pack(&asked, &known).unwrap().is_none());
    }

    #[test]
    fn a_file_that_changes_meanwhile_ends_it() {
        let dir = app(&[("large", &"x".repeat(70_000))]);
        let bits = Bits::gather(dir.path()).unwrap();
        let asked = bits.resources().unwrap();
        fs::write(dir.path().join("large"), "other").unwrap();
        assert!(
            bits.pack(&asked, &BTreeSet::new())
                .unwrap_err()
                .to_string()
                .contains("has been modified")
        );
    }

    #[test]
    fn an_archive_is_an_app_too() {
        let dir = app(&[
            ("app/WEB-INF/web.xml", "<x/>"),
            ("app/.cfignore", "secret\n"),
            ("app/secret", "s"),
        ]);
        let mut zip = ZipWriter::new(File::create(dir.path().join("app.jar")).unwrap());
        for (name, content) in
            [("WEB-INF/web.xml", "<x/>"), (".cfignore", "secret\n"), ("secret", "s")]
        {
            zip.start_file(name, SimpleFileOptions::default().unix_permissions(0o600)).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        let packed = Bits::gather(&dir.path().join("app.jar"))
            .unwrap()
            .pack(&[], &BTreeSet::new())
            .unwrap()
            .unwrap();
        expect!["100600 WEB-INF/web.xml <x/>"].assert_eq(&listing(&packed));
    }
}
