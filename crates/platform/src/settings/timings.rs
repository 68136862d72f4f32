//! How long things may take: tables `[timings.bbs]`, `[timings.cloud_controller]`, `[timings.rep]` and `[timings.executor]`
//! of the file, in milliseconds.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use executor::KeepCrashed;
use serde::{Deserialize, Serialize};

use super::file;

/// What is left out has Diego's value, or a better one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timings {
    pub bbs: bbs::Timings,
    pub cloud_controller: cloud_controller::Timings,
    /// `None`: what suits where the cell stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rep: Option<rep::Timings>,
    pub executor: executor::Timings,
}

/// The cell's part.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CellTimings {
    pub rep: Option<rep::Timings>,
    pub executor: executor::Timings,
}

/// What a joined cell reads.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CellFile {
    pub timings: CellTimings,
    pub crashed: KeepCrashed,
}

impl From<Timings> for CellTimings {
    fn from(timings: Timings) -> CellTimings {
        CellTimings { rep: timings.rep, executor: timings.executor }
    }
}

impl CellFile {
    pub fn read(path: &Path) -> anyhow::Result<CellFile> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("reading the configuration {} (--config)", path.display()))?;
        toml::from_str(&text).map_err(|error| {
            let told = file::Place::of(&text, &error).tell(&error);
            anyhow!("the configuration {}, {told}", path.display())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::time::Duration;

    use super::*;
    use crate::settings::Kept;

    const BEGIN: &str = "<!-- timings: written by a test from the code: UPDATE_EXPECT=1 cargo test -p platform settings -->\n";
    const END: &str = "<!-- timings end -->\n";

    #[test]
    fn what_is_left_out_keeps_its_default() {
        let timings: Timings = toml::from_str("bbs.lease_ttl = 2000\nrep.announce = 100").unwrap();
        assert_eq!(timings.bbs.lease_ttl, Duration::from_secs(2));
        assert_eq!(timings.bbs.converge_every, bbs::Timings::default().converge_every);
        let rep = timings.rep.unwrap();
        assert_eq!(rep.announce, Duration::from_millis(100));
        assert_eq!(rep.presence_ttl, rep::Timings::default().presence_ttl);
    }

    #[test]
    fn a_cell_is_told_the_line_that_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cell.toml");
        std::fs::write(&path, "[timings.rep]\nanounce = 1\n").unwrap();
        let error = CellFile::read(&path).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("\"announce\""), "{error}");
    }

    #[test]
    fn the_timings_in_the_docs_are_true() {
        let all = Timings { rep: Some(rep::Timings::default()), ..Timings::default() };
        let mut text = "\n".to_owned();
        text.push_str("```toml\n");
        let toml::Value::Table(parts) = toml::Value::try_from(&all).unwrap() else { panic!() };
        for (part, values) in &parts {
            let _ = writeln!(text, "[timings.{part}]");
            for (name, value) in values.as_table().unwrap() {
                let _ = writeln!(text, "{name} = {value}");
            }
        }
        let tables = [
            ("crashed", toml::Value::try_from(KeepCrashed::default())),
            ("kept", toml::Value::try_from(Kept::default())),
        ];
        for (table, values) in tables {
            let _ = writeln!(text, "[{table}]");
            for (name, value) in values.unwrap().as_table().unwrap() {
                let _ = writeln!(text, "{name} = {value}");
            }
        }
        text.push_str("```\n\n");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operating.md");
        let page = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = page.split_once(BEGIN).expect("the page has the begin");
        let (now, after) = rest.split_once(END).expect("the page has the end");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, format!("{before}{BEGIN}{text}{END}{after}")).unwrap();
        } else {
            assert_eq!(now, text, "run UPDATE_EXPECT=1 cargo test -p platform settings");
        }
    }
}
