//! What goes wrong, and the calm after.

use executor::State;

use crate::cell::{Owner, RESERVATION, Stage, failed};
use crate::world::{Event, MS, SECOND, World};

impl World {
    pub fn fault(&mut self) {
        if self.weather.calm {
            return;
        }
        let cell = self.chance.range(0, self.cells.len() as u64) as usize;
        let b = self.chance.range(0, self.brains.len() as u64) as usize;
        let kind = self.chance.range(0, 20);
        self.note(|| format!("fault {kind} (cell-{cell}, brain-{b})"));
        let span = |chance: &mut crate::chance::Chance, most: u64| chance.range(100 * MS, most);
        match kind {
            0 | 1 if self.brains[b].up => {
                self.brain_killed(b);
                let most = if self.chance.in_thousand(200) { 60 * SECOND } else { 5 * SECOND };
                let down = span(&mut self.chance, most);
                self.at(down, Event::BrainUp { b });
            }
            16 if self.brains[b].up => {
                self.brain_retires(b);
                let down = span(&mut self.chance, 20 * SECOND);
                self.at(down, Event::BrainUp { b });
            }
            17 | 18 => {
                let b = self.leader().unwrap_or(b);
                let until = self.now + span(&mut self.chance, 20 * SECOND);
                self.brains[b].frozen_until = self.brains[b].frozen_until.max(until);
            }
            19 => {
                let long = if self.chance.in_thousand(300) { 10 * SECOND } else { 2 * SECOND };
                self.store.gone_until = self.now + span(&mut self.chance, long);
            }
            2 | 3 if self.cells[cell].up => {
                let down = span(&mut self.chance, 20 * SECOND);
                self.cell_down(cell, down);
            }
            4 | 5 if self.cells[cell].up => {
                let (wiped, down) = (kind == 5, span(&mut self.chance, 60 * SECOND));
                self.machine_down(cell, wiped, down);
            }
            6 | 7 => self.cells[cell].cut_until = self.now + span(&mut self.chance, 60 * SECOND),
            8 => self.evacuate(cell),
            9 => {
                let jump = self.chance.range(SECOND, 90 * SECOND) as i64;
                let back = self.chance.in_thousand(500);
                let jump = if back { -jump } else { jump };
                match self.chance.range(0, 2) {
                    0 => self.brains[b].clock_off += jump,
                    _ => self.cell_clock_jumps(cell, jump),
                }
            }
            10 => {
                self.weather.slow_disk_until = self.now + span(&mut self.chance, 20 * SECOND);
            }
            11 => self.weather.lossy_until = self.now + span(&mut self.chance, 20 * SECOND),
            12 => {
                self.weather.client_silent_until = self.now + span(&mut self.chance, 60 * SECOND);
            }
            _ => self.crash_instances(cell),
        }
        let after = self.chance.range(200 * MS, 8 * SECOND);
        self.at(after, Event::Fault);
    }

    /// A cell measures by its clock how long work lies about that nobody began.
    fn cell_clock_jumps(&mut self, cell: usize, jump: i64) {
        if jump < i64::try_from(RESERVATION).unwrap_or(i64::MAX) {
            return;
        }
        let reserved: Vec<_> = self.cells[cell]
            .containers
            .iter()
            .filter(|(_, container)| container.state == State::Reserved)
            .map(|(handle, _)| handle.clone())
            .collect();
        let life = self.cells[cell].life;
        for handle in reserved {
            self.progress(cell, life, &handle, Stage::Expire);
        }
    }

    /// Processes end by themselves.
    fn crash_instances(&mut self, cell: usize) {
        if !self.cells[cell].up {
            return;
        }
        let running: Vec<_> = self.cells[cell]
            .containers
            .iter()
            .filter(|(_, container)| {
                matches!(container.state, State::Running { .. })
                    && matches!(container.owner, Owner::Lrp(..))
            })
            .map(|(handle, _)| handle.clone())
            .collect();
        for handle in running {
            if self.chance.in_thousand(600)
                && let Some(container) = self.cells[cell].containers.get_mut(&handle)
            {
                container.state = State::Completed(failed("crashed"));
                self.note(|| format!("cell-{cell} {handle} crashes"));
                self.poke(cell, &handle);
            }
        }
    }

    /// Everything works from here on; what is left must come to rest.
    pub fn calm(&mut self) {
        if !self.weather.calm {
            self.note(|| "calm".to_owned());
            self.weather = crate::world::Weather { calm: true, ..Default::default() };
            self.cells.iter_mut().for_each(|cell| cell.cut_until = 0);
            self.store.gone_until = 0;
            (0..self.brains.len()).for_each(|b| self.brain_up(b));
            for cell in 0..self.cells.len() {
                if !self.cells[cell].up {
                    self.cell_up(cell);
                }
            }
            self.calm_since = self.now;
        } else if self.check_rest() {
            return self.end();
        }
        self.at(20 * SECOND, Event::Calm);
    }
}
