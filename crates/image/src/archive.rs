//! Archives of any kind (tgz, tar, zip) as one sequence of entries, each checked before anybody acts on it.

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use flate2::read::GzDecoder;
use tokio_util::io::SyncIoBridge;

/// What an archive may hold; one that holds more is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub entries: u64,
    /// Of all files unpacked.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { entries: 1_000_000, bytes: 16 << 30 }
    }
}

/// One thing in an archive. `path` is relative and climbs nowhere; what a link points to is not looked at.
#[derive(Debug)]
pub struct Entry {
    pub path: PathBuf,
    pub mode: u32,
    pub modified: u64,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Folder,
    File {
        size: u64,
    },
    Symlink {
        target: PathBuf,
    },
    /// Another name for a file that came before.
    Hardlink {
        target: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Tar,
    Gzip,
    Zip,
}

/// Hands every entry to `each`, with the content of files.
///
/// # Errors
/// When the archive is broken, larger than `limits`, or an entry is absolute, climbs out, or is a device.
pub fn entries(
    archive: &Path,
    limits: Limits,
    mut each: impl FnMut(&Entry, &mut dyn Read) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut file = File::open(archive).with_context(|| format!("opening {}", archive.display()))?;
    let mut count = Count { limits, entries: 0, bytes: 0 };
    match format(&mut file)? {
        Format::Tar => tar_entries(BufReader::new(file), &mut count, &mut each),
        Format::Gzip => tar_entries(GzDecoder::new(BufReader::new(file)), &mut count, &mut each),
        Format::Zip => zip_entries(file, &mut count, &mut each),
    }
}

/// The archive as a tar stream, converted while it is read. An error in it ends the stream with that error.
pub fn tar_stream(archive: &Path, limits: Limits) -> garden::Tar {
    let (reader, writer) = tokio::io::duplex(256 * 1024);
    let archive = archive.to_owned();
    let conversion = tokio::task::spawn_blocking(move || {
        let mut builder = tar::Builder::new(SyncIoBridge::new(writer));
        entries(&archive, limits, |entry, content| append(&mut builder, entry, content))?;
        builder.into_inner()?.flush()?;
        anyhow::Ok(())
    });
    let error = async move {
        match conversion.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(std::io::Error::other(format!("{error:#}"))),
            Err(_) => Err(std::io::Error::other("the conversion was interrupted")),
        }
    };
    Box::pin(Checked { reader, end: Some(Box::pin(error)) })
}

/// A stream that is only at its end when its maker says that all went well.
struct Checked {
    reader: tokio::io::DuplexStream,
    end: Option<std::pin::Pin<Box<dyn Future<Output = std::io::Result<()>> + Send>>>,
}

impl tokio::io::AsyncRead for Checked {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(std::pin::Pin::new(&mut self.reader).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            return std::task::Poll::Ready(Ok(()));
        }
        let Some(end) = &mut self.end else { return std::task::Poll::Ready(Ok(())) };
        let result = std::task::ready!(end.as_mut().poll(cx));
        self.end = None;
        std::task::Poll::Ready(result)
    }
}

fn append(
    builder: &mut tar::Builder<impl Write>,
    entry: &Entry,
    content: &mut dyn Read,
) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_mtime(entry.modified);
    header.set_size(0);
    match &entry.kind {
        Kind::Folder => {
            header.set_entry_type(tar::EntryType::Directory);
            builder.append_data(&mut header, entry.path.join(""), std::io::empty())?;
        }
        Kind::File { size } => {
            header.set_size(*size);
            builder.append_data(&mut header, &entry.path, content.take(*size))?;
        }
        Kind::Symlink { target } => {
            header.set_entry_type(tar::EntryType::Symlink);
            builder.append_link(&mut header, &entry.path, target)?;
        }
        Kind::Hardlink { target } => {
            header.set_entry_type(tar::EntryType::Link);
            builder.append_link(&mut header, &entry.path, target)?;
        }
    }
    Ok(())
}

fn format(file: &mut File) -> anyhow::Result<Format> {
    let mut magic = [0; 4];
    let read = file.read(&mut magic)?;
    file.rewind()?;
    Ok(match &magic[..read] {
        [0x1f, 0x8b, ..] => Format::Gzip,
        [b'P', b'K', ..] => Format::Zip,
        _ => Format::Tar,
    })
}

struct Count {
    limits: Limits,
    entries: u64,
    bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) -> anyhow::Result<()> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        ensure!(
            self.entries <= self.limits.entries,
            "the archive has more than {} entries",
            self.limits.entries
        );
        ensure!(
            self.bytes <= self.limits.bytes,
            "the archive unpacks to more than {} bytes",
            self.limits.bytes
        );
        Ok(())
    }
}

type Each<'a> = &'a mut dyn FnMut(&Entry, &mut dyn Read) -> anyhow::Result<()>;

fn tar_entries(reader: impl Read, count: &mut Count, each: Each<'_>) -> anyhow::Result<()> {
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().context("reading the tar archive")? {
        let mut entry = entry.context("reading the tar archive")?;
        let header = entry.header().clone();
        let link = entry.link_name()?.map(std::borrow::Cow::into_owned);
        let name = entry.path()?.into_owned();
        let kind = match header.entry_type() {
            tar::EntryType::Directory => Kind::Folder,
            kind if kind.is_file() => Kind::File { size: entry.size() },
            tar::EntryType::Symlink => Kind::Symlink {
                target: link
                    .with_context(|| format!("the link {} points nowhere", name.display()))?,
            },
            tar::EntryType::Link => Kind::Hardlink { target: inside(&link.unwrap_or_default())? },
            tar::EntryType::XGlobalHeader => continue,
            other => bail!("{} is neither file, folder nor link but {other:?}", name.display()),
        };
        count.add(if let Kind::File { size } = kind { size } else { 0 })?;
        let path = inside(&name)?;
        if path.as_os_str().is_empty() {
            // The folder that was packed, `./`.
            continue;
        }
        let entry_read = Entry {
            path,
            mode: header.mode()? & 0o7777,
            modified: header.mtime().unwrap_or(0),
            kind,
        };
        each(&entry_read, &mut entry)?;
    }
    Ok(())
}

fn zip_entries(file: File, count: &mut Count, each: Each<'_>) -> anyhow::Result<()> {
    let mut archive =
        zip::ZipArchive::new(BufReader::new(file)).context("reading the zip archive")?;
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).context("reading the zip archive")?;
        let (path, mode) = (inside(Path::new(file.name()))?, file.unix_mode());
        let kind = if file.is_dir() {
            Kind::Folder
        } else if file.is_symlink() {
            let mut target = String::new();
            (&mut file).take(4096).read_to_string(&mut target).context("reading a link")?;
            Kind::Symlink { target: target.into() }
        } else {
            Kind::File { size: file.size() }
        };
        let size = if let Kind::File { size } = kind { size } else { 0 };
        count.add(size)?;
        // Archives made where files have no modes carry none, or zero.
        let usual = if kind == Kind::Folder { 0o755 } else { 0o644 };
        let mode = mode.map(|mode| mode & 0o7777).filter(|mode| *mode != 0).unwrap_or(usual);
        let modified = file.last_modified().map_or(0, seconds);
        let entry = Entry { path, mode, modified, kind };
        let mut content = file.by_ref().take(size);
        each(&entry, &mut content)?;
        if matches!(entry.kind, Kind::File { .. }) {
            honest(&entry, content)?;
        }
    }
    Ok(())
}

/// The size in a header is a claim, which limits are counted by: what holds more or less is refused. One more read also
/// has the checksum looked at.
fn honest(entry: &Entry, content: std::io::Take<impl Read>) -> anyhow::Result<()> {
    let left = content.limit();
    let about = || format!("reading {}", entry.path.display());
    let more = content.into_inner().read(&mut [0]).with_context(about)? > 0;
    // Neither is at its end when nobody read it.
    ensure!(more == (left > 0), "{} has another size than it says", entry.path.display());
    Ok(())
}

/// Since 1970. A zip tells a local time and no zone: it is taken as UTC.
fn seconds(date: zip::DateTime) -> u64 {
    let (year, month) = (i64::from(date.year()), i64::from(date.month()));
    // Years that begin in March put the leap day last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year / 4 - year / 100 + year / 400;
    let days = 365 * year + leaps + (153 * month + 2) / 5 + i64::from(date.day()) - 719_469;
    let time = i64::from(date.hour()) * 3600 + i64::from(date.minute()) * 60;
    u64::try_from(days * 86_400 + time + i64::from(date.second())).unwrap_or(0)
}

/// A path within the archive's own tree, without `.` parts.
fn inside(path: &Path) -> anyhow::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            Component::ParentDir => bail!("{} climbs out of the archive", path.display()),
            Component::RootDir | Component::Prefix(_) => bail!("{} is absolute", path.display()),
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// A tar of one file whose name is written into the header as it is, which the tar crate itself refuses to do.
    fn hostile_tar(name: &str) -> tempfile::NamedTempFile {
        let mut header = tar::Header::new_old();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(2);
        header.set_mode(0o644);
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, &b"hi"[..]).unwrap();
        written(&builder.into_inner().unwrap())
    }

    fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn zip_of(files: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, text) in files {
            zip.start_file(*name, zip::write::SimpleFileOptions::default().unix_permissions(0o755))
                .unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        written(zip.finish().unwrap().get_ref())
    }

    fn list(archive: &Path, limits: Limits) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        entries(archive, limits, |entry, content| {
            let mut text = String::new();
            content.read_to_string(&mut text)?;
            names.push(format!("{} {:o} {text}", entry.path.display(), entry.mode));
            Ok(())
        })?;
        Ok(names)
    }

    #[test]
    fn hostile_names_are_refused_in_every_format() {
        for name in ["../evil", "a/../../evil", "/etc/passwd"] {
            assert!(list(hostile_tar(name).path(), Limits::default()).is_err(), "tar {name}");
            assert!(list(zip_of(&[(name, "x")]).path(), Limits::default()).is_err(), "zip {name}");
        }
        assert_eq!(list(hostile_tar("./a/./b").path(), Limits::default()).unwrap(), ["a/b 644 hi"]);
    }

    #[tokio::test]
    async fn the_packed_folder_itself_is_no_entry() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "x").unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_dir_all("./", folder.path()).unwrap();
        let packed = written(&builder.into_inner().unwrap());
        let mut tar = Vec::new();
        tar_stream(packed.path(), Limits::default()).read_to_end(&mut tar).await.unwrap();
        assert!(list(written(&tar).path(), Limits::default()).unwrap()[0].starts_with("file "));
    }

    #[test]
    fn more_than_the_limits_is_refused() {
        let zip = zip_of(&[("a", "12345"), ("b", "12345")]);
        assert!(
            list(zip.path(), Limits { entries: 1, bytes: 100 })
                .unwrap_err()
                .to_string()
                .contains("entries")
        );
        assert!(
            list(zip.path(), Limits { entries: 9, bytes: 9 })
                .unwrap_err()
                .to_string()
                .contains("bytes")
        );
    }

    #[test]
    fn a_zip_that_lies_about_sizes_is_refused() {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file("zeros", zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&vec![0; 1 << 20]).unwrap();
        let honest = zip.finish().unwrap().into_inner();
        let claiming = |size: u32| {
            let mut bytes = honest.clone();
            for at in 0..bytes.len() - 4 {
                if bytes[at..at + 4] == (1_u32 << 20).to_le_bytes() {
                    bytes[at..at + 4].copy_from_slice(&size.to_le_bytes());
                }
            }
            written(&bytes)
        };
        let told = |archive: &Path, consume: bool| {
            let limits = Limits { entries: 9, bytes: 8 << 20 };
            let mut held = 0;
            let read = entries(archive, limits, |_, content| {
                held = if consume { std::io::copy(content, &mut std::io::sink())? } else { 0 };
                Ok(())
            });
            (held, read.map_err(|error| format!("{error:#}")))
        };
        assert_eq!(told(claiming(1 << 20).path(), true), (1 << 20, Ok(())));
        assert_eq!(told(claiming(1 << 20).path(), false), (0, Ok(())));
        // A bomb never gets further than it claims.
        let (held, refused) = told(claiming(100).path(), true);
        assert_eq!(held, 100);
        assert_eq!(refused.unwrap_err(), "zeros has another size than it says");
        assert!(told(claiming(2 << 20).path(), true).1.is_err());
    }

    #[tokio::test]
    async fn a_zip_becomes_a_tar_and_a_broken_one_an_error() {
        let zip = zip_of(&[("bin/run", "go"), ("notes", "text")]);
        let mut tar = Vec::new();
        tar_stream(zip.path(), Limits::default()).read_to_end(&mut tar).await.unwrap();
        assert_eq!(
            list(written(&tar).path(), Limits::default()).unwrap(),
            ["bin/run 755 go", "notes 755 text"]
        );
        let whole = std::fs::read(zip.path()).unwrap();
        let broken = written(&whole[..whole.len() / 2]);
        assert!(
            tar_stream(broken.path(), Limits::default())
                .read_to_end(&mut Vec::new())
                .await
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn what_is_inside_never_climbs(path in "[a-b./]{0,12}") {
            if let Ok(clean) = inside(Path::new(&path)) {
                prop_assert!(clean.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }

    #[test]
    fn times_of_a_zip() {
        let time = |year, month, day| {
            seconds(zip::DateTime::from_date_and_time(year, month, day, 1, 2, 4).unwrap())
        };
        assert_eq!(time(1980, 1, 1), 315_536_524);
        assert_eq!(time(2024, 2, 29), 1_709_168_524);
        assert_eq!(time(2026, 12, 31), 1_798_678_924);
    }
}
