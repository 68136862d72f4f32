//! The index against a plain look at every cell, through whatever may happen to a floor.

use std::collections::BTreeMap;

use diego::cell::{LrpHeld, LrpStart, TaskHeld};
use diego::desired_lrp::{ImageLayer, RunInfo};
use diego::sim::SimCell;
use diego::{DesiredLrp, LrpKey, Task, TaskDefinition};
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    /// A cell tells all: what is free, what it holds, how many it makes.
    Update {
        cell: u8,
        free: (u64, u64, u64),
        held: Vec<u8>,
        tasks: u8,
        starting: u32,
        layers: u8,
    },
    Announce {
        cell: u8,
        large: u8,
    },
    Remove(u8),
    Lrp {
        process: u8,
        memory_mb: u64,
        tagged: bool,
        layer: u8,
    },
    Task {
        memory_mb: u64,
    },
    Release(prop::sample::Index),
    Started(u8),
}

/// A cell as the plain scorer keeps it.
#[derive(Clone, Debug)]
struct Plain {
    presence: CellPresence,
    free: Resources,
    held: Vec<String>,
    tasks: usize,
    starting: u32,
    layers: Vec<String>,
}

#[derive(Clone, Copy)]
struct Wanted<'a> {
    resources: &'a Resources,
    tagged: bool,
    process: Option<&'a str>,
    layer: u8,
}

struct World {
    floor: Floor,
    weights: Weights,
    cells: BTreeMap<CellId, Plain>,
    placed: Vec<(CellId, Option<String>, Resources)>,
}

fn some_op() -> impl Strategy<Value = Op> {
    let free = (0_u64..2000, 0_u64..500, 0_u64..8);
    let update = (0..9_u8, free, prop::collection::vec(0..4_u8, 0..6), 0..3_u8, 0_u32..3, 0..4_u8);
    prop_oneof![
        3 => update.prop_map(|(cell, free, held, tasks, starting, layers)| {
            Op::Update { cell, free, held, tasks, starting, layers }
        }),
        3 => (0..9_u8, 0..3_u8).prop_map(|(cell, large)| Op::Announce { cell, large }),
        1 => (0..9_u8).prop_map(Op::Remove),
        12 => (0..4_u8, 1_u64..600, any::<bool>(), 0..3_u8)
            .prop_map(|(process, memory_mb, tagged, layer)| Op::Lrp { process, memory_mb, tagged, layer }),
        3 => (1_u64..600).prop_map(|memory_mb| Op::Task { memory_mb }),
        3 => any::<prop::sample::Index>().prop_map(Op::Release),
        2 => (0..9_u8).prop_map(Op::Started),
    ]
}

fn some_weights() -> impl Strategy<Value = Weights> {
    let part = |most: f64| prop_oneof![Just(0.0), 0.0..most];
    (part(1.0), prop_oneof![Just(1000.0), 0.0..2.0], part(0.2), part(0.3)).prop_map(
        |(starting, sibling, bin_pack, layers)| Weights {
            starting,
            sibling,
            bin_pack,
            layers,
            most_starting: 0,
        },
    )
}

/// Three zones, two sizes, every third cell for tagged work only.
fn presence(cell: u8, large: u8) -> CellPresence {
    let memory_mb = [2000, 2010, 4000][usize::from(large % 3)];
    let capacity = Resources { memory_mb, disk_mb: 500, containers: 8 };
    let mut presence = SimCell::presence(&format!("c{cell}"), &format!("z{}", cell % 3), capacity);
    if cell >= 6 {
        presence.placement_tags = vec!["gpu".to_owned()];
    }
    presence
}

fn layer_names(count: u8) -> Vec<String> {
    (1..count).map(|layer| format!("layer-{layer}")).collect()
}

fn run_of(memory_mb: u64, tagged: bool, layer: u8) -> RunInfo {
    let layers = if layer == 0 {
        Vec::new()
    } else {
        vec![ImageLayer { digest_value: format!("layer-{layer}"), ..ImageLayer::default() }]
    };
    RunInfo {
        rootfs: "preloaded:base".to_owned(),
        memory_mb,
        disk_mb: 10,
        placement_tags: if tagged { vec!["gpu".to_owned()] } else { Vec::new() },
        image_layers: layers,
        ..RunInfo::default()
    }
}

fn lrp(process: &str, run: RunInfo) -> LrpStart {
    let desired = DesiredLrp {
        process_guid: process.into(),
        domain: "d".into(),
        instances: 1,
        run,
        routes: BTreeMap::new(),
        annotation: String::new(),
        metric_tags: BTreeMap::new(),
        modification_tag: Default::default(),
    };
    LrpStart { index: 0, desired: Arc::new(desired) }
}

impl World {
    fn apply(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Update { cell, free, held, tasks, starting, layers } => {
                self.update(cell, free, &held, tasks, starting, layers)
            }
            Op::Announce { cell, large } => self.announce(&presence(cell, large)),
            Op::Remove(cell) => {
                let id = CellId::from(format!("c{cell}"));
                prop_assert_eq!(self.floor.remove_cell(&id), self.cells.remove(&id).is_some());
                self.placed.retain(|(on, _, _)| *on != id);
            }
            Op::Lrp { process, memory_mb, tagged, layer } => {
                let name = format!("p{process}");
                let start = lrp(&name, run_of(memory_mb, tagged, layer));
                let resources = Resources::of(&start.desired.run);
                let placed = self.floor.place_lrp(&start);
                let wanted = Wanted { resources: &resources, tagged, process: Some(&name), layer };
                self.judge(placed, wanted)?;
            }
            Op::Task { memory_mb } => {
                let definition = TaskDefinition {
                    run: run_of(memory_mb, false, 0),
                    ..TaskDefinition::default()
                };
                let task = Task::pending("t".into(), "d".into(), definition, base::Timestamp::ZERO);
                let resources = Resources::of(&task.definition.run);
                let placed = self.floor.place_task(&task);
                let wanted =
                    Wanted { resources: &resources, tagged: false, process: None, layer: 0 };
                self.judge(placed, wanted)?;
            }
            Op::Release(index) if !self.placed.is_empty() => {
                let (id, process, resources) = self.placed.remove(index.index(self.placed.len()));
                let guid = process.as_deref().map(ProcessGuid::from);
                let what = guid.as_ref().map_or(Holding::Task, Holding::Lrp);
                prop_assert!(self.floor.release(&id, what, &resources, false));
                let cell = self.cells.get_mut(&id).unwrap();
                match process {
                    Some(process) => {
                        let at = cell.held.iter().position(|held| *held == process).unwrap();
                        cell.held.remove(at);
                    }
                    None => cell.tasks -= 1,
                }
                let total = cell.presence.capacity;
                cell.free.memory_mb =
                    (cell.free.memory_mb + resources.memory_mb).min(total.memory_mb);
                cell.free.disk_mb = (cell.free.disk_mb + resources.disk_mb).min(total.disk_mb);
                cell.free.containers = (cell.free.containers + 1).min(total.containers);
            }
            Op::Release(_) => {}
            Op::Started(cell) => {
                let id = CellId::from(format!("c{cell}"));
                self.floor.started(&id);
                if let Some(cell) = self.cells.get_mut(&id) {
                    cell.starting = cell.starting.saturating_sub(1);
                }
            }
        }
        prop_assert_eq!(self.floor.cells(), self.cells.len());
        for (id, cell) in &self.cells {
            prop_assert_eq!(self.floor.free(id), Some(cell.free));
        }
        Ok(())
    }

    fn update(
        &mut self,
        cell: u8,
        free: (u64, u64, u64),
        held: &[u8],
        tasks: u8,
        starting: u32,
        layers: u8,
    ) {
        let presence = presence(cell, cell);
        let id = presence.cell_id.clone();
        let available = Resources { memory_mb: free.0, disk_mb: free.1, containers: free.2 };
        let held: Vec<String> = held.iter().map(|process| format!("p{process}")).collect();
        let lrp = |(number, process): (usize, &String)| LrpHeld {
            key: LrpKey { process_guid: process.as_str().into(), index: 0, domain: "d".into() },
            instance_guid: format!("i{number}").into(),
            resources: Resources::default(),
        };
        let task = |number| TaskHeld {
            task_guid: format!("t{number}").into(),
            resources: Resources::default(),
        };
        let state = CellState {
            presence: presence.clone(),
            available,
            lrps: held.iter().enumerate().map(lrp).collect(),
            tasks: (0..tasks).map(task).collect(),
            starting,
            layers: layer_names(layers),
        };
        self.floor.update_cell(&state);
        self.placed.retain(|(on, _, _)| *on != id);
        let plain = Plain {
            presence,
            free: available,
            held,
            tasks: usize::from(tasks),
            starting,
            layers: state.layers,
        };
        self.cells.insert(id, plain);
    }

    fn announce(&mut self, presence: &CellPresence) {
        self.floor.announce(presence);
        let cell = self.cells.entry(presence.cell_id.clone()).or_insert_with(|| Plain {
            presence: presence.clone(),
            free: presence.capacity,
            held: Vec::new(),
            tasks: 0,
            starting: 0,
            layers: Vec::new(),
        });
        let (before, after) = (cell.presence.capacity, presence.capacity);
        cell.free.memory_mb = (after.memory_mb + cell.free.memory_mb)
            .saturating_sub(before.memory_mb)
            .min(after.memory_mb);
        cell.presence = presence.clone();
    }

    /// The chosen cell must be as good as the best that a look at all of them finds.
    fn judge(&mut self, placed: Result<u32, String>, wanted: Wanted) -> Result<(), TestCaseError> {
        let scores: BTreeMap<&CellId, (usize, f64)> = self
            .cells
            .iter()
            .filter(|(_, cell)| cell.is_fit(wanted))
            .map(|(id, cell)| (id, (self.in_zone(cell, wanted), self.score(cell, wanted))))
            .collect();
        let place = match placed {
            Ok(place) => place,
            Err(why) => {
                prop_assert!(scores.is_empty(), "{why}, but {scores:?}");
                return Ok(());
            }
        };
        let id = self.floor.cells[place as usize].id.clone();
        prop_assert!(scores.contains_key(&id), "{id} has no room");
        let (zone, score) = scores[&id];
        for (other, (other_zone, other_score)) in &scores {
            let better = *other_zone < zone || (*other_zone == zone && *other_score < score - 1e-6);
            prop_assert!(!better, "{other} is better than {id}: {scores:?}");
        }
        let cell = self.cells.get_mut(&id).unwrap();
        cell.free.memory_mb -= wanted.resources.memory_mb;
        cell.free.disk_mb -= wanted.resources.disk_mb;
        cell.free.containers -= 1;
        cell.starting += 1;
        match wanted.process {
            Some(process) => cell.held.push(process.to_owned()),
            None => cell.tasks += 1,
        }
        self.placed.push((id, wanted.process.map(str::to_owned), *wanted.resources));
        Ok(())
    }

    fn in_zone(&self, cell: &Plain, wanted: Wanted) -> usize {
        let Some(process) = wanted.process else { return 0 };
        let beside = self.cells.values().filter(|other| other.presence.zone == cell.presence.zone);
        beside.map(|other| other.count(process)).sum()
    }

    fn score(&self, cell: &Plain, wanted: Wanted) -> f64 {
        let total = cell.presence.capacity;
        let usage = |total: u64, free: u64, more: u64| {
            (total.saturating_sub(free) + more) as f64 / total as f64
        };
        let usage = (usage(total.memory_mb, cell.free.memory_mb, wanted.resources.memory_mb)
            + usage(total.disk_mb, cell.free.disk_mb, wanted.resources.disk_mb)
            + usage(total.containers, cell.free.containers, 1))
            / 3.0;
        let mut score = usage + self.weights.starting * f64::from(cell.starting);
        match wanted.process {
            Some(process) => {
                let rank = self
                    .cells
                    .values()
                    .filter(|other| {
                        other.presence.zone == cell.presence.zone
                            && other.presence.cell_id < cell.presence.cell_id
                    })
                    .count();
                score += self.weights.sibling * cell.count(process) as f64;
                score += self.weights.bin_pack * rank as f64;
                let layer = format!("layer-{}", wanted.layer);
                if cell.layers.contains(&layer) {
                    score -= self.weights.layers;
                }
            }
            None => score += self.weights.sibling * cell.tasks as f64,
        }
        score
    }
}

impl Plain {
    fn count(&self, process: &str) -> usize {
        self.held.iter().filter(|held| *held == process).count()
    }

    fn is_fit(&self, wanted: Wanted) -> bool {
        let reserved = !self.presence.placement_tags.is_empty();
        wanted.tagged == reserved
            && wanted.resources.memory_mb <= self.free.memory_mb
            && wanted.resources.disk_mb <= self.free.disk_mb
            && self.free.containers >= 1
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_index_chooses_as_a_look_at_every_cell_does(
        weights in some_weights(),
        ops in prop::collection::vec(some_op(), 1..80),
    ) {
        let floor = Floor::new(&weights);
        let mut world = World { floor, weights, cells: BTreeMap::new(), placed: Vec::new() };
        for op in ops {
            world.apply(op)?;
        }
    }
}

fn filled(cells: u32) -> Floor {
    let mut floor = Floor::new(&Weights::default());
    let capacity = Resources { memory_mb: 64_000, disk_mb: 500_000, containers: 250 };
    for cell in 0..cells {
        floor.announce(&SimCell::presence(
            &format!("c{cell}"),
            &format!("z{}", cell % 3),
            capacity,
        ));
    }
    floor
}

/// Nodes looked at for one placement, on average over the second half of ten rounds over all cells.
fn looks(cells: u32, instances: u32) -> u64 {
    let mut floor = filled(cells);
    let mut half = 0;
    let rounds = cells * 10;
    for number in 0..rounds {
        if number == rounds / 2 {
            half = floor.looked();
        }
        let process = format!("p{}", number / instances);
        let start = lrp(&process, run_of(100 + u64::from(number % 7) * 50, false, 0));
        let place = floor.place_lrp(&start).unwrap();
        let id = floor.cells[place as usize].id.clone();
        floor.started(&id);
    }
    (floor.looked() - half) / u64::from(rounds / 2)
}

#[test]
fn a_placement_costs_as_much_among_many_cells_as_among_few() {
    for instances in [1, 30, 1000] {
        let (few, many) = (looks(100, instances), looks(2000, instances));
        assert!(many <= 3 * few + 60, "{instances} instances: {few} looks, then {many}");
    }
}
