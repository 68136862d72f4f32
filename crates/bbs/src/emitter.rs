//! The route emitter: keeps all routers' table in step with what runs, and says when a change has reached them all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use base::{CancellationToken, Poke};
use diego::routing::{Endpoint, Routers, TableUpdate};
use diego::{InstanceGuid, ProcessGuid};
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use crate::config::Prefer;
use crate::lease::Lease;
use crate::routes::{self, Entries};
use crate::state::{Slot, State};

pub(crate) struct Emitter {
    state: Arc<RwLock<State>>,
    routers: Arc<dyn Routers>,
    prefer: Prefer,
    pending: Mutex<Pending>,
    poke: Poke,
    lease: Arc<Lease>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Pending {
    /// Everything is to be told anew.
    snapshot: bool,
    dirty: BTreeMap<ProcessGuid, Dirty>,
    waiters: Vec<oneshot::Sender<()>>,
}

/// What of a process may have changed.
enum Dirty {
    All,
    Indices(BTreeSet<u32>),
}

/// What the routers were told.
type Table = HashMap<ProcessGuid, BTreeMap<u32, Entries>>;

impl Emitter {
    pub fn new(
        state: Arc<RwLock<State>>,
        routers: Arc<dyn Routers>,
        prefer: Prefer,
        lease: Arc<Lease>,
        stop: CancellationToken,
    ) -> Emitter {
        let pending = Mutex::new(Pending { snapshot: true, ..Pending::default() });
        Emitter { state, routers, prefer, pending, poke: Poke::default(), lease, stop }
    }

    /// These indices, and all indices of these processes, may have changed.
    pub fn changed(
        &self,
        processes: impl IntoIterator<Item = ProcessGuid>,
        slots: impl IntoIterator<Item = Slot>,
    ) {
        let mut pending = self.pending.lock();
        for guid in processes {
            pending.dirty.insert(guid, Dirty::All);
        }
        for (guid, index) in slots {
            if let Dirty::Indices(indices) =
                pending.dirty.entry(guid).or_insert_with(|| Dirty::Indices(BTreeSet::new()))
            {
                indices.insert(index);
            }
        }
        let any = !pending.dirty.is_empty();
        drop(pending);
        if any {
            self.poke.poke();
        }
    }

    /// Tells all routers everything again.
    pub fn resync(&self) {
        self.pending.lock().snapshot = true;
        self.poke.poke();
    }

    /// Returns once every router uses a table made from the state as it is now, or when the emitter stops.
    pub async fn settled(&self) {
        let (sender, receiver) = oneshot::channel();
        self.pending.lock().waiters.push(sender);
        self.poke.poke();
        tokio::select! {
            _ = receiver => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// The table as it should be now.
    pub fn table(&self) -> Vec<(String, Endpoint)> {
        flat(&self.whole())
    }

    pub async fn run(&self) {
        let mut table = Table::new();
        loop {
            // Routers believe whoever told them last.
            self.lease.held(&self.stop).await;
            let pending = std::mem::take(&mut *self.pending.lock());
            if let Some(update) = self.update(&mut table, &pending) {
                tokio::select! {
                    () = self.routers.apply(update) => {}
                    () = self.stop.cancelled() => return,
                }
            }
            for waiter in pending.waiters {
                // Whoever waited may have given up.
                let _ = waiter.send(());
            }
            tokio::select! {
                () = self.poke.poked() => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    fn update(&self, table: &mut Table, pending: &Pending) -> Option<TableUpdate> {
        if pending.snapshot {
            *table = self.whole();
            return Some(TableUpdate::Snapshot(flat(table)));
        }
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        for (guid, dirty) in &pending.dirty {
            self.update_process(table, guid, dirty, &mut add, &mut remove);
        }
        (!add.is_empty() || !remove.is_empty()).then_some(TableUpdate::Delta { add, remove })
    }

    fn update_process(
        &self,
        table: &mut Table,
        guid: &ProcessGuid,
        dirty: &Dirty,
        add: &mut Vec<(String, Endpoint)>,
        remove: &mut Vec<(String, InstanceGuid)>,
    ) {
        let mut known = table.remove(guid).unwrap_or_default();
        let mut fresh = self.entries(guid, dirty);
        let indices: BTreeSet<u32> = match dirty {
            Dirty::All => known.keys().chain(fresh.keys()).copied().collect(),
            Dirty::Indices(indices) => indices.clone(),
        };
        for index in indices {
            let (before, after) = (
                known.remove(&index).unwrap_or_default(),
                fresh.remove(&index).unwrap_or_default(),
            );
            routes::diff(&before, &after, add, remove);
            if !after.is_empty() {
                known.insert(index, after);
            }
        }
        if !known.is_empty() {
            table.insert(guid.clone(), known);
        }
    }

    fn entries(&self, guid: &ProcessGuid, dirty: &Dirty) -> BTreeMap<u32, Entries> {
        let state = self.state.read();
        let Some(process) = state.process(guid) else { return BTreeMap::new() };
        match dirty {
            Dirty::All => routes::of_process(&state, process, self.prefer),
            Dirty::Indices(indices) => {
                let Some(template) = process.desired.as_deref().and_then(routes::Template::of)
                else {
                    return BTreeMap::new();
                };
                let groups =
                    indices.iter().filter_map(|index| Some((*index, process.groups.get(index)?)));
                groups
                    .map(|(index, group)| {
                        (index, routes::wanted(&state, &template, group, self.prefer))
                    })
                    .collect()
            }
        }
    }

    fn whole(&self) -> Table {
        let state = self.state.read();
        let all = state.processes().map(|(guid, process)| {
            (guid.clone(), routes::of_process(&state, process, self.prefer))
        });
        all.filter(|(_, entries)| !entries.is_empty()).collect()
    }
}

fn flat(table: &Table) -> Vec<(String, Endpoint)> {
    let entries = table.values().flat_map(BTreeMap::values).flatten();
    entries.map(|((route, _), endpoint)| (route.clone(), endpoint.clone())).collect()
}
