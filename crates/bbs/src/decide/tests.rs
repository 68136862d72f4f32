//! Random histories over the pure core: whatever clients and cells say, the state stays sound.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use diego::action::RunAction;
use diego::actual_lrp::State as LrpState;
use diego::cell::Resources;
use diego::desired_lrp::RunInfo;
use diego::sim::SimCell;
use diego::task::Attempt;
use diego::{Action, ActualLrp, ModificationTag};
use proptest::prelude::*;

use super::*;
use crate::config::Timings;
use crate::converge::{Round, converge};
use crate::state::{ActualKey, Group, Key};

const START: Timestamp = Timestamp::from_secs(1_000_000);

type Check<T = ()> = std::result::Result<T, TestCaseError>;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Do(Command),
    Wait(u64),
    Converge,
    /// Convergence looks, and acts only when the next look begins.
    Look,
}

fn run() -> RunInfo {
    let action =
        RunAction { path: "/bin/true".to_owned(), user: "vcap".to_owned(), ..RunAction::default() };
    RunInfo {
        rootfs: "preloaded:base".to_owned(),
        action: Some(Action::Run(action)),
        ..RunInfo::default()
    }
}

fn desired(process: &str, instances: u32) -> DesiredLrp {
    DesiredLrp {
        process_guid: process.into(),
        domain: "d".into(),
        instances,
        run: run(),
        routes: BTreeMap::new(),
        annotation: String::new(),
        metric_tags: BTreeMap::new(),
        modification_tag: ModificationTag::default(),
    }
}

fn net() -> NetInfo {
    NetInfo {
        address: [127, 0, 0, 1].into(),
        instance_address: [10, 0, 0, 1].into(),
        ports: Vec::new(),
    }
}

fn presence(cell: &str) -> CellPresence {
    SimCell::presence(cell, "z", Resources { memory_mb: 1, disk_mb: 1, containers: 1 })
}

fn some_command() -> impl Strategy<Value = Command> {
    let names = |of: &'static [&'static str]| prop::sample::select(of);
    let process = names(&["p", "q"]);
    let key = (names(&["p", "q"]), 0_u32..4).prop_map(|(process, index)| LrpKey {
        process_guid: process.into(),
        index,
        domain: "d".into(),
    });
    // An instance guid belongs to one cell.
    let instance = names(&["a1", "a2", "b1", "b2", "c1"])
        .prop_map(|guid| InstanceKey { instance_guid: guid.into(), cell_id: guid[..1].into() });
    let cell = || names(&["a", "b", "c"]);
    let task = names(&["t", "u"]);
    let on_lrp =
        (key, instance, 0..10_u8, any::<bool>()).prop_map(|(key, by, kind, flag)| match kind {
            0 => Command::Retire(key),
            1 | 2 => Command::Claim(key, by),
            3 | 4 => Command::Start { key, by, net: net(), routable: flag },
            5 => Command::Crash { key, by, reason: "why".to_owned() },
            6 => Command::Remove(key, by),
            7 if flag => Command::Evacuate(key, by, Evacuation::Claimed),
            7 => Command::Evacuate(key, by, Evacuation::Crashed { reason: "why".to_owned() }),
            8 if flag => Command::Evacuate(key, by, Evacuation::Stopped),
            8 => Command::FailLrp(key, "no room".to_owned()),
            _ => Command::Evacuate(key, by, Evacuation::Running { net: net(), routable: flag }),
        });
    let on_process =
        (process, 0_u32..4, 0..6_u8).prop_map(|(process, instances, kind)| match kind {
            4 => Command::Update(
                process.into(),
                DesiredLrpUpdate {
                    metric_tags: Some(BTreeMap::from([("n".to_owned(), instances.to_string())])),
                    ..Default::default()
                },
            ),
            5 => Command::Retagged {
                process: process.into(),
                version: instances,
                since: START,
                slots: (0..instances).collect(),
            },
            0 => Command::RemoveDesired(process.into()),
            1 => Command::Update(
                process.into(),
                DesiredLrpUpdate { instances: Some(instances), ..Default::default() },
            ),
            _ => Command::Desire(Box::new(desired(process, instances))),
        });
    let on_cell = (cell(), 0..5_u8, any::<bool>()).prop_map(|(cell, kind, flag)| match kind {
        0 => Command::Retract(cell.into()),
        1 => Command::UpsertDomain {
            domain: "d".into(),
            ttl: flag.then_some(Duration::from_secs(60)),
        },
        _ => Command::Announce(presence(cell), Duration::from_secs(15)),
    });
    let attempt = (cell(), 0..3_u32)
        .prop_map(|(cell, rejections)| Attempt { cell_id: cell.into(), rejections });
    let on_task = (task, attempt, 0..10_u8).prop_map(|(guid, by, kind)| match kind {
        0 | 1 => Command::DesireTask {
            guid: guid.into(),
            domain: "d".into(),
            definition: Box::new(TaskDefinition { run: run(), ..Default::default() }),
        },
        2 | 3 => Command::StartTask(guid.into(), by),
        4 => {
            Command::CompleteTask { guid: guid.into(), by, failure: None, result: "42".to_owned() }
        }
        5 => Command::RejectTask { guid: guid.into(), by: Some(by), reason: "why".to_owned() },
        6 => Command::RejectTask { guid: guid.into(), by: None, reason: "why".to_owned() },
        7 => Command::CancelTask(guid.into()),
        8 => Command::ResolveTask(guid.into()),
        _ => Command::DeleteTask(guid.into()),
    });
    prop_oneof![8 => on_lrp, 3 => on_process, 3 => on_cell, 3 => on_task]
}

fn some_step() -> impl Strategy<Value = Step> {
    prop_oneof![12 => some_command().prop_map(Step::Do), 2 => (0_u64..40).prop_map(Step::Wait), 1 => Just(Step::Converge), 1 => Just(Step::Look)]
}

/// What the world keeps besides the state, to hold it to its promises.
#[derive(Default)]
struct World {
    state: State,
    now: Timestamp,
    /// Who may have a task's action under way.
    granted: HashMap<TaskGuid, Attempt>,
    /// What a slow convergence has still to do.
    late: Vec<Remedy>,
}

impl World {
    fn carry_out(&mut self, command: Command) -> Check {
        let before = self.state.clone();
        let Ok(decision) = decide(&self.state, command.clone(), self.now, &Timings::default())
        else {
            return Ok(());
        };
        prop_assert_eq!(&before, &self.state);
        self.at_most_once(&command, decision.answer)?;
        let mut undo = Vec::new();
        for write in decision.writes {
            if let Write::Actual(key, Some(lrp)) = &write {
                prop_assert_eq!(key, &ActualKey::of(lrp));
                let held = self
                    .state
                    .group(&key.process_guid, key.index)
                    .and_then(|group| group.get(key.presence).clone());
                if let Some(held) = held {
                    prop_assert!(
                        lrp.modification_tag.succeeds(&held.modification_tag),
                        "{:?}",
                        command
                    );
                }
            }
            undo.push(self.state.write(write));
        }
        self.state.check_indexes();
        self.sound(&command)?;
        let mut undone = self.state.clone();
        undo.into_iter().rev().for_each(|write| drop(undone.write(write)));
        undone.forget_when_cells_came(&before);
        prop_assert_eq!(undone, before, "{:?} can be undone", command);
        Ok(())
    }

    /// From the grant on, only the attempt that has it may free the task.
    fn at_most_once(&mut self, command: &Command, answer: Answer) -> Check {
        match (command, answer) {
            (Command::StartTask(guid, by), Answer::Granted(true)) => {
                let before = self.granted.insert(guid.clone(), by.clone());
                prop_assert_eq!(before, None, "{} was granted twice", guid);
            }
            (Command::RejectTask { guid, by: Some(by), .. }, _)
                if self.granted.get(guid) == Some(by) =>
            {
                self.granted.remove(guid);
            }
            (Command::DeleteTask(guid) | Command::Remedy(Remedy::DeleteTask(guid)), _) => {
                drop(self.granted.remove(guid))
            }
            _ => {}
        }
        Ok(())
    }

    fn sound(&self, command: &Command) -> Check {
        for (guid, process) in self.state.processes() {
            for (index, group) in &process.groups {
                for lrp in group.records() {
                    prop_assert_eq!(
                        (&lrp.key.process_guid, lrp.key.index, &lrp.key.domain),
                        (guid, *index, &process.domain)
                    );
                }
                let copies = [&group.evacuating, &group.suspect].into_iter().flatten();
                for copy in copies {
                    prop_assert!(
                        copy.instance().is_some(),
                        "{:?} left a copy without an instance: {:?}",
                        command,
                        group
                    );
                    let twin = group
                        .ordinary
                        .as_ref()
                        .is_some_and(|lrp| lrp.instance() == copy.instance());
                    prop_assert!(
                        !twin,
                        "{:?} made two records of one instance: {:?}",
                        command,
                        group
                    );
                }
                check_row(&self.state, group)?;
            }
        }
        Ok(())
    }

    /// Does late what was found needed before; nothing that is no longer wrong is touched.
    fn look(&mut self) -> Check {
        for remedy in std::mem::take(&mut self.late) {
            let needed =
                converge(&self.state, self.now, &Timings::default()).remedies.contains(&remedy);
            let before = self.state.clone();
            self.carry_out(Command::Remedy(remedy.clone()))?;
            prop_assert!(needed || before == self.state, "{:?} came too late and was done", remedy);
        }
        self.late = converge(&self.state, self.now, &Timings::default()).remedies;
        Ok(())
    }

    fn converge(&mut self) -> Check<Round> {
        let round = converge(&self.state, self.now, &Timings::default());
        for remedy in round.remedies.clone() {
            self.carry_out(Command::Remedy(remedy))?;
        }
        Ok(round)
    }
}

/// What is stored is what is known.
fn check_row(state: &State, group: &Group) -> Check {
    for lrp in group.records() {
        let row = state.row(&Key::Actual(ActualKey::of(lrp))).unwrap();
        prop_assert_eq!(serde_json::from_str::<ActualLrp>(&row).unwrap(), lrp.as_ref().clone());
    }
    Ok(())
}

fn changes(round: &Round) -> Vec<&Remedy> {
    let begins = |remedy: &&Remedy| {
        !matches!(
            remedy,
            Remedy::Auction(_)
                | Remedy::AuctionTask(_)
                | Remedy::StopAgain(_)
                | Remedy::Retag(_)
                | Remedy::CallBack(_)
        )
    };
    round.remedies.iter().filter(begins).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_said_the_state_stays_sound(steps in prop::collection::vec(some_step(), 0..120)) {
        let mut world = World { now: START, ..World::default() };
        for step in steps {
            match step {
                Step::Do(command) => world.carry_out(command)?,
                Step::Wait(seconds) => world.now = world.now + Duration::from_secs(seconds),
                Step::Converge => drop(world.converge()?),
                Step::Look => world.look()?,
            }
        }
    }

    /// Rounds without news come to rest: then every desired index has a record and, the domain being fresh, nothing else has.
    #[test]
    fn convergence_comes_to_rest(steps in prop::collection::vec(some_step(), 0..120)) {
        let mut world = World { now: START, ..World::default() };
        for step in steps {
            match step {
                Step::Do(command) => world.carry_out(command)?,
                Step::Wait(seconds) => world.now = world.now + Duration::from_secs(seconds),
                Step::Converge => drop(world.converge()?),
                Step::Look => world.look()?,
            }
        }
        world.carry_out(Command::UpsertDomain { domain: "d".into(), ttl: None })?;
        for _ in 0..4 {
            world.converge()?;
        }
        let last = world.converge()?;
        for (guid, retag) in world.state.retags() {
            let desired = world.state.desired(guid);
            prop_assert!(desired.is_some_and(|desired| desired.modification_tag.index >= retag.version));
            prop_assert!(!retag.slots.is_empty());
        }
        prop_assert!(changes(&last).is_empty(), "{:?}", changes(&last));
        prop_assert!(last.next.is_none_or(|next| next > world.now), "{:?} is over", last.next);
        for (_, process) in world.state.processes() {
            for index in 0..process.instances() {
                prop_assert!(process.groups.get(&index).is_some_and(|group| group.ordinary.is_some()));
            }
            for (index, group) in &process.groups {
                if let Some(lrp) = &group.ordinary {
                    let waits = world.state.is_retiring(lrp) || process.wants(*index);
                    prop_assert!(waits, "{:?} is surplus", lrp);
                    let lost = lrp.instance().is_some_and(|by| !world.state.is_present(&by.cell_id, world.now));
                    prop_assert!(!lost, "{:?} is lost", lrp);
                }
            }
        }
    }

    #[test]
    fn a_stale_domain_never_loses_an_instance_to_convergence(steps in prop::collection::vec(some_step(), 0..120)) {
        let mut world = World { now: START, ..World::default() };
        for step in steps {
            match step {
                Step::Do(Command::UpsertDomain { .. }) => {}
                Step::Do(command) => world.carry_out(command)?,
                Step::Wait(seconds) => world.now = world.now + Duration::from_secs(seconds),
                Step::Converge => {
                    let round = converge(&world.state, world.now, &Timings::default());
                    let retires = round.remedies.iter().any(|remedy| matches!(remedy, Remedy::Retire(_)));
                    prop_assert!(!retires);
                    world.converge()?;
                }
                Step::Look => world.look()?,
            }
        }
    }
}

#[test]
fn a_round_names_the_next_moment() {
    let mut world = World { now: START, ..World::default() };
    let by = InstanceKey { instance_guid: "a1".into(), cell_id: "a".into() };
    let key = LrpKey { process_guid: "p".into(), index: 0, domain: "d".into() };
    world.carry_out(Command::Announce(presence("a"), Duration::from_secs(1000))).unwrap();
    world.carry_out(Command::Desire(Box::new(desired("p", 1)))).unwrap();
    for _ in 0..3 {
        world
            .carry_out(Command::Start {
                key: key.clone(),
                by: by.clone(),
                net: net(),
                routable: true,
            })
            .unwrap();
        world
            .carry_out(Command::Crash {
                key: key.clone(),
                by: by.clone(),
                reason: "why".to_owned(),
            })
            .unwrap();
    }
    let state = |world: &World| {
        world.state.group(&"p".into(), 0).unwrap().ordinary.clone().unwrap().state.clone()
    };
    assert_eq!(state(&world), LrpState::Crashed);
    let round = world.converge().unwrap();
    assert_eq!((round.remedies.len(), round.next), (0, Some(START + Duration::from_secs(30))));
    world.now = START + Duration::from_secs(30);
    assert_eq!(world.converge().unwrap().remedies, [Remedy::Restart(("p".into(), 0))]);
    assert_eq!(state(&world), LrpState::Unclaimed { placement_error: String::new() });
}

/// It was written by a clock that was ahead; nobody waits until this one is there.
#[test]
fn what_lies_too_far_ahead_has_passed() {
    let mut world = World { now: START + Duration::from_secs(600), ..World::default() };
    world.carry_out(Command::Desire(Box::new(desired("p", 1)))).unwrap();
    world.now = START;
    let round = world.converge().unwrap();
    assert_eq!(round.remedies, [Remedy::Auction(("p".into(), 0))]);
}

#[test]
fn whoever_comes_back_is_told_of_tags_that_changed_meanwhile() {
    let mut world = World { now: START, ..World::default() };
    let key = LrpKey { process_guid: "p".into(), index: 0, domain: "d".into() };
    let by = |guid: &str| InstanceKey { instance_guid: guid.into(), cell_id: guid[..1].into() };
    let start =
        |guid: &str| Command::Start { key: key.clone(), by: by(guid), net: net(), routable: true };
    let told = |world: &World| {
        let retag = world.state.retag(&"p".into()).unwrap();
        let (version, since, slots) = (retag.version, retag.since, retag.slots.clone());
        (slots.clone(), Command::Retagged { process: "p".into(), version, since, slots })
    };
    world.carry_out(Command::Desire(Box::new(desired("p", 1)))).unwrap();
    world.carry_out(start("a1")).unwrap();
    assert_eq!(world.state.retag(&"p".into()), None, "nothing changed so far");
    let metric_tags = Some(BTreeMap::from([("n".to_owned(), "new".to_owned())]));
    let update = DesiredLrpUpdate { metric_tags, ..Default::default() };
    world.carry_out(Command::Update("p".into(), update)).unwrap();
    let (slots, all_know) = told(&world);
    assert_eq!(slots, BTreeSet::from([0]));
    world.now = START + Duration::from_secs(1);
    world.carry_out(all_know.clone()).unwrap();
    assert!(told(&world).0.is_empty());
    let crash = Command::Crash { key: key.clone(), by: by("a1"), reason: "why".to_owned() };
    world.carry_out(crash).unwrap();
    world.carry_out(start("b1")).unwrap();
    assert_eq!(told(&world).0, BTreeSet::from([0]), "it may have been cut off all the time");
    world.carry_out(all_know).unwrap();
    assert_eq!(told(&world).0, BTreeSet::from([0]), "that was another one");
}
