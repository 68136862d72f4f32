//! The life of one task: its action is started zero or one times, never twice.

use base::Timestamp;

use super::{Attempt, Outcome, State, Task, TaskDefinition};
use crate::bbs::ErrorKind;
use crate::{BbsError, CellId, Domain, TaskGuid, text};

/// A task fails at the rejection after these.
pub const MAX_REJECTIONS: u32 = 3;

/// What may befall a task. That it is deleted is [`Task::may_delete`]'s to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A cell asks for the run.
    Start(Attempt),
    Complete {
        by: Attempt,
        failure: Option<String>,
        result: String,
    },
    Cancel,
    Fail {
        reason: String,
    },
    /// The container was not made. `by` is the cell that tried, or nobody when no cell had room.
    Reject {
        by: Option<Attempt>,
        reason: String,
    },
    /// Somebody takes it on to deal with the outcome.
    Resolve,
    /// Whoever took it on was not heard of again.
    Unresolve,
}

impl Event {
    pub fn name(&self) -> &'static str {
        match self {
            Event::Start(_) => "start",
            Event::Complete { .. } => "complete",
            Event::Cancel => "cancel",
            Event::Fail { .. } => "fail",
            Event::Reject { .. } => "reject",
            Event::Resolve => "resolve",
            Event::Unresolve => "unresolve",
        }
    }

    /// The cell's try that it is about.
    fn attempt(&self) -> Option<&Attempt> {
        match self {
            Event::Start(by) | Event::Complete { by, .. } => Some(by),
            Event::Reject { by, .. } => by.as_ref(),
            Event::Cancel | Event::Fail { .. } | Event::Resolve | Event::Unresolve => None,
        }
    }

    /// The state it leads to, as refusals name it.
    fn aim(&self) -> &'static str {
        match self {
            Event::Start(_) => "RUNNING",
            Event::Complete { .. } | Event::Cancel | Event::Fail { .. } | Event::Unresolve => {
                "COMPLETED"
            }
            Event::Reject { .. } => "PENDING",
            Event::Resolve => "RESOLVING",
        }
    }
}

/// Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("Cannot transition from {from} to {to}")]
    Transition { from: &'static str, to: &'static str },
    #[error("Running on cell {running_on} not {asked_by}")]
    WrongCell { running_on: CellId, asked_by: CellId },
    #[error("the attempt after {asked} rejections is over: there were {rejections} by now")]
    Over { asked: u32, rejections: u32 },
}

impl From<Refused> for BbsError {
    fn from(refused: Refused) -> BbsError {
        let kind = match refused {
            Refused::Transition { .. } | Refused::Over { .. } => ErrorKind::InvalidStateTransition,
            Refused::WrongCell { .. } => ErrorKind::RunningOnDifferentCell,
        };
        BbsError::new(kind, refused.to_string())
    }
}

impl State {
    pub fn name(&self) -> &'static str {
        match self {
            State::Pending => "PENDING",
            State::Running { .. } => "RUNNING",
            State::Completed { .. } => "COMPLETED",
            State::Resolving { .. } => "RESOLVING",
        }
    }
}

impl Task {
    pub fn pending(
        task_guid: TaskGuid,
        domain: Domain,
        definition: TaskDefinition,
        now: Timestamp,
    ) -> Task {
        Task {
            task_guid,
            domain,
            definition,
            created_at: now,
            updated_at: now,
            rejection_count: 0,
            rejection_reason: String::new(),
            state: State::Pending,
        }
    }

    /// The only way a task changes. A start by the cell that has the run already changes nothing.
    pub fn apply(self, event: Event, now: Timestamp) -> Result<Task, Refused> {
        use {Event as E, State as S};
        let refused = Refused::Transition { from: self.state.name(), to: event.aim() };
        match (&self.state, event) {
            (S::Running { cell_id }, E::Complete { by, .. } | E::Reject { by: Some(by), .. })
                if *cell_id != by.cell_id =>
            {
                Err(Refused::WrongCell { running_on: cell_id.clone(), asked_by: by.cell_id })
            }
            (S::Pending | S::Running { .. }, event)
                if event.attempt().is_some_and(|by| by.rejections != self.rejection_count) =>
            {
                let asked = event.attempt().map_or(0, |by| by.rejections);
                Err(Refused::Over { asked, rejections: self.rejection_count })
            }

            (S::Pending, E::Start(by)) => Ok(self.enter(S::Running { cell_id: by.cell_id }, now)),
            (S::Running { cell_id }, E::Start(by)) if *cell_id == by.cell_id => Ok(self),

            (S::Running { .. }, E::Complete { failure, result, .. }) => {
                Ok(self.complete(failure.as_deref(), result, now))
            }

            (S::Pending | S::Running { .. }, E::Cancel) => {
                Ok(self.complete(Some("task was cancelled"), String::new(), now))
            }
            (S::Pending | S::Running { .. }, E::Fail { reason }) => {
                Ok(self.complete(Some(&reason), String::new(), now))
            }

            (S::Pending, E::Reject { reason, .. })
            | (S::Running { .. }, E::Reject { by: Some(_), reason }) => {
                Ok(self.reject(&reason, now))
            }

            (S::Completed { outcome }, E::Resolve) => {
                let outcome = outcome.clone();
                Ok(self.enter(S::Resolving { outcome }, now))
            }
            // The time of the last change stays, so that the callback is tried again in the same round.
            (S::Resolving { outcome }, E::Unresolve) => {
                let outcome = outcome.clone();
                Ok(Task { state: S::Completed { outcome }, ..self })
            }
            _ => Err(refused),
        }
    }

    /// Only whoever resolves it may delete it.
    pub fn may_delete(&self) -> Result<(), Refused> {
        match self.state {
            State::Resolving { .. } => Ok(()),
            _ => Err(Refused::Transition { from: self.state.name(), to: "DELETED" }),
        }
    }

    /// The cell that has the run.
    pub fn cell_id(&self) -> Option<&CellId> {
        match &self.state {
            State::Running { cell_id } => Some(cell_id),
            _ => None,
        }
    }

    /// The try that a cell makes at it as it is now.
    pub fn attempt_by(&self, cell_id: CellId) -> Attempt {
        Attempt { cell_id, rejections: self.rejection_count }
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            State::Completed { outcome } | State::Resolving { outcome } => Some(outcome),
            State::Pending | State::Running { .. } => None,
        }
    }

    fn enter(self, state: State, now: Timestamp) -> Task {
        Task { state, updated_at: now, ..self }
    }

    fn complete(self, failure: Option<&str>, result: String, now: Timestamp) -> Task {
        let failure_reason =
            failure.map(|reason| text::reason(reason).into_owned()).unwrap_or_default();
        let outcome =
            Outcome { first_completed_at: now, failed: failure.is_some(), failure_reason, result };
        self.enter(State::Completed { outcome }, now)
    }

    fn reject(self, reason: &str, now: Timestamp) -> Task {
        let rejection_reason = text::reason(reason).into_owned();
        if self.rejection_count >= MAX_REJECTIONS {
            return Task { rejection_reason, ..self }.complete(Some(reason), String::new(), now);
        }
        let rejection_count = self.rejection_count + 1;
        Task { rejection_count, rejection_reason, ..self.enter(State::Pending, now) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_000);

    /// `a`, or `a1` after one rejection.
    fn attempt(text: &str) -> Attempt {
        let cell_id = text.trim_end_matches(char::is_numeric);
        Attempt { cell_id: cell_id.into(), rejections: text[cell_id.len()..].parse().unwrap_or(0) }
    }

    fn start(by: &str) -> Event {
        Event::Start(attempt(by))
    }

    fn complete(by: &str) -> Event {
        Event::Complete { by: attempt(by), failure: None, result: "42".to_owned() }
    }

    fn reject(by: Option<&str>) -> Event {
        Event::Reject { by: by.map(attempt), reason: "no container".to_owned() }
    }

    fn task() -> Task {
        Task::pending("t".into(), "d".into(), TaskDefinition::default(), START)
    }

    fn show(task: &Task) -> String {
        let cell = task.cell_id().map(|cell| format!(" on {cell}")).unwrap_or_default();
        let outcome = task
            .outcome()
            .map(|end| format!(" ({}{})", end.failure_reason, end.result))
            .unwrap_or_default();
        let rejections = if task.rejection_count == 0 {
            String::new()
        } else {
            format!(" rejected={}", task.rejection_count)
        };
        format!("{}{cell}{outcome}{rejections}", task.state.name())
    }

    #[track_caller]
    fn check(events: impl IntoIterator<Item = Event>, want: Expect) {
        let mut task = task();
        let mut line = show(&task);
        for (step, event) in (1..).zip(events) {
            match task.clone().apply(event, START + Duration::from_secs(step)) {
                Ok(next) => task = next,
                Err(refused) => return want.assert_eq(&format!("{line} > refused: {refused}")),
            }
            line = format!("{line} > {}", show(&task));
        }
        want.assert_eq(&line);
    }

    #[test]
    fn the_usual_life() {
        let life = [start("a"), start("a"), complete("a"), Event::Resolve];
        check(
            life,
            expect!["PENDING > RUNNING on a > RUNNING on a > COMPLETED (42) > RESOLVING (42)"],
        );
    }

    #[test]
    fn one_cell_gets_the_run() {
        check(
            [start("a"), start("b")],
            expect!["PENDING > RUNNING on a > refused: Cannot transition from RUNNING to RUNNING"],
        );
        check(
            [start("a"), complete("b")],
            expect!["PENDING > RUNNING on a > refused: Running on cell a not b"],
        );
        check(
            [complete("a")],
            expect!["PENDING > refused: Cannot transition from PENDING to COMPLETED"],
        );
    }

    #[test]
    fn a_late_rejection_does_not_free_a_task_that_runs_elsewhere() {
        check(
            [start("a"), reject(Some("b"))],
            expect!["PENDING > RUNNING on a > refused: Running on cell a not b"],
        );
        check(
            [start("a"), reject(None)],
            expect!["PENDING > RUNNING on a > refused: Cannot transition from RUNNING to PENDING"],
        );
        check(
            [start("a"), reject(Some("a"))],
            expect!["PENDING > RUNNING on a > PENDING rejected=1"],
        );
    }

    #[test]
    fn what_is_said_of_an_attempt_that_is_over_comes_too_late() {
        check(
            [start("a"), reject(Some("a")), start("b")],
            expect![
                "PENDING > RUNNING on a > PENDING rejected=1 > refused: the attempt after 0 rejections is over: there were 1 by now"
            ],
        );
        for late in [start("a"), complete("a"), reject(Some("a"))] {
            let mut task = task();
            for event in [start("a"), reject(Some("a")), start("a1")] {
                task = task.apply(event, START).unwrap();
            }
            assert_eq!(task.apply(late, START), Err(Refused::Over { asked: 0, rejections: 1 }));
        }
    }

    #[test]
    fn the_fourth_rejection_fails_it() {
        let rejections =
            [reject(None), reject(None), reject(Some("a2")), reject(None), start("a3")];
        check(
            rejections,
            expect![
                "PENDING > PENDING rejected=1 > PENDING rejected=2 > PENDING rejected=3 > COMPLETED (no container) rejected=3 > refused: Cannot transition from COMPLETED to RUNNING"
            ],
        );
    }

    #[test]
    fn cancelled_and_failed_tasks_are_complete() {
        check(
            [Event::Cancel, Event::Cancel],
            expect![
                "PENDING > COMPLETED (task was cancelled) > refused: Cannot transition from COMPLETED to COMPLETED"
            ],
        );
        let fail = Event::Fail { reason: "cell disappeared before completion".to_owned() };
        check(
            [start("a"), fail],
            expect!["PENDING > RUNNING on a > COMPLETED (cell disappeared before completion)"],
        );
    }

    #[test]
    fn one_resolver_wins_and_alone_may_delete() {
        let done = task().apply(start("a"), START).unwrap().apply(complete("a"), START).unwrap();
        assert!(done.may_delete().is_err());
        let resolving = done.apply(Event::Resolve, START + Duration::from_secs(1)).unwrap();
        assert!(resolving.may_delete().is_ok());
        assert!(resolving.clone().apply(Event::Resolve, START).is_err());
        let back =
            resolving.clone().apply(Event::Unresolve, START + Duration::from_secs(60)).unwrap();
        assert_eq!((back.state.name(), back.updated_at), ("COMPLETED", resolving.updated_at));
    }

    fn some_event() -> impl Strategy<Value = Event> {
        (0..8, prop::sample::select(vec!["a", "b", "a1", "b1", "a2", "b2"])).prop_map(
            |(kind, cell)| match kind {
                0 => start(cell),
                1 => complete(cell),
                2 => Event::Cancel,
                3 => Event::Fail { reason: "gone".to_owned() },
                4 => reject(Some(cell)),
                5 => reject(None),
                6 => Event::Resolve,
                _ => Event::Unresolve,
            },
        )
    }

    proptest! {
        /// A cell that was granted the run keeps it until it ends it itself or the task is over.
        #[test]
        fn the_run_never_moves_between_cells(events in prop::collection::vec(some_event(), 0..60)) {
            let mut task = task();
            for (step, event) in (1..).zip(events) {
                let Ok(next) = task.clone().apply(event.clone(), START + Duration::from_secs(step)) else { continue };
                match (task.cell_id(), next.cell_id()) {
                    (Some(held), Some(holds)) => prop_assert_eq!(held, holds),
                    (Some(held), None) if next.outcome().is_none() => {
                        prop_assert_eq!(event.attempt(), Some(&task.attempt_by(held.clone())));
                    }
                    _ => {}
                }
                prop_assert!(task.outcome().is_none() || next.outcome() == task.outcome(), "an outcome never changes");
                prop_assert!(next.rejection_count <= MAX_REJECTIONS);
                task = next;
            }
        }
    }
}
