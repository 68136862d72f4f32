//! Paths of a container that has no root of its own: what begins with one of its folders is found below its real folder.

use std::path::{Path, PathBuf};

/// The folders containers have to themselves, and where they really are.
#[derive(Clone, Debug)]
pub struct Paths {
    root: String,
    /// Paths below this are real already.
    real: String,
    folders: Vec<String>,
}

/// Every container has these.
const ALWAYS: [&str; 2] = ["/home/vcap", "/tmp"];

impl Paths {
    /// `state` holds all containers' real folders, `root` is the one of this container.
    pub fn new(state: &Path, root: &Path, more: impl IntoIterator<Item = PathBuf>) -> Paths {
        let more = more.into_iter().filter_map(|path| path.to_str().map(str::to_owned));
        let mut folders: Vec<String> = ALWAYS.into_iter().map(str::to_owned).chain(more).collect();
        folders.retain(|folder| folder.starts_with('/') && folder.len() > 1);
        folders.sort_unstable();
        folders.dedup();
        Paths {
            root: root.to_string_lossy().into_owned(),
            real: state.to_string_lossy().into_owned(),
            folders,
        }
    }

    /// Replaces each such path in `text`, which may be a script or a list.
    pub fn rewrite(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let mut before = None;
        while let Some(letter) = rest.chars().next() {
            if letter == '/' && !before.is_some_and(in_path) {
                let path = &rest[..rest.find(|letter| !in_path(letter)).unwrap_or(rest.len())];
                if self.is_own(path) {
                    out += &self.root;
                }
                out += path;
                before = path.chars().next_back();
                rest = &rest[path.len()..];
            } else {
                out.push(letter);
                before = Some(letter);
                rest = &rest[letter.len_utf8()..];
            }
        }
        out
    }

    fn is_own(&self, path: &str) -> bool {
        let below = |folder: &str| {
            path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !below(&self.real) && self.folders.iter().any(|folder| below(folder))
    }
}

fn in_path(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '/' | '.' | '_' | '-' | '~' | '+' | '@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let paths = Paths::new(Path::new("/tmp/state"), Path::new("/R"), [PathBuf::from("/data")]);
        assert_eq!(paths.rewrite(text), want);
    }

    #[test]
    fn own_folders_move_and_others_stay() {
        check("/home/vcap/app", "/R/home/vcap/app");
        check("/home/vcapital", "/home/vcapital");
        check("/usr/bin/env", "/usr/bin/env");
        check("/data", "/R/data");
        check("cd /home/vcap && cat /tmp/x;ls", "cd /R/home/vcap && cat /R/tmp/x;ls");
        check("PATH=/tmp/bin:/usr/bin:/home/vcap/bin", "PATH=/R/tmp/bin:/usr/bin:/R/home/vcap/bin");
        check("http://host/tmp/x", "http://host/tmp/x");
        check("relative/tmp/x", "relative/tmp/x");
        check("'/home/vcap'", "'/R/home/vcap'");
    }

    #[test]
    fn what_is_real_stays_real() {
        check("/tmp/state/c/1/root/home/vcap", "/tmp/state/c/1/root/home/vcap");
        let paths = Paths::new(Path::new("/s"), Path::new("/s/c/1/root"), []);
        assert_eq!(paths.rewrite(&paths.rewrite("/home/vcap")), "/s/c/1/root/home/vcap");
    }
}
