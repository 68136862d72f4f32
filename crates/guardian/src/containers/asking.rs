//! A process as its keeper is asked for it.

use std::collections::HashMap;

use garden::{ProcessSpec, ResourceLimits};
use shim::wire::{Limit, Run, Window};

/// Pure. `base` is the container's own environment.
pub fn run(index: u32, base: &[(String, String)], spec: ProcessSpec) -> Run {
    Run {
        index,
        env: merge(base, &spec.env),
        path: spec.path,
        args: spec.args,
        dir: spec.dir,
        user: spec.user,
        nofile: spec.nofile.unwrap_or(0),
        limits: limits(&spec.limits),
        stdin: spec.stdin,
        tty: spec.tty.map(|size| Window { columns: size.columns, rows: size.rows }),
    }
}

fn limits(limits: &ResourceLimits) -> Vec<Limit> {
    let given = [
        (libc::RLIMIT_AS, limits.address_bytes),
        (libc::RLIMIT_CORE, limits.core_bytes),
        (libc::RLIMIT_CPU, limits.cpu_seconds),
        (libc::RLIMIT_DATA, limits.data_bytes),
        (libc::RLIMIT_FSIZE, limits.file_bytes),
        (libc::RLIMIT_MEMLOCK, limits.locked_bytes),
        (libc::RLIMIT_NPROC, limits.processes),
        (libc::RLIMIT_STACK, limits.stack_bytes),
    ];
    given.into_iter().filter_map(|(resource, most)| Some(Limit { resource, most: most? })).collect()
}

/// One environment out of two; the later value of a name wins, in the earlier one's place.
fn merge(base: &[(String, String)], over: &[(String, String)]) -> Vec<String> {
    let mut merged: Vec<(&str, &str)> = Vec::with_capacity(base.len() + over.len());
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (key, value) in base.iter().chain(over) {
        match places.get(key.as_str()) {
            Some(place) => merged[*place].1 = value,
            None => {
                places.insert(key, merged.len());
                merged.push((key, value));
            }
        }
    }
    merged.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_value_wins() {
        let pairs = |text: &str| -> Vec<(String, String)> {
            text.split(' ')
                .filter_map(|pair| pair.split_once('='))
                .map(|(key, value)| (key.into(), value.into()))
                .collect()
        };
        assert_eq!(merge(&pairs("A=1 B=2 A=3"), &pairs("C=4 B=5")), ["A=3", "B=5", "C=4"]);
    }
}
