//! Cells on machines of their own, as network namespaces: they join, are drained, die, are cut off and come back.

use std::process::Command;

use serde_json::Value;

use crate::harness::Backend;
use crate::survival::traces::traces_of;

#[test]
fn no_instance_is_lost_with_its_cell_and_no_request_with_a_drained_one() {
    if !Backend::Linux.is_possible() {
        return;
    }
    // The program fails when an instance does not come back elsewhere, or a returned cell keeps what was replaced.
    let folder = tempfile::Builder::new().prefix("cupola-test-").tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cupola"))
        .args(["bench", "cell-loss", "--cells", "4", "--instances", "12", "--json"])
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(figures["cell_drain_requests"].as_u64().unwrap() > 0, "{figures}");
    assert_eq!(figures["cell_drain_lost"], 0, "{figures}");
    // Also of the killed cell nothing is left.
    assert_eq!(traces_of(folder.path(), None), Vec::<String>::new());
}

#[test]
fn a_cell_without_a_platform_is_told_where_to_get_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let join = |token: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_cupola"))
            .args(["cell", "join", "--backend", "process", "--data"])
            .arg(folder.path())
            .args(token)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for token in [&[][..], &["--token", "cupola-join-1-e30"], &["--token", "word"]] {
        let said = join(token);
        assert!(said.contains("cupola cell token"), "{token:?}: {said}");
    }
}
