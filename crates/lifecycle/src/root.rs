//! Where the container's root folder lies: `/`, except under a backend that runs plain processes.

use std::path::{Path, PathBuf};

/// The variable by which such a backend names the folder that stands for the container's root.
pub const VARIABLE: &str = "CUPOLA_ROOT";

/// Turns a path as the container means it into one that this process can open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Root(Option<PathBuf>);

impl Root {
    pub fn from_env() -> Root {
        Root(std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from))
    }

    pub fn at(folder: impl Into<PathBuf>) -> Root {
        Root(Some(folder.into()))
    }

    /// Absolute paths that are not already below the root folder are taken as seen from inside; relative ones stay.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        match &self.0 {
            Some(root) if inside.is_absolute() && !inside.starts_with(root) => {
                root.join(inside.strip_prefix("/").unwrap_or(inside))
            }
            _ => inside.to_path_buf(),
        }
    }

    /// Whether the container shares the host's network and files.
    pub fn is_plain_process(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_moved_below_the_root_once() {
        let root = Root::at("/run/c1");
        assert_eq!(root.path("/tmp/app"), Path::new("/run/c1/tmp/app"));
        assert_eq!(root.path("/run/c1/tmp/app"), Path::new("/run/c1/tmp/app"));
        assert_eq!(root.path("app"), Path::new("app"));
        assert_eq!(Root::default().path("/tmp/app"), Path::new("/tmp/app"));
    }
}
