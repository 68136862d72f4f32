//! Diego's own scenarios of the auction, small and large, with their figures: how evenly things lie afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use auction::{Floor, Holding, Outcome, Weights};
use diego::cell::{LrpStart, Resources};
use diego::desired_lrp::RunInfo;
use diego::sim::SimCell;
use diego::{CellId, DesiredLrp, ProcessGuid, Work};
use simulation::chance::Chance;

/// As the scenarios have it: room for a hundred of the smallest.
const CAPACITY: Resources = Resources { memory_mb: 100, disk_mb: 100, containers: 100 };

struct Hall {
    floor: Floor,
    held: BTreeMap<CellId, Vec<(ProcessGuid, Resources)>>,
    processes: u32,
}

impl Hall {
    fn new(cells: usize, zones: usize, capacity: Resources) -> Hall {
        let mut hall =
            Hall { floor: Floor::new(&Weights::default()), held: BTreeMap::new(), processes: 0 };
        for number in 0..cells {
            let zone = format!("z{}", number % zones);
            let presence = SimCell::presence(&format!("cell-{number:05}"), &zone, capacity);
            hall.floor.announce(&presence);
            hall.held.insert(presence.cell_id, Vec::new());
        }
        hall
    }

    /// So many processes of one instance that a cell holds already.
    fn hold(&mut self, cell: usize, count: usize, memory_mb: u64) {
        let id = CellId::from(format!("cell-{cell:05}"));
        for _ in 0..count {
            let process = self.name();
            let resources = Resources { memory_mb, disk_mb: 1, containers: 1 };
            assert!(self.floor.hold(&id, Holding::Lrp(&process), &resources, false));
            self.held.get_mut(&id).unwrap().push((process, resources));
        }
    }

    fn name(&mut self) -> ProcessGuid {
        self.processes += 1;
        format!("p{}", self.processes).into()
    }

    fn singles(&mut self, count: usize, memory_mb: u64) -> Vec<LrpStart> {
        (0..count)
            .flat_map(|_| {
                let process = self.name();
                instances(&process, 0..1, memory_mb)
            })
            .collect()
    }

    /// One batch after which all has come up.
    fn auction(&mut self, lrps: Vec<LrpStart>) -> Outcome {
        let outcome = self.floor.place(Work { lrps, tasks: Vec::new() });
        for (id, work) in &outcome.placed {
            for start in &work.lrps {
                self.floor.started(id);
                let held = (start.desired.process_guid.clone(), Resources::of(&start.desired.run));
                self.held.get_mut(id).unwrap().push(held);
            }
        }
        outcome
    }

    fn counts(&self) -> Vec<usize> {
        self.held.values().map(Vec::len).collect()
    }

    fn memory(&self) -> Vec<u64> {
        let sum = |held: &Vec<(ProcessGuid, Resources)>| {
            held.iter().map(|(_, resources)| resources.memory_mb).sum()
        };
        self.held.values().map(sum).collect()
    }

    fn of(&self, process: &ProcessGuid) -> Vec<usize> {
        let count = |held: &Vec<(ProcessGuid, Resources)>| {
            held.iter().filter(|(other, _)| other == process).count()
        };
        self.held.values().map(count).collect()
    }
}

fn instances(
    process: &ProcessGuid,
    indices: std::ops::Range<u32>,
    memory_mb: u64,
) -> Vec<LrpStart> {
    let desired = Arc::new(DesiredLrp {
        process_guid: process.clone(),
        domain: "d".into(),
        instances: indices.end,
        run: RunInfo {
            rootfs: "preloaded:base".to_owned(),
            memory_mb,
            disk_mb: 1,
            ..RunInfo::default()
        },
        routes: BTreeMap::new(),
        annotation: String::new(),
        metric_tags: BTreeMap::new(),
        modification_tag: Default::default(),
    });
    indices.map(|index| LrpStart { index, desired: desired.clone() }).collect()
}

fn shuffled(mut lrps: Vec<LrpStart>, chance: &mut Chance) -> Vec<LrpStart> {
    for at in (1..lrps.len()).rev() {
        lrps.swap(at, chance.range(0, at as u64 + 1) as usize);
    }
    lrps
}

fn spread<T: Copy + Ord + std::ops::Sub<Output = T>>(of: &[T]) -> T {
    *of.iter().max().unwrap() - *of.iter().min().unwrap()
}

#[test]
fn small_cold_starts_are_even() {
    for (cells, apps) in [(1, 5), (4, 8), (10, 40), (100, 1000)] {
        let mut hall = Hall::new(cells, 1, CAPACITY);
        let lrps = hall.singles(apps, 1);
        assert!(hall.auction(lrps).failed_lrps.is_empty());
        assert_eq!(spread(&hall.counts()), 0, "{apps} on {cells}");
    }
}

/// Singles and crowds of 1, 2 and 4 MB: 25 cells, 100 cells, and 10,000.
#[test]
fn large_cold_starts_are_even() {
    for (seed, factor) in [(1, 1), (2, 4), (3, 400)] {
        let mut chance = Chance::new(seed);
        let cells = 25 * factor;
        let room = Resources { memory_mb: 400, disk_mb: 400, containers: 200 };
        let mut hall = Hall::new(cells, 5, room);
        let (mut lrps, mut crowds) = (Vec::new(), Vec::new());
        for (memory_mb, apps) in [(1, 1800 * factor), (2, 200 * factor), (4, 50 * factor)] {
            lrps.extend(hall.singles(apps / 2, memory_mb));
            for _ in 0..4 {
                let process = hall.name();
                lrps.extend(instances(&process, 0..(apps / 8) as u32, memory_mb));
                crowds.push(process);
            }
        }
        let wanted = lrps.len();
        let lrps = shuffled(lrps, &mut chance);
        let outcome = hall.auction(lrps);
        assert!(outcome.failed_lrps.is_empty());
        assert_eq!(hall.counts().iter().sum::<usize>(), wanted);
        // The starts in flight weigh most: the cells make about as many each.
        let apart = spread(&hall.counts());
        assert!(apart * 10 <= wanted / cells, "{cells} cells: {apart}");
        for process in &crowds {
            let of = hall.of(process);
            assert!(spread(&of) <= 2, "{cells} cells, {process}: {}", spread(&of));
        }
    }
}

/// All cells but a few hold 50 after a deploy; what comes goes to the empty ones.
#[test]
fn empty_cells_after_a_deploy_fill_up() {
    for (cells, empty, apps) in [(100, 5, 500), (100, 1, 100)] {
        let mut hall = Hall::new(cells, 1, CAPACITY);
        (0..cells - empty).for_each(|cell| hall.hold(cell, 50, 1));
        // As they come: each batch finds the earlier ones up.
        for _ in 0..apps / 10 {
            let lrps = hall.singles(10, 1);
            assert!(hall.auction(lrps).failed_lrps.is_empty());
        }
        let counts = hall.counts();
        let (old, new) = counts.split_at(cells - empty);
        // Starts in flight weigh most: of each batch an empty cell takes two, where the others take none or one.
        assert!(new.iter().all(|count| *count >= apps / 5 / empty), "{new:?}");
        assert!(spread(old) <= 2, "{old:?}");
    }
}

/// A crowd on cells that are four fifths full.
#[test]
fn a_large_app_spreads_over_full_cells() {
    for (seed, (cells, instances_of)) in
        [(4, 20), (10, 80), (30, 200), (100, 400)].into_iter().enumerate()
    {
        let mut chance = Chance::new(seed as u64);
        let mut hall = Hall::new(cells, 1, CAPACITY);
        for cell in 0..cells {
            hall.hold(cell, chance.range(78, 81) as usize, 1);
        }
        let red = ProcessGuid::from("red");
        assert!(hall.auction(instances(&red, 0..instances_of, 1)).failed_lrps.is_empty());
        assert!(spread(&hall.of(&red)) <= 1, "{:?}", hall.of(&red));
    }
}

#[test]
fn a_lost_zone_moves_to_the_others_evenly() {
    for seed in 0..5 {
        let mut chance = Chance::new(seed);
        let mut hall = Hall::new(30, 3, CAPACITY);
        let apps: Vec<(ProcessGuid, u32)> =
            (0..100).map(|_| (hall.name(), chance.range(1, 12) as u32)).collect();
        let lrps = apps.iter().flat_map(|(app, count)| instances(app, 0..*count, 1)).collect();
        assert!(hall.auction(lrps).failed_lrps.is_empty());
        // Every third cell is of zone z0.
        let lost: Vec<CellId> = hall.held.keys().step_by(3).cloned().collect();
        let mut missing: BTreeMap<ProcessGuid, u32> = BTreeMap::new();
        for cell in &lost {
            assert!(hall.floor.remove_cell(cell));
            for (process, _) in hall.held.remove(cell).unwrap() {
                *missing.entry(process).or_default() += 1;
            }
        }
        let lrps = missing.iter().flat_map(|(app, count)| instances(app, 20..20 + count, 1));
        assert!(hall.auction(lrps.collect()).failed_lrps.is_empty());
        for (app, count) in &apps {
            let of = hall.of(app);
            assert_eq!(of.iter().sum::<usize>(), *count as usize);
            let zones = [0, 1].map(|zone| of.iter().skip(zone).step_by(2).sum::<usize>());
            assert!(spread(&zones) <= 1, "seed {seed}, {app}: {zones:?}");
            assert!(spread(&of) <= 1, "seed {seed}, {app}: {of:?}");
        }
    }
}

/// Boulders among pebbles: large ones find a place as long as they are placed first.
#[test]
fn boulders_fit_among_pebbles() {
    for seed in 0..20 {
        let mut chance = Chance::new(seed);
        let mut hall = Hall::new(20, 2, CAPACITY);
        let mut lrps = hall.singles(20, 50);
        lrps.extend(hall.singles(20 * 40, 1));
        let lrps = shuffled(lrps, &mut chance);
        let outcome = hall.auction(lrps);
        assert!(outcome.failed_lrps.is_empty(), "seed {seed}: {:?}", outcome.failed_lrps);
        assert!(hall.memory().iter().all(|memory| *memory <= CAPACITY.memory_mb));
        assert_eq!(spread(&hall.memory()), 0, "seed {seed}: {:?}", hall.memory());
    }
}

/// Heavier than what there is: all that fits is placed, the rest told why, and nothing is over-committed.
#[test]
fn too_much_is_refused_and_nothing_overflows() {
    for seed in 0..20 {
        let mut chance = Chance::new(seed);
        let mut hall = Hall::new(10, 3, CAPACITY);
        let mut lrps = Vec::new();
        for _ in 0..400 {
            let memory_mb = chance.range(1, 20);
            lrps.extend(hall.singles(1, memory_mb));
        }
        let outcome = hall.auction(shuffled(lrps, &mut chance));
        assert!(!outcome.failed_lrps.is_empty());
        assert!(hall.memory().iter().all(|memory| *memory <= CAPACITY.memory_mb));
        for (_, why) in &outcome.failed_lrps {
            assert!(
                why.starts_with("insufficient resources: memory: 10 of 10 cells lack memory"),
                "{why}"
            );
        }
    }
}
