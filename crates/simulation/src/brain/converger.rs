//! The converger, played: rounds when something is due, and what each asks for.

use bbs::simulation::{Command, Remedy};

use crate::client::DOMAIN;
use crate::world::{BrainAsk, Event, MS, SECOND, World};

/// Rounds of convergence leave the others some time.
const PAUSE: u64 = 20 * MS;

impl World {
    /// A round of convergence no later than that.
    pub(super) fn alarm(&mut self, b: usize, after: u64) {
        let it = &mut self.brains[b];
        let at = (self.now + after.min(30 * SECOND)).max(it.last_round + PAUSE);
        if it.alarm.is_none_or(|alarm| at < alarm) {
            it.alarm = Some(at);
            let life = it.life;
            self.at(at - self.now, Event::Converge { life, at });
        }
    }

    pub fn converge(&mut self, life: u64, at: u64) {
        let Some(b) = self.brain_of(life).filter(|b| self.brains[*b].alarm == Some(at)) else {
            return;
        };
        self.brains[b].alarm = None;
        self.brains[b].last_round = self.now;
        let wall = self.wall(b);
        let Some(brain) = &self.brains[b].brain else { return };
        let (remedies, next) = brain.converge(wall);
        let fresh = self.fresh_until > wall;
        let (mut lrps, mut tasks, mut stops, mut retags) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for remedy in remedies {
            self.note(|| format!("remedy {remedy:?}"));
            match remedy {
                Remedy::Auction(slot) => lrps.push(slot),
                Remedy::AuctionTask(guid) => tasks.push(guid),
                Remedy::StopAgain(guid) => stops.push(guid),
                Remedy::Retag(process) => retags.push(process),
                Remedy::CallBack(_) => {}
                change => {
                    if matches!(change, Remedy::Retire(_)) && !fresh {
                        self.wrong.push(format!("{change:?} while {DOMAIN} was stale"));
                    }
                    self.brains[b].inbox.push((None, BrainAsk::Do(Command::Remedy(change))));
                }
            }
        }
        self.write(b);
        self.request(b, lrps, tasks);
        stops.into_iter().for_each(|guid| self.see_off(b, guid, 0));
        retags.into_iter().for_each(|process| self.retag(b, process));
        let next = next.map_or(30 * SECOND, |next| self.until(b, next));
        self.alarm(b, next);
    }
}
