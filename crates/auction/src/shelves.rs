//! Which cells hold which image layers.

use std::collections::HashMap;
use std::sync::Arc;

use diego::desired_lrp::RunInfo;

#[derive(Clone, Debug, Default)]
pub(crate) struct Shelves(HashMap<Arc<str>, Vec<u32>>);

/// The cells that hold each layer of a piece of work; empty when nobody holds one of them, or it has none.
#[derive(Default)]
pub(crate) struct Wanted<'a>(Vec<&'a [u32]>);

impl Shelves {
    /// The cell holds these and no others.
    pub fn replace(&mut self, cell: u32, held: &mut Vec<Arc<str>>, layers: &[String]) {
        held.retain(|layer| {
            let stays = layers.iter().any(|kept| kept.as_str() == &**layer);
            if !stays {
                self.take_off(cell, layer);
            }
            stays
        });
        for layer in layers {
            if held.iter().any(|known| &**known == layer.as_str()) {
                continue;
            }
            let name = match self.0.get_key_value(layer.as_str()) {
                Some((name, _)) => name.clone(),
                None => Arc::from(layer.as_str()),
            };
            let holders = self.0.entry(name.clone()).or_default();
            if let Err(place) = holders.binary_search(&cell) {
                holders.insert(place, cell);
            }
            held.push(name);
        }
    }

    fn take_off(&mut self, cell: u32, layer: &Arc<str>) {
        let Some(holders) = self.0.get_mut(layer) else { return };
        if let Ok(place) = holders.binary_search(&cell) {
            holders.remove(place);
        }
        if holders.is_empty() {
            self.0.remove(layer);
        }
    }

    pub fn of(&self, run: &RunInfo) -> Wanted<'_> {
        let mut wanted = Vec::new();
        for layer in run.image_layers.iter().filter(|layer| !layer.digest_value.is_empty()) {
            match self.0.get(layer.digest_value.as_str()) {
                Some(holders) => wanted.push(holders.as_slice()),
                None => return Wanted::default(),
            }
        }
        wanted.sort_by_key(|holders| holders.len());
        Wanted(wanted)
    }
}

impl<'a> Wanted<'a> {
    /// Those that may hold all of it.
    pub fn candidates(&self) -> &'a [u32] {
        self.0.first().copied().unwrap_or_default()
    }

    pub fn is_on(&self, cell: u32) -> bool {
        !self.0.is_empty() && self.0.iter().all(|holders| holders.binary_search(&cell).is_ok())
    }
}
