//! The buildpacks that come with the platform, as the archives Cloud Controller stores.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Path below `buildpacks/`, and content.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// In the order in which they are asked to detect an app.
pub const NAMES: [&str; 10] = [
    "staticfile_buildpack",
    "java_buildpack",
    "ruby_buildpack",
    "nodejs_buildpack",
    "go_buildpack",
    "python_buildpack",
    "php_buildpack",
    "nginx_buildpack",
    "binary_buildpack",
    "procfile_buildpack",
];

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemBuildpack {
    pub name: &'static str,
    pub filename: String,
    pub zip: Vec<u8>,
}

/// All of them, in [`NAMES`]' order. The same version always gives the same bytes.
pub fn system_buildpacks() -> Vec<SystemBuildpack> {
    let pack = |name| SystemBuildpack {
        name,
        filename: format!("{name}-v{VERSION}.zip"),
        zip: pack(name),
    };
    NAMES.into_iter().map(pack).collect()
}

/// What all `shared`, a buildpack's own files, and its version.
fn pack(name: &str) -> Vec<u8> {
    let mut files = below("shared");
    files.extend(below(name));
    files.insert("VERSION".to_owned(), VERSION.as_bytes());
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, bytes) in files {
        let mode = if path.starts_with("bin/") { 0o755 } else { 0o644 };
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(zip::DateTime::default())
            .unix_permissions(mode);
        zip.start_file(path, options)
            .and_then(|()| Ok(zip.write_all(bytes)?))
            .expect("memory takes every write");
    }
    zip.finish().expect("memory takes every write").into_inner()
}

fn below(folder: &str) -> BTreeMap<String, &'static [u8]> {
    let inside = |path: &str| Some(path.strip_prefix(folder)?.strip_prefix('/')?.to_owned());
    FILES.iter().filter_map(|(path, bytes)| Some((inside(path)?, *bytes))).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn every_buildpack_can_detect_and_finish() {
        for buildpack in system_buildpacks() {
            let mut archive = zip::ZipArchive::new(Cursor::new(&buildpack.zip)).unwrap();
            for script in ["bin/detect", "bin/finalize", "bin/release"] {
                let file = archive
                    .by_name(script)
                    .unwrap_or_else(|_| panic!("{} {script}", buildpack.name));
                assert_eq!(file.unix_mode().unwrap() & 0o777, 0o755);
            }
            let mut version = String::new();
            archive.by_name("VERSION").unwrap().read_to_string(&mut version).unwrap();
            assert_eq!(version, VERSION);
            assert!(archive.by_name("lib/common.sh").is_ok());
        }
    }

    #[test]
    fn the_same_files_make_the_same_bytes() {
        assert_eq!(system_buildpacks(), system_buildpacks());
    }
}
