//! What must hold: always, whenever a brain begins, and at rest.

use bbs::simulation::Brain;
use diego::Presence;
use diego::actual_lrp::State as LrpState;
use diego::bbs::{ActualLrpFilter, TaskFilter};
use executor::State;

use crate::cell::Mode;
use crate::world::{SECOND, World};

/// Longer than the longest wait of anything: a crashed instance's.
const UNTIL_REST: u64 = 3000 * SECOND;

impl World {
    /// A brain that begins knows all that was acknowledged.
    pub fn check_loaded(&mut self, brain: &Brain) {
        let known = brain.desired();
        for (process, instances) in &self.client.desired {
            if !self.client.asking.contains(process) && known.get(process) != Some(instances) {
                let have = known.get(process);
                self.wrong.push(format!("{process} had {instances} acknowledged, loaded {have:?}"));
            }
        }
        for task in &self.client.acknowledged {
            if !self.client.may_be_gone.contains(task) && brain.task(task).is_none() {
                self.wrong.push(format!("task {task} was acknowledged and is lost"));
            }
        }
    }

    /// No cell holds more than it has.
    pub fn check_room(&mut self, cell: usize) {
        let it = &self.cells[cell];
        let (used, total) = (it.used(), it.presence.capacity);
        if used.memory_mb > total.memory_mb
            || used.disk_mb > total.disk_mb
            || used.containers > total.containers
        {
            self.wrong.push(format!("cell-{cell} holds {used:?} of {total:?}"));
        }
    }

    /// Whether all is as desired; it is wrong when it is not so for too long.
    pub fn check_rest(&mut self) -> bool {
        let restless = self.restless();
        if !restless.is_empty() && self.now > self.calm_since + UNTIL_REST {
            self.wrong.extend(restless);
            return true;
        }
        restless.is_empty()
    }

    fn restless(&self) -> Vec<String> {
        let mut restless = Vec::new();
        let Some(brain) = &self.brain.brain else { return vec!["no brain".to_owned()] };
        if !self.client.asking.is_empty() {
            restless.push(format!("{:?} are asked about", self.client.asking));
        }
        if brain.desired() != self.client.desired {
            let (have, want) = (brain.desired(), &self.client.desired);
            restless.push(format!("desired are {have:?}, acknowledged were {want:?}"));
        }
        let mut running = 0;
        for lrp in brain.actual_lrps(&ActualLrpFilter::default()) {
            let wanted = self.client.desired.get(&lrp.key.process_guid).copied().unwrap_or(0);
            let held = lrp.instance().is_some_and(|by| {
                let cell = self.place_of(by.cell_id.as_str()).map(|cell| &self.cells[cell]);
                let container =
                    cell.and_then(|cell| cell.containers.get(by.instance_guid.as_str()));
                container.is_some_and(|held| matches!(held.state, State::Running { .. }))
            });
            let runs = matches!(lrp.state, LrpState::Running { .. });
            if lrp.presence == Presence::Ordinary && runs && held && lrp.key.index < wanted {
                running += 1;
            } else {
                restless.push(format!("record {lrp:?}"));
            }
        }
        let want: u32 = self.client.desired.values().sum();
        if running != want {
            restless.push(format!("{running} of {want} run"));
        }
        let held: usize = self.cells.iter().map(|cell| cell.containers.len()).sum();
        if held != want as usize {
            let all: Vec<_> = self
                .cells
                .iter()
                .flat_map(|cell| &cell.containers)
                .map(|(handle, container)| format!("{handle} {}", container.state.name()))
                .collect();
            restless.push(format!("{held} containers for {want} instances: {all:?}"));
        }
        let tasks = brain.tasks(&TaskFilter::default());
        restless
            .extend(tasks.iter().map(|task| format!("task {} {:?}", task.task_guid, task.state)));
        if brain.retirements() > 0 {
            restless.push(format!("{} instances are being retired", brain.retirements()));
        }
        let open = |cell: &crate::cell::CellSim| cell.up && cell.mode == Mode::Open;
        if !self.cells.iter().all(open) {
            restless.push("a cell is not open".to_owned());
        }
        restless
    }

    /// Puts the end into the hash.
    pub fn hash_end(&mut self) {
        let mut counts = vec![self.starts, self.runs.len() as u64];
        for cell in &self.cells {
            let names = cell.containers.keys().flat_map(|handle| handle.bytes());
            counts.extend(names.map(u64::from));
        }
        counts.into_iter().for_each(|count| self.mix(count));
    }
}
