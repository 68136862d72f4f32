//! Pure: the next steps of a deployment, from what is wanted and what serves. A step never takes away an instance that
//! serves while fewer than wanted would be left.

use std::collections::BTreeSet;

/// One process of the deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// How many it is told to have.
    pub instances: i64,
    /// Indices, below `instances`, that serve.
    pub routable: BTreeSet<i64>,
    /// An instance crashed so often that Diego only tries it now and then.
    pub hopeless: bool,
}

impl Side {
    fn ready(&self) -> i64 {
        i64::try_from(self.routable.len()).unwrap_or(i64::MAX)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The new process grows and the old ones shrink; up to a number at which a person is asked, if there is one.
    Deploying { pause_at: Option<i64> },
    /// A person is to say how it goes on.
    Paused,
    /// Back to the old process.
    Canceling,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub phase: Phase,
    /// The last step was taken so short a time ago that the next one is to wait; the way back does not.
    pub rests: bool,
    /// How many instances are to serve: of the new process at the end, or of the old one after a cancel.
    pub wanted: i64,
    /// How many new instances may be on their way up at once; at least 1.
    pub max_in_flight: i64,
    pub new: Side,
    /// Oldest first. More than one when the deployment superseded another.
    pub old: Vec<Side>,
    /// Which of the old ones a cancel goes back to.
    pub back_to: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    New,
    Old(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Scale(Which, i64),
    /// The step of a canary is reached.
    Pause,
    /// The new process does not come up.
    Cancel,
    /// The new process is the one; the old ones go.
    Deployed,
    /// The old process is the one; all others go.
    Canceled,
}

pub fn step(view: &View) -> Vec<Action> {
    match view.phase {
        Phase::Paused => Vec::new(),
        Phase::Deploying { .. } if view.new.hopeless => vec![Action::Cancel],
        Phase::Deploying { .. } if view.rests => Vec::new(),
        Phase::Deploying { pause_at } => deploy(view, pause_at),
        Phase::Canceling => cancel(view),
    }
}

fn deploy(view: &View, pause_at: Option<i64>) -> Vec<Action> {
    let ready = view.new.ready();
    let target = pause_at.unwrap_or(view.wanted).min(view.wanted);
    let olds: Vec<(Which, &Side)> =
        view.old.iter().enumerate().map(|(at, side)| (Which::Old(at), side)).collect();
    // While a canary is looked at there is one instance more than wanted.
    let keep = view.wanted - ready + i64::from(pause_at.is_some());
    if ready >= target {
        if pause_at.is_none() {
            return vec![Action::Deployed];
        }
        let mut actions = shrink(&olds, keep, view.wanted, ready);
        actions.push(Action::Pause);
        return actions;
    }
    let mut actions = Vec::new();
    let grown = target.min(ready.saturating_add(view.max_in_flight)).max(view.new.instances);
    if grown != view.new.instances {
        actions.push(Action::Scale(Which::New, grown));
    }
    actions.extend(shrink(&olds, keep, view.wanted, ready));
    actions
}

fn cancel(view: &View) -> Vec<Action> {
    let Some(back) = view.old.get(view.back_to) else { return vec![Action::Canceled] };
    let mut others = vec![(Which::New, &view.new)];
    others.extend(
        view.old
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != view.back_to)
            .map(|(at, side)| (Which::Old(at), side)),
    );
    let nothing_to_lose = others.iter().all(|(_, side)| side.routable.is_empty());
    if back.ready() >= view.wanted || nothing_to_lose || back.hopeless {
        return vec![Action::Canceled];
    }
    let mut actions = Vec::new();
    if back.instances < view.wanted {
        actions.push(Action::Scale(Which::Old(view.back_to), view.wanted));
    }
    // The new process is the first to go.
    others.reverse();
    actions.extend(shrink(&others, view.wanted - back.ready(), view.wanted, back.ready()));
    actions
}

/// Takes instances away from the last of `sides` first: down to `keep` in all, and never one that serves while the rest
/// and the `elsewhere` ready ones are no more than `wanted`.
fn shrink(sides: &[(Which, &Side)], keep: i64, wanted: i64, elsewhere: i64) -> Vec<Action> {
    let mut instances: i64 = sides.iter().map(|(_, side)| side.instances).sum();
    let mut ready: i64 = sides.iter().map(|(_, side)| side.ready()).sum();
    let mut actions = Vec::new();
    for (which, side) in sides.iter().rev() {
        let mut left = side.instances;
        while left > 0 && instances > keep {
            // Diego takes the highest index away first.
            if side.routable.contains(&(left - 1)) {
                if ready + elsewhere <= wanted {
                    break;
                }
                ready -= 1;
            }
            left -= 1;
            instances -= 1;
        }
        if left != side.instances {
            actions.push(Action::Scale(*which, left));
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn side(instances: i64, ready: i64) -> Side {
        Side { instances, routable: (0..ready).collect(), hopeless: false }
    }

    fn rolling(wanted: i64, new: Side, old: Side) -> View {
        View {
            phase: Phase::Deploying { pause_at: None },
            rests: false,
            wanted,
            max_in_flight: 1,
            new,
            old: vec![old],
            back_to: 0,
        }
    }

    #[test]
    fn one_comes_before_one_goes() {
        let (new, old) = (Which::New, Which::Old(0));
        assert_eq!(step(&rolling(2, side(1, 0), side(2, 2))), []);
        let after_one = step(&rolling(2, side(1, 1), side(2, 2)));
        assert_eq!(after_one, [Action::Scale(new, 2), Action::Scale(old, 1)]);
        assert_eq!(step(&rolling(2, side(2, 1), side(1, 1))), []);
        assert_eq!(step(&rolling(2, side(2, 2), side(1, 1))), [Action::Deployed]);
        assert_eq!(step(&rolling(0, side(0, 0), side(0, 0))), [Action::Deployed]);
    }

    #[test]
    fn what_rests_goes_on_later_but_back_at_once() {
        let ready = View { rests: true, ..rolling(2, side(1, 1), side(2, 2)) };
        assert_eq!(step(&ready), []);
        let broken = Side { hopeless: true, ..side(1, 0) };
        assert_eq!(step(&View { new: broken, ..ready.clone() }), [Action::Cancel]);
        let back = View { phase: Phase::Canceling, ..ready };
        assert_eq!(step(&back), [Action::Canceled]);
    }

    #[test]
    fn a_canary_waits_for_a_person() {
        let canary = View {
            phase: Phase::Deploying { pause_at: Some(1) },
            ..rolling(3, side(1, 1), side(3, 3))
        };
        assert_eq!(step(&canary), [Action::Pause]);
        assert!(step(&View { phase: Phase::Paused, ..canary }).is_empty());
    }

    #[test]
    fn what_does_not_come_up_is_given_up() {
        let broken = Side { hopeless: true, ..side(1, 0) };
        assert_eq!(step(&rolling(2, broken.clone(), side(2, 2))), [Action::Cancel]);
        let back = View { phase: Phase::Canceling, ..rolling(2, broken, side(2, 1)) };
        assert_eq!(step(&back), [Action::Canceled]);
        let half = View { phase: Phase::Canceling, ..rolling(2, side(1, 1), side(1, 1)) };
        assert_eq!(step(&half), [Action::Scale(Which::Old(0), 2)]);
    }

    fn serving(view: &View) -> i64 {
        view.new.ready() + view.old.iter().map(Side::ready).sum::<i64>()
    }

    /// Carries actions out as the shell does; `false` when the deployment has ended.
    fn apply(view: &mut View, actions: &[Action]) -> bool {
        for action in actions {
            match *action {
                Action::Scale(which, instances) => {
                    let side = match which {
                        Which::New => &mut view.new,
                        Which::Old(at) => &mut view.old[at],
                    };
                    side.instances = instances;
                    side.routable.retain(|index| *index < instances);
                }
                Action::Pause => view.phase = Phase::Paused,
                Action::Cancel => view.phase = Phase::Canceling,
                Action::Deployed | Action::Canceled => return false,
            }
        }
        true
    }

    /// Some instance that should serve and does not comes up; `chance` says which.
    fn one_comes_up(view: &mut View, chance: usize) {
        let mut sides: Vec<&mut Side> =
            std::iter::once(&mut view.new).chain(view.old.iter_mut()).collect();
        let missing: Vec<(usize, i64)> = sides
            .iter()
            .enumerate()
            .flat_map(|(at, side)| {
                (0..side.instances).filter(|i| !side.routable.contains(i)).map(move |i| (at, i))
            })
            .collect();
        if let Some((at, index)) = missing.get(chance % missing.len().max(1)) {
            sides[*at].routable.insert(*index);
        }
    }

    prop_compose! {
        fn sides()(instances in 0..6_i64, bits in any::<u8>()) -> Side {
            let routable = (0..instances).filter(|index| bits >> index & 1 == 1).collect();
            Side { instances, routable, hopeless: false }
        }
    }

    prop_compose! {
        fn views()(
            wanted in 0..6_i64,
            max_in_flight in 1..4_i64,
            new in sides(),
            old in prop::collection::vec(sides(), 1..4),
            phase in prop_oneof![
                Just(Phase::Deploying { pause_at: None }),
                (1..6_i64).prop_map(|at| Phase::Deploying { pause_at: Some(at) }),
                Just(Phase::Canceling),
            ],
            at in any::<prop::sample::Index>(),
        ) -> View {
            let back_to = at.index(old.len());
            View { phase, rests: false, wanted, max_in_flight, new, old, back_to }
        }
    }

    proptest! {
        /// Whatever the state, a step leaves as many serving as wanted, or as many as there were.
        #[test]
        fn never_fewer_serve_than_wanted(mut view in views(), chances in prop::collection::vec(any::<usize>(), 40)) {
            for chance in chances {
                let before = serving(&view).min(view.wanted);
                let actions = step(&view);
                let last = actions.last().copied();
                let goes_on = apply(&mut view, &actions);
                prop_assert!(serving(&view) >= before, "{actions:?} left {view:?}");
                match last {
                    Some(Action::Deployed) => prop_assert!(view.new.ready() >= view.wanted),
                    Some(Action::Canceled) => {
                        let others = serving(&view) - view.old[view.back_to].ready();
                        prop_assert!(view.old[view.back_to].ready() >= view.wanted || others == 0);
                    }
                    _ => {}
                }
                if !goes_on {
                    break;
                }
                one_comes_up(&mut view, chance);
            }
        }

        /// When what should serve comes up sooner or later, the end is reached; people always say: go on.
        #[test]
        fn every_deployment_ends(mut view in views(), chance in any::<usize>()) {
            for turn in 0..200 {
                let actions = step(&view);
                if !apply(&mut view, &actions) {
                    return Ok(());
                }
                if view.phase == Phase::Paused {
                    view.phase = Phase::Deploying { pause_at: None };
                }
                one_comes_up(&mut view, chance.wrapping_add(turn));
            }
            prop_assert!(false, "no end: {view:?}");
        }
    }
}
