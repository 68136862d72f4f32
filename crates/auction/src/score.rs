//! What speaks against a cell, as whole numbers: sums of them are exact, so that cells keep their order whatever is
//! added to all of them. The lower the better.

use diego::cell::Resources;

/// One resource used up entirely. Fine enough for a megabyte in a quarter of a petabyte.
const WHOLE: u64 = 1 << 28;
/// A usage of 1: the mean over three resources is kept as their sum.
const ONE: f64 = (3 * WHOLE) as f64;
/// More of a resource counts as this much.
const MOST: u64 = 1 << 35;

/// A weight of the configuration; one that makes no sense counts as the nearest that does.
pub(crate) fn points(weight: f64) -> i64 {
    (weight.clamp(0.0, 1e6) * ONE) as i64
}

/// How much of a cell these resources are.
pub(crate) fn usage(part: &Resources, total: &Resources) -> i64 {
    share(part.memory_mb, total.memory_mb)
        .saturating_add(share(part.disk_mb, total.disk_mb))
        .saturating_add(share(part.containers, total.containers))
}

pub(crate) fn used(total: &Resources, free: &Resources) -> Resources {
    Resources {
        memory_mb: total.memory_mb.saturating_sub(free.memory_mb),
        disk_mb: total.disk_mb.saturating_sub(free.disk_mb),
        containers: total.containers.saturating_sub(free.containers),
    }
}

fn share(part: u64, total: u64) -> i64 {
    if total == 0 {
        return 0;
    }
    i64::try_from(part.min(MOST) * WHOLE / total).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_cell_is_one_and_an_absent_resource_nothing() {
        let total = Resources { memory_mb: 1000, disk_mb: 77, containers: 250 };
        assert_eq!(usage(&total, &total), points(1.0));
        let no_disk = Resources { disk_mb: 0, ..total };
        assert_eq!(usage(&total, &no_disk), 2 * points(1.0) / 3);
        assert_eq!(used(&total, &Resources { memory_mb: 1200, ..total }), Resources::default());
        assert!(points(f64::MAX) > 0 && points(f64::MIN) == 0);
    }
}
