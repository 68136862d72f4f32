//! Which program wrote a data directory: a format number, so that an older program keeps its hands off a newer directory.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tracing::warn;

/// What this program writes. It grows by one when a program from before the change could not work with the directory.
pub const FORMAT: u32 = 1;
/// Where it is written.
pub const FILE: &str = "version";
/// How a directory of format N becomes one of N + 1. Directories from before there was a number count as 0.
const STEPS: [fn(&Path) -> anyhow::Result<()>; FORMAT as usize] = [|_| Ok(())];

/// The file's content, as TOML.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub format: u32,
    /// The version of the program that wrote it last.
    pub program: String,
}

impl Mark {
    /// What this program writes.
    pub fn own() -> Mark {
        Mark { format: FORMAT, program: env!("CARGO_PKG_VERSION").to_owned() }
    }

    /// # Errors
    /// When a newer program wrote it. `what` is the thing that carries the mark.
    pub fn must_be_known(&self, what: &str) -> anyhow::Result<()> {
        if self.format > FORMAT {
            bail!(
                "{what} was written by a newer cupola ({}, format {}); this one is {} and knows formats up to {FORMAT}: \
                 use cupola {} or newer. Nothing was changed",
                self.program,
                self.format,
                env!("CARGO_PKG_VERSION"),
                self.program,
            );
        }
        Ok(())
    }
}

/// Reads and changes nothing; `None` where no program left a mark.
pub fn read(path: &Path) -> anyhow::Result<Option<Mark>> {
    let file = path.join(FILE);
    match std::fs::read_to_string(&file) {
        Ok(text) => toml::from_str(&text).map(Some).with_context(|| {
            format!("{} does not say which format the data directory has", file.display())
        }),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(super::unusable(path, "reading", &error)),
    }
}

/// # Errors
/// When `path` is a data directory of a newer program; it was not touched.
pub fn check(path: &Path) -> anyhow::Result<Option<Mark>> {
    let mark = read(path)?;
    if let Some(mark) = &mark {
        mark.must_be_known(&format!("the data directory {}", path.display()))?;
    }
    Ok(mark)
}

/// Brings a locked directory to [`FORMAT`], step by step, and says so when it was older; a new one is only marked.
pub fn bring_forward(path: &Path, is_new: bool) -> anyhow::Result<()> {
    let found = check(path)?;
    let from = found.as_ref().map_or(if is_new { FORMAT } else { 0 }, |mark| mark.format);
    for (step, format) in STEPS.iter().zip(0..).skip(from as usize) {
        step(path).with_context(|| {
            format!("bringing {} from format {format} to {}", path.display(), format + 1)
        })?;
        // After each step, so that one that was cut off begins where it was.
        write(path, &Mark { format: format + 1, ..Mark::own() })?;
        warn!(
            "the data directory {} was brought from format {format} to {}",
            path.display(),
            format + 1
        );
    }
    if found.as_ref() != Some(&Mark::own()) {
        write(path, &Mark::own())?;
    }
    Ok(())
}

fn write(path: &Path, mark: &Mark) -> anyhow::Result<()> {
    let text = toml::to_string(mark).context("writing the format")?;
    super::write_private(&path.join(FILE), text.trim_end())
        .with_context(|| format!("writing {}", path.join(FILE).display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_directory_is_marked_and_an_old_one_brought_forward() {
        for is_new in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            bring_forward(folder.path(), is_new).unwrap();
            assert_eq!(read(folder.path()).unwrap(), Some(Mark::own()));
        }
    }

    #[test]
    fn a_newer_directory_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let text = "format = 99\nprogram = \"9.9.0\"\n";
        std::fs::write(folder.path().join(FILE), text).unwrap();
        let error = bring_forward(folder.path(), false).unwrap_err().to_string();
        assert!(
            error.contains("newer cupola (9.9.0, format 99)")
                && error.contains("Nothing was changed"),
            "{error}"
        );
        assert_eq!(std::fs::read_to_string(folder.path().join(FILE)).unwrap(), text);
    }

    #[test]
    fn a_broken_mark_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "what").unwrap();
        assert!(format!("{:#}", check(folder.path()).unwrap_err()).contains("version"));
    }
}
