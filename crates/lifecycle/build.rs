//! Lists the files of `buildpacks/` so that the program can carry them.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
        .join("buildpacks");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    let mut text = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(&root).expect("found below it").display().to_string();
        writeln!(text, "    ({name:?}, include_bytes!({:?})),", file.display().to_string())
            .expect("memory is enough");
    }
    text.push_str("]\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("files.rs");
    fs::write(out, text).expect("the output folder is writable");
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the buildpacks are there") {
        let path = entry.expect("the buildpacks are readable").path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}
