//! What must hold: always, whenever a brain begins, and at rest.

use std::collections::BTreeMap;

use bbs::simulation::Brain;
use diego::actual_lrp::State as LrpState;
use diego::bbs::{ActualLrpFilter, TaskFilter};
use diego::cell::Resources;
use diego::{Presence, ProcessGuid};
use executor::State;

use crate::cell::Mode;
use crate::client::tags;
use crate::world::{SECOND, World};

/// Longer than the longest wait of anything: a crashed instance's.
const UNTIL_REST: u64 = 3000 * SECOND;
/// Longer than it takes to look for room a second time.
const HUNGRY: u64 = 100 * SECOND;

impl World {
    /// A brain that begins knows all that was acknowledged.
    pub fn check_loaded(&mut self, brain: &Brain) {
        let known = desired(brain);
        for (process, wanted) in &self.client.desired {
            let (want, have) = (&(wanted.instances, wanted.tag), known.get(process));
            if !self.client.asking.contains(process) && have != Some(want) {
                self.wrong.push(format!("{process}: {wanted:?} was acknowledged, loaded {have:?}"));
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
        self.check_hungry();
        let restless = self.restless();
        if !restless.is_empty() && self.now > self.calm_since + UNTIL_REST {
            self.wrong.extend(restless);
            return true;
        }
        restless.is_empty()
    }

    /// Nobody is told for long that there is no room while there is some.
    fn check_hungry(&mut self) {
        let mut hungry = BTreeMap::new();
        if let Some(brain) = self.leader().and_then(|b| self.brains[b].brain.as_ref()) {
            let wanted: BTreeMap<_, _> =
                brain.desired().map(|lrp| (&lrp.process_guid, Resources::of(&lrp.run))).collect();
            for lrp in brain.actual_lrps(&ActualLrpFilter::default()) {
                let LrpState::Unclaimed { placement_error } = &lrp.state else { continue };
                let Some(wanted) = wanted.get(&lrp.key.process_guid) else { continue };
                let roomy = self.cells.iter().find(|cell| {
                    let free = cell.available();
                    free.memory_mb >= wanted.memory_mb && free.containers >= wanted.containers
                });
                if let Some(roomy) = roomy.filter(|_| !placement_error.is_empty()) {
                    let since = self.hungry.get(&lrp.key).map_or(self.now, |(since, _)| *since);
                    let told = format!(
                        "{} is told {placement_error:?}, and {} has room",
                        lrp.key, roomy.presence.cell_id
                    );
                    hungry.insert(lrp.key, (since, told));
                }
            }
        }
        let long = |since: u64| self.now > since + HUNGRY;
        let told = hungry.values().filter(|(since, _)| long(*since)).map(|(_, told)| told.clone());
        self.wrong.extend(told);
        self.hungry = hungry;
    }

    fn restless(&self) -> Vec<String> {
        let mut restless = Vec::new();
        let leader = self.leader().and_then(|b| self.brains[b].brain.as_ref());
        let Some(brain) = leader else { return vec!["no brain".to_owned()] };
        if !self.client.asking.is_empty() {
            restless.push(format!("{:?} are asked about", self.client.asking));
        }
        let told = self.client.desired.iter();
        let want: BTreeMap<_, _> =
            told.map(|(name, wanted)| (name.clone(), (wanted.instances, wanted.tag))).collect();
        let have = desired(brain);
        if have != want {
            restless.push(format!("desired are {have:?}, acknowledged were {want:?}"));
        }
        let mut running = 0;
        for lrp in brain.actual_lrps(&ActualLrpFilter::default()) {
            let wanted =
                self.client.desired.get(&lrp.key.process_guid).cloned().unwrap_or_default();
            let held = lrp.instance().is_some_and(|by| {
                let cell = self.place_of(by.cell_id.as_str()).map(|cell| &self.cells[cell]);
                let container =
                    cell.and_then(|cell| cell.containers.get(by.instance_guid.as_str()));
                container.is_some_and(|held| {
                    matches!(held.state, State::Running { .. })
                        && (wanted.reused || held.tags.tags == tags(wanted.tag))
                })
            });
            let runs = matches!(lrp.state, LrpState::Running { .. });
            if lrp.presence == Presence::Ordinary
                && runs
                && held
                && lrp.key.index < wanted.instances
            {
                running += 1;
            } else {
                restless.push(format!("{lrp:?} is held: {held}, its process: {wanted:?}"));
            }
        }
        let want: u32 = self.client.desired.values().map(|wanted| wanted.instances).sum();
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
        let retags = brain.retags();
        if !retags.is_empty() {
            restless.push(format!("instances of {retags:?} are being told of tags"));
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

/// How many instances of each process, and the version of its tags.
fn desired(brain: &Brain) -> BTreeMap<ProcessGuid, (u32, u32)> {
    let all = brain.desired().map(|lrp| {
        let version = lrp.metric_tags.get("version").and_then(|version| version.parse().ok());
        (lrp.process_guid.clone(), (lrp.instances, version.unwrap_or(0)))
    });
    all.collect()
}
