//! Pure: what went wrong at Diego, in the words that users of Cloud Foundry know, and what to do about it.

use std::time::Duration;

use crate::db::processes::Process;

/// Why a build failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Cloud Foundry's name of the error.
    pub id: &'static str,
    pub description: String,
    /// What whoever pushed can do.
    pub next: String,
}

impl Failure {
    pub fn new(
        id: &'static str,
        description: impl Into<String>,
        next: impl Into<String>,
    ) -> Failure {
        Failure { id, description: description.into(), next: next.into() }
    }

    /// One that has no name of its own at Cloud Foundry.
    pub fn other(description: &str, next: &str) -> Failure {
        Failure::new("StagingError", format!("Staging error: {description}"), next)
    }
}

/// What builds are given.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    pub memory_mb: i64,
    pub disk_mb: i64,
    pub timeout: Duration,
    pub stack: &'a str,
}

const OUTPUT: &str =
    "The buildpack's output above says what went wrong: correct it and push again.";

/// What a staging task's failure means. The builder tells its phase by its exit status.
pub fn staging(reason: &str, given: Given<'_>) -> Failure {
    let Given { memory_mb, disk_mb, timeout, stack } = given;
    if reason.starts_with("exceeded ") && reason.contains(" timeout") {
        let limit = minutes(timeout);
        return Failure::new(
            "StagingTimeExpired",
            format!("Staging time expired: it took longer than {limit}"),
            format!(
                "Make the build quicker, or ask an operator to let builds take longer than {limit}."
            ),
        );
    }
    if reason.contains("insufficient resources") {
        return Failure::new(
            "InsufficientResources",
            "Insufficient resources",
            format!(
                "No cell has {memory_mb} MB of memory and {disk_mb} MB of disk free to stage with ({reason}): stop other apps, or ask an operator for more cells."
            ),
        );
    }
    if reason.contains("found no compatible cell") {
        return Failure::new(
            "NoCompatibleCell",
            "Found no compatible cell",
            format!(
                "No cell offers the stack {stack} where this space's apps may run ({reason}): choose another with `cf push -s STACK`, or ask an operator."
            ),
        );
    }
    if reason.contains("(out of memory)") {
        return Failure::other(
            "staging failed: out of memory",
            &format!(
                "The build needs more than {memory_mb} MB: ask an operator to give builds more memory."
            ),
        );
    }
    if is_full(reason) {
        return Failure::other("staging failed: the cell's disk is full", FULL);
    }
    match status(reason) {
        Some(222) => Failure::new(
            "NoAppDetectedError",
            "An app was not successfully detected by any available buildpack",
            "Push the folder that holds the app's own files (`cf push -p FOLDER`), or name a buildpack (`cf push -b NAME`): `cf buildpacks` lists them.",
        ),
        Some(223 | 225 | 226) => Failure::new(
            "BuildpackCompileFailed",
            "App staging failed in the buildpack compile phase",
            OUTPUT,
        ),
        Some(224) => Failure::new(
            "BuildpackReleaseFailed",
            "App staging failed in the buildpack release phase",
            OUTPUT,
        ),
        Some(_) => Failure::other("staging failed", OUTPUT),
        None if reason.contains("ownloading") || reason.contains("into the container") => {
            Failure::other(
                "staging failed: the app's files could not be unpacked",
                &format!(
                    "Builds have {disk_mb} MB of disk: push fewer files (`.cfignore`), then push again."
                ),
            )
        }
        None if reason.contains("upload") => Failure::other(
            "staging failed: the droplet could not be stored",
            "Push again; when that does not help, ask an operator whether the platform's disk is full.",
        ),
        None => Failure::other(
            "staging failed",
            &format!("It was not the app's fault ({reason}): push again."),
        ),
    }
}

const FULL: &str = "It was not the app's fault: ask an operator to make room (`cupola status` shows where), then try again.";

/// Whether a cell had no room left of its own.
fn is_full(reason: &str) -> bool {
    let made = reason.contains("failed to create container");
    reason.contains("disk is full") || (made && reason.contains("No space left on device"))
}

/// The number after `status`, wherever it stands.
fn status(reason: &str) -> Option<u32> {
    let rest = reason.rsplit_once("status ")?.1;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn minutes(span: Duration) -> String {
    match span.as_secs() {
        seconds if seconds % 60 == 0 && seconds > 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

/// What to do about an instance that crashed.
pub fn crash(reason: &str, process: &Process, app: &str) -> String {
    let kind = process.kind.as_str();
    if process.start_command().is_none_or(str::is_empty) {
        return format!(
            "It has no start command: give it one with `cf push {app} -c COMMAND`, or in a Procfile ({kind}: COMMAND)."
        );
    }
    if reason.contains("(out of memory)") {
        let memory = process.memory_mb;
        return format!(
            "It needs more than its {memory} MB of memory: give it more with `cf scale {app} -m SIZE`."
        );
    }
    if is_full(reason) {
        return FULL.to_owned();
    }
    if reason.contains("never healthy") || reason.contains("health check") {
        let timeout = process.health.timeout.unwrap_or(60);
        return match process.health.kind.as_str() {
            "http" => format!(
                "It must answer GET {} with 200 on the port in $PORT within {timeout} s of its start: see `cf set-health-check`.",
                process.health.endpoint.as_deref().unwrap_or("/")
            ),
            _ => format!(
                "It must listen on 0.0.0.0, on the port in $PORT, within {timeout} s of its start; one that serves nothing takes `cf set-health-check {app} process`."
            ),
        };
    }
    match status(reason) {
        Some(127) => format!("The start command, or a program that it calls, was not found: correct it with `cf push {app} -c COMMAND`, or in the Procfile."),
        Some(126) => "The start command may not be executed: make the file executable (`chmod +x`) and push again.".to_owned(),
        Some(0) => format!("A process must not end: one that is done after a while is a task (`cf run-task {app} -c COMMAND`)."),
        Some(_) => format!("What it wrote before it ended says why: `cf logs {app} --recent`."),
        None => format!("It never came to run: `cf restage {app}` makes its droplet anew; when that does not help, ask an operator."),
    }
}

/// What to do about an instance that no cell takes.
pub fn placement(error: &str, process: &Process, app: &str) -> String {
    if error.contains("insufficient resources") {
        let (memory, disk) = (process.memory_mb, process.disk_mb);
        return format!(
            "Each instance asks for {memory} MB of memory and {disk} MB of disk: ask for less (`cf scale {app} -m SIZE -k SIZE`, or fewer instances with -i), or an operator for more cells. It starts as soon as there is room."
        );
    }
    "Choose a stack that the cells offer (`cf stacks`), or ask an operator for cells where this space's apps may run.".to_owned()
}

/// What to do about something that the API refuses to build or to run; `None` where its own words say it.
pub fn refusal(detail: &str, app: &str) -> Option<String> {
    let over = |what: &str| detail.contains(what);
    if over("log rate") || over("log_rate") {
        return Some(format!(
            "Ask for less (`cf scale {app} -l RATE`), or an operator for more: `cf org-quotas` and `cf space-quotas` list the limits."
        ));
    }
    if over("instance_limit") {
        return Some(format!(
            "Ask for fewer instances (`cf scale {app} -i COUNT`), stop other apps, or ask an operator for more: `cf org-quotas` and `cf space-quotas` list the limits."
        ));
    }
    (over("quota") || over("memory limit exceeded")).then(|| {
        format!(
            "Ask for less (`cf push {app} -m SIZE`, or fewer instances with -i), stop other apps, or ask an operator for more: `cf org-quotas` and `cf space-quotas` list the limits."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Given<'static> {
        let timeout = Duration::from_secs(900);
        Given { memory_mb: 1024, disk_mb: 4096, timeout, stack: "cflinuxfs4" }
    }

    fn id(reason: &str) -> &'static str {
        staging(reason, given()).id
    }

    #[test]
    fn the_builders_exit_status_tells_the_phase() {
        assert_eq!(id("STG: Exited with status 222"), "NoAppDetectedError");
        assert_eq!(id("Exited with status 223"), "BuildpackCompileFailed");
        assert_eq!(id("Exited with status 224"), "BuildpackReleaseFailed");
        assert_eq!(id("STG: Exited with status 225"), "BuildpackCompileFailed");
        assert_eq!(id("insufficient resources: memory"), "InsufficientResources");
        assert_eq!(id("found no compatible cell for required rootfs"), "NoCompatibleCell");
        assert_eq!(id("exceeded 15m0s timeout"), "StagingTimeExpired");
        assert_eq!(id("exceeded 1s timeout; STG: Exited with status 137"), "StagingTimeExpired");
        assert_eq!(id("STG: Exited with status 137 (out of memory)"), "StagingError");
        assert_eq!(id("cell disappeared before completion"), "StagingError");
        assert_eq!(id("Failed to upload payload"), "StagingError");
        for full in [
            "Downloading app package failed: the cell's disk is full",
            "failed to create container: making a folder: No space left on device (os error 28)",
        ] {
            let failure = staging(full, given());
            assert!(failure.description.ends_with("the cell's disk is full"), "{failure:?}");
            assert!(failure.next.contains("cupola status"), "{failure:?}");
        }
    }

    #[test]
    fn a_status_is_found_wherever_it_stands() {
        assert_eq!(status("APP/PROC/WEB: Exited with status 3 (out of memory)"), Some(3));
        assert_eq!(status("Downloading failed"), None);
    }
}
