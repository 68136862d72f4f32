//! Chooses a cell for one piece of work, or says why there is none.

use std::sync::Arc;

use diego::Task;
use diego::cell::{LrpStart, Resources};
use diego::desired_lrp::RunInfo;

use super::Floor;
use crate::kind::Needs;
use crate::reason::{self, Shortfall};
use crate::score;
use crate::tree::{Best, Search};

/// Kinds of work of which is remembered which groups are fit; then all are forgotten.
const MOST_NEEDS: usize = 4096;
/// So many holders of a layer are asked one by one.
const FEW: usize = 64;

impl Floor {
    pub(super) fn place_lrp(&mut self, start: &LrpStart) -> Result<u32, String> {
        let (run, process) = (&start.desired.run, &start.desired.process_guid);
        let wanted = Resources::of(run);
        let needs = Needs::of(run);
        let fit = self.candidates(&needs, &wanted)?;
        let number = self.crowd.number(process);
        let mut zones: Vec<(u32, u32)> = Vec::with_capacity(4);
        for group in fit.iter() {
            let zone = self.groups[*group as usize].zone;
            if !zones.iter().any(|(_, known)| *known == zone) {
                let held = self.crowd.in_zone(number, zone, |cell| self.cells[cell as usize].spot);
                zones.push((held, zone));
            }
        }
        zones.sort_unstable();
        // The emptiest zones first, ties together; the next only when nothing there has room.
        let found = zones.chunk_by(|(a, _), (b, _)| a == b).find_map(|tied| {
            let in_tied = |zone: u32| tied.iter().any(|(_, tie)| *tie == zone);
            let (best, looked) = self.best_for_lrp(&fit, in_tied, number, run, &wanted);
            self.looked += looked;
            best
        });
        let Some(best) = found else { return Err(self.refusal(&needs, &wanted)) };
        let place = self.groups[best.group as usize].seats[best.seat as usize]
            .expect("a seat with room is taken");
        self.count_lrp(place, process);
        self.take(place, &wanted, true);
        Ok(place)
    }

    fn best_for_lrp(
        &self,
        fit: &[u32],
        in_tied: impl Fn(u32) -> bool,
        number: Option<u32>,
        run: &RunInfo,
        wanted: &Resources,
    ) -> (Option<Best>, u64) {
        let (mut best, mut looked) = (None, 0);
        let shelved = self.shelves.of(run);
        let extra = |place: u32| {
            let cell = &self.cells[place as usize];
            let siblings = i64::from(self.crowd.on(number, place));
            let bonus = if shelved.is_on(place) { self.weights.layers } else { 0 };
            score::usage(wanted, &cell.total)
                .saturating_add(self.weights.sibling.saturating_mul(siblings))
                .saturating_sub(bonus)
        };
        let few = shelved.candidates().len() <= FEW;
        if few {
            for &place in shelved.candidates() {
                looked += 1;
                let (cell, node) = (&self.cells[place as usize], self.node(place));
                if fit.contains(&cell.spot.group)
                    && in_tied(cell.spot.zone)
                    && node.has_room(wanted)
                {
                    let score = node.lrp.saturating_add(extra(place));
                    let one = Best { score, group: cell.spot.group, seat: cell.seat };
                    best = Some(best.map_or(one, |best: Best| best.min(one)));
                }
            }
        }
        for &at in fit {
            let group = &self.groups[at as usize];
            if !in_tied(group.zone) {
                continue;
            }
            let search = Search {
                wanted,
                score: |node| node.lrp,
                least: || {
                    let held = self.crowd.least(number, at, group.size());
                    let siblings = self.weights.sibling.saturating_mul(i64::from(held));
                    let bonus = if few { 0 } else { self.weights.layers };
                    score::usage(wanted, &group.largest)
                        .saturating_add(siblings)
                        .saturating_sub(bonus)
                },
                exact: |seat: u32| group.seats[seat as usize].map_or(i64::MAX, extra),
            };
            group.tree.search(at, &search, &mut best, &mut looked);
        }
        (best, looked)
    }

    pub(super) fn place_task(&mut self, task: &Task) -> Result<u32, String> {
        let run = &task.definition.run;
        let wanted = Resources::of(run);
        let needs = Needs::of(run);
        let fit = self.candidates(&needs, &wanted)?;
        let (mut best, mut looked) = (None, 0);
        for &at in fit.iter() {
            let group = &self.groups[at as usize];
            let usage = |place: u32| score::usage(&wanted, &self.cells[place as usize].total);
            let search = Search {
                wanted: &wanted,
                score: |node| node.task,
                least: || score::usage(&wanted, &group.largest),
                exact: |seat: u32| group.seats[seat as usize].map_or(i64::MAX, usage),
            };
            group.tree.search(at, &search, &mut best, &mut looked);
        }
        self.looked += looked;
        let Some(best) = best else { return Err(self.refusal(&needs, &wanted)) };
        let place = self.groups[best.group as usize].seats[best.seat as usize]
            .expect("a seat with room is taken");
        self.cells[place as usize].tasks += 1;
        self.take(place, &wanted, true);
        Ok(place)
    }

    /// The groups that have all but, perhaps, the room.
    fn candidates(&mut self, needs: &Needs, wanted: &Resources) -> Result<Arc<[u32]>, String> {
        if self.by_id.is_empty() {
            return Err(reason::NOBODY.to_owned());
        }
        if self.weights.most_starting > 0 && self.starting >= self.weights.most_starting {
            return Err(reason::TOO_MANY_STARTING.to_owned());
        }
        if let Some(fit) = self.fit.get(needs) {
            return if fit.is_empty() { Err(self.refusal(needs, wanted)) } else { Ok(fit.clone()) };
        }
        let groups = self.groups.iter().enumerate();
        let fit: Arc<[u32]> = groups
            .filter(|(_, group)| group.size() > 0 && group.kind.misfit(needs).is_none())
            .map(|(at, _)| u32::try_from(at).expect("fewer than 2^32 groups"))
            .collect();
        if self.fit.len() >= MOST_NEEDS {
            self.fit.clear();
        }
        self.fit.insert(needs.clone(), fit.clone());
        if fit.is_empty() { Err(self.refusal(needs, wanted)) } else { Ok(fit) }
    }

    fn refusal(&self, needs: &Needs, wanted: &Resources) -> String {
        let mut shortfall = Shortfall::default();
        for group in self.groups.iter().filter(|group| group.size() > 0) {
            match group.kind.misfit(needs) {
                Some(misfit) => {
                    *shortfall.misfits.entry(misfit).or_default() += group.size() as usize
                }
                None => {
                    let free = |place: &u32| self.cells[*place as usize].free;
                    shortfall.compatible.extend(group.seats.iter().flatten().map(free));
                }
            }
        }
        shortfall.tell(needs, wanted)
    }
}
