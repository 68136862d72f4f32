//! Writes `docs/state-machines.md` from the functions themselves: `UPDATE_EXPECT=1` rewrites it, a difference fails.

use std::fmt::Write as _;

use base::Timestamp;
use diego::crash::{Restart, Rule};
use diego::task::{Outcome, Task, TaskDefinition};
use diego::{ActualLrp, InstanceKey, LrpKey, NetInfo, Presence, actual_lrp, task};
use expect_test::expect_file;

const NOW: Timestamp = Timestamp::from_secs(1_000);

const HEAD: &str = "\
<!-- Written by a test from the code: UPDATE_EXPECT=1 cargo test -p diego. -->

# State machines

Each row is a state, each column an event, each cell the state it leads to; `=` changes nothing, and an empty cell
refuses. *A* is the cell and instance that the record names, *B* any other.
";

fn key(name: &str) -> InstanceKey {
    InstanceKey { instance_guid: name.into(), cell_id: name.into() }
}

fn net() -> NetInfo {
    NetInfo {
        address: [127, 0, 0, 1].into(),
        instance_address: [10, 0, 0, 1].into(),
        ports: Vec::new(),
    }
}

fn table<S: Clone, E: Clone>(
    states: &[(&str, S)],
    events: &[(&str, E)],
    step: impl Fn(S, E) -> Option<String>,
) -> String {
    let mut text = String::from("\n| |");
    for (name, _) in events {
        write!(text, " {name} |").unwrap();
    }
    write!(text, "\n|---|{}\n", "---|".repeat(events.len())).unwrap();
    for (name, state) in states {
        write!(text, "| {name} |").unwrap();
        for (_, event) in events {
            match step(state.clone(), event.clone()) {
                Some(next) => write!(text, " {next} |").unwrap(),
                None => text.push_str(" |"),
            }
        }
        text.push('\n');
    }
    text
}

fn lrps() -> String {
    use actual_lrp::Event;
    let unclaimed = ActualLrp::unclaimed(
        LrpKey { process_guid: "p".into(), index: 0, domain: "d".into() },
        NOW,
    );
    let go = |lrp: &ActualLrp, event| lrp.clone().apply(event, NOW).unwrap();
    let start = |name| Event::Start { by: key(name), net: net(), routable: true };
    let rule = Rule::default();
    let crash = |name| Event::Crash { by: key(name), reason: "why".to_owned(), rule };
    let crashed =
        go(&go(&ActualLrp { crash_count: 2, ..unclaimed.clone() }, start("A")), crash("A"));
    let claimed = go(&unclaimed, Event::Claim(key("A")));
    let running = go(&unclaimed, start("A"));
    let suspect = go(&running, Event::Lose);
    let states = [
        ("UNCLAIMED", unclaimed),
        ("CLAIMED by A", claimed),
        ("RUNNING by A", running),
        ("RUNNING by A, suspect", suspect),
        ("CRASHED", crashed),
    ];
    let events = [
        ("claim A", Event::Claim(key("A"))),
        ("claim B", Event::Claim(key("B"))),
        ("start A", start("A")),
        ("start B", start("B")),
        ("crash A", crash("A")),
        ("crash B", crash("B")),
        ("fail", Event::Fail { placement_error: "no room".to_owned() }),
        ("unclaim", Event::Unclaim),
        ("lose", Event::Lose),
        ("recover", Event::Recover),
    ];
    table(&states, &events, |lrp: ActualLrp, event| {
        let next = lrp.clone().apply(event, NOW).ok()?;
        let by = next.instance().map(|by| format!(" by {}", by.instance_guid)).unwrap_or_default();
        let suspect = if next.presence == Presence::Suspect { ", suspect" } else { "" };
        Some(if next == lrp {
            "=".to_owned()
        } else {
            format!("{}{by}{suspect}", next.state.name())
        })
    })
}

fn tasks() -> String {
    use task::{Attempt, Event, MAX_REJECTIONS, State};
    let pending = Task::pending("t".into(), "d".into(), TaskDefinition::default(), NOW);
    let outcome = Outcome { first_completed_at: NOW, ..Outcome::default() };
    let with = |state| Task { state, ..pending.clone() };
    let states = [
        ("PENDING", pending.clone()),
        ("PENDING, rejected often", Task { rejection_count: MAX_REJECTIONS, ..pending.clone() }),
        ("RUNNING on A", with(State::Running { cell_id: "A".into() })),
        ("COMPLETED", with(State::Completed { outcome: outcome.clone() })),
        ("RESOLVING", with(State::Resolving { outcome })),
    ];
    // Counted from the record's rejections on.
    let now = |cell: &str| Attempt { cell_id: cell.into(), rejections: 0 };
    let other = Attempt { cell_id: "A".into(), rejections: 1 };
    let complete = |by| Event::Complete { by, failure: None, result: String::new() };
    let reject = |by| Event::Reject { by, reason: "why".to_owned() };
    let events = [
        ("start A", Event::Start(now("A"))),
        ("start B", Event::Start(now("B"))),
        ("complete A", complete(now("A"))),
        ("complete B", complete(now("B"))),
        ("cancel", Event::Cancel),
        ("fail", Event::Fail { reason: "why".to_owned() }),
        ("reject by A", reject(Some(now("A")))),
        ("reject by B", reject(Some(now("B")))),
        ("reject by the auction", reject(None)),
        ("reject by A, another attempt", reject(Some(other))),
        ("resolve", Event::Resolve),
        ("unresolve", Event::Unresolve),
    ];
    table(&states, &events, |task: Task, mut event| {
        if let Event::Start(by) | Event::Complete { by, .. } | Event::Reject { by: Some(by), .. } =
            &mut event
        {
            by.rejections += task.rejection_count;
        }
        let next = task.clone().apply(event, NOW).ok()?;
        let on = next.cell_id().map(|cell| format!(" on {cell}")).unwrap_or_default();
        let failed = if next.outcome().is_some_and(|end| end.failed) { ", failed" } else { "" };
        Some(if next == task {
            "=".to_owned()
        } else {
            format!("{}{on}{failed}", next.state.name())
        })
    })
}

fn crashes() -> String {
    let mut text = String::from("\n| crash count | restart |\n|---|---|\n");
    let rule = Rule::default();
    let (mut first, mut shown) = (1, rule.restart(1));
    for count in 2..=rule.give_up + 1 {
        let next = rule.restart(count);
        if next == shown && count <= rule.give_up {
            continue;
        }
        let what = match shown {
            Restart::AtOnce => "at once".to_owned(),
            Restart::After(wait) => format!("after {} s", wait.as_secs()),
            Restart::Never => "never".to_owned(),
        };
        let range = match (shown, count - 1) {
            (Restart::Never, _) => format!("from {first} on"),
            (_, last) if last == first => first.to_string(),
            (_, last) => format!("{first} to {last}"),
        };
        writeln!(text, "| {range} | {what} |").unwrap();
        (first, shown) = (count, next);
    }
    text
}

#[test]
fn the_page_shows_what_the_code_does() {
    let stable = Rule::default().stable.as_secs() / 60;
    let page = format!(
        "{HEAD}\n## An instance of a long running process\n{}\nWhoever ran longer than {stable} minutes before a crash \
         counts from one again:\n{}\n## A task\n{}\nOnly a RESOLVING task may be deleted.\n",
        lrps(),
        crashes(),
        tasks()
    );
    expect_file!["../../../../docs/state-machines.md"].assert_eq(&page);
}
