//! Many seeds: SEEDS says how many, FIRST which is the first. A long run tells how far it is, and goes on from there
//! when it is begun again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use simulation::{Report, run};

/// How often it tells how far it is.
const TELL_EVERY: u64 = 1000;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[derive(Default)]
struct Sum {
    wrong: Vec<Report>,
    events: u64,
    starts: u64,
}

impl Sum {
    fn add(&mut self, report: Report) {
        self.events += report.events;
        self.starts += report.starts;
        if let Some(wrong) = report.wrong.first() {
            eprintln!("seed {} went wrong: {wrong}", report.seed);
            self.wrong.push(report);
        }
    }
}

#[test]
fn whatever_goes_wrong_all_comes_to_rest_as_desired() {
    let (first, count) = (number("FIRST", number("SEED", 1)), number("SEEDS", 500));
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let (next, began) = (AtomicU64::new(first), Instant::now());
    let worker = || {
        let mut sum = Sum::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return sum;
            }
            sum.add(run(seed, false));
            let done = seed + 1 - first;
            if done.is_multiple_of(TELL_EVERY) {
                // Other threads may be at one each that comes before.
                let on = seed + 2 - threads;
                let seconds = began.elapsed().as_secs();
                eprintln!("{done} of {count} seeds in {seconds} s; FIRST={on} goes on from here");
            }
        }
    };
    let mut sum = Sum::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            let more = worker.join().unwrap();
            sum.wrong.extend(more.wrong);
            (sum.events, sum.starts) = (sum.events + more.events, sum.starts + more.starts);
        }
    });
    eprintln!("{count} seeds from {first}: {} events, {} starts", sum.events, sum.starts);
    assert!(sum.starts > 10 * count, "the runs did something");
    if let Some(report) = sum.wrong.iter().min_by_key(|report| report.events) {
        let traced = run(report.seed, true);
        traced.trace.iter().for_each(|line| eprintln!("{line}"));
        let seeds: Vec<_> =
            sum.wrong.iter().map(|report| (report.seed, &report.wrong[0])).collect();
        panic!(
            "{} of {count} seeds went wrong: {seeds:#?}; seed {} (FIRST={} SEEDS=1): {:#?}",
            sum.wrong.len(),
            report.seed,
            report.seed,
            report.wrong
        );
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 2, 77] {
        let (once, again) = (run(seed, false), run(seed, true));
        assert_eq!((once.hash, once.events), (again.hash, again.events), "seed {seed}");
        assert!(!again.trace.is_empty());
    }
    assert_ne!(run(1, false).hash, run(2, false).hash);
}
