//! The facts as a chain, and the first link that does not hold: a pure function.

mod chain;
mod routing;
mod staging;

use std::time::Duration;

use base::Timestamp;
use diego::actual_lrp::State;
use diego::crash::{Restart, restart};
use serde::Serialize;

use super::crash;
use super::facts::{Facts, Instance, Process, Quota};
use crate::print::{count, span};

/// What `explain` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub chain: Vec<Fact>,
    /// One sentence.
    pub verdict: String,
    /// What to do; `None` when there is nothing to do.
    pub next: Option<String>,
    /// Whether it runs as it was asked to.
    pub well: bool,
}

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    pub mark: Mark,
    /// What it is about: `app`, `droplet`, `instance 0`, …
    pub of: String,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    Fine,
    /// Will pass by itself.
    Waits,
    Wrong,
    /// Neither good nor bad.
    Plain,
}

/// A verdict on its own.
struct Verdict {
    text: String,
    next: Option<String>,
    well: bool,
}

fn wrong(text: impl Into<String>, next: impl Into<String>) -> Option<Verdict> {
    Some(Verdict { text: text.into(), next: Some(next.into()), well: false })
}

/// In this order: the first that has something to say is the reason.
const REASONS: [fn(&Facts) -> Option<Verdict>; 9] = [
    unknown,
    suspended,
    staging::not_staged,
    stopped,
    nothing_desired,
    not_told,
    placement,
    crashing,
    routing::routing,
];

pub fn explain(facts: &Facts) -> Explanation {
    let verdict = REASONS.iter().find_map(|reason| reason(facts)).unwrap_or_else(|| well(facts));
    Explanation {
        chain: chain::chain(facts),
        verdict: verdict.text,
        next: verdict.next,
        well: verdict.well,
    }
}

fn unknown(facts: &Facts) -> Option<Verdict> {
    if facts.app.is_some() {
        return None;
    }
    let name = &facts.name;
    if facts.candidates.iter().any(|one| one.ends_with(&format!("/{name}"))) {
        return wrong(
            format!("there are several apps named {name}: {}", facts.candidates.join(", ")),
            format!("say which: cupola explain {name} --org ORG --space SPACE"),
        );
    }
    match facts.candidates.first() {
        Some(_) => wrong(
            format!(
                "there is no app named {name}; did you mean {}?",
                facts.candidates.join(" or ")
            ),
            format!("push it: cf push {name}"),
        ),
        None => wrong(
            format!("there is no app named {name}: it was never pushed"),
            format!("push it: cf push {name}"),
        ),
    }
}

fn suspended(facts: &Facts) -> Option<Verdict> {
    let app = facts.app.as_ref().filter(|app| app.org_suspended && !app.started)?;
    wrong(
        format!("{} is stopped and its org {} is suspended", facts.name, app.org),
        format!(
            "an administrator can end that: cf curl -X PATCH /v3/organizations/GUID -d '{{\"suspended\":false}}' for the org {}",
            app.org
        ),
    )
}

fn stopped(facts: &Facts) -> Option<Verdict> {
    if facts.app.as_ref()?.started {
        return None;
    }
    let name = &facts.name;
    if let Some(quota) = facts.quotas.iter().find(|quota| quota.is_short()) {
        return wrong(
            format!("{name} is stopped and cannot be started: {}", shortage(quota)),
            quota_remedy(quota, name),
        );
    }
    if let (Some(droplet), Some(build)) = (facts.droplet, &facts.build)
        && build.state == "FAILED"
        && build.at > droplet
    {
        let error = build.error.as_deref().unwrap_or("no reason was given");
        return wrong(
            format!("{name} is stopped, and its last push did not get through staging: {error}"),
            staging::remedy(error, name),
        );
    }
    wrong(format!("{name} is stopped"), format!("start it: cf start {name}"))
}

fn shortage(quota: &Quota) -> String {
    format!(
        "the quota {} of the {} allows {} {}, {} are used and it needs {}",
        quota.name, quota.of, quota.limit, quota.what, quota.used, quota.needed
    )
}

fn quota_remedy(quota: &Quota, name: &str) -> String {
    let (kind, flag) = (
        if quota.of.starts_with("org ") { "org" } else { "space" },
        if quota.what.contains("memory") { "-m MEMORY" } else { "-a INSTANCES" },
    );
    format!(
        "make it smaller (cf scale {name}), stop others, or raise the quota: cf update-{kind}-quota {} {flag}",
        quota.name
    )
}

fn wanted(facts: &Facts) -> impl Iterator<Item = &Process> {
    facts.processes.iter().filter(|process| process.instances > 0)
}

fn nothing_desired(facts: &Facts) -> Option<Verdict> {
    let name = &facts.name;
    if wanted(facts).next().is_some() {
        return None;
    }
    wrong(
        format!("{name} is started, but no instance of it is asked for"),
        format!("ask for one: cf scale {name} -i 1"),
    )
}

fn not_told(facts: &Facts) -> Option<Verdict> {
    let process = wanted(facts).find(|process| process.desired != Some(process.instances))?;
    let told = match process.desired {
        None => "nothing of it".to_owned(),
        Some(instances) => format!("of {}", count(instances, "instance")),
    };
    wrong(
        format!(
            "{} of {} are asked for, and the BBS knows {told} yet",
            count(process.instances, &format!("{} instance", process.kind)),
            facts.name
        ),
        "this takes a moment; if it stays so for a minute, see cupola status",
    )
}

/// Those that no cell has, and those on their way, where nothing of the process runs.
fn placement(facts: &Facts) -> Option<Verdict> {
    let name = &facts.name;
    for process in wanted(facts) {
        for instance in &process.actual {
            let State::Unclaimed { placement_error } = &instance.state else { continue };
            if placement_error.is_empty() {
                continue;
            }
            let who = partly(facts, process, instance);
            if facts.cells == 0 {
                return wrong(
                    format!("{who} waits, for there is no cell to run it"),
                    "see cupola status",
                );
            }
            return wrong(
                format!("{who} waits, for no cell can take it: {placement_error}"),
                placement_remedy(placement_error, process, name),
            );
        }
    }
    None
}

fn placement_remedy(error: &str, process: &Process, name: &str) -> String {
    if error.contains("memory") {
        format!(
            "ask for less than {} MB (cf scale {name} -m MEMORY), stop other apps, or let the platform use more (--memory-mb); cupola status tells what is left",
            process.memory_mb
        )
    } else if error.contains("disk") {
        format!(
            "ask for less disk (cf scale {name} -k DISK), stop other apps, or let the platform use more (--disk-mb)"
        )
    } else if error.contains("rootfs") || error.contains("preloaded:") {
        format!("push it for a stack that a cell has (cf stacks): cf push {name} -s STACK")
    } else if error.contains("placement tag") {
        "see which isolation segment its space has (cf space), and whether a cell belongs to it"
            .to_owned()
    } else {
        "see cupola status".to_owned()
    }
}

fn crashing(facts: &Facts) -> Option<Verdict> {
    let name = &facts.name;
    for process in wanted(facts) {
        let crashed = process.actual.iter().find(|one| one.state == State::Crashed);
        let again = || process.actual.iter().find(|one| one.crash_count > 0 && is_starting(one));
        if let Some(instance) = crashed.or_else(again) {
            let (meaning, next) = crash::meaning(&instance.crash_reason, process, name);
            let who = partly(facts, process, instance);
            let times = match instance.crash_count {
                1 => "once".to_owned(),
                many => format!("{many} times in a row"),
            };
            return wrong(
                format!("{who} crashed {times}: {meaning}{}", again_when(instance, facts.now)),
                next,
            );
        }
        if let Some(instance) = process.actual.iter().find(|one| is_starting(one)) {
            let who = partly(facts, process, instance);
            return wrong(
                format!("{who} is starting, for {} now", span(facts.now.since(instance.since))),
                format!("wait for it; watch it: cf logs {name}"),
            );
        }
        let missing = u64::from(process.instances).saturating_sub(process.actual.len() as u64);
        if missing > 0 {
            return wrong(
                format!("{} of {name} waits to be placed", count(missing, "instance")),
                "ask again in a moment",
            );
        }
    }
    None
}

fn is_starting(instance: &Instance) -> bool {
    matches!(instance.state, State::Claimed { .. } | State::Unclaimed { .. })
}

/// `web instance 1 of shop`, and how many of its siblings run.
fn partly(facts: &Facts, process: &Process, instance: &Instance) -> String {
    let running = running(process);
    let rest = if running > 0 {
        format!(" ({running} of {} run)", process.instances)
    } else {
        String::new()
    };
    format!("{} instance {} of {}{rest}", process.kind, instance.index, facts.name)
}

fn running(process: &Process) -> usize {
    process.actual.iter().filter(|one| matches!(one.state, State::Running { .. })).count()
}

/// When a crashed instance starts again.
pub fn again_when(instance: &Instance, now: Timestamp) -> String {
    if instance.state != State::Crashed {
        return String::new();
    }
    match restart(instance.crash_count) {
        Restart::AtOnce => "; it is restarted at once".to_owned(),
        Restart::Never => "; it is not restarted any more".to_owned(),
        Restart::After(wait) => match wait.saturating_sub(now.since(instance.since)) {
            Duration::ZERO => "; it is about to be restarted".to_owned(),
            left => format!("; it is restarted in {}", span(left)),
        },
    }
}

fn well(facts: &Facts) -> Verdict {
    let name = &facts.name;
    let running: usize = wanted(facts).map(running).sum();
    let at: Vec<&str> = facts.routes.iter().map(|route| route.url.as_str()).collect();
    let answers = if at.is_empty() {
        ", without a route".to_owned()
    } else {
        format!(", at {}", at.join(", "))
    };
    let crashed = wanted(facts)
        .flat_map(|process| &process.actual)
        .filter(|one| one.crash_count > 0)
        .max_by_key(|one| one.crash_count);
    let failed = facts
        .build
        .as_ref()
        .filter(|build| build.state == "FAILED" && Some(build.at) > facts.droplet);
    if let Some(build) = failed {
        let error = build.error.as_deref().unwrap_or("no reason was given");
        return Verdict {
            text: format!(
                "{name} runs as before its last push: {}{answers}; that push did not get through staging: {error}",
                count(running, "instance")
            ),
            next: Some(staging::remedy(error, name)),
            well: true,
        };
    }
    let (after, next) = match crashed {
        Some(one) => (
            format!("; instance {} crashed before ({})", one.index, one.crash_reason),
            Some(format!("if it keeps crashing, its log says why: cf logs {name} --recent")),
        ),
        None => (String::new(), None),
    };
    Verdict {
        text: format!("{name} runs: {}{answers}{after}", count(running, "instance")),
        next,
        well: true,
    }
}

#[cfg(test)]
mod tests;
