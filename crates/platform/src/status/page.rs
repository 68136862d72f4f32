//! The facts as a person reads them.

use std::fmt::Write as _;

use diego::cell::Resources;

use super::facts::{Cell, Facts, Problem};
use crate::print::{count, megabytes, row, span, table};

pub fn page(facts: &Facts, problems: &[Problem]) -> String {
    let mut text = String::new();
    for part in [head(facts), components(facts), cells(facts), work(facts), tell_problems(problems)]
    {
        let _ = write!(text, "{part}");
    }
    text
}

fn head(facts: &Facts) -> String {
    let running = &facts.running;
    let up = span(facts.now.since(running.started_at));
    format!(
        "cupola {} runs on {}, for {up} (process {})\n\n{}",
        running.version,
        facts.data.display(),
        running.pid,
        table(&[row!["api", running.api], row!["apps", running.app.replace("APP", "*")],])
    )
}

fn components(facts: &Facts) -> String {
    let mut rows = vec![row!["component", "state", "answers in"]];
    for one in &facts.components {
        let state = if one.error.is_none() { "ok" } else { "DOWN" };
        let took = if one.error.is_none() {
            format!("{:.0} ms", one.took.as_secs_f64() * 1000.0)
        } else {
            "-".to_owned()
        };
        rows.push(row![one.name, state, took]);
    }
    format!("\n{}", table(&rows))
}

fn cells(facts: &Facts) -> String {
    let mut rows = vec![row!["cell", "state", "containers", "memory promised", "disk promised"]];
    rows.extend(facts.cells.iter().map(cell));
    format!("\n{}", table(&rows))
}

fn cell(cell: &Cell) -> Vec<String> {
    let Ok(state) = &cell.state else { return row![cell.id, "DOWN", "-", "-", "-"] };
    let (all, left) = (&state.presence.capacity, &state.available);
    let used = |of: fn(&Resources) -> u64| of(all).saturating_sub(of(left));
    let of_mb =
        |of: fn(&Resources) -> u64| format!("{} of {}", megabytes(used(of)), megabytes(of(all)));
    row![
        cell.id,
        if state.presence.evacuating { "EMPTYING" } else { "ok" },
        format!("{} of {}", used(|all| all.containers), all.containers),
        of_mb(|all| all.memory_mb),
        of_mb(|all| all.disk_mb),
    ]
}

fn work(facts: &Facts) -> String {
    let (instances, tasks) = (&facts.instances, &facts.tasks);
    let mut told = vec![format!("{} of {} running", instances.running, instances.desired)];
    let parts = [
        (instances.starting, "starting"),
        (instances.crashed, "crashed"),
        (instances.unplaced, "without a cell"),
    ];
    told.extend(
        parts
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| format!("{number} {what}")),
    );
    let mut rows = vec![
        row!["instances", told.join(", ")],
        row!["tasks", format!("{} running, {} waiting", tasks.running, tasks.waiting)],
    ];
    if let Some(about) = &facts.about {
        let routes =
            format!("{} to {}", count(about.routes, "route"), count(about.endpoints, "instance"));
        rows.push(row!["routes", routes]);
        if let Some(containers) = &about.containers {
            rows.push(row![
                "isolation",
                format!("{}: {}", containers.backend, containers.isolation)
            ]);
            rows.push(row!["disk limits", containers.disk_limits]);
        }
    }
    let disk =
        format!("{} free of {}", megabytes(facts.disk.free_mb), megabytes(facts.disk.total_mb));
    rows.push(row!["disk", disk]);
    format!("\n{}", table(&rows))
}

fn tell_problems(problems: &[Problem]) -> String {
    if problems.is_empty() {
        return "\nno problems\n".to_owned();
    }
    let mut text = format!("\n{}:\n", count(problems.len(), "problem"));
    for problem in problems {
        let _ = writeln!(text, "- {}\n  > {}", problem.what, problem.remedy);
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::facts;
    use super::*;

    #[test]
    fn a_page() {
        let mut facts = facts::tests::well();
        facts.components[2].error = Some("connection refused".into());
        let problems = facts::problems(&facts);
        expect![[r#"
            cupola 1.2.3 runs on /data, for 3 h 12 min (process 7)

            api    http://127.0.0.1:8080
            apps

            component          state   answers in
            cloud controller   ok      2 ms
            uaa                ok      2 ms
            bbs                DOWN    -

            cell     state   containers   memory promised   disk promised
            cell-0   ok      1 of 250     1 GB of 8 GB      1 GB of 20 GB

            instances   1 of 1 running
            tasks       0 running, 0 waiting
            routes      2 routes to 3 instances
            disk        19.5 GB free of 39.1 GB

            1 problem:
            - the bbs does not answer: connection refused
              > look at what cupola up wrote on standard error; start it again with --log info to see more
        "#]].assert_eq(&page(&facts, &problems));
    }
}
