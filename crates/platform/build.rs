//! Builds the program that runs inside containers, statically, and packs it as cells download it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;

/// The names the one program is called by inside.
const NAMES: [&str; 4] = ["builder", "launcher", "healthcheck", "staticfile"];

fn main() {
    let manifest = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let workspace = manifest.join("../..").canonicalize().expect("the crate lies in the workspace");
    for path in ["crates/lifecycle/src", "crates/lifecycle/Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    let program = build(&workspace);
    let bundle =
        PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("lifecycle.tgz");
    pack(&program, &bundle).expect("packing the lifecycle program");
    println!("cargo::rustc-env=CUPOLA_LIFECYCLE_BUNDLE={}", bundle.display());
}

fn build(workspace: &Path) -> PathBuf {
    let target = std::env::var("TARGET").expect("cargo sets it");
    let folder = workspace.join("target/static");
    let status = Command::new(std::env::var_os("CARGO").expect("cargo sets it"))
        .current_dir(workspace)
        .args([
            "build",
            "--package",
            "lifecycle",
            "--bin",
            "lifecycle",
            "--profile",
            "static",
            "--target",
            &target,
        ])
        .arg("--target-dir")
        .arg(&folder)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // It must run in any root file system, so it brings its C library.
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .status()
        .expect("cargo can be started");
    assert!(status.success(), "building the lifecycle program ended with {status}");
    folder.join(target).join("static/lifecycle")
}

/// The same bytes for the same program, so that cells know it again.
fn pack(program: &Path, bundle: &Path) -> std::io::Result<()> {
    let mut archive =
        tar::Builder::new(GzEncoder::new(File::create(bundle)?, Compression::default()));
    let bytes = std::fs::read(program)?;
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, "lifecycle", bytes.as_slice())?;
    for name in NAMES {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        archive.append_link(&mut header, name, "lifecycle")?;
    }
    archive.into_inner()?.finish()?;
    Ok(())
}
