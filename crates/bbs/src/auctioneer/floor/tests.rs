use std::collections::BTreeMap;

use diego::cell::{LrpHeld, LrpStart};
use diego::desired_lrp::RunInfo;
use diego::sim::SimCell;
use diego::{Cell as _, DesiredLrp, LrpKey};
use proptest::prelude::*;

use super::*;

const ROOM: Resources = Resources { memory_mb: 10, disk_mb: 10, containers: 10 };
const ONE: Resources = Resources { memory_mb: 1, disk_mb: 1, containers: 1 };

fn presence(id: &str) -> Arc<CellPresence> {
    Arc::new(SimCell::presence(id, "z", ROOM))
}

fn empty(id: &str) -> CellState {
    let cell = SimCell::new(CellPresence::clone(&presence(id)));
    futures::executor::block_on(cell.state()).unwrap()
}

fn floor() -> Floor {
    let mut floor = Floor::new(&Weights::default());
    for id in ["a", "b"] {
        floor.set(presence(id), &empty(id), &State::default(), Instant::now());
    }
    floor
}

fn start(index: u32) -> LrpStart {
    let run = RunInfo {
        rootfs: "preloaded:base".to_owned(),
        memory_mb: 1,
        disk_mb: 1,
        ..RunInfo::default()
    };
    let desired = DesiredLrp {
        process_guid: "p".into(),
        domain: "d".into(),
        instances: 20,
        run,
        routes: BTreeMap::new(),
        annotation: String::new(),
        metric_tags: BTreeMap::new(),
        modification_tag: Default::default(),
    };
    LrpStart { index, desired: Arc::new(desired) }
}

fn slot(index: u32) -> Slot {
    ("p".into(), index)
}

fn key(index: u32) -> LrpKey {
    LrpKey { process_guid: "p".into(), index, domain: "d".into() }
}

fn refused(index: u32) -> Refused {
    Refused { lrps: vec![key(index)], tasks: Vec::new() }
}

/// What a cell says that holds one instance.
fn with_one(id: &str) -> CellState {
    let held = LrpHeld { key: key(0), instance_guid: "i".into(), resources: ONE };
    let available = Resources { memory_mb: 9, disk_mb: 9, containers: 9 };
    CellState { lrps: vec![held], available, ..empty(id) }
}

/// Where each index is, as a brain's records would have it.
#[derive(Default)]
struct Records {
    sent: BTreeMap<u32, CellId>,
    held: BTreeMap<u32, (CellId, bool)>,
}

impl Records {
    fn on(&self, cell: &str) -> u64 {
        let sent = self.sent.values().filter(|id| id.as_str() == cell).count();
        let held = self.held.values().filter(|(id, _)| id.as_str() == cell).count();
        (sent + held) as u64
    }

    fn step(&mut self, floor: &mut Floor, index: u32, kind: u8) {
        match kind {
            0 | 1 if !self.held.contains_key(&index) => {
                self.sent.remove(&index);
                let work = Work { lrps: vec![start(index)], tasks: Vec::new() };
                for (cell, _) in floor.place(work).placed {
                    self.sent.insert(index, cell);
                }
            }
            2 => {
                if let Some(cell) = self.sent.remove(&index) {
                    let change = Move::Entered {
                        slot: slot(index),
                        cell: cell.clone(),
                        resources: Some(ONE),
                        runs: false,
                    };
                    floor.apply(change);
                    self.held.insert(index, (cell, false));
                }
            }
            3 => {
                if let Some((cell, runs)) = self.held.get_mut(&index).filter(|(_, runs)| !runs) {
                    floor.apply(Move::Started(cell.clone()));
                    *runs = true;
                }
            }
            4 => {
                if let Some((cell, ran)) = self.held.remove(&index) {
                    let process = "p".into();
                    floor.apply(Move::Left { process, cell, resources: Some(ONE), ran });
                }
            }
            5 => {
                self.sent.remove(&index);
                if !self.held.contains_key(&index) {
                    floor.apply(Move::Dropped(slot(index)));
                }
            }
            6 => {
                if let Some(cell) = self.sent.remove(&index) {
                    floor.refused(&cell, &refused(index));
                }
            }
            _ => {}
        }
    }
}

proptest! {
    /// Whatever comes and goes, what is believed free is what is free.
    #[test]
    fn belief_follows_the_records(steps in prop::collection::vec((0_u32..20, 0_u8..7), 0..200)) {
        let (mut floor, mut records) = (floor(), Records::default());
        for (index, kind) in steps {
            records.step(&mut floor, index, kind);
            for cell in ["a", "b"] {
                let free = floor.index.free(&cell.into()).unwrap();
                prop_assert_eq!(free.containers, 10 - records.on(cell));
                prop_assert_eq!(free.memory_mb, free.containers);
            }
        }
    }
}

#[test]
fn what_flies_to_a_cell_counts_when_the_cell_does_not_know_it() {
    let mut floor = floor();
    let work = Work { lrps: vec![start(0)], tasks: Vec::new() };
    let (cell, _) = floor.place(work).placed.pop_first().unwrap();
    let nothing = State::default();
    floor.set(presence(cell.as_str()), &empty(cell.as_str()), &nothing, Instant::now());
    assert_eq!(floor.index.free(&cell).unwrap().containers, 9);
    floor.apply(Move::CellGone(cell.clone()));
    assert_eq!(floor.stranded(), (vec![slot(0)], vec![]));
    let both = [presence("a"), presence("b")];
    assert_eq!(floor.unknown(&both), [presence(cell.as_str())]);
    assert_eq!(floor.cells(), 1);
    floor.unknown(&[]);
    assert_eq!(floor.cells(), 0, "who is not present takes no part");
}

/// A brain that begins finds what the one before it sent.
#[test]
fn what_a_cell_says_it_holds_is_not_counted_again_when_it_is_claimed() {
    let (mut floor, now) = (floor(), Instant::now());
    let cell = CellId::from("a");
    floor.set(presence("a"), &with_one("a"), &State::default(), now);
    assert_eq!(floor.due(now + UNSURE, 9), [presence("a")], "nobody knows how it ends");
    let entered =
        Move::Entered { slot: slot(0), cell: cell.clone(), resources: Some(ONE), runs: false };
    floor.apply(entered);
    assert_eq!(floor.free(&cell).unwrap().containers, 9);
}

#[test]
fn a_change_while_a_cell_is_asked_makes_its_answer_doubtful() {
    let (mut floor, now) = (floor(), Instant::now());
    let cell = CellId::from("a");
    assert!(floor.due(now + UNSURE, 9).is_empty());
    floor.asked(&[cell.clone()].into());
    let left =
        Move::Left { process: "p".into(), cell: cell.clone(), resources: Some(ONE), ran: true };
    floor.apply(left);
    floor.set(presence("a"), &with_one("a"), &State::default(), now);
    assert_eq!(floor.due(now + UNSURE, 9), [presence("a")]);
    assert!(!floor.doubt_unsure(now), "it was asked just now");
    assert!(floor.doubt_unsure(now + UNSURE), "before work is refused it is asked again");
    assert_eq!(floor.unknown(&[presence("a"), presence("b")]), [presence("a")]);
}

#[test]
fn a_late_refusal_leaves_alone_what_was_sent_elsewhere_meanwhile() {
    let mut floor = floor();
    let work = Work { lrps: vec![start(0)], tasks: Vec::new() };
    let (cell, _) = floor.place(work).placed.pop_first().unwrap();
    let other = if cell.as_str() == "a" { "b" } else { "a" };
    floor.refused(&other.into(), &refused(0));
    assert_eq!(floor.free(&cell).unwrap().containers, 9);
    floor.refused(&cell, &refused(0));
    assert_eq!(floor.free(&cell).unwrap().containers, 10);
}
