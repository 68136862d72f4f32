//! Which files count: all but those that `.cfignore` and old habits leave out.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use zip::ZipArchive;

/// Never uploaded, whatever `.cfignore` says.
const ALWAYS_IGNORED: &[&str] = &[
    ".cfignore",
    ".DS_Store",
    ".git",
    ".gitignore",
    ".hg",
    ".svn",
    "_darcs",
    "manifest.yaml",
    "manifest.yml",
];
/// Files out of an archive, which need not tell their mode.
const ARCHIVED_MODE: u32 = 0o744;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// With slashes, relative to the app.
    pub path: String,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Dir,
    File { mode: u32, size: u64 },
    Link,
}

pub type Archive = ZipArchive<BufReader<File>>;

pub fn open_archive(path: &Path) -> zip::result::ZipResult<Archive> {
    ZipArchive::new(BufReader::new(File::open(path)?))
}

/// Of an app's directory.
pub fn of_app(root: &Path) -> io::Result<Vec<Entry>> {
    let own = fs::read_to_string(root.join(".cfignore")).ok();
    let mut entries = Vec::new();
    walk(root, root, &rules(root, own.as_deref()), &mut entries)?;
    Ok(entries)
}

/// Whatever there is below a directory.
pub fn of_directory(root: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    walk(root, root, &Gitignore::empty(), &mut entries)?;
    Ok(entries)
}

/// Of a zip file.
pub fn of_archive(path: &Path) -> zip::result::ZipResult<Vec<Entry>> {
    let mut archive = open_archive(path)?;
    let own = archive.by_name(".cfignore").ok().and_then(|file| io::read_to_string(file).ok());
    let ignored = rules(Path::new("/"), own.as_deref());
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        let file = archive.by_index(index)?;
        let path = file.name().trim_end_matches('/').to_owned();
        if path.is_empty() || is_ignored(&ignored, Path::new("/"), &path, file.is_dir()) {
            continue;
        }
        let kind = if file.is_dir() {
            Kind::Dir
        } else if file.is_symlink() {
            Kind::Link
        } else {
            Kind::File {
                mode: file.unix_mode().map_or(ARCHIVED_MODE, |mode| mode & 0o777),
                size: file.size(),
            }
        };
        entries.push(Entry { path, kind });
    }
    Ok(entries)
}

fn walk(root: &Path, dir: &Path, ignored: &Gitignore, entries: &mut Vec<Entry>) -> io::Result<()> {
    for found in fs::read_dir(dir)? {
        let found = found?;
        let (full, kind) = (found.path(), found.file_type()?);
        let relative = full
            .strip_prefix(root)
            .expect("the walk stays below its root")
            .to_string_lossy()
            .into_owned();
        let skip = is_ignored(ignored, root, &relative, kind.is_dir());
        if kind.is_dir() {
            if !skip {
                entries.push(Entry { path: relative, kind: Kind::Dir });
            }
            // A rule with `!` may bring back what is inside an ignored directory.
            if !skip || ignored.num_whitelists() > 0 {
                walk(root, &full, ignored, entries)?;
            }
        } else if !skip && kind.is_symlink() {
            entries.push(Entry { path: relative, kind: Kind::Link });
        } else if !skip && kind.is_file() {
            let metadata = found.metadata()?;
            let kind =
                Kind::File { mode: metadata.permissions().mode() & 0o777, size: metadata.len() };
            entries.push(Entry { path: relative, kind });
        }
    }
    Ok(())
}

/// The rules that always hold, then those of `.cfignore`, which are written as in `.gitignore`.
fn rules(root: &Path, own: Option<&str>) -> Gitignore {
    let mut builder = GitignoreBuilder::new(root);
    for line in ALWAYS_IGNORED.iter().copied().chain(own.unwrap_or_default().lines()) {
        // A line that is no pattern ignores nothing.
        let _ = builder.add_line(None, line);
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

fn is_ignored(rules: &Gitignore, root: &Path, path: &str, is_dir: bool) -> bool {
    rules.matched_path_or_any_parents(root.join(path), is_dir).is_ignore()
}
