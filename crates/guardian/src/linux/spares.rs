//! Numbers for containers, and the slow parts of some made ahead: network, control groups, a shim that waits in them.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;

use base::Poke;
use garden::GardenError;
use parking_lot::Mutex;
use tracing::warn;

use super::ahead::{Usual, Wish};
use super::cgroups::{Group, Layout};
use super::network::Wiring;
use super::nft::Member;
use crate::keeper::{Program, Waiting};

/// A container's number with a shim that waits in its network and groups.
pub struct Spare {
    pub index: u32,
    pub shim: Waiting,
    /// What it is in the packet filter already.
    pub member: Option<Member>,
}

/// Makes spares, and keeps some.
pub struct Spares {
    pub layout: Layout,
    pub wiring: Wiring,
    /// The group of all containers' groups.
    pub parent: String,
    program: Program,
    most: usize,
    ready: Mutex<VecDeque<Spare>>,
    usual: Mutex<Usual>,
    indexes: Mutex<Indexes>,
    poke: Poke,
}

/// Numbers go round, so that one just given back (and its address, which routers may remember) rests longest.
struct Indexes {
    used: HashSet<u32>,
    next: u32,
    count: u32,
}

impl Spares {
    pub fn new(
        layout: Layout,
        wiring: Wiring,
        parent: String,
        program: Program,
        most: usize,
        count: u32,
    ) -> Spares {
        let indexes = Mutex::new(Indexes { used: HashSet::new(), next: 0, count });
        Spares {
            layout,
            wiring,
            parent,
            program,
            most,
            ready: Mutex::default(),
            usual: Mutex::default(),
            indexes,
            poke: Poke::default(),
        }
    }

    /// This number is taken by a container found alive.
    pub fn occupy(&self, index: u32) {
        let mut indexes = self.indexes.lock();
        indexes.used.insert(index);
        indexes.next = indexes.next.max(index + 1);
    }

    /// One that meets the wish, where one is ready; its `member` says so.
    pub async fn take(self: &Arc<Self>, wish: &Wish) -> Result<Spare, GardenError> {
        self.usual.lock().note(wish);
        let ready = {
            let mut ready = self.ready.lock();
            let is_fit =
                |spare: &Spare| spare.member.as_ref().is_some_and(|member| wish.is_met_by(member));
            let fit = ready.iter().position(is_fit);
            let blank = || ready.iter().position(|spare| spare.member.is_none());
            let best = fit.or_else(blank).unwrap_or(0);
            ready.remove(best)
        };
        self.poke.poke();
        match ready {
            Some(spare) => Ok(spare),
            None => self.clone().make().await,
        }
    }

    pub fn are_lacking(&self) -> bool {
        self.ready.lock().len() < self.most
    }

    pub fn keep(&self, spare: Spare) {
        self.ready.lock().push_back(spare);
    }

    /// Completes when one was taken.
    pub async fn wanted(&self) {
        self.poke.poked().await;
    }

    /// What the next one is best made for.
    pub fn rarest(&self) -> Option<Wish> {
        let ready = self.ready.lock();
        self.usual.lock().rarest(ready.iter().filter_map(|spare| spare.member.as_ref()))
    }

    pub async fn make(self: Arc<Self>) -> Result<Spare, GardenError> {
        let made = tokio::task::spawn_blocking(move || {
            let index = self.indexes.lock().take().ok_or(GardenError::Exhausted("addresses"))?;
            let made = self.prepare(index);
            made.map_err(|error| {
                self.release(index);
                GardenError::failed("preparing a container's network and groups", error)
            })
        });
        made.await.map_err(|error| GardenError::failed("preparing a container", error))?
    }

    fn prepare(&self, index: u32) -> io::Result<Spare> {
        let group = self.group(index);
        let shim = (|| {
            group.create()?;
            let shim = self.wiring.with_new(index, || self.program.spawn())?;
            group.add(shim.pid())?;
            Ok(shim)
        })();
        shim.map(|shim| Spare { index, shim, member: None }).inspect_err(|_| self.clear(index))
    }

    pub fn group(&self, index: u32) -> Group {
        self.layout.group(&self.parent, &index.to_string())
    }

    /// Kills what is in the groups of `index` and takes away groups and network. For those that are going to end, or never began.
    pub fn clear(&self, index: u32) {
        let group = self.group(index);
        for pid in group.pids() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                // Gone already is what is wanted.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        if let Err(error) = self.wiring.remove_interface(index) {
            warn!(index, %error, "a container's interface stays behind");
        }
        if let Err(error) = patiently(|| group.remove()) {
            warn!(index, %error, "a container's control group stays behind");
        }
    }

    /// The number may be used again.
    pub fn release(&self, index: u32) {
        self.indexes.lock().used.remove(&index);
    }

    /// Takes away what was made ahead; the packet filter is not asked, as it is made anew at the next start.
    pub fn drain(&self) {
        let spares: Vec<_> = self.ready.lock().drain(..).collect();
        for Spare { index, shim, .. } in spares {
            drop(shim);
            self.clear(index);
            self.release(index);
        }
    }
}

impl Indexes {
    fn take(&mut self) -> Option<u32> {
        if self.used.len() >= self.count as usize {
            return None;
        }
        let index = (0..self.count)
            .map(|step| (self.next + step) % self.count)
            .find(|index| !self.used.contains(index))?;
        self.used.insert(index);
        self.next = (index + 1) % self.count;
        Some(index)
    }
}

/// A group is busy for a moment after its last process was killed.
#[expect(
    clippy::disallowed_methods,
    reason = "the kernel tells nobody when a group can go; on a blocking thread, at most 2 s"
)]
pub fn patiently(mut remove: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024] {
        match remove() {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(std::time::Duration::from_millis(wait));
            }
            result => return result,
        }
    }
    remove()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_round() {
        let mut indexes = Indexes { used: HashSet::from([1]), next: 0, count: 3 };
        assert_eq!(indexes.take(), Some(0));
        indexes.used.remove(&0);
        assert_eq!(indexes.take(), Some(2));
        assert_eq!(indexes.take(), Some(0));
        assert_eq!(indexes.take(), None);
    }
}
