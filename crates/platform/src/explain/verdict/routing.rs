//! Whether anybody gets to what runs.

use diego::actual_lrp::State;

use super::{Verdict, wanted, wrong};
use crate::explain::facts::Facts;

/// It runs. Does anybody get there?
pub fn routing(facts: &Facts) -> Option<Verdict> {
    let name = &facts.name;
    for process in wanted(facts) {
        let unready = process
            .actual
            .iter()
            .find(|one| matches!(one.state, State::Running { routable: false, .. }));
        if let Some(instance) = unready {
            return wrong(
                format!(
                    "{} instance {} of {name} runs but does not pass its readiness check ({}), so it gets no requests",
                    process.kind, instance.index, process.health.readiness
                ),
                format!("see what the check says: cf logs {name} --recent"),
            );
        }
    }
    let web = wanted(facts).find(|process| process.kind == "web")?;
    if facts.routes.is_empty() {
        // A worker that is checked as a process needs none.
        if web.health.kind == "process" && facts.taken_route.is_none() {
            return None;
        }
        return wrong(no_route(facts), route_remedy(facts));
    }
    let dead = facts.routes.iter().find(|route| route.endpoints == 0)?;
    if !wanted(facts).any(|process| process.kind == dead.process) {
        return wrong(
            format!(
                "{name} runs, but its route {} leads to the process {}, which has no instances",
                dead.url, dead.process
            ),
            format!("cf scale {name} --process {} -i 1", dead.process),
        );
    }
    wrong(
        format!(
            "{name} runs, but the router knows no instance behind {} (port {})",
            dead.url, dead.port
        ),
        format!(
            "a new route takes a moment, one to another port needs a restart: cf restart {name}; if it stays so, see cupola status"
        ),
    )
}

fn no_route(facts: &Facts) -> String {
    let name = &facts.name;
    match &facts.taken_route {
        Some(taken) if taken.is_at_home(facts) => {
            format!(
                "{name} runs, but no route leads to it; {} is there and leads nowhere",
                taken.url
            )
        }
        Some(taken) if taken.by.is_empty() => {
            format!(
                "{name} runs, but no route leads to it; {} is reserved in the space {}",
                taken.url, taken.space
            )
        }
        Some(taken) => format!(
            "{name} runs, but no route leads to it: {} leads to {} in the space {}",
            taken.url,
            taken.by.join(", "),
            taken.space
        ),
        None => format!("{name} runs, but no route leads to it"),
    }
}

fn route_remedy(facts: &Facts) -> String {
    let name = &facts.name;
    match &facts.taken_route {
        Some(taken) if taken.is_at_home(facts) => {
            let (host, domain) = taken.url.split_once('.').unwrap_or((name, "DOMAIN"));
            format!("map it: cf map-route {name} {domain} --hostname {host}")
        }
        Some(_) => format!("map another one: cf map-route {name} DOMAIN --hostname ANOTHER-NAME"),
        None => format!(
            "map one: cf map-route {name} DOMAIN --hostname {name}; cf domains lists the domains"
        ),
    }
}
