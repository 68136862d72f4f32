//! Reaches cells that announced themselves; a client is kept for each.

use std::collections::HashMap;
use std::sync::Arc;

use diego::cell::Dial;
use diego::{Cell, CellId, CellPresence};
use parking_lot::{Mutex, RwLock};

use crate::state::State;

/// A cell's client and the address that it goes to.
type Known = (String, Arc<dyn Cell>);

pub(crate) struct Cells {
    dial: Arc<dyn Dial>,
    state: Arc<RwLock<State>>,
    known: Mutex<HashMap<CellId, Known>>,
}

impl Cells {
    pub fn new(dial: Arc<dyn Dial>, state: Arc<RwLock<State>>) -> Cells {
        Cells { dial, state, known: Mutex::default() }
    }

    /// `None` when no such cell has announced itself.
    pub fn reach(&self, id: &CellId) -> Option<Arc<dyn Cell>> {
        let presence = self.state.read().cell(id)?.presence.clone();
        Some(self.dial(&presence))
    }

    pub fn dial(&self, presence: &CellPresence) -> Arc<dyn Cell> {
        let mut known = self.known.lock();
        match known.get(&presence.cell_id) {
            Some((url, cell)) if *url == presence.rep_url => cell.clone(),
            _ => {
                let cell = self.dial.dial(presence);
                known.insert(presence.cell_id.clone(), (presence.rep_url.clone(), cell.clone()));
                cell
            }
        }
    }

    pub fn forget(&self, id: &CellId) {
        self.known.lock().remove(id);
    }
}
