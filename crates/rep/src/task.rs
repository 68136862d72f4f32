//! What to do about one task container and its record. Pure: the table of Diego's rules, and nothing else.

use executor::State;

/// What a record says, seen from this cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Nobody asked lately.
    Unknown,
    None,
    Pending,
    Running {
        here: bool,
    },
    /// Completed or resolving.
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Ask for the run; nothing of the user's happens before it is granted.
    Start,
    /// Begin the recipe.
    Run,
    Reject(String),
    Complete,
    Delete,
}

pub fn task_step(container: &State, view: View) -> Vec<Call> {
    use Call::{Complete, Delete, Run, Start};
    match (container, view) {
        // Whose record is elsewhere, or beyond it, has no business here.
        (_, View::None | View::Running { here: false } | View::Done) => vec![Delete],

        // The brain knows whether the run is still to be had; when it was granted before, see `granted_before`.
        (State::Reserved, View::Unknown | View::Pending | View::Running { here: true }) => {
            vec![Start, Run]
        }

        (State::Initializing | State::Created | State::Running { .. }, View::Pending) => {
            vec![Start]
        }
        (
            State::Initializing | State::Created | State::Running { .. },
            View::Unknown | View::Running { here: true },
        ) => {
            vec![]
        }

        (
            State::Completed(outcome),
            View::Unknown | View::Pending | View::Running { here: true },
        ) => {
            let call =
                if outcome.retryable { Call::Reject(outcome.reason.clone()) } else { Complete };
            vec![call, Delete]
        }
    }
}

/// What the record of a task without a container gets: nobody will complete it any more.
pub fn is_missing(view: View) -> bool {
    view == View::Running { here: true }
}

/// What follows when the brain refuses a call.
pub fn refused(call: &Call) -> Option<Call> {
    matches!(call, Call::Start).then_some(Call::Delete)
}

/// What follows when the brain says that this cell was granted the run before. When this very container asked already,
/// the answer got lost. Otherwise the run was another container's, which is gone: nothing of a task happens twice.
pub fn granted_before(asked: bool) -> Option<Call> {
    (!asked).then_some(Call::Delete)
}

#[cfg(test)]
mod tests {
    use executor::Outcome;

    use super::*;

    fn name(call: &Call) -> &'static str {
        match call {
            Call::Start => "start",
            Call::Run => "run",
            Call::Reject(_) => "reject",
            Call::Complete => "complete",
            Call::Delete => "delete",
        }
    }

    /// One row of the table: none, PENDING, RUNNING here, RUNNING elsewhere, COMPLETED or RESOLVING.
    #[track_caller]
    fn row(containers: &[State], want: [&str; 5]) {
        let views = [
            View::None,
            View::Pending,
            View::Running { here: true },
            View::Running { here: false },
            View::Done,
        ];
        for container in containers {
            let got = views.map(|view| {
                task_step(container, view).iter().map(name).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(got.each_ref().map(String::as_str), want, "{}", container.name());
        }
    }

    fn completed(retryable: bool) -> State {
        State::Completed(Outcome { failed: true, reason: "no".into(), stopped: false, retryable })
    }

    #[test]
    fn every_cell_of_the_table() {
        let net = diego::NetInfo {
            address: [1, 1, 1, 1].into(),
            instance_address: [1, 1, 1, 1].into(),
            ports: vec![],
        };
        row(&[State::Reserved], ["delete", "start run", "start run", "delete", "delete"]);
        let active = [State::Initializing, State::Created, State::Running { net, routable: true }];
        row(&active, ["delete", "start", "", "delete", "delete"]);
        row(&[completed(true)], ["delete", "reject delete", "reject delete", "delete", "delete"]);
        row(
            &[completed(false)],
            ["delete", "complete delete", "complete delete", "delete", "delete"],
        );
    }

    #[test]
    fn without_knowledge_the_brain_is_asked_and_a_run_needs_its_grant() {
        assert_eq!(task_step(&State::Reserved, View::Unknown), [Call::Start, Call::Run]);
        assert_eq!(task_step(&State::Created, View::Unknown), []);
        assert_eq!(task_step(&completed(false), View::Unknown), [Call::Complete, Call::Delete]);
        assert_eq!(
            task_step(&completed(true), View::Unknown),
            [Call::Reject("no".into()), Call::Delete]
        );
        assert_eq!(refused(&Call::Start), Some(Call::Delete));
        assert_eq!(refused(&Call::Complete), None);
        assert_eq!(granted_before(true), None);
        assert_eq!(granted_before(false), Some(Call::Delete));
    }

    #[test]
    fn only_a_run_of_ours_can_be_missing() {
        assert!(is_missing(View::Running { here: true }));
        for view in [View::None, View::Pending, View::Running { here: false }, View::Done] {
            assert!(!is_missing(view));
        }
    }
}
