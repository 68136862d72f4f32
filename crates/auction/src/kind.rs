//! What a cell offers for good, however full it is, and what work asks of it.

use diego::CellPresence;
use diego::desired_lrp::RunInfo;

use crate::reason::Misfit;

/// Cells that differ in nothing of this are fit for the same work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    stacks: Vec<String>,
    drivers: Vec<String>,
    required: Vec<String>,
    optional: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Needs {
    pub rootfs: String,
    pub drivers: Vec<String>,
    pub tags: Vec<String>,
}

impl Needs {
    pub fn of(run: &RunInfo) -> Needs {
        Needs {
            rootfs: run.rootfs.clone(),
            drivers: sorted(run.volume_mounts.iter().map(|mount| mount.driver.clone())),
            tags: sorted(run.placement_tags.iter().cloned()),
        }
    }
}

impl Kind {
    pub fn of(presence: &CellPresence) -> Kind {
        Kind {
            stacks: sorted(presence.stacks.iter().cloned()),
            drivers: sorted(presence.volume_drivers.iter().cloned()),
            required: sorted(presence.placement_tags.iter().cloned()),
            optional: sorted(presence.optional_placement_tags.iter().cloned()),
        }
    }

    /// The first thing that keeps such a cell from hosting it, in Diego's order of asking.
    pub fn misfit(&self, needs: &Needs) -> Option<Misfit> {
        if !has_rootfs(&self.stacks, &needs.rootfs) {
            return Some(Misfit::Rootfs);
        }
        if let Some(driver) = needs.drivers.iter().find(|driver| !self.drivers.contains(driver)) {
            return Some(Misfit::LacksDriver(driver.clone()));
        }
        let offered = |tag: &&String| self.required.contains(tag) || self.optional.contains(tag);
        if let Some(missing) = needs.tags.iter().find(|tag| !offered(tag)) {
            return Some(Misfit::LacksTag(missing.clone()));
        }
        let reserved = self.required.iter().find(|tag| !needs.tags.contains(tag));
        reserved.map(|tag| Misfit::Reserved(tag.clone()))
    }
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<_> = names.collect();
    names.sort();
    names.dedup();
    names
}

/// Docker images come from a registry to any cell; everything else must lie on the cell.
fn has_rootfs(stacks: &[String], rootfs: &str) -> bool {
    let (scheme, rest) = rootfs.split_once(':').unwrap_or(("", rootfs));
    match scheme {
        "docker" => true,
        // `preloaded+layer:NAME?layer=…`: the stack with a layer on top.
        "preloaded" | "preloaded+layer" => {
            let name = rest.split('?').next().unwrap_or(rest);
            stacks.iter().any(|stack| stack.strip_prefix("preloaded:").unwrap_or(stack) == name)
        }
        _ => stacks.iter().any(|stack| stack == rootfs),
    }
}
