//! The facts as a person reads them.

use std::fmt::Write as _;

use diego::cell::Resources;

use super::facts::{Brain, Cell, Facts, Problem};
use crate::print::{count, megabytes, row, span, table};

pub fn page(facts: &Facts, problems: &[Problem]) -> String {
    let mut text = String::new();
    for part in [
        head(facts),
        components(facts),
        servers(facts),
        cells(facts),
        work(facts),
        tell_problems(problems),
    ] {
        let _ = write!(text, "{part}");
    }
    text
}

fn head(facts: &Facts) -> String {
    let running = &facts.running;
    let api = if running.api.is_empty() { &running.http } else { &running.api };
    let up = span(facts.now.since(running.started_at));
    format!(
        "cupola {} runs on {}, for {up} (process {})\n\n{}",
        running.version,
        facts.data.display(),
        running.pid,
        table(&[row!["api", api], row!["apps", running.app.replace("APP", "*")],])
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

/// Nothing where one process is the whole platform.
fn servers(facts: &Facts) -> String {
    if facts.servers.len() < 2 && facts.running.database.is_none() {
        return String::new();
    }
    let mut rows = vec![row!["server", "address", "roles", "brain"]];
    for server in &facts.servers {
        let brain = match &server.brain {
            None => "-".to_owned(),
            Some(Brain::Leads(fence)) => format!("leads (number {fence})"),
            Some(Brain::StandsBy) => "stands by".to_owned(),
            Some(Brain::Silent(_)) => "DOWN".to_owned(),
        };
        rows.push(row![server.name, server.url, server.roles, brain]);
    }
    let database = facts.running.database.as_deref().unwrap_or("files");
    format!("\n{}\n{}", table(&rows), table(&[row!["database", database]]))
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

    use super::super::facts::{self, Server};
    use super::*;
    use crate::roles::{Role, Roles};

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

    #[test]
    fn machines_and_who_leads() {
        let mut facts = facts::tests::well();
        facts.running.database = Some("postgres://me@db:5432/cupola".into());
        let server = |name: &str, roles: &[Role], brain| Server {
            name: name.into(),
            url: format!("https://{name}:1800"),
            roles: Roles::new(roles.iter().copied()),
            brain,
        };
        facts.servers = vec![
            server("server-1", &[Role::Api, Role::Logs], None),
            server("server-2", &[Role::Brain], Some(Brain::Leads(7))),
            server("server-3", &[Role::Brain, Role::Router], Some(Brain::StandsBy)),
            server("server-4", &[Role::Brain], Some(Brain::Silent("connection refused".into()))),
        ];
        expect![[r#"

            server     address                 roles          brain
            server-1   https://server-1:1800   api,logs       -
            server-2   https://server-2:1800   brain          leads (number 7)
            server-3   https://server-3:1800   brain,router   stands by
            server-4   https://server-4:1800   brain          DOWN

            database   postgres://me@db:5432/cupola
        "#]]
        .assert_eq(&servers(&facts));
        assert!(facts::problems(&facts)[0].what.contains("the brain on server-4"));
    }
}
