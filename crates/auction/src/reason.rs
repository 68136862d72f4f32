//! Why nothing was found. Diego's words come first, for clients match them; then how each cell falls short.

use std::collections::BTreeMap;

use diego::cell::Resources;

use crate::kind::Needs;

pub(crate) const NOBODY: &str = "unable to communicate to compatible cells";
pub(crate) const TOO_MANY_STARTING: &str =
    "waiting to start instance: reached in-flight start limit";

/// What a cell lacks for good. In the order in which they are asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Misfit {
    Rootfs,
    LacksDriver(String),
    LacksTag(String),
    /// The cell takes only work that carries this tag.
    Reserved(String),
}

/// How the cells fall short: those that can never host it, by what they lack, and what is free on the others.
#[derive(Debug, Default)]
pub(crate) struct Shortfall {
    pub misfits: BTreeMap<Misfit, usize>,
    pub compatible: Vec<Resources>,
}

impl Shortfall {
    pub fn tell(&self, needs: &Needs, wanted: &Resources) -> String {
        let all = self.compatible.len() + self.misfits.values().sum::<usize>();
        let mut texts = vec![self.title(needs, wanted)];
        let mut details = shortages(&self.compatible, wanted, all);
        details.extend(self.misfits.iter().map(|(misfit, count)| tell(misfit, needs, *count)));
        if !details.is_empty() {
            texts.push(details.join("; "));
        }
        texts.join(": ")
    }

    /// Diego's text: the first of its filters that leaves nobody names the error.
    fn title(&self, needs: &Needs, wanted: &Resources) -> String {
        if !self.compatible.is_empty() {
            return resources(&self.compatible, wanted);
        }
        let all_at_most = |most: Misfit| self.misfits.keys().all(|misfit| *misfit < most);
        if all_at_most(Misfit::LacksDriver(String::new())) {
            "found no compatible cell for required rootfs".to_owned()
        } else if all_at_most(Misfit::LacksTag(String::new())) {
            "found no compatible cell with required volume drivers".to_owned()
        } else if needs.tags.is_empty() {
            "found no compatible cell with no placement tags".to_owned()
        } else {
            format!("found no compatible cell with placement tag \"{}\"", needs.tags.join(" and "))
        }
    }
}

/// A resource's name, its unit and how much there is of it.
type Measure = (&'static str, &'static str, fn(&Resources) -> u64);

const MEASURES: [Measure; 3] = [
    ("containers", "", |resources| resources.containers),
    ("disk", " MB", |resources| resources.disk_mb),
    ("memory", " MB", |resources| resources.memory_mb),
];

/// Names what every compatible cell lacks.
fn resources(compatible: &[Resources], wanted: &Resources) -> String {
    let lacking =
        MEASURES.iter().filter(|(_, _, of)| compatible.iter().all(|free| of(free) < of(wanted)));
    let names: Vec<_> = lacking.map(|(name, _, _)| *name).collect();
    if names.is_empty() {
        "insufficient resources".to_owned()
    } else {
        format!("insufficient resources: {}", names.join(", "))
    }
}

fn shortages(compatible: &[Resources], wanted: &Resources, all: usize) -> Vec<String> {
    let tell = |(name, unit, of): &Measure| {
        let short = compatible.iter().filter(|free| of(free) < of(wanted)).count();
        let most = compatible.iter().map(of).max().unwrap_or(0);
        let lack = if short == 1 { "lacks" } else { "lack" };
        let needed = of(wanted);
        (short > 0).then(|| {
            format!(
                "{short} of {} {lack} {name}: needed {needed}{unit}, most free {most}{unit}",
                count(all)
            )
        })
    };
    MEASURES.iter().filter_map(tell).collect()
}

fn tell(misfit: &Misfit, needs: &Needs, cells: usize) -> String {
    let (who, s) = (count(cells), if cells == 1 { "s" } else { "" });
    match misfit {
        Misfit::Rootfs => format!("{who} lack{s} {}", needs.rootfs),
        Misfit::LacksDriver(driver) => format!("{who} lack{s} volume driver {driver}"),
        Misfit::LacksTag(tag) => format!("{who} lack{s} placement tag {tag}"),
        Misfit::Reserved(tag) => format!("{who} take{s} only work with placement tag {tag}"),
    }
}

fn count(cells: usize) -> String {
    if cells == 1 { "1 cell".to_owned() } else { format!("{cells} cells") }
}
