//! Layers: archives unpacked once, each in a folder named by its content and its place in the container.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use crate::VCAP;
use crate::archive::{Entry, Kind, Limits, entries};

/// The folder's name. The place is part of it, for the same archive may be wanted in two.
pub(crate) fn name(digest: &str, to: &str) -> String {
    let safe: String = digest.chars().filter(char::is_ascii_alphanumeric).collect();
    let place = Sha256::digest(to.as_bytes());
    format!("{safe}-{:02x}{:02x}{:02x}{:02x}", place[0], place[1], place[2], place[3])
}

/// Digests and folders of all layers, in the order they were made.
pub(crate) fn list(layers: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(layers)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some((digest, _)) = name.split_once('-') {
            all.push((std::fs::metadata(&path)?.ctime(), digest.to_owned(), path.clone()));
        }
    }
    all.sort();
    Ok(all.into_iter().map(|(_, digest, path)| (digest, path)).collect())
}

/// All or nothing: `place` appears whole or not at all.
pub(crate) fn unpack(
    archive: &Path,
    to: &str,
    place: &Path,
    workshop: &Path,
    limits: Limits,
) -> anyhow::Result<()> {
    let draft = tempfile::Builder::new().prefix("layer-").tempdir_in(workshop)?;
    std::fs::set_permissions(draft.path(), Permissions::from_mode(0o755))?;
    let root = prepare(draft.path(), to)?;
    let tree = Tree { root, owned: is_root() };
    entries(archive, limits, |entry, content| {
        tree.put(entry, content).with_context(|| format!("unpacking {}", entry.path.display()))
    })?;
    match std::fs::rename(draft.path(), place) {
        Ok(()) => {
            // Renamed away, so there is nothing left for it to remove.
            let _ = draft.keep();
            Ok(())
        }
        Err(_) if place.is_dir() => Ok(()),
        Err(error) => {
            Err(error).with_context(|| format!("moving the layer to {}", place.display()))
        }
    }
}

/// Makes the folders that lead to `to`, as they are in every stack: an upper layer's folder shows its own mode and owner.
fn prepare(draft: &Path, to: &str) -> anyhow::Result<PathBuf> {
    let mut path = draft.to_owned();
    let mut seen = PathBuf::from("/");
    for part in Path::new(to).components().skip(1) {
        let std::path::Component::Normal(part) = part else { bail!("{to} is no plain path") };
        seen.push(part);
        path.push(part);
        std::fs::create_dir(&path)?;
        let mode = if matches!(seen.to_str(), Some("/tmp" | "/var/tmp")) { 0o1777 } else { 0o755 };
        std::fs::set_permissions(&path, Permissions::from_mode(mode))?;
        let shared =
            matches!(seen.to_str(), Some("/tmp" | "/var" | "/var/tmp" | "/home" | "/etc" | "/opt"));
        if !shared && is_root() {
            chown(&path, Some(VCAP), Some(VCAP))?;
        }
    }
    Ok(path)
}

/// A tree under construction. Nothing is ever written through a link, so nothing can land outside.
struct Tree {
    root: PathBuf,
    /// Only root can give files away; elsewhere they belong to who unpacks.
    owned: bool,
}

impl Tree {
    fn put(&self, entry: &Entry, content: &mut dyn std::io::Read) -> anyhow::Result<()> {
        self.clear_of_links(&entry.path)?;
        let path = self.root.join(&entry.path);
        if let Some(parent) = entry.path.parent() {
            self.folders(parent)?;
        }
        match &entry.kind {
            Kind::Folder => {
                if is_link(&path) {
                    self.vacate(&path)?;
                }
                self.folders(&entry.path)?;
                // Who made it must still be able to fill it.
                std::fs::set_permissions(&path, Permissions::from_mode(entry.mode | 0o700))?;
                return Ok(());
            }
            Kind::File { .. } => {
                self.vacate(&path)?;
                let mut file = File::create_new(&path)?;
                std::io::copy(content, &mut file)?;
                file.set_permissions(Permissions::from_mode(entry.mode))?;
            }
            Kind::Symlink { target } => {
                self.vacate(&path)?;
                symlink(target, &path)?;
            }
            Kind::Hardlink { target } => {
                self.clear_of_links(target)?;
                self.vacate(&path)?;
                return Ok(std::fs::hard_link(self.root.join(target), &path)?);
            }
        }
        self.give(&path)
    }

    fn folders(&self, path: &Path) -> anyhow::Result<()> {
        let mut whole = self.root.clone();
        for part in path.components() {
            whole.push(part);
            match std::fs::create_dir(&whole) {
                Ok(()) => self.give(&whole)?,
                Err(error)
                    if error.kind() == std::io::ErrorKind::AlreadyExists && whole.is_dir() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn give(&self, path: &Path) -> anyhow::Result<()> {
        if self.owned {
            std::os::unix::fs::lchown(path, Some(VCAP), Some(VCAP))?;
        }
        Ok(())
    }

    /// Asks the disk: a link has as many names as an archive gives it.
    fn clear_of_links(&self, path: &Path) -> anyhow::Result<()> {
        match path.ancestors().skip(1).find(|folder| is_link(&self.root.join(folder))) {
            Some(link) => bail!("it lies behind the link {}", link.display()),
            None => Ok(()),
        }
    }

    /// A name that comes twice means the later one.
    fn vacate(&self, path: &Path) -> anyhow::Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_symlink())
}

pub(crate) fn evict(
    layers: &Path,
    workshop: &Path,
    most: u64,
    in_use: &BTreeSet<PathBuf>,
) -> anyhow::Result<usize> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(layers)? {
        let path = entry?.path();
        let made = std::fs::metadata(&path)?.ctime();
        all.push((made, size(&path)?, path));
    }
    all.sort();
    let (mut total, mut gone) = (all.iter().map(|(_, size, _)| size).sum::<u64>(), 0);
    for (_, size, path) in all {
        if total <= most || in_use.contains(&path) {
            continue;
        }
        // Out of sight first, so that nobody finds half a layer.
        let grave = tempfile::Builder::new().prefix("gone-").tempdir_in(workshop)?;
        std::fs::rename(&path, grave.path().join("layer"))?;
        total -= size;
        gone += 1;
    }
    Ok(gone)
}

fn size(path: &Path) -> std::io::Result<u64> {
    let meta = std::fs::symlink_metadata(path)?;
    let mut total = meta.blocks() * 512;
    if meta.is_dir() {
        for entry in std::fs::read_dir(path)? {
            total += size(&entry?.path())?;
        }
    }
    Ok(total)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    enum Item {
        File(&'static str, &'static str),
        Link(&'static str, &'static str),
        Hard(&'static str, &'static str),
        Folder(&'static str, u32),
    }

    struct Bench {
        folder: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Bench {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("tmp")).unwrap();
            Bench { folder }
        }

        fn unpack(&self, to: &str, items: &[Item]) -> anyhow::Result<PathBuf> {
            let mut builder = tar::Builder::new(Vec::new());
            for item in items {
                let mut header = tar::Header::new_gnu();
                header.set_mode(0o640);
                header.set_size(0);
                match item {
                    Item::File(name, text) => {
                        header.set_size(text.len() as u64);
                        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
                    }
                    Item::Link(name, target) => {
                        header.set_entry_type(tar::EntryType::Symlink);
                        builder.append_link(&mut header, name, target).unwrap();
                    }
                    Item::Hard(name, target) => {
                        header.set_entry_type(tar::EntryType::Link);
                        builder.append_link(&mut header, name, target).unwrap();
                    }
                    Item::Folder(name, mode) => {
                        header.set_entry_type(tar::EntryType::Directory);
                        header.set_mode(*mode);
                        builder.append_data(&mut header, name, std::io::empty()).unwrap();
                    }
                }
            }
            let mut archive = tempfile::NamedTempFile::new().unwrap();
            archive.write_all(&builder.into_inner().unwrap()).unwrap();
            let place = self.folder.path().join("place");
            unpack(archive.path(), to, &place, &self.folder.path().join("tmp"), Limits::default())
                .map(|()| place)
        }
    }

    #[test]
    fn an_archive_shows_at_its_place_with_its_modes() {
        let bench = Bench::new();
        let layer = bench
            .unpack(
                "/home/vcap",
                &[
                    Item::File("./app/run", "go"),
                    Item::Link("app/python", "/usr/bin/python3"),
                    Item::Hard("app/twin", "app/run"),
                ],
            )
            .unwrap();
        assert_eq!(std::fs::read_to_string(layer.join("home/vcap/app/twin")).unwrap(), "go");
        assert_eq!(
            std::fs::read_link(layer.join("home/vcap/app/python")).unwrap(),
            Path::new("/usr/bin/python3")
        );
        let mode = |path: &str| std::fs::metadata(layer.join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("home/vcap/app/run"), mode("home")), (0o640, 0o755));
        if is_root() {
            assert_eq!(std::fs::metadata(layer.join("home/vcap/app/run")).unwrap().uid(), VCAP);
            assert_eq!(std::fs::metadata(layer.join("home")).unwrap().uid(), 0);
        }
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let bench = Bench::new();
        let outside = bench.folder.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        let target: &'static str = outside.to_str().unwrap().to_owned().leak();
        let error = bench
            .unpack("/home/vcap", &[Item::Link("app", target), Item::File("app/evil", "x")])
            .unwrap_err();
        assert!(format!("{error:#}").contains("behind the link"), "{error:#}");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert_eq!(
            std::fs::read_dir(bench.folder.path().join("tmp")).unwrap().count(),
            0,
            "no draft is left"
        );
    }

    /// A folder beside the draft, and its path as archives name it.
    fn outside(bench: &Bench) -> (PathBuf, &'static str) {
        let outside = bench.folder.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::set_permissions(&outside, Permissions::from_mode(0o755)).unwrap();
        let target = outside.to_str().unwrap().to_owned().leak();
        (outside, target)
    }

    #[test]
    fn a_folder_takes_the_place_of_a_link_and_leaves_its_target_alone() {
        let bench = Bench::new();
        let (outside, target) = outside(&bench);
        let layer = bench
            .unpack("/home/vcap", &[Item::Link("app", target), Item::Folder("app", 0o777)])
            .unwrap();
        assert_eq!(std::fs::metadata(&outside).unwrap().mode() & 0o7777, 0o755);
        let app = std::fs::symlink_metadata(layer.join("home/vcap/app")).unwrap();
        assert_eq!((app.is_dir(), app.mode() & 0o7777), (true, 0o777));
    }

    #[test]
    fn another_name_of_a_link_is_a_link_too() {
        let bench = Bench::new();
        let (outside, target) = outside(&bench);
        let items = [Item::Link("a", target), Item::Hard("b", "a"), Item::File("b/evil", "x")];
        let error = bench.unpack("/home/vcap", &items).unwrap_err();
        assert!(format!("{error:#}").contains("behind the link"), "{error:#}");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn layers_in_use_are_never_evicted() {
        let bench = Bench::new();
        let layers = bench.folder.path().join("layers");
        for name in ["a", "b"] {
            std::fs::create_dir_all(layers.join(name)).unwrap();
            std::fs::write(layers.join(name).join("file"), vec![1; 9000]).unwrap();
        }
        let gone = evict(
            &layers,
            &bench.folder.path().join("tmp"),
            0,
            &BTreeSet::from([layers.join("a")]),
        )
        .unwrap();
        assert_eq!((gone, layers.join("a").exists(), layers.join("b").exists()), (1, true, false));
    }
}
