//! Packs the droplet and the cache. Entries are named from `./`, as GNU tar names what it finds in a folder.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::settings::Settings;

/// The longest name a plain header holds.
const NAME_BYTES: usize = 100;

/// `app` comes from where it was built, the rest from `contents`.
pub fn droplet(settings: &Settings, contents: &tempfile::TempDir) -> Result<()> {
    for folder in ["logs", "tmp"] {
        super::make_folder(&contents.path().join(folder))?;
    }
    let write = |tar: &mut Builder<Gzip>| {
        add(tar, contents.path(), b"./")?;
        add(tar, &settings.build_dir, b"./app/")
    };
    pack(&settings.droplet, write).context("Failed to compress droplet filesystem")
}

pub fn cache(settings: &Settings) -> Result<()> {
    let write = |tar: &mut Builder<Gzip>| add(tar, &settings.cache_dir, b"./");
    pack(&settings.cache_output, write).context("Failed to compress build artifacts")
}

type Gzip = GzEncoder<BufWriter<File>>;

fn pack(path: &Path, write: impl FnOnce(&mut Builder<Gzip>) -> Result<()>) -> Result<()> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    // A droplet is written once and read by each cell once: time counts more than bytes.
    let gzip = GzEncoder::new(BufWriter::with_capacity(1 << 18, file), Compression::fast());
    let mut tar = Builder::new(gzip);
    write(&mut tar)?;
    let finished = tar.into_inner().and_then(Gzip::finish).and_then(|mut buffer| buffer.flush());
    finished.with_context(|| format!("writing {}", path.display()))
}

/// Adds a folder, `name` ending in a slash, and all below it. Sockets, pipes and devices stay behind.
fn add(tar: &mut Builder<Gzip>, folder: &Path, name: &[u8]) -> Result<()> {
    let facts = fs::metadata(folder).with_context(|| format!("looking at {}", folder.display()))?;
    append(tar, &facts, EntryType::Directory, name, None, io::empty()).context("writing")?;
    let mut entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .with_context(|| format!("reading {}", folder.display()))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let facts = entry.metadata().with_context(|| format!("looking at {}", path.display()))?;
        let mut name = [name, entry.file_name().as_bytes()].concat();
        let kind = facts.file_type();
        let added = if kind.is_dir() {
            name.push(b'/');
            add(tar, &path, &name)?;
            continue;
        } else if kind.is_symlink() {
            fs::read_link(&path).and_then(|target| {
                append(
                    tar,
                    &facts,
                    EntryType::Symlink,
                    &name,
                    Some(target.as_os_str().as_bytes()),
                    io::empty(),
                )
            })
        } else if kind.is_file() {
            File::open(&path)
                .and_then(|file| append(tar, &facts, EntryType::Regular, &name, None, file))
        } else {
            debug_assert!(
                kind.is_socket()
                    || kind.is_fifo()
                    || kind.is_char_device()
                    || kind.is_block_device()
            );
            continue;
        };
        added.with_context(|| format!("packing {}", path.display()))?;
    }
    Ok(())
}

fn append(
    tar: &mut Builder<Gzip>,
    facts: &fs::Metadata,
    kind: EntryType,
    name: &[u8],
    target: Option<&[u8]>,
    data: impl Read,
) -> io::Result<()> {
    let long = [("path", Some(name)), ("linkpath", target)];
    let long = long
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.filter(|value| value.len() > NAME_BYTES)?)));
    tar.append_pax_extensions(long)?;
    let size = if kind == EntryType::Regular { facts.len() } else { 0 };
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(facts.mode() & 0o7777);
    header.set_uid(facts.uid().into());
    header.set_gid(facts.gid().into());
    header.set_mtime(u64::try_from(facts.mtime()).unwrap_or(0));
    header.set_size(size);
    let plain = header.as_old_mut();
    copy_start(&mut plain.name, name);
    copy_start(&mut plain.linkname, target.unwrap_or_default());
    header.set_cksum();
    // A file that shrinks or grows meanwhile must not shift what follows.
    tar.append(&header, data.take(size).chain(io::repeat(0)).take(size))
}

fn copy_start(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn long_names_links_and_modes_come_through() {
        let folder = tempfile::tempdir().unwrap();
        let long = "d".repeat(90);
        let source = folder.path().join("in");
        fs::create_dir_all(source.join(&long).join(&long)).unwrap();
        fs::write(source.join(&long).join(&long).join("file"), "deep").unwrap();
        symlink(format!("/{}", "t".repeat(150)), source.join("link")).unwrap();
        let archive = folder.path().join("out.tgz");
        pack(&archive, |tar| add(tar, &source, b"./")).unwrap();

        let mut tar =
            tar::Archive::new(flate2::read::GzDecoder::new(File::open(&archive).unwrap()));
        let mut seen = vec![];
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let target = entry.link_name_bytes().map(|target| target.len()).unwrap_or_default();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            seen.push((name, target, text));
        }
        assert_eq!(seen[0].0, "./");
        assert_eq!(seen[3], (format!("./{long}/{long}/file"), 0, "deep".to_owned()));
        assert_eq!((seen[4].0.as_str(), seen[4].1), ("./link", 151));
        assert_eq!(seen.len(), 5);
    }
}
