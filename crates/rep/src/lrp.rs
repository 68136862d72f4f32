//! What to do about one LRP container and its record. Pure: the tables of Diego's rules, and nothing else.

use diego::NetInfo;
use diego::bbs::{ErrorKind, Evacuation};
use executor::State;

/// What a record says, seen from one container: `mine` is this cell and this container, everything else is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// Nobody asked lately.
    Unknown,
    None,
    Unclaimed,
    Claimed {
        mine: bool,
    },
    /// Mine, with what the record knows of it.
    Running(Option<(NetInfo, bool)>),
    Crashed,
}

/// A call to the brain or to the executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Begin the recipe.
    Run,
    Claim,
    Start(NetInfo, bool),
    Crash(String),
    Remove,
    /// End the process; the rest follows from its end.
    Stop,
    Delete,
    /// As `Delete`, but the files stay for a while.
    Keep,
}

/// A container without a record of its own kind of knowledge is judged by the brain: the call is made, and a refusal
/// decides ([`refused`]). To begin a container does not wait for its claim: most claims are granted.
pub fn lrp_step(container: &State, log_source: &str, view: &View) -> Vec<Call> {
    use Call::{Claim, Delete, Run, Start, Stop};
    match (container, view) {
        (State::Reserved, View::Unknown | View::Unclaimed | View::Running(Some(_))) => {
            vec![Run, Claim]
        }
        (State::Reserved, View::Claimed { mine: true }) => vec![Run],
        (State::Reserved, View::None) => vec![],

        (
            State::Initializing | State::Created,
            View::Unknown | View::Unclaimed | View::Running(Some(_)),
        ) => vec![Claim],
        (State::Initializing | State::Created, View::None | View::Claimed { mine: true }) => vec![],

        (
            State::Reserved | State::Initializing | State::Created,
            View::Claimed { mine: false } | View::Running(None) | View::Crashed,
        ) => vec![Delete],

        (State::Running { net, routable }, View::Running(Some((told, told_routable))))
            if net == told && routable == told_routable =>
        {
            vec![]
        }
        (State::Running { .. }, View::Running(None) | View::Crashed) => vec![Stop],
        (State::Running { net, routable }, _) => vec![Start(net.clone(), *routable)],

        (
            State::Completed(outcome),
            View::Unknown | View::Claimed { mine: true } | View::Running(Some(_)),
        ) => {
            if outcome.stopped {
                vec![Call::Remove, Delete]
            } else {
                vec![Call::Crash(crash_reason(outcome, log_source)), Call::Keep]
            }
        }
        (State::Completed(_), _) => vec![Delete],
    }
}

/// A process that was to run for ever and ended well has crashed all the same.
pub fn crash_reason(outcome: &executor::Outcome, log_source: &str) -> String {
    match (outcome.failed, log_source) {
        (true, _) => outcome.reason.clone(),
        (false, "") => "Exited with status 0".to_owned(),
        (false, source) => format!("{source}: Exited with status 0"),
    }
}

/// What the record of an instance without a container gets: it is not there.
pub fn missing(view: &View) -> Vec<Call> {
    match view {
        View::Claimed { mine: true } | View::Running(Some(_)) => vec![Call::Remove],
        _ => vec![],
    }
}

/// While the cell evacuates, the brain decides what happens to each container.
pub fn evacuation_step(container: &State, log_source: &str) -> Evacuation {
    match container {
        State::Reserved | State::Initializing | State::Created => Evacuation::Claimed,
        State::Running { net, routable } => {
            Evacuation::Running { net: net.clone(), routable: *routable }
        }
        State::Completed(outcome) if outcome.stopped => Evacuation::Stopped,
        State::Completed(outcome) => {
            Evacuation::Crashed { reason: crash_reason(outcome, log_source) }
        }
    }
}

/// The newcomer gives way: what follows when the brain refuses a call.
pub fn refused(call: &Call) -> Option<Call> {
    match call {
        Call::Claim => Some(Call::Delete),
        Call::Start(..) => Some(Call::Stop),
        _ => None,
    }
}

/// Whether the brain may answer otherwise a little later.
pub fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unreachable | ErrorKind::Unknown)
}

#[cfg(test)]
mod tests {
    use executor::Outcome;

    use super::*;

    fn net(port: u16) -> NetInfo {
        let ports =
            vec![diego::PortMapping { container_port: 8080, listen_port: 8080, host_port: port }];
        NetInfo { address: [10, 0, 0, 1].into(), instance_address: [10, 0, 0, 2].into(), ports }
    }

    fn running() -> State {
        State::Running { net: net(1), routable: true }
    }

    fn crashed() -> State {
        State::Completed(Outcome { failed: true, reason: "boom".into(), ..Outcome::default() })
    }

    fn stopped() -> State {
        State::Completed(Outcome { failed: true, stopped: true, ..Outcome::default() })
    }

    fn name(call: &Call) -> &'static str {
        match call {
            Call::Run => "run",
            Call::Claim => "claim",
            Call::Start(..) => "start",
            Call::Crash(_) => "crash",
            Call::Remove => "remove",
            Call::Stop => "stop",
            Call::Delete => "delete",
            Call::Keep => "keep",
        }
    }

    /// One row of the table: none, UNCLAIMED, CLAIMED mine, CLAIMED other, RUNNING mine, RUNNING other, CRASHED.
    #[track_caller]
    fn row(containers: &[State], want: [&str; 7]) {
        let views = [
            View::None,
            View::Unclaimed,
            View::Claimed { mine: true },
            View::Claimed { mine: false },
            View::Running(Some((net(2), true))),
            View::Running(None),
            View::Crashed,
        ];
        for container in containers {
            let got = views.each_ref().map(|view| {
                lrp_step(container, "APP", view).iter().map(name).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(got.each_ref().map(String::as_str), want, "{}", container.name());
        }
    }

    #[test]
    fn every_cell_of_the_table() {
        row(
            &[State::Reserved],
            ["", "run claim", "run", "delete", "run claim", "delete", "delete"],
        );
        row(
            &[State::Initializing, State::Created],
            ["", "claim", "", "delete", "claim", "delete", "delete"],
        );
        row(&[running()], ["start", "start", "start", "start", "start", "stop", "stop"]);
        let only_delete = "delete";
        row(
            &[crashed()],
            [
                only_delete,
                only_delete,
                "crash keep",
                only_delete,
                "crash keep",
                only_delete,
                only_delete,
            ],
        );
        row(
            &[stopped()],
            [
                only_delete,
                only_delete,
                "remove delete",
                only_delete,
                "remove delete",
                only_delete,
                only_delete,
            ],
        );
    }

    #[test]
    fn a_record_that_knows_all_is_left_alone() {
        assert_eq!(lrp_step(&running(), "", &View::Running(Some((net(1), true)))), []);
        let unready = View::Running(Some((net(1), false)));
        assert_eq!(lrp_step(&running(), "", &unready), [Call::Start(net(1), true)]);
    }

    #[test]
    fn a_record_without_container_is_removed() {
        assert_eq!(missing(&View::Claimed { mine: true }), [Call::Remove]);
        assert_eq!(missing(&View::Running(Some((net(1), true)))), [Call::Remove]);
        for view in [
            View::None,
            View::Unclaimed,
            View::Claimed { mine: false },
            View::Running(None),
            View::Crashed,
        ] {
            assert_eq!(missing(&view), []);
        }
    }

    #[test]
    fn without_knowledge_the_brain_is_asked() {
        let ask = |state: State| {
            lrp_step(&state, "APP", &View::Unknown).iter().map(name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ask(State::Reserved), "run claim");
        assert_eq!(ask(State::Created), "claim");
        assert_eq!(ask(running()), "start");
        assert_eq!(ask(crashed()), "crash keep");
        assert_eq!(ask(stopped()), "remove delete");
        assert_eq!(refused(&Call::Claim), Some(Call::Delete));
        assert_eq!(refused(&Call::Start(net(1), true)), Some(Call::Stop));
        assert_eq!(refused(&Call::Crash("x".into())), None);
    }

    #[test]
    fn ending_well_is_a_crash_too() {
        let well = State::Completed(Outcome::default());
        let calls = lrp_step(&well, "APP/PROC/WEB", &View::Unknown);
        assert_eq!(calls, [Call::Crash("APP/PROC/WEB: Exited with status 0".into()), Call::Keep]);
    }

    #[test]
    fn evacuation_says_what_there_is() {
        assert_eq!(evacuation_step(&State::Reserved, ""), Evacuation::Claimed);
        assert_eq!(evacuation_step(&State::Initializing, ""), Evacuation::Claimed);
        assert_eq!(evacuation_step(&State::Created, ""), Evacuation::Claimed);
        assert_eq!(
            evacuation_step(&running(), ""),
            Evacuation::Running { net: net(1), routable: true }
        );
        assert_eq!(evacuation_step(&crashed(), ""), Evacuation::Crashed { reason: "boom".into() });
        assert_eq!(evacuation_step(&stopped(), ""), Evacuation::Stopped);
    }
}
