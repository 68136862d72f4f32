//! The life of one instance: one function, one `match`.

use base::Timestamp;

use super::{ActualLrp, InstanceKey, NetInfo, Presence, State};
use crate::crash::{Restart, Rule};
use crate::{BbsError, bbs::ErrorKind, text};

/// What may befall an instance. That it ends altogether is [`ActualLrp::may_remove`]'s to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A cell makes the container.
    Claim(InstanceKey),
    /// The container is healthy, or what is known of it has changed.
    Start {
        by: InstanceKey,
        net: NetInfo,
        routable: bool,
    },
    Crash {
        by: InstanceKey,
        reason: String,
        rule: Rule,
    },
    /// An auction found no place.
    Fail {
        placement_error: String,
    },
    /// A new cell is to be found, whatever was.
    Unclaim,
    /// Its cell is missing.
    Lose,
    /// Its cell is back.
    Recover,
}

impl Event {
    pub fn name(&self) -> &'static str {
        match self {
            Event::Claim(_) => "claim",
            Event::Start { .. } => "start",
            Event::Crash { .. } => "crash",
            Event::Fail { .. } => "fail",
            Event::Unclaim => "unclaim",
            Event::Lose => "lose",
            Event::Recover => "recover",
        }
    }
}

/// The state and the event do not go together; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {event} while {state}")]
pub struct Refused {
    pub state: &'static str,
    pub event: &'static str,
}

impl From<Refused> for BbsError {
    fn from(refused: Refused) -> BbsError {
        let kind = match refused.event {
            "claim" => ErrorKind::ActualLrpCannotBeClaimed,
            "start" => ErrorKind::ActualLrpCannotBeStarted,
            "crash" => ErrorKind::ActualLrpCannotBeCrashed,
            "remove" => ErrorKind::ActualLrpCannotBeRemoved,
            "unclaim" => ErrorKind::ActualLrpCannotBeUnclaimed,
            _ => ErrorKind::InvalidStateTransition,
        };
        BbsError::new(kind, refused.to_string())
    }
}

impl ActualLrp {
    /// The only way an instance changes. An event that changes nothing gives the record back as it was, its
    /// modification tag included.
    pub fn apply(self, event: Event, now: Timestamp) -> Result<ActualLrp, Refused> {
        use {Event as E, State as S};
        let refused = Refused { state: self.state.name(), event: event.name() };
        // A suspect waits for its cell; whatever else the cell says of it ends the record.
        if self.presence == Presence::Suspect && event != E::Recover {
            return Err(refused);
        }
        match (&self.state, event) {
            (S::Unclaimed { .. }, E::Claim(by)) => Ok(self.enter(S::Claimed { by }, now)),
            (S::Claimed { by: held }, E::Claim(by)) if *held == by => Ok(self),
            (S::Running { by: held, .. }, E::Claim(by)) if *held == by => {
                Ok(self.enter(S::Claimed { by }, now))
            }

            (S::Unclaimed { .. } | S::Claimed { .. }, E::Start { by, net, routable }) => {
                Ok(self.enter(S::Running { by, net, routable }, now))
            }
            (S::Running { by: held, .. }, E::Start { by, net, routable }) if *held == by => {
                Ok(self.amend(S::Running { by, net, routable }))
            }

            (
                S::Claimed { by: held } | S::Running { by: held, .. },
                E::Crash { by, reason, rule },
            ) if *held == by => Ok(self.crash(&reason, &rule, now)),
            (S::Unclaimed { .. }, E::Fail { placement_error }) => {
                let placement_error = text::reason(&placement_error).into_owned();
                Ok(self.enter(S::Unclaimed { placement_error }, now))
            }
            (S::Unclaimed { .. }, E::Unclaim) => Ok(self),
            (S::Claimed { .. } | S::Running { .. } | S::Crashed, E::Unclaim) => {
                Ok(self.enter(S::Unclaimed { placement_error: String::new() }, now))
            }

            (S::Claimed { .. } | S::Running { .. }, E::Lose)
                if self.presence == Presence::Ordinary =>
            {
                Ok(self.turn(Presence::Suspect))
            }
            (S::Claimed { .. } | S::Running { .. }, E::Recover)
                if self.presence == Presence::Suspect =>
            {
                Ok(self.turn(Presence::Ordinary))
            }
            _ => Err(refused),
        }
    }

    /// Whether `by` may end this record: only whoever holds it.
    pub fn may_remove(&self, by: &InstanceKey) -> Result<(), Refused> {
        if self.instance() == Some(by) {
            Ok(())
        } else {
            Err(Refused { state: self.state.name(), event: "remove" })
        }
    }

    fn enter(self, state: State, now: Timestamp) -> ActualLrp {
        ActualLrp { state, since: now, modification_tag: self.modification_tag.next(), ..self }
    }

    /// A change within a state: the time of entry stays, and no change is no new version.
    fn amend(self, state: State) -> ActualLrp {
        if self.state == state {
            return self;
        }
        ActualLrp { state, modification_tag: self.modification_tag.next(), ..self }
    }

    fn turn(self, presence: Presence) -> ActualLrp {
        ActualLrp { presence, modification_tag: self.modification_tag.next(), ..self }
    }

    fn crash(self, reason: &str, rule: &Rule, now: Timestamp) -> ActualLrp {
        let ran = matches!(self.state, State::Running { .. }).then(|| now.since(self.since));
        let crash_count = rule.count(self.crash_count, ran);
        let state = match rule.restart(crash_count) {
            Restart::AtOnce => State::Unclaimed { placement_error: String::new() },
            Restart::After(_) | Restart::Never => State::Crashed,
        };
        ActualLrp {
            crash_count,
            crash_reason: text::reason(reason).into_owned(),
            ..self.enter(state, now)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;
    use crate::{LrpKey, PortMapping};

    const START: Timestamp = Timestamp::from_secs(1_000);

    pub(crate) fn key(name: &str) -> InstanceKey {
        InstanceKey { instance_guid: name.into(), cell_id: format!("cell-{name}").into() }
    }

    fn net(port: u16) -> NetInfo {
        let ports = vec![PortMapping { container_port: 8080, listen_port: 8080, host_port: port }];
        NetInfo { address: [127, 0, 0, 1].into(), instance_address: [10, 0, 0, 2].into(), ports }
    }

    fn claim(name: &str) -> Event {
        Event::Claim(key(name))
    }

    fn start(name: &str) -> Event {
        Event::Start { by: key(name), net: net(61_000), routable: true }
    }

    fn crash(name: &str) -> Event {
        let reason = "Exited with status 1".to_owned();
        Event::Crash { by: key(name), reason, rule: Rule::default() }
    }

    fn lrp() -> ActualLrp {
        ActualLrp::unclaimed(
            LrpKey { process_guid: "p".into(), index: 0, domain: "d".into() },
            START,
        )
    }

    fn show(lrp: &ActualLrp) -> String {
        let by = lrp.instance().map(|by| format!(" {}", by.instance_guid)).unwrap_or_default();
        let presence = if lrp.presence == Presence::Ordinary { "" } else { " suspect" };
        let crashes = if lrp.crash_count == 0 {
            String::new()
        } else {
            format!(" crashes={}", lrp.crash_count)
        };
        format!("{}{by}{presence}{crashes}", lrp.state.name())
    }

    #[track_caller]
    fn check(events: impl IntoIterator<Item = Event>, want: Expect) {
        let mut lrp = lrp();
        let mut line = show(&lrp);
        for (step, event) in (1..).zip(events) {
            match lrp.clone().apply(event, START + Duration::from_secs(step)) {
                Ok(next) => lrp = next,
                Err(refused) => return want.assert_eq(&format!("{line} > refused: {refused}")),
            }
            line = format!("{line} > {}", show(&lrp));
        }
        want.assert_eq(&line);
    }

    #[test]
    fn the_usual_life() {
        check(
            [claim("a"), start("a"), crash("a"), start("b")],
            expect![
                "UNCLAIMED > CLAIMED a > RUNNING a > UNCLAIMED crashes=1 > RUNNING b crashes=1"
            ],
        );
    }

    #[test]
    fn strangers_are_refused() {
        check(
            [claim("a"), claim("b")],
            expect!["UNCLAIMED > CLAIMED a > refused: cannot claim while CLAIMED"],
        );
        check(
            [claim("a"), crash("b")],
            expect!["UNCLAIMED > CLAIMED a > refused: cannot crash while CLAIMED"],
        );
        check(
            [start("a"), start("b")],
            expect!["UNCLAIMED > RUNNING a > refused: cannot start while RUNNING"],
        );
        check(
            [start("a"), claim("b")],
            expect!["UNCLAIMED > RUNNING a > refused: cannot claim while RUNNING"],
        );
    }

    #[test]
    fn whoever_runs_first_wins_over_whoever_claimed() {
        check([claim("a"), start("b")], expect!["UNCLAIMED > CLAIMED a > RUNNING b"]);
    }

    #[test]
    fn the_third_crash_waits_and_lets_nobody_in() {
        let crashes =
            [start("a"), crash("a"), start("b"), crash("b"), start("c"), crash("c"), claim("d")];
        check(
            crashes,
            expect![
                "UNCLAIMED > RUNNING a > UNCLAIMED crashes=1 > RUNNING b crashes=1 > UNCLAIMED crashes=2 > RUNNING c crashes=2 > CRASHED crashes=3 > refused: cannot claim while CRASHED"
            ],
        );
    }

    #[test]
    fn a_lost_cell_makes_suspects_until_it_is_back() {
        check(
            [start("a"), Event::Lose, Event::Recover],
            expect!["UNCLAIMED > RUNNING a > RUNNING a suspect > RUNNING a"],
        );
        check([Event::Lose], expect!["UNCLAIMED > refused: cannot lose while UNCLAIMED"]);
    }

    #[test]
    fn placement_errors_live_in_unclaimed_only() {
        let fail = || Event::Fail { placement_error: "no room".to_owned() };
        let failed = lrp().apply(fail(), START).unwrap();
        assert_eq!(failed.state, State::Unclaimed { placement_error: "no room".to_owned() });
        let claimed = failed.apply(claim("a"), START).unwrap();
        assert!(claimed.clone().apply(fail(), START).is_err());
        let back = claimed.apply(Event::Unclaim, START).unwrap();
        assert_eq!(back.state, State::Unclaimed { placement_error: String::new() });
    }

    #[test]
    fn a_stable_run_forgives_earlier_crashes() {
        let lrp = ActualLrp { crash_count: 50, ..lrp() }.apply(start("a"), START).unwrap();
        let quick = lrp.clone().apply(crash("a"), START + Duration::from_secs(300)).unwrap();
        let late = lrp.apply(crash("a"), START + Duration::from_secs(301)).unwrap();
        assert_eq!((quick.crash_count, quick.state), (51, State::Crashed));
        assert_eq!((late.crash_count, late.state.name()), (1, "UNCLAIMED"));
    }

    #[test]
    fn readiness_changes_the_version_but_not_the_time() {
        let running = lrp().apply(start("a"), START).unwrap();
        let later = START + Duration::from_secs(9);
        assert_eq!(running.clone().apply(start("a"), later).unwrap(), running);
        let event = Event::Start { by: key("a"), net: net(61_000), routable: false };
        let unready = running.clone().apply(event, later).unwrap();
        assert_eq!(unready.since, running.since);
        assert!(unready.modification_tag.succeeds(&running.modification_tag));
    }

    fn some_event() -> impl Strategy<Value = Event> {
        let who = prop::sample::select(vec!["a", "b", "c"]);
        (0..7, who).prop_map(|(kind, who)| match kind {
            0 => claim(who),
            1 => start(who),
            2 => crash(who),
            3 => Event::Fail { placement_error: "full".to_owned() },
            4 => Event::Unclaim,
            5 => Event::Lose,
            _ => Event::Recover,
        })
    }

    proptest! {
        #[test]
        fn every_change_is_a_new_version_and_running_is_never_stolen(events in prop::collection::vec(some_event(), 0..60)) {
            let mut lrp = lrp();
            for (step, event) in (1..).zip(events) {
                let Ok(next) = lrp.clone().apply(event.clone(), START + Duration::from_secs(step)) else { continue };
                prop_assert_eq!(next == lrp, next.modification_tag == lrp.modification_tag);
                if let (State::Running { by: old, .. }, State::Running { by: new, .. }) = (&lrp.state, &next.state) {
                    prop_assert_eq!(old, new);
                }
                prop_assert!(next.crash_count >= lrp.crash_count || next.crash_count == 1);
                prop_assert_eq!(next.instance().is_some(), matches!(next.state, State::Claimed { .. } | State::Running { .. }));
                lrp = next;
            }
        }
    }
}
