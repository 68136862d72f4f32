//! The Receptor's answers, for people.

use std::collections::BTreeMap;

use base::Timestamp;
use serde_json::Value;

use crate::print;

/// Columns two spaces apart; the first row is the header.
fn table(rows: Vec<Vec<String>>) -> Vec<String> {
    print::columns(&rows, 2).lines().map(str::to_owned).collect()
}

fn header(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => print::plain(text),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// `90 s`, `12 min`, `5 h`, `3 d`.
fn ago(nanos: &Value, now: Timestamp) -> String {
    let Some(then) = nanos.as_i64() else { return String::new() };
    let seconds = (now.as_nanos().saturating_sub(then) / 1_000_000_000).max(0);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// What is taken on a cell.
#[derive(Clone, Copy, Default)]
struct Use {
    lrps: u64,
    tasks: u64,
    memory_mb: u64,
    disk_mb: u64,
}

pub fn cells(cells: &Value, desired: &Value, actual: &Value, tasks: &Value) -> Vec<String> {
    let sizes: BTreeMap<&str, &Value> =
        list(desired).iter().filter_map(|lrp| Some((lrp["process_guid"].as_str()?, lrp))).collect();
    let mut used: BTreeMap<&str, Use> = BTreeMap::new();
    for lrp in list(actual) {
        let Some(cell) = lrp["cell_id"].as_str() else { continue };
        let size = lrp["process_guid"].as_str().and_then(|guid| sizes.get(guid));
        let on = used.entry(cell).or_default();
        on.lrps += 1;
        on.memory_mb += size.map_or(0, |size| number(&size["memory_mb"]));
        on.disk_mb += size.map_or(0, |size| number(&size["disk_mb"]));
    }
    for task in list(tasks).iter().filter(|task| task["state"] == "RUNNING") {
        let Some(cell) = task["cell_id"].as_str() else { continue };
        let on = used.entry(cell).or_default();
        on.tasks += 1;
        on.memory_mb += number(&task["memory_mb"]);
        on.disk_mb += number(&task["disk_mb"]);
    }
    let mut rows = vec![header(&[
        "cell",
        "zone",
        "lrps",
        "tasks",
        "memory (MB)",
        "disk (MB)",
        "containers",
        "stacks",
        "takes",
    ])];
    for cell in list(cells) {
        let id = text(&cell["cell_id"]);
        let on = used.get(id.as_str()).copied().unwrap_or_default();
        let capacity = &cell["capacity"];
        let stacks = cell["rootfs_providers"]["preloaded"]
            .as_array()
            .map(|stacks| stacks.iter().map(text).collect::<Vec<_>>().join(", "));
        rows.push(vec![
            id,
            text(&cell["zone"]),
            on.lrps.to_string(),
            on.tasks.to_string(),
            format!("{} of {}", on.memory_mb, number(&capacity["memory_mb"])),
            format!("{} of {}", on.disk_mb, number(&capacity["disk_mb"])),
            format!("{} of {}", on.lrps + on.tasks, number(&capacity["containers"])),
            stacks.unwrap_or_default(),
            takes(cell),
        ]);
    }
    if rows.len() == 1 {
        return vec!["no cell has announced itself".to_owned()];
    }
    table(rows)
}

/// What work a cell takes, where it does not take any.
fn takes(cell: &Value) -> String {
    let tags = |name: &str| list(&cell[name]).iter().map(text).collect::<Vec<_>>().join(", ");
    if cell["evacuating"] == true {
        return "nothing: it is emptied".to_owned();
    }
    match (tags("placement_tags"), tags("optional_placement_tags")) {
        (must, may) if must.is_empty() && may.is_empty() => String::new(),
        (must, may) if may.is_empty() => format!("only {must}"),
        (must, may) if must.is_empty() => format!("also {may}"),
        (must, may) => format!("only {must}; also {may}"),
    }
}

pub fn lrps(desired: &Value, actual: &Value) -> Vec<String> {
    let mut running: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for lrp in list(actual) {
        let counts = running.entry(lrp["process_guid"].as_str().unwrap_or_default()).or_default();
        counts.0 += u64::from(lrp["state"] == "RUNNING");
        counts.1 += u64::from(lrp["state"] == "CRASHED");
    }
    let mut rows = vec![header(&[
        "process",
        "domain",
        "running",
        "crashed",
        "memory (MB)",
        "disk (MB)",
        "rootfs",
    ])];
    for lrp in list(desired) {
        let guid = text(&lrp["process_guid"]);
        let (up, crashed) = running.get(guid.as_str()).copied().unwrap_or_default();
        rows.push(vec![
            guid,
            text(&lrp["domain"]),
            format!("{up} of {}", number(&lrp["instances"])),
            crashed.to_string(),
            text(&lrp["memory_mb"]),
            text(&lrp["disk_mb"]),
            text(&lrp["rootfs"]),
        ]);
    }
    if rows.len() == 1 {
        return vec!["nothing is desired".to_owned()];
    }
    table(rows)
}

pub fn lrp(desired: &Value, actual: &Value, now: Timestamp) -> Vec<String> {
    let fact = |name: &str, value: String| vec![name.to_owned(), value];
    let mut lines = table(vec![
        fact("process", text(&desired["process_guid"])),
        fact("domain", text(&desired["domain"])),
        fact("instances", text(&desired["instances"])),
        fact("memory", format!("{} MB", text(&desired["memory_mb"]))),
        fact("disk", format!("{} MB", text(&desired["disk_mb"]))),
        fact("rootfs", text(&desired["rootfs"])),
        fact("routes", routes(&desired["routes"])),
    ]);
    let mut rows = vec![header(&["index", "state", "since", "cell", "address", "crashes", "why"])];
    for lrp in list(actual) {
        let ports: Vec<String> =
            list(&lrp["ports"]).iter().map(|port| text(&port["host_port"])).collect();
        let address = text(&lrp["address"]);
        let why = [&lrp["placement_error"], &lrp["crash_reason"]];
        rows.push(vec![
            text(&lrp["index"]),
            text(&lrp["state"]),
            ago(&lrp["since"], now),
            text(&lrp["cell_id"]),
            if address.is_empty() { address } else { format!("{address}:{}", ports.join(",")) },
            text(&lrp["crash_count"]),
            why.into_iter().map(text).find(|why| !why.is_empty()).unwrap_or_default(),
        ]);
    }
    lines.push(String::new());
    lines.extend(table(rows));
    lines
}

/// Every host name in whatever form a router's entry has.
fn routes(routes: &Value) -> String {
    fn collect(value: &Value, names: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if name == "hostnames" {
                        names.extend(list(value).iter().map(text));
                    } else {
                        collect(value, names);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
            _ => {}
        }
    }
    let mut names = Vec::new();
    collect(routes, &mut names);
    names.join(", ")
}

pub fn tasks(tasks: &Value, now: Timestamp) -> Vec<String> {
    let mut rows = vec![header(&["task", "domain", "state", "created", "cell", "outcome"])];
    for task in list(tasks) {
        rows.push(vec![
            text(&task["task_guid"]),
            text(&task["domain"]),
            text(&task["state"]),
            format!("{} ago", ago(&task["created_at"], now)),
            text(&task["cell_id"]),
            outcome(task),
        ]);
    }
    if rows.len() == 1 {
        return vec!["there is no task".to_owned()];
    }
    table(rows)
}

/// How it ended, or why it has not begun.
fn outcome(task: &Value) -> String {
    match (task["state"].as_str(), task["failed"].as_bool()) {
        (Some("PENDING"), _) if number(&task["rejection_count"]) > 0 => {
            let times = print::count(number(&task["rejection_count"]), "rejection");
            format!("{times} so far: {}", text(&task["rejection_reason"]))
        }
        (Some("COMPLETED" | "RESOLVING"), Some(true)) => {
            format!("failed: {}", text(&task["failure_reason"]))
        }
        (Some("COMPLETED" | "RESOLVING"), _) => "succeeded".to_owned(),
        _ => String::new(),
    }
}

pub fn task(task: &Value, now: Timestamp) -> Vec<String> {
    let fact = |name: &str, value: String| vec![name.to_owned(), value];
    let mut lines = table(vec![
        fact("task", text(&task["task_guid"])),
        fact("domain", text(&task["domain"])),
        fact("state", text(&task["state"])),
        fact("created", format!("{} ago", ago(&task["created_at"], now))),
        fact("cell", text(&task["cell_id"])),
        fact("memory", format!("{} MB", text(&task["memory_mb"]))),
        fact("disk", format!("{} MB", text(&task["disk_mb"]))),
        fact("rootfs", text(&task["rootfs"])),
        fact("outcome", outcome(task)),
    ]);
    let result = task["result"].as_str().unwrap_or_default();
    if !result.is_empty() {
        lines.extend(["", "result"].map(str::to_owned));
        lines.extend(result.lines().map(|line| format!("  {}", print::plain(line))));
    }
    lines
}

pub fn domains(domains: &Value) -> Vec<String> {
    match list(domains) {
        [] => vec!["no domain is fresh: nothing surplus is removed".to_owned()],
        names => names.iter().map(text).collect(),
    }
}

/// One line: when, what, whose, and what became of it.
pub fn event(name: &str, body: &Value, now: Timestamp) -> String {
    let of = |key: &str| {
        body.get(format!("actual_lrp{key}")).or_else(|| body.get(format!("desired_lrp{key}")))
    };
    let before = of("_before");
    let Some(after) = of("_after").or_else(|| of("")) else { return format!("{now:.3}  {name}") };
    let index = after.get("index").map(|index| format!("/{index}")).unwrap_or_default();
    let state = |lrp: &Value| match lrp.get("state") {
        Some(state) => text(state),
        None => format!("{} instances", number(&lrp["instances"])),
    };
    let mut change = match before.map(state) {
        Some(before) if before != state(after) => format!("{before} > {}", state(after)),
        _ => state(after),
    };
    let cell = text(&after["cell_id"]);
    if !cell.is_empty() {
        change.push_str(&format!(" on {cell}"));
    }
    // The reason stays with the record; it is news with the crash alone.
    let crashed = before.is_some_and(|before| before["crash_count"] != after["crash_count"]);
    for (news, key) in [(true, "placement_error"), (crashed, "crash_reason")] {
        let why = text(&after[key]);
        if news && !why.is_empty() {
            change.push_str(&format!(": {why}"));
        }
    }
    format!("{now:.3}  {name}  {}{index}  {change}", text(&after["process_guid"]))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

    #[test]
    fn what_is_taken_stands_beside_what_there_is() {
        let cell = json!([{
            "cell_id": "cell-0", "zone": "z1", "rootfs_providers": { "preloaded": ["cflinuxfs4"] },
            "capacity": { "memory_mb": 1000, "disk_mb": 2000, "containers": 250 }
        }, {
            "cell_id": "cell-1", "rootfs_providers": { "preloaded": ["cflinuxfs4"] },
            "capacity": { "memory_mb": 1000, "disk_mb": 2000, "containers": 250 },
            "placement_tags": ["gpu"], "optional_placement_tags": ["ssd"]
        }]);
        let desired = json!([{ "process_guid": "p", "memory_mb": 64, "disk_mb": 128 }]);
        let actual = json!([{ "process_guid": "p", "cell_id": "cell-0" }, { "process_guid": "p", "cell_id": "" }]);
        let tasks =
            json!([{ "state": "RUNNING", "cell_id": "cell-0", "memory_mb": 10, "disk_mb": 1 }]);
        expect![[r#"
            cell    zone  lrps  tasks  memory (MB)  disk (MB)    containers  stacks      takes
            cell-0  z1    1     1      74 of 1000   129 of 2000  2 of 250    cflinuxfs4
            cell-1        0     0      0 of 1000    0 of 2000    0 of 250    cflinuxfs4  only gpu; also ssd"#]]
        .assert_eq(&cells(&cell, &desired, &actual, &tasks).join("\n"));
        assert_eq!(takes(&json!({ "evacuating": true })), "nothing: it is emptied");
    }

    #[test]
    fn a_task_says_why_it_waits_and_shows_what_it_brought() {
        let waiting = json!({ "task_guid": "t", "domain": "d", "state": "PENDING", "created_at": 940_000_000_000_i64,
            "cell_id": "", "rejection_count": 2, "rejection_reason": "insufficient resources: memory" });
        expect![[r#"
            task  domain  state    created   cell  outcome
            t     d       PENDING  60 s ago        2 rejections so far: insufficient resources: memory"#]]
        .assert_eq(&tasks(&json!([waiting]), NOW).join("\n"));
        let done = json!({ "task_guid": "t", "domain": "d", "state": "COMPLETED", "failed": false, "memory_mb": 1,
            "disk_mb": 2, "rootfs": "preloaded:x", "created_at": 940_000_000_000_i64, "cell_id": "",
            "result": "one\n\u{1b}[31mtwo\n" });
        expect![[r#"
            task     t
            domain   d
            state    COMPLETED
            created  60 s ago
            cell
            memory   1 MB
            disk     2 MB
            rootfs   preloaded:x
            outcome  succeeded

            result
              one
              \u{1b}[31mtwo"#]]
        .assert_eq(&task(&done, NOW).join("\n"));
    }

    #[test]
    fn an_lrp_says_why_it_does_not_run() {
        let desired = json!({ "process_guid": "p", "domain": "d", "instances": 2, "memory_mb": 64, "disk_mb": 64,
            "rootfs": "preloaded:x", "routes": { "cf-router": [{ "hostnames": ["a.test"], "port": 8080 }] } });
        let actual = json!([
            { "index": 0, "state": "RUNNING", "since": 910_000_000_000_i64, "cell_id": "c", "address": "10.0.0.1",
              "ports": [{ "host_port": 61001 }], "crash_count": 0 },
            { "index": 1, "state": "UNCLAIMED", "since": 1, "cell_id": "", "address": "", "crash_count": 0,
              "placement_error": "insufficient resources: memory" }
        ]);
        expect![[r#"
            process    p
            domain     d
            instances  2
            memory     64 MB
            disk       64 MB
            rootfs     preloaded:x
            routes     a.test

            index  state      since   cell  address         crashes  why
            0      RUNNING    90 s    c     10.0.0.1:61001  0
            1      UNCLAIMED  16 min                        0        insufficient resources: memory"#]]
        .assert_eq(&lrp(&desired, &actual, NOW).join("\n"));
    }

    #[test]
    fn an_event_is_one_line() {
        let lrp = |state: &str, cell: &str| json!({ "process_guid": "p", "index": 3, "state": state, "cell_id": cell });
        let body = json!({ "actual_lrp_before": lrp("CLAIMED", "c"), "actual_lrp_after": lrp("RUNNING", "c") });
        let line = event("actual_lrp_changed", &body, NOW);
        assert!(line.ends_with("actual_lrp_changed  p/3  CLAIMED > RUNNING on c"), "{line}");
        let crashed = |state: &str, count: u32| {
            json!({ "process_guid": "p", "index": 3, "state": state, "crash_count": count,
            "crash_reason": "Exited with\nstatus 4" })
        };
        let body = json!({ "actual_lrp_before": crashed("RUNNING", 1), "actual_lrp_after": crashed("UNCLAIMED", 2) });
        let line = event("actual_lrp_changed", &body, NOW);
        let want = r"1970-01-01T00:16:40.000Z  actual_lrp_changed  p/3  RUNNING > UNCLAIMED: Exited with\nstatus 4";
        assert_eq!(line, want);
        let body = json!({ "actual_lrp_before": crashed("UNCLAIMED", 2), "actual_lrp_after": crashed("CLAIMED", 2) });
        let line = event("actual_lrp_changed", &body, NOW);
        assert!(line.ends_with("UNCLAIMED > CLAIMED"), "the last crash is no news: {line}");
        let body = json!({ "desired_lrp": { "process_guid": "p", "instances": 2 } });
        let line = event("desired_lrp_created", &body, NOW);
        assert!(line.ends_with("desired_lrp_created  p  2 instances"), "{line}");
    }
}
