//! From pushed files to a droplet: how far it came.

use super::{Verdict, wrong};
use crate::explain::facts::{Build, Facts};
use crate::print::span;

/// Until there is a droplet nothing can run.
pub fn not_staged(facts: &Facts) -> Option<Verdict> {
    if facts.droplet.is_some() {
        return None;
    }
    let name = &facts.name;
    if let Some(build) = &facts.build {
        return staging(facts, build);
    }
    match facts.package.as_ref().map(|package| package.state.as_str()) {
        None => wrong(
            format!("{name} was created, but nothing was pushed to it"),
            format!("push its files: cf push {name}"),
        ),
        Some("READY") if let Some(quota) = facts.quotas.iter().find(|quota| quota.is_short()) => {
            wrong(
                format!("{name} was pushed but not staged: {}", super::shortage(quota)),
                super::quota_remedy(quota, name),
            )
        }
        Some("READY") => wrong(
            format!("{name} was pushed but never staged"),
            format!("stage it: cf restage {name}"),
        ),
        Some("AWAITING_UPLOAD") => wrong(
            format!("the upload of {name}'s files did not come to its end"),
            format!("push again: cf push {name}"),
        ),
        Some("FAILED" | "EXPIRED") => {
            let error = facts.package.as_ref().and_then(|package| package.error.as_deref());
            wrong(
                format!(
                    "{name}'s files could not be taken in: {}",
                    error.unwrap_or("they are no longer kept")
                ),
                format!("push again: cf push {name}"),
            )
        }
        Some(_) => wrong(format!("{name}'s files are being taken in"), "ask again in a moment"),
    }
}

fn staging(facts: &Facts, build: &Build) -> Option<Verdict> {
    let name = &facts.name;
    match (build.state.as_str(), &build.waits_for) {
        ("FAILED", _) => {
            let error = build.error.as_deref().unwrap_or("no reason was given");
            wrong(format!("staging {name} failed: {error}"), remedy(error, name))
        }
        ("STAGING", Some(why)) if !why.is_empty() => wrong(
            format!("{name} waits to be staged, for no cell takes the task: {why}"),
            format!("make room (stop other apps), or ask for less: cf push {name} -m 256M"),
        ),
        ("STAGING", _) => {
            let since = span(facts.now.since(build.at));
            wrong(
                format!("{name} is being staged, for {since} now"),
                format!("wait for it; watch it: cf logs {name}"),
            )
        }
        _ => wrong(
            format!("{name} was staged, but the droplet was not chosen"),
            format!("choose it: cf droplets {name}, then cf set-droplet {name} GUID"),
        ),
    }
}

pub fn remedy(error: &str, name: &str) -> String {
    let log = format!("cf logs {name} --recent");
    if error.contains("NoAppDetected") {
        "push the folder that holds the app (cf push -p FOLDER), add the file its buildpack looks for (package.json, requirements.txt, …), \
         or name the buildpack: cf push -b NAME; cf buildpacks lists them"
            .to_owned()
    } else if error.contains("BuildpackCompileFailed") || error.contains("BuildpackReleaseFailed") {
        format!("the buildpack's own words are in the log: {log}")
    } else if error.contains("Insufficient") || error.contains("NoCompatibleCell") {
        "make room (stop other apps), or let the platform use more: cupola status tells what is left".to_owned()
    } else {
        format!("see the log ({log}), then stage again: cf restage {name}")
    }
}
