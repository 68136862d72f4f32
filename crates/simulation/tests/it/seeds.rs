//! Many seeds: SEEDS says how many, SEED which is the first.

use simulation::run;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn whatever_goes_wrong_all_comes_to_rest_as_desired() {
    let (first, count) = (number("SEED", 1), number("SEEDS", 500));
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let worker = |thread: u64| {
        (first + thread..first + count).step_by(threads as usize).map(|seed| run(seed, false)).fold(
            (Vec::new(), 0_u64, 0_u64),
            |(mut wrong, events, starts), report| {
                let more = (events + report.events, starts + report.starts);
                if !report.wrong.is_empty() {
                    wrong.push(report);
                }
                (wrong, more.0, more.1)
            },
        )
    };
    let (mut wrong, mut events, mut starts) = (Vec::new(), 0, 0);
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || worker(thread))).collect();
        for worker in workers {
            let (more, some, begun) = worker.join().unwrap();
            wrong.extend(more);
            (events, starts) = (events + some, starts + begun);
        }
    });
    eprintln!("{count} seeds from {first}: {events} events, {starts} starts");
    assert!(starts > 10 * count, "the runs did something");
    if let Some(report) = wrong.iter().min_by_key(|report| report.events) {
        let traced = run(report.seed, true);
        traced.trace.iter().for_each(|line| eprintln!("{line}"));
        let seeds: Vec<_> = wrong.iter().map(|report| (report.seed, &report.wrong[0])).collect();
        panic!(
            "{} of {count} seeds went wrong: {seeds:#?}; seed {} (SEED={} SEEDS=1): {:#?}",
            wrong.len(),
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
