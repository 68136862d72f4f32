//! Brains that share a store, played: which of them leads, and how one follows the other. What a leader does is in the
//! modules below, each the shell of one part around its real decisions.

mod auctions;
mod converger;
mod errands;
mod told;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use auction::Weights;
use base::Timestamp;
use bbs::Timings;
use bbs::simulation::{Auctioneer, Brain, Command, Count, Lease, Rows, Watch};
use diego::{InstanceGuid, ProcessGuid};

use crate::world::{BrainAsk, Event, MS, SECOND, World};
use auctions::{Aside, Hand, Running};
use errands::Retagging;
use writer::{Asker, Committing};

/// What all brains write to: one row says which of them may.
#[derive(Default)]
pub(crate) struct Store {
    pub rows: Rows,
    fence: i64,
    beat: i64,
    released: bool,
    /// Until then it answers nobody.
    pub gone_until: u64,
}

impl Store {
    fn count(&self) -> Count {
        Count { fence: self.fence, beat: self.beat, released: self.released }
    }
}

pub(crate) struct BrainSim {
    /// No two lives of any brains have the same.
    pub life: u64,
    pub up: bool,
    /// How far its machine's clock is off.
    pub clock_off: i64,
    /// Stopped by a signal until then: nothing gets lost, all comes late.
    pub frozen_until: u64,
    watch: Option<Watch>,
    lease: Option<Lease>,
    fence: i64,
    /// What is in memory; `None` unless it leads, or thinks so.
    pub brain: Option<Brain>,
    inbox: Vec<(Option<Asker>, BrainAsk)>,
    committing: Option<Committing>,
    alarm: Option<u64>,
    last_round: u64,
    pub auctioneer: Auctioneer,
    poked: bool,
    rounds: u64,
    round: Option<Running>,
    aside: Option<Aside>,
    hands: BTreeMap<u64, Hand>,
    stopping: BTreeSet<InstanceGuid>,
    retagging: BTreeMap<ProcessGuid, Retagging>,
}

impl BrainSim {
    pub fn new() -> BrainSim {
        BrainSim {
            life: 0,
            up: false,
            clock_off: 0,
            frozen_until: 0,
            watch: None,
            lease: None,
            fence: 0,
            brain: None,
            inbox: Vec::new(),
            committing: None,
            alarm: None,
            last_round: 0,
            auctioneer: Auctioneer::new(&Weights::default()),
            poked: false,
            rounds: 0,
            round: None,
            aside: None,
            hands: BTreeMap::new(),
            stopping: BTreeSet::new(),
            retagging: BTreeMap::new(),
        }
    }

    /// Whether it may speak for the store, as far as it can know.
    fn holds(&self, now: Instant) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.holds_at(now))
    }
}

impl World {
    /// Which brain lives this life.
    pub fn brain_of(&self, life: u64) -> Option<usize> {
        self.brains.iter().position(|brain| brain.up && brain.life == life)
    }

    /// The brain that took the store last, when it is there.
    pub fn leader(&self) -> Option<usize> {
        let leads = |brain: &BrainSim| brain.brain.is_some() && brain.fence == self.store.fence;
        self.brains.iter().position(leads)
    }

    /// A brain's clock on the wall.
    pub fn wall(&self, b: usize) -> Timestamp {
        self.true_time(self.brains[b].clock_off)
    }

    pub fn brain_up(&mut self, b: usize) {
        if self.brains[b].up {
            return;
        }
        self.lives += 1;
        let clock_off = self.brains[b].clock_off;
        self.brains[b] = BrainSim { life: self.lives, up: true, clock_off, ..BrainSim::new() };
        if self.brains.len() == 1 {
            self.store.fence += 1;
            return self.lead(b, Lease::sole());
        }
        self.brains[b].watch = Some(Watch::new(Timings::default().lease_ttl));
        self.note(|| format!("brain-{b} stands by"));
        self.look(self.lives);
    }

    /// A brain that stands by sees whether the leader lives.
    pub fn look(&mut self, life: u64) {
        let Some(b) = self.brain_of(life).filter(|b| self.brains[*b].lease.is_none()) else {
            return;
        };
        if self.store.gone_until <= self.now {
            let (count, now) = (self.store.count(), self.instant());
            let free = |watch: &mut Watch| watch.is_free(count, now);
            if self.brains[b].watch.as_mut().is_some_and(free) {
                let delay = self.chance.range(MS / 2, 20 * MS);
                return self.at(delay, Event::Take { life, count });
            }
        }
        self.at(150 * MS, Event::Look { life });
    }

    pub fn take(&mut self, life: u64, count: Count) {
        let Some(b) = self.brain_of(life) else { return };
        let now = self.store.count();
        if self.store.gone_until > self.now || (now.fence, now.beat) != (count.fence, count.beat) {
            return self.look(life);
        }
        (self.store.fence, self.store.beat) = (count.fence + 1, count.beat + 1);
        self.store.released = false;
        let lease = Lease::since(self.instant(), Timings::default().lease_ttl);
        self.lead(b, lease);
        self.at(300 * MS, Event::Renew { life });
    }

    fn lead(&mut self, b: usize, lease: Lease) {
        let timings = Timings::default();
        let until = self.wall(b) + timings.cell_grace;
        let brain = Brain::load(&self.store.rows, timings, until);
        self.note(|| format!("brain-{b} leads"));
        self.check_loaded(&brain);
        let (lrps, tasks, retired) = brain.unfinished();
        let retags = brain.retags();
        let it = &mut self.brains[b];
        (it.fence, it.lease, it.brain) = (self.store.fence, Some(lease), Some(brain));
        self.request(b, lrps, tasks);
        retired.into_iter().for_each(|guid| self.see_off(b, guid, 0));
        retags.into_iter().for_each(|process| self.retag(b, process));
        self.alarm(b, 0);
    }

    pub fn renew(&mut self, life: u64) {
        let Some(b) = self.brain_of(life) else { return };
        if self.store.gone_until <= self.now {
            if self.brains[b].fence != self.store.fence {
                return self.superseded(b);
            }
            self.store.beat += 1;
            let now = self.instant();
            self.brains[b].lease.iter().for_each(|lease| lease.extend(now));
        }
        let wait = if self.weather.calm { SECOND } else { 300 * MS };
        self.at(wait, Event::Renew { life });
    }

    /// It hears that another brain has the store, and ends; what watches it starts it again.
    fn superseded(&mut self, b: usize) {
        self.note(|| format!("brain-{b} hears that it is superseded"));
        self.brain_ends(b);
        self.at(SECOND, Event::BrainUp { b });
    }

    /// Killed: what was being written may have come through.
    pub fn brain_killed(&mut self, b: usize) {
        self.note(|| format!("brain-{b} dies"));
        let through = self.chance.in_thousand(500);
        let it = &self.brains[b];
        let unjudged = it.committing.as_ref().is_some_and(|committing| committing.fate.is_none());
        if unjudged && through && it.fence == self.store.fence {
            self.store_commit(b);
        }
        self.brain_ends(b);
    }

    /// Told to go: it lets the store go, unless it is in the middle of something.
    pub fn brain_retires(&mut self, b: usize) {
        let it = &self.brains[b];
        let leads = it.brain.is_some() && it.fence == self.store.fence;
        if !leads || it.committing.is_some() || it.frozen_until > self.now {
            return self.brain_killed(b);
        }
        self.note(|| format!("brain-{b} lets go"));
        self.store.beat += 1;
        self.store.released = true;
        self.brain_ends(b);
    }

    /// Everything in memory is gone.
    fn brain_ends(&mut self, b: usize) {
        let clock_off = self.brains[b].clock_off;
        self.brains[b] = BrainSim { clock_off, ..BrainSim::new() };
    }

    /// What the row of the store and its rows are after a commit.
    fn store_commit(&mut self, b: usize) {
        if let Some(committing) = &self.brains[b].committing {
            self.store.rows.store(&committing.commit);
            self.store.beat += 1;
        }
    }

    fn tell(&mut self, b: usize, record: Vec<Command>) {
        let jobs = record.into_iter().map(|command| (None, BrainAsk::Do(command)));
        self.brains[b].inbox.extend(jobs);
        self.write(b);
    }
}
