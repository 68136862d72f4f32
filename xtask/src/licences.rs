//! Whether every dependency may be shipped under Apache-2.0.

use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

const ALLOWED: [&str; 13] = [
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unicode-3.0",
    "CC0-1.0",
    "MIT-0",
    "Unlicense",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
];

pub fn check() -> anyhow::Result<()> {
    let output =
        Command::new("cargo").args(["metadata", "--format-version", "1", "--locked"]).output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let refused: Vec<String> = packages.iter().filter_map(refusal).collect();
    if !refused.is_empty() {
        bail!("not allowed: {}", refused.join("; "));
    }
    Ok(())
}

fn refusal(package: &Value) -> Option<String> {
    let expression = package["license"].as_str().unwrap_or("none");
    let allowed = expression.replace('/', " OR ").split(" OR ").any(|choice| {
        choice.split(" AND ").all(|term| {
            let licence = term.trim_matches(['(', ')', ' ']);
            let licence = licence.strip_suffix(" WITH LLVM-exception").unwrap_or(licence);
            ALLOWED.contains(&licence)
        })
    });
    (!allowed).then(|| format!("{} ({expression})", package["name"].as_str().unwrap_or("?")))
}
