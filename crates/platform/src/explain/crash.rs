//! What a crash's reason means, and what to do about it.

use super::facts::Process;

/// A sentence's end about the app (`its start command was not found`), and the next step.
pub fn meaning(reason: &str, process: &Process, app: &str) -> (String, String) {
    let kind = process.kind.as_str();
    let scale = if kind == "web" { String::new() } else { format!(" --process {kind}") };
    if reason.contains("never healthy") {
        return unhealthy(process, app);
    }
    if reason.contains("became unhealthy") {
        return (
            "it stopped answering its health check".to_owned(),
            format!("see what it was busy with: cf logs {app} --recent"),
        );
    }
    if reason.contains("out of memory") {
        return (
            format!("it used more than its {} MB of memory", process.memory_mb),
            format!("give it more: cf scale {app}{scale} -m {}M", process.memory_mb * 2),
        );
    }
    match exit_status(reason) {
        Some(127) => (
            format!("its start command was not found: {}", command(process)),
            format!("give it one that is in the app or in the stack: cf push {app} -c COMMAND"),
        ),
        Some(126) => (
            format!("its start command cannot be executed: {}", command(process)),
            "make the file executable (chmod +x) and push again".to_owned(),
        ),
        Some(0) => (
            "it ended by itself, and a process of an app has to go on running".to_owned(),
            format!("run what ends as a task: cf run-task {app} --command COMMAND"),
        ),
        Some(status) => (
            format!("it ends with status {status}"),
            format!("its log says why: cf logs {app} --recent"),
        ),
        None => (
            if reason.is_empty() { "it crashed".to_owned() } else { reason.to_owned() },
            format!("its log says more: cf logs {app} --recent"),
        ),
    }
}

fn unhealthy(process: &Process, app: &str) -> (String, String) {
    let limit = process.health.timeout_s.unwrap_or(60);
    match process.health.kind.as_str() {
        "http" => {
            let endpoint = process.health.endpoint.as_deref().unwrap_or("/");
            (
                format!("it did not answer GET {endpoint} with 200 within {limit} s"),
                format!(
                    "let it answer there on $PORT, or check otherwise: cf set-health-check {app} http --endpoint PATH, or cf set-health-check {app} port"
                ),
            )
        }
        _ => (
            format!("it did not listen on its port within {limit} s"),
            format!(
                "let it listen on 0.0.0.0 and the port in $PORT; give a slow one more time (cf push {app} -t SECONDS); \
                 for one that serves no port: cf set-health-check {app} process"
            ),
        ),
    }
}

fn command(process: &Process) -> &str {
    process.command.as_deref().unwrap_or("none is known")
}

/// Of `…: Exited with status 7`.
fn exit_status(reason: &str) -> Option<i32> {
    let (_, rest) = reason.rsplit_once("Exited with status ")?;
    rest.split(|letter: char| !letter.is_ascii_digit() && letter != '-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read() {
        assert_eq!(exit_status("APP/PROC/WEB: Exited with status 127"), Some(127));
        assert_eq!(exit_status("APP/PROC/WEB: Exited with status 137 (out of memory)"), Some(137));
        assert_eq!(exit_status("Instance never healthy after 60s"), None);
    }
}
