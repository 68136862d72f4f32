//! `cupola doctor`: can this machine run a platform, and what would make it better? Every finding comes with its remedy.

mod database;
mod host;
mod limits;
mod names;
mod network;
pub mod ports;
mod trial;

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::data_dir;
use crate::print::{self, count, row, table};
use crate::settings::{Backend, NO_ISOLATION, Settings, UpArgs};

#[derive(Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    up: UpArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub name: &'static str,
    pub level: Level,
    /// What was found.
    pub detail: String,
    /// What to do about it; empty when all is well.
    pub remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    /// It works, and could work better.
    Warn,
    /// `cupola up` cannot work.
    Fail,
    /// Missing, and not needed by the backend that is chosen.
    Unneeded,
}

impl Finding {
    fn ok(name: &'static str, detail: impl Into<String>) -> Finding {
        Finding { name, level: Level::Ok, detail: detail.into(), remedy: String::new() }
    }

    fn warn(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { name, level: Level::Warn, detail: detail.into(), remedy: remedy.into() }
    }

    fn fail(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { name, level: Level::Fail, detail: detail.into(), remedy: remedy.into() }
    }
}

/// `cupola up` could not work.
const UNFIT: u8 = 1;

pub fn main(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let settings = args.up.resolve()?;
    base::http::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let findings = runtime.block_on(examine(&settings));
    let verdict = verdict(&settings, &findings);
    let fit = findings.iter().all(|finding| finding.level != Level::Fail);
    if args.json {
        let all = json!({ "fit": fit, "verdict": verdict, "findings": findings });
        print::out(&format!("{all}\n"));
    } else {
        print::out(&format!("{}\n{verdict}\n", page(&findings)));
    }
    Ok(if fit { ExitCode::SUCCESS } else { UNFIT.into() })
}

async fn examine(settings: &Settings) -> Vec<Finding> {
    // A platform that runs here already holds its ports and its folder.
    let own = data_dir::running(&settings.data).map(|running| running.pid);
    let own = own.filter(|pid| data_dir::is_cupola(*pid));
    let mut findings = host::kernel(settings.backend);
    if settings.backend == Backend::Linux {
        findings.push(network::rules());
        findings.extend(network::forwarding_elsewhere());
        if findings.iter().all(|finding| finding.level != Level::Fail) {
            findings.extend(trial::trial(settings).await);
        }
    }
    findings.extend(ports::check(settings, own));
    findings.extend(host::machine(settings));
    findings.extend(limits::check());
    findings.extend(names::check(settings).await);
    findings.extend(database::check(settings).await);
    findings
}

fn page(findings: &[Finding]) -> String {
    let mut rows = Vec::new();
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
            Level::Unneeded => "-",
        };
        rows.push(row![level, finding.name, finding.detail]);
        if !finding.remedy.is_empty() {
            rows.push(row!["", "", format!("> {}", finding.remedy)]);
        }
    }
    table(&rows)
}

fn verdict(settings: &Settings, findings: &[Finding]) -> String {
    let of = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (fails, warnings) = (of(Level::Fail), of(Level::Warn));
    let backend = match settings.backend {
        Backend::Linux => "with isolated containers".to_owned(),
        Backend::Process => format!("with plain processes: {NO_ISOLATION}"),
    };
    let mut text = match (fails, warnings) {
        (0, 0) => format!("cupola up can run here, {backend}"),
        (0, _) => {
            format!(
                "cupola up can run here, {backend}\n{} could be better",
                count(warnings, "thing")
            )
        }
        _ => format!("cupola up cannot run here: {} to mend first", count(fails, "thing")),
    };
    if settings.backend == Backend::Process && !rustix::process::geteuid().is_root() {
        text += "\nas root, containers are isolated: sudo cupola doctor tells whether this machine can do that";
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn findings_line_up_and_remedies_stand_below() {
        let findings = [
            Finding::ok("kernel", "6.1"),
            Finding::warn("disk limits", "none", "install btrfs-progs"),
            Finding::fail("nft", "not in PATH", "install nftables"),
        ];
        expect![[r#"
            ok     kernel        6.1
            warn   disk limits   none
                                 > install btrfs-progs
            FAIL   nft           not in PATH
                                 > install nftables
        "#]]
        .assert_eq(&page(&findings));
    }
}
