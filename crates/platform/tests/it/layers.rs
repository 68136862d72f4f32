//! The direction of dependencies: a crate may use any crate of a lower layer, never one of its own or above.

use std::path::{Path, PathBuf};

const LAYERS: [&[&str]; 7] = [
    &["base"],
    &["diego", "garden", "envelope", "sql"],
    &["auction", "image", "uaa", "shim"],
    &["executor"],
    &["cloud-controller", "bbs", "router", "loggregator", "rep", "guardian", "lifecycle", "cli"],
    &["simulation"],
    &["platform"],
];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// What `[dependencies]` of a crate names, with or without settings.
fn dependencies(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().unwrap();
    manifest
        .get("dependencies")
        .and_then(|value| value.as_table())
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

#[test]
fn dependencies_point_downwards() {
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(crates()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let manifest = std::fs::read_to_string(crates().join(&name).join("Cargo.toml")).unwrap();
        let Some(own) = layer(&name) else {
            wrong.push(format!("{name} has no layer"));
            continue;
        };
        let upward = dependencies(&manifest)
            .into_iter()
            .filter(|used| layer(used).is_some_and(|other| other >= own));
        wrong.extend(upward.map(|used| format!("{name} uses {used}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_layered_crate_exists() {
    let missing: Vec<_> = LAYERS
        .iter()
        .flat_map(|layer| layer.iter())
        .filter(|name| !crates().join(name).is_dir())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
