//! The chain of facts, in the order in which one follows from the other.

use base::Timestamp;
use diego::actual_lrp::State;

use super::{Fact, Mark, again_when};
use crate::explain::facts::{App, Facts, Instance, Process};
use crate::print::{count, span};

/// Instances told one by one; of more, those that do not run come first.
const TOLD: usize = 10;

/// In order; each says what it knows of the app, if anything.
const LINKS: [fn(&Facts, &App) -> Vec<Fact>; 8] =
    [app, quota, package, build, droplet, deployment, processes, routes];

pub fn chain(facts: &Facts) -> Vec<Fact> {
    let Some(own) = &facts.app else { return Vec::new() };
    LINKS.iter().flat_map(|link| link(facts, own)).collect()
}

fn fact(mark: Mark, of: impl Into<String>, text: impl Into<String>) -> Fact {
    Fact { mark, of: of.into(), text: text.into() }
}

fn ago(facts: &Facts, at: Timestamp) -> String {
    format!("{} ago", span(facts.now.since(at)))
}

fn app(facts: &Facts, app: &App) -> Vec<Fact> {
    let (mark, state) =
        if app.started { (Mark::Fine, "started") } else { (Mark::Wrong, "stopped") };
    let place = format!("{} in org {}, space {}: {state}", facts.name, app.org, app.space);
    let mut all = vec![fact(mark, "app", place)];
    if app.org_suspended {
        all.push(fact(Mark::Wrong, "org", format!("{} is suspended", app.org)));
    }
    all
}

fn quota(facts: &Facts, _: &App) -> Vec<Fact> {
    let short = facts.quotas.iter().filter(|quota| quota.is_short());
    short.map(|quota| fact(Mark::Wrong, "quota", super::shortage(quota))).collect()
}

fn package(facts: &Facts, _: &App) -> Vec<Fact> {
    let Some(package) = &facts.package else {
        return vec![fact(Mark::Wrong, "package", "nothing was pushed")];
    };
    let mark = match package.state.as_str() {
        "READY" | "COPYING" => Mark::Fine,
        "PROCESSING_UPLOAD" => Mark::Waits,
        _ => Mark::Wrong,
    };
    let error = package.error.as_ref().map_or(String::new(), |error| format!(": {error}"));
    vec![fact(mark, "package", format!("{}, {}{error}", package.state, ago(facts, package.at)))]
}

fn build(facts: &Facts, _: &App) -> Vec<Fact> {
    let Some(build) = &facts.build else { return Vec::new() };
    let mark = match build.state.as_str() {
        "STAGED" => Mark::Fine,
        "STAGING" => Mark::Waits,
        _ => Mark::Wrong,
    };
    let why = build.error.as_ref().or(build.waits_for.as_ref()).filter(|why| !why.is_empty());
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    vec![fact(mark, "build", format!("{}, {}{why}", build.state, ago(facts, build.at)))]
}

fn droplet(facts: &Facts, _: &App) -> Vec<Fact> {
    vec![match facts.droplet {
        Some(at) => fact(Mark::Fine, "droplet", format!("made {}", ago(facts, at))),
        None => fact(Mark::Wrong, "droplet", "none: there is nothing to run"),
    }]
}

fn deployment(facts: &Facts, _: &App) -> Vec<Fact> {
    let Some(deployment) = &facts.deployment else { return Vec::new() };
    let since = span(facts.now.since(deployment.since));
    let text = format!("{} ({}), for {since} now", deployment.status, deployment.strategy);
    vec![fact(Mark::Waits, "deployment", text)]
}

fn processes(facts: &Facts, app: &App) -> Vec<Fact> {
    let told = |process: &&Process| process.instances > 0 || process.kind == "web";
    facts.processes.iter().filter(told).flat_map(|one| process(facts, app, one)).collect()
}

fn process(facts: &Facts, app: &App, process: &Process) -> Vec<Fact> {
    let health = match &process.health {
        health if health.kind == "http" => {
            format!("checked by GET {}", health.endpoint.as_deref().unwrap_or("/"))
        }
        health if health.kind == "port" => "checked by its port".to_owned(),
        _ => "not checked but for its exit".to_owned(),
    };
    let mark = if process.instances > 0 { Mark::Fine } else { Mark::Wrong };
    let text = format!(
        "{} with {} MB desired, {health}; command: {}",
        count(process.instances, "instance"),
        process.memory_mb,
        process.command.as_deref().unwrap_or("none")
    );
    let mut all = vec![fact(mark, process.kind.clone(), text)];
    if !app.started || facts.droplet.is_none() || process.instances == 0 {
        return all;
    }
    all.push(match process.desired {
        Some(instances) if instances == process.instances => {
            fact(Mark::Fine, "bbs", format!("wants {}", count(instances, "instance")))
        }
        Some(instances) => {
            fact(Mark::Waits, "bbs", format!("still wants {}", count(instances, "instance")))
        }
        None => fact(Mark::Waits, "bbs", "was not told yet"),
    });
    let mut instances: Vec<&Instance> = process.actual.iter().collect();
    instances.sort_by_key(|one| (matches!(one.state, State::Running { .. }), one.index));
    let more = instances.len().saturating_sub(TOLD);
    instances.truncate(TOLD);
    instances.sort_by_key(|one| one.index);
    all.extend(instances.into_iter().map(|one| instance(facts, one)));
    if more > 0 {
        all.push(fact(Mark::Plain, "", format!("and {}", count(more, "more instance"))));
    }
    all
}

fn instance(facts: &Facts, instance: &Instance) -> Fact {
    let since = span(facts.now.since(instance.since));
    let (mark, text) = match &instance.state {
        State::Running { by, routable, .. } => {
            let ready = if *routable { "" } else { ", not ready for requests" };
            let mark = if *routable { Mark::Fine } else { Mark::Wrong };
            (mark, format!("runs on {} for {since}{ready}", by.cell_id))
        }
        State::Claimed { by } => {
            (Mark::Waits, format!("starts on {}, for {since} now", by.cell_id))
        }
        State::Unclaimed { placement_error } if placement_error.is_empty() => {
            (Mark::Waits, format!("waits for a cell, for {since} now"))
        }
        State::Unclaimed { placement_error } => {
            (Mark::Wrong, format!("no cell takes it, for {since} now: {placement_error}"))
        }
        State::Crashed => {
            let again = again_when(instance, facts.now);
            (Mark::Wrong, format!("crashed {since} ago: {}{again}", instance.crash_reason))
        }
    };
    let crashes = match instance.crash_count {
        0 => String::new(),
        _ if instance.state == State::Crashed => {
            format!(
                " ({} in a row)",
                count(instance.crash_count, "crash").replace("crashs", "crashes")
            )
        }
        many => format!("; crashed {many}x before: {}", instance.crash_reason),
    };
    fact(mark, format!("instance {}", instance.index), text + &crashes)
}

fn routes(facts: &Facts, app: &App) -> Vec<Fact> {
    let has_web =
        facts.processes.iter().any(|process| process.kind == "web" && process.instances > 0);
    if facts.routes.is_empty() {
        let mark = if has_web { Mark::Wrong } else { Mark::Plain };
        let mut all = vec![fact(mark, "routes", "none")];
        if let Some(taken) = &facts.taken_route {
            let by = if taken.by.is_empty() { "nobody".to_owned() } else { taken.by.join(", ") };
            let text = format!("{} leads to {by} in space {}", taken.url, taken.space);
            all.push(fact(Mark::Plain, "route", text));
        }
        return all;
    }
    let is_running = |one: &Instance| matches!(one.state, State::Running { .. });
    let runs = facts.processes.iter().flat_map(|one| &one.actual).any(is_running);
    let told = facts.routes.iter().map(|route| {
        let mark = match route.endpoints {
            0 if app.started && runs => Mark::Wrong,
            0 => Mark::Plain,
            _ => Mark::Fine,
        };
        let behind = count(route.endpoints, "instance");
        let text = format!(
            "{} -> {}, port {}: {behind} in the router's table",
            route.url, route.process, route.port
        );
        fact(mark, "route", text)
    });
    told.collect()
}
