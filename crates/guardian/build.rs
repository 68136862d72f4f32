//! Builds the shim as a static program, for the library to embed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = here.join("../..");
    let sources = here.join("../shim");
    for watched in [sources.join("src"), sources.join("Cargo.toml"), here.join("build.rs")] {
        println!("cargo::rerun-if-changed={}", watched.display());
    }
    let target = env::var("TARGET").expect("cargo sets it");
    let folder = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), PathBuf::from)
        .join("static");
    build(&root, &target, &folder);
    let built = folder.join(&target).join("static/shim");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("shim");
    fs::copy(&built, &out).unwrap_or_else(|error| panic!("copying {}: {error}", built.display()));
}

/// Only with an explicit target do the flags keep away from build scripts and macros.
fn build(root: &Path, target: &str, folder: &Path) {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo.args([
        "build",
        "--quiet",
        "--profile",
        "static",
        "--package",
        "shim",
        "--bin",
        "shim",
        "--target",
        target,
    ]);
    cargo.current_dir(root);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_")
            && !matches!(name.as_str(), "CARGO_HOME")
            && !name.starts_with("CARGO_NET")
        {
            cargo.env_remove(name);
        }
    }
    cargo.env_remove("RUSTC_WORKSPACE_WRAPPER").env_remove("RUSTC_WRAPPER");
    cargo.env("CARGO_TARGET_DIR", folder);
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static");
    let status = cargo.status().expect("cargo can be run");
    assert!(status.success(), "building the shim ended with {status}");
}
