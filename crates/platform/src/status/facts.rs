//! What was found out about a running platform, and which of it is a problem: a pure function.

use std::path::PathBuf;
use std::time::Duration;

use base::Timestamp;
use diego::CellState;
use serde::Serialize;

use crate::data_dir::Running;
use crate::operator::About;
use crate::print::{count, megabytes, short};
use crate::roles::Roles;

/// Crashing and unplaced processes that are named one by one.
pub const NAMED: usize = 5;
/// Below this much free disk the platform's own databases are in danger.
const DISK_FULL_MB: u64 = 64;
/// Below this much an operator should look.
const DISK_LOW_MB: u64 = 1_024;
/// An instance of the default size is 1 GB; below this much, small ones find no room either.
const MEMORY_LOW_MB: u64 = 256;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    pub data: PathBuf,
    pub now: Timestamp,
    pub running: Running,
    pub about: Option<About>,
    pub components: Vec<Component>,
    /// The machines that are more than a cell, as they know each other.
    pub servers: Vec<Server>,
    pub cells: Vec<Cell>,
    pub instances: Instances,
    pub tasks: Tasks,
    pub disk: Disk,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Component {
    pub name: &'static str,
    /// Why it does not answer.
    pub error: Option<String>,
    pub took: Duration,
}

#[derive(Clone, Debug, Serialize)]
pub struct Server {
    pub name: String,
    pub url: String,
    pub roles: Roles,
    /// Where it has one.
    pub brain: Option<Brain>,
}

/// How a brain sees itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Brain {
    /// The number counts the brains that led so far.
    Leads(i64),
    StandsBy,
    /// It does not answer, for this reason.
    Silent(String),
}

#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    pub id: String,
    /// Its address, or why it does not answer.
    pub state: Result<CellState, String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Instances {
    pub processes: usize,
    pub desired: u64,
    pub running: u64,
    pub starting: u64,
    pub crashed: u64,
    pub unplaced: u64,
    /// Of the crashed and the unplaced, the first few processes.
    pub troubled: Vec<Troubled>,
}

/// A process with instances that do not run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Troubled {
    /// `ORG/SPACE/APP`, or the process's guid where Diego was not told.
    pub name: String,
    pub app: Option<String>,
    pub instances: u64,
    pub why: String,
    pub crashed: bool,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Tasks {
    pub waiting: usize,
    pub running: usize,
    pub ending: usize,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Disk {
    pub free_mb: u64,
    pub total_mb: u64,
}

/// Something that somebody should do something about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub what: String,
    pub remedy: String,
}

/// The gravest first.
pub fn problems(facts: &Facts) -> Vec<Problem> {
    let mut all = components(facts);
    all.extend(brains(facts));
    all.extend(disk(facts));
    all.extend(cells(facts));
    all.extend(shut_ports(facts));
    all.extend(instances(&facts.instances));
    all
}

fn problem(what: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem { what: what.into(), remedy: remedy.into() }
}

fn components(facts: &Facts) -> Vec<Problem> {
    let down = facts.components.iter().filter_map(|one| Some((one.name, one.error.as_ref()?)));
    down.map(|(name, error)| {
        problem(
            format!("the {name} does not answer: {error}"),
            "look at what cupola up wrote on standard error; start it again with --log info to see more",
        )
    })
    .collect()
}

fn brains(facts: &Facts) -> Vec<Problem> {
    let silent = facts.servers.iter().filter_map(|server| match &server.brain {
        Some(Brain::Silent(why)) => Some((server, why)),
        _ => None,
    });
    silent
        .map(|(server, why)| {
            problem(
                format!("the brain on {} ({}) does not answer: {why}", server.name, server.url),
                "see whether its machine and program run; until then nobody stands by there. A server that is gone for \
                 good is forgotten after 30 s",
            )
        })
        .collect()
}

fn disk(facts: &Facts) -> Vec<Problem> {
    let (free, place) = (facts.disk.free_mb, facts.data.display());
    let mut all = Vec::new();
    if free < DISK_FULL_MB {
        all.push(problem(
            format!("the disk of {place} is full ({} left): changes are refused and log lines are kept in memory alone", megabytes(free)),
            "make room on it now: nothing is lost that was accepted, and all goes on by itself",
        ));
    } else if free < DISK_LOW_MB.min(facts.disk.total_mb / 10) {
        all.push(problem(
            format!("the disk of {place} has only {} left", megabytes(free)),
            "make room on it, or move the data directory to a larger disk (cupola backup, cupola restore)",
        ));
    }
    let lost = facts.about.as_ref().map_or(0, |about| about.lines_not_on_disk);
    if lost > 0 {
        all.push(problem(
            format!(
                "{} since the start could not be written to disk; a restart loses them",
                count(lost, "log line")
            ),
            "see that the disk has room and is fast enough for what the apps log",
        ));
    }
    all
}

fn cells(facts: &Facts) -> Vec<Problem> {
    let mut all = Vec::new();
    if facts.cells.is_empty() {
        all.push(problem(
            "there is no cell: nothing can run",
            "wait a moment after a start; else look at what cupola up wrote on standard error",
        ));
    }
    for cell in &facts.cells {
        match &cell.state {
            Err(error) => all.push(problem(
                format!("the cell {} does not answer: {error}", cell.id),
                "its instances are replaced elsewhere when it stays away; see whether its machine and program run",
            )),
            Ok(state) if state.presence.evacuating => all.push(problem(
                format!("the cell {} is being emptied and takes no new work", cell.id),
                "wait until it has stopped, then start it again",
            )),
            Ok(_) => {}
        }
    }
    let states = || facts.cells.iter().filter_map(|cell| cell.state.as_ref().ok());
    let most = states().map(|state| state.available.memory_mb).max();
    if let Some(most) = most.filter(|most| *most < MEMORY_LOW_MB) {
        all.push(problem(
            format!(
                "memory is all promised to apps: no cell has more than {} left",
                megabytes(most)
            ),
            "scale apps down (cf scale APP -m), or raise --memory-mb",
        ));
    }
    if states().count() > 0 && states().all(|state| state.available.containers == 0) {
        all.push(problem("no cell takes another container", "stop or scale down apps"));
    }
    all
}

fn shut_ports(facts: &Facts) -> Vec<Problem> {
    let shut = facts.about.iter().flat_map(|about| &about.shut_ports);
    shut.map(|one| {
        let (port, why) = (one.port, &one.why);
        problem(
            format!("the port {port} of a TCP route cannot be opened: {why}"),
            format!(
                "free it, and it is opened by itself; or give the route another port (cf routes tells whose it is), and leave {port} out of --tcp-ports"
            ),
        )
    })
    .collect()
}

fn instances(instances: &Instances) -> Vec<Problem> {
    let mut all: Vec<Problem> = instances.troubled.iter().map(troubled).collect();
    let named: u64 = instances.troubled.iter().map(|one| one.instances).sum();
    let more = (instances.crashed + instances.unplaced).saturating_sub(named);
    if more > 0 {
        all.push(problem(
            format!("{} not running", count(more, "more instance")),
            "cf apps, in each space, tells whose",
        ));
    }
    all
}

fn troubled(one: &Troubled) -> Problem {
    let verb = if one.instances == 1 { "has" } else { "have" };
    let what = if one.crashed { "crashed and waits to be restarted" } else { "found no cell" };
    let what = format!(
        "{}: {} {verb} {what}{}",
        one.name,
        count(one.instances, "instance"),
        if one.why.is_empty() { String::new() } else { format!(": {}", short(&one.why, 100)) }
    );
    let remedy = match &one.app {
        Some(app) => format!("cupola explain {app}"),
        None => "whoever desired it must make it smaller or mend it".to_owned(),
    };
    problem(what.replace(" have crashed and waits", " have crashed and wait"), remedy)
}

#[cfg(test)]
pub mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::tcp::ShutPort;

    pub fn well() -> Facts {
        let up = |name| Component { name, error: None, took: Duration::from_millis(2) };
        // As a cell answers; what it leaves out has defaults.
        let state = serde_json::json!({
            "cell_id": "cell-0",
            "rep_url": "http://127.0.0.1:1",
            "capacity": { "memory_mb": 8_192, "disk_mb": 20_480, "containers": 250 },
            "available": { "memory_mb": 7_168, "disk_mb": 19_456, "containers": 249 },
            "stacks": ["cflinuxfs4"],
            "lrps": [],
            "tasks": [],
            "starting": 0,
        });
        let state: CellState = serde_json::from_value(state).unwrap();
        Facts {
            data: "/data".into(),
            now: Timestamp::from_secs(11_520),
            running: Running {
                pid: 7,
                version: "1.2.3".into(),
                api: "http://127.0.0.1:8080".into(),
                ..Running::default()
            },
            about: Some(About {
                version: "1.2.3".into(),
                routes: 2,
                endpoints: 3,
                ..About::default()
            }),
            components: ["cloud controller", "uaa", "bbs"].map(up).into(),
            servers: Vec::new(),
            cells: vec![Cell { id: "cell-0".into(), state: Ok(state) }],
            instances: Instances { processes: 1, desired: 1, running: 1, ..Instances::default() },
            tasks: Tasks::default(),
            disk: Disk { free_mb: 20_000, total_mb: 40_000 },
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Facts), want: Expect) {
        let mut facts = well();
        change(&mut facts);
        let lines: Vec<String> = problems(&facts)
            .into_iter()
            .map(|problem| format!("{}\n  > {}\n", problem.what, problem.remedy))
            .collect();
        want.assert_eq(&lines.concat());
    }

    fn state(facts: &mut Facts) -> &mut CellState {
        facts.cells[0].state.as_mut().unwrap()
    }

    #[test]
    fn a_port_that_somebody_else_holds() {
        let held = ShutPort { port: 1030, why: "held by nginx (process 7)".into() };
        check(
            |facts| facts.about.as_mut().unwrap().shut_ports.push(held),
            expect![[r#"
                the port 1030 of a TCP route cannot be opened: held by nginx (process 7)
                  > free it, and it is opened by itself; or give the route another port (cf routes tells whose it is), and leave 1030 out of --tcp-ports
            "#]],
        );
    }

    #[test]
    fn all_is_well() {
        check(|_| {}, expect![""]);
    }

    #[test]
    fn components_and_cells_that_do_not_answer() {
        check(
            |facts| facts.components[1].error = Some("connection refused".into()),
            expect![[r#"
            the uaa does not answer: connection refused
              > look at what cupola up wrote on standard error; start it again with --log info to see more
        "#]],
        );
        check(
            |facts| facts.cells.clear(),
            expect![[r#"
            there is no cell: nothing can run
              > wait a moment after a start; else look at what cupola up wrote on standard error
        "#]],
        );
        check(
            |facts| facts.cells[0].state = Err("timed out".into()),
            expect![[r#"
            the cell cell-0 does not answer: timed out
              > its instances are replaced elsewhere when it stays away; see whether its machine and program run
        "#]],
        );
        check(
            |facts| state(facts).presence.evacuating = true,
            expect![[r#"
            the cell cell-0 is being emptied and takes no new work
              > wait until it has stopped, then start it again
        "#]],
        );
    }

    #[test]
    fn what_runs_out() {
        check(
            |facts| state(facts).available.memory_mb = 100,
            expect![[r#"
            memory is all promised to apps: no cell has more than 100 MB left
              > scale apps down (cf scale APP -m), or raise --memory-mb
        "#]],
        );
        check(
            |facts| state(facts).available.containers = 0,
            expect![[r#"
            no cell takes another container
              > stop or scale down apps
        "#]],
        );
        check(
            |facts| facts.disk.free_mb = 500,
            expect![[r#"
            the disk of /data has only 500 MB left
              > make room on it, or move the data directory to a larger disk (cupola backup, cupola restore)
        "#]],
        );
        check(
            |facts| {
                facts.disk.free_mb = 3;
                facts.about.as_mut().unwrap().lines_not_on_disk = 12;
            },
            expect![[r#"
                the disk of /data is full (3 MB left): changes are refused and log lines are kept in memory alone
                  > make room on it now: nothing is lost that was accepted, and all goes on by itself
                12 log lines since the start could not be written to disk; a restart loses them
                  > see that the disk has room and is fast enough for what the apps log
            "#]],
        );
        // A small disk is not low only because it is small.
        check(|facts| facts.disk = Disk { free_mb: 500, total_mb: 600 }, expect![""]);
    }

    #[test]
    fn instances_that_do_not_run_are_named() {
        check(
            |facts| {
                facts.instances.crashed = 9;
                facts.instances.unplaced = 1;
                let crashing = Troubled {
                    name: "acme/dev/shop".into(),
                    app: Some("shop".into()),
                    instances: 2,
                    why: "APP/PROC/WEB: Exited with status 1".into(),
                    crashed: true,
                };
                let big = Troubled {
                    name: "big-1".into(),
                    instances: 1,
                    why: "insufficient resources: memory".into(),
                    ..Troubled::default()
                };
                facts.instances.troubled = vec![crashing, big];
            },
            expect![[r#"
                acme/dev/shop: 2 instances have crashed and wait to be restarted: APP/PROC/WEB: Exited with status 1
                  > cupola explain shop
                big-1: 1 instance has found no cell: insufficient resources: memory
                  > whoever desired it must make it smaller or mend it
                7 more instances not running
                  > cf apps, in each space, tells whose
            "#]],
        );
    }
}
