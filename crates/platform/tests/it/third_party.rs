//! A third party's client: the PyPI package `cloudfoundry-client`.

use std::path::Path;
use std::process::Command;

use crate::harness::{Backend, Cupola};

#[test]
fn cloudfoundry_client_pushes_scales_and_deletes() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/venv/bin/python");
    if !python.exists() {
        eprintln!("SKIPPED: no cloudfoundry-client (scripts/setup test installs it)");
        return;
    }
    let cupola = Cupola::with_space(Backend::Process);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/client.py");
    let ran = cupola.run(
        Command::new(python)
            .arg(script)
            .args([&cupola.running("api"), "admin", &cupola.password()])
            .current_dir(cupola.path()),
    );
    assert!(ran.status.success(), "{}\n--- platform:\n{}", ran.text, cupola.log());
    assert!(ran.text.trim_end().ends_with("done"), "{}", ran.text);
}
