//! What processes use, counted by looking at each: there are no control groups here.

use std::fs;

/// Memory in bytes, CPU time in nanoseconds and the number of processes below `keeper`.
pub fn below(keeper: i32) -> (u64, u64, u64) {
    // What has ended and was collected counts for who collected it.
    let mut cpu = ticks(keeper).map_or(0, |(_, children)| children);
    let (mut memory, mut count) = (0, 0);
    let mut next = children(keeper);
    while let Some(pid) = next.pop() {
        next.extend(children(pid));
        count += 1;
        memory += resident(pid);
        cpu += ticks(pid).map_or(0, |(own, children)| own + children);
    }
    (memory, cpu * (1_000_000_000 / TICKS), count)
}

/// Of a second; the kernel shows times so on every architecture.
const TICKS: u64 = 100;

fn children(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()
        })
        .collect()
}

fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    kilobytes.unwrap_or(0) << 10
}

fn ticks(pid: i32) -> Option<(u64, u64)> {
    parse_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Its own and its collected children's. The name in brackets may hold anything.
fn parse_ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, after) = stat.rsplit_once(')')?;
    let fields: Vec<u64> =
        after.split_whitespace().skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
    let [user, system, child_user, child_system] = fields[..] else { return None };
    Some((user + system, child_user + child_system))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_any_name() {
        let stat = "7 (a) b c) S 1 7 7 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 5";
        assert_eq!(parse_ticks(stat), Some((30, 70)));
        assert_eq!(parse_ticks("nonsense"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let me = std::process::id() as i32;
        assert!(resident(me) > 0);
        assert!(ticks(me).is_some());
    }
}
