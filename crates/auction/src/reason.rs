//! Why nothing was found. Diego's words come first, for clients match them; then how each cell falls short.

use std::collections::BTreeMap;

use diego::cell::Resources;

use crate::floor::{Needs, Slot};

pub(crate) const NOBODY: &str = "unable to communicate to compatible cells";
pub(crate) const TOO_MANY_STARTING: &str =
    "waiting to start instance: reached in-flight start limit";

/// What a cell lacks for good. In the order in which they are asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Misfit {
    Rootfs,
    LacksTag(String),
    /// The cell takes only work that carries this tag.
    Reserved(String),
}

pub(crate) fn refusal(cells: &[Slot], needs: &Needs, wanted: &Resources) -> String {
    let mut misfits: BTreeMap<Misfit, usize> = BTreeMap::new();
    let mut compatible = Vec::new();
    for cell in cells {
        match cell.misfit(needs) {
            Some(misfit) => *misfits.entry(misfit).or_default() += 1,
            None => compatible.push(&cell.free),
        }
    }
    let mut details = shortages(&compatible, wanted, cells.len());
    details.extend(misfits.iter().map(|(misfit, count)| tell(misfit, needs, *count)));
    let title = if !compatible.is_empty() {
        resources(&compatible, wanted)
    } else if misfits.keys().all(|misfit| *misfit == Misfit::Rootfs) {
        "found no compatible cell for required rootfs".to_owned()
    } else if needs.tags.is_empty() {
        "found no compatible cell with no placement tags".to_owned()
    } else {
        format!("found no compatible cell with placement tag \"{}\"", needs.tags.join(" and "))
    };
    if details.is_empty() { title } else { format!("{title} ({})", details.join("; ")) }
}

/// A resource's name, its unit and how much there is of it.
type Kind = (&'static str, &'static str, fn(&Resources) -> u64);

const KINDS: [Kind; 3] = [
    ("containers", "", |resources| resources.containers),
    ("disk", " MB", |resources| resources.disk_mb),
    ("memory", " MB", |resources| resources.memory_mb),
];

/// Names what every compatible cell lacks.
fn resources(compatible: &[&Resources], wanted: &Resources) -> String {
    let lacking =
        KINDS.iter().filter(|(_, _, of)| compatible.iter().all(|free| of(free) < of(wanted)));
    let names: Vec<_> = lacking.map(|(name, _, _)| *name).collect();
    if names.is_empty() {
        "insufficient resources".to_owned()
    } else {
        format!("insufficient resources: {}", names.join(", "))
    }
}

fn shortages(compatible: &[&Resources], wanted: &Resources, all: usize) -> Vec<String> {
    let tell = |(name, unit, of): &Kind| {
        let short = compatible.iter().filter(|free| of(free) < of(wanted)).count();
        let most = compatible.iter().map(|free| of(free)).max().unwrap_or(0);
        let lack = if short == 1 { "lacks" } else { "lack" };
        let needed = of(wanted);
        (short > 0).then(|| {
            format!(
                "{short} of {} {lack} {name}: needed {needed}{unit}, most free {most}{unit}",
                count(all)
            )
        })
    };
    KINDS.iter().filter_map(tell).collect()
}

fn tell(misfit: &Misfit, needs: &Needs, cells: usize) -> String {
    let (who, s) = (count(cells), if cells == 1 { "s" } else { "" });
    match misfit {
        Misfit::Rootfs => format!("{who} lack{s} {}", needs.rootfs),
        Misfit::LacksTag(tag) => format!("{who} lack{s} placement tag {tag}"),
        Misfit::Reserved(tag) => format!("{who} take{s} only work with placement tag {tag}"),
    }
}

fn count(cells: usize) -> String {
    if cells == 1 { "1 cell".to_owned() } else { format!("{cells} cells") }
}
