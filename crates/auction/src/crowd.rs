//! Who holds instances of which process, and how many. A process is a number here: a million of them take little room.

use std::collections::HashMap;

use diego::ProcessGuid;

/// Where a cell stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    pub cell: u32,
    pub zone: u32,
    pub group: u32,
}

/// Only processes of which there is an instance are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crowd {
    numbers: HashMap<ProcessGuid, u32>,
    processes: Vec<Option<(ProcessGuid, Held)>>,
    unused: Vec<u32>,
}

#[derive(Clone, Debug)]
enum Held {
    /// One instance, on this cell: most processes.
    Once(u32),
    More(Box<Holders>),
}

#[derive(Clone, Debug, Default)]
struct Holders {
    /// Instances by cell, in order.
    cells: Vec<(u32, u32)>,
    /// Instances by zone.
    zones: Vec<(u32, u32)>,
    /// For a group and a number of instances: how many of its cells hold so many.
    levels: Vec<((u32, u32), u32)>,
}

impl Crowd {
    pub fn number(&self, process: &ProcessGuid) -> Option<u32> {
        self.numbers.get(process).copied()
    }

    pub fn name(&self, number: u32) -> Option<ProcessGuid> {
        self.processes[number as usize].as_ref().map(|(process, _)| process.clone())
    }

    /// One more instance. `spot_of` tells where any cell stands.
    pub fn add(&mut self, process: &ProcessGuid, cell: u32, spot_of: impl Fn(u32) -> Spot) -> u32 {
        let number = match self.number(process) {
            Some(number) => number,
            None => {
                let entry = Some((process.clone(), Held::Once(cell)));
                let number = match self.unused.pop() {
                    Some(number) => number,
                    None => {
                        self.processes.push(None);
                        u32::try_from(self.processes.len() - 1).expect("fewer than 2^32 processes")
                    }
                };
                self.processes[number as usize] = entry;
                self.numbers.insert(process.clone(), number);
                return number;
            }
        };
        let (_, held) = self.processes[number as usize].as_mut().expect("a number is of a process");
        if let Held::Once(first) = *held {
            let mut holders = Holders::default();
            holders.add(spot_of(first));
            *held = Held::More(Box::new(holders));
        }
        if let Held::More(holders) = held {
            holders.add(spot_of(cell));
        }
        number
    }

    /// One instance less.
    pub fn remove(&mut self, number: u32, at: Spot) {
        let Some((process, held)) = &mut self.processes[number as usize] else { return };
        let gone = match held {
            Held::Once(_) => true,
            Held::More(holders) => {
                holders.remove(at);
                holders.cells.is_empty()
            }
        };
        if gone {
            self.numbers.remove(process);
            self.processes[number as usize] = None;
            self.unused.push(number);
        }
    }

    /// Instances of it on a cell.
    pub fn on(&self, number: Option<u32>, cell: u32) -> u32 {
        match self.held(number) {
            None => 0,
            Some(Held::Once(holder)) => u32::from(*holder == cell),
            Some(Held::More(holders)) => {
                let found = holders.cells.binary_search_by_key(&cell, |(cell, _)| *cell);
                found.map_or(0, |at| holders.cells[at].1)
            }
        }
    }

    /// Instances of it in a zone.
    pub fn in_zone(&self, number: Option<u32>, zone: u32, spot_of: impl Fn(u32) -> Spot) -> u32 {
        match self.held(number) {
            None => 0,
            Some(Held::Once(holder)) => u32::from(spot_of(*holder).zone == zone),
            Some(Held::More(holders)) => {
                holders.zones.iter().find(|(held, _)| *held == zone).map_or(0, |(_, count)| *count)
            }
        }
    }

    /// The fewest instances of it on any of the `size` cells of a group.
    pub fn least(&self, number: Option<u32>, group: u32, size: u32) -> u32 {
        let Some(Held::More(holders)) = self.held(number) else { return 0 };
        let of_group = || holders.levels.iter().filter(|((held, _), _)| *held == group);
        let holding: u32 = of_group().map(|(_, cells)| cells).sum();
        let fewest = of_group().map(|((_, count), _)| *count).min();
        if holding < size { 0 } else { fewest.unwrap_or(0) }
    }

    fn held(&self, number: Option<u32>) -> Option<&Held> {
        self.processes[number? as usize].as_ref().map(|(_, held)| held)
    }
}

impl Holders {
    fn add(&mut self, at: Spot) {
        let before = match self.cells.binary_search_by_key(&at.cell, |(cell, _)| *cell) {
            Ok(place) => {
                self.cells[place].1 += 1;
                self.cells[place].1 - 1
            }
            Err(place) => {
                self.cells.insert(place, (at.cell, 1));
                0
            }
        };
        count(&mut self.zones, at.zone, 1);
        self.move_level(at.group, before, before + 1);
    }

    fn remove(&mut self, at: Spot) {
        let Ok(place) = self.cells.binary_search_by_key(&at.cell, |(cell, _)| *cell) else {
            return;
        };
        let before = self.cells[place].1;
        self.cells[place].1 -= 1;
        if before == 1 {
            self.cells.remove(place);
        }
        count(&mut self.zones, at.zone, -1);
        self.move_level(at.group, before, before - 1);
    }

    fn move_level(&mut self, group: u32, from: u32, to: u32) {
        if from > 0 {
            count(&mut self.levels, (group, from), -1);
        }
        if to > 0 {
            count(&mut self.levels, (group, to), 1);
        }
    }
}

/// A short list of counts; those of nothing are not kept.
fn count<T: PartialEq>(counts: &mut Vec<(T, u32)>, of: T, step: i32) {
    match counts.iter().position(|(held, _)| *held == of) {
        Some(at) => {
            counts[at].1 = counts[at].1.saturating_add_signed(step);
            if counts[at].1 == 0 {
                counts.swap_remove(at);
            }
        }
        None if step > 0 => counts.push((of, step.unsigned_abs())),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_and_go() {
        let mut crowd = Crowd::default();
        // Even cells are in zone 0, odd ones in zone 1; all are of one group.
        let spot = |cell: u32| Spot { cell, zone: cell % 2, group: 7 };
        let process = ProcessGuid::from("p");
        for cell in [4, 1, 4, 2] {
            crowd.add(&process, cell, spot);
        }
        let number = crowd.number(&process);
        assert_eq!([4, 1, 2, 3].map(|cell| crowd.on(number, cell)), [2, 1, 1, 0]);
        assert_eq!([0, 1].map(|zone| crowd.in_zone(number, zone, spot)), [3, 1]);
        assert_eq!([3, 4].map(|size| crowd.least(number, 7, size)), [1, 0]);
        for cell in [4, 4, 1] {
            crowd.remove(number.unwrap(), spot(cell));
        }
        assert_eq!((crowd.on(number, 4), crowd.on(number, 2)), (0, 1));
        crowd.remove(number.unwrap(), spot(2));
        assert_eq!(crowd.number(&process), None);
        crowd.add(&"q".into(), 3, spot);
        assert_eq!(crowd.number(&"q".into()), number, "a number is used again");
        assert_eq!(crowd.in_zone(number, 1, spot), 1);
    }
}
