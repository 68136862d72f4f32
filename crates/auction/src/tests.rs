use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use diego::cell::{LrpHeld, LrpStart, Resources};
use diego::desired_lrp::RunInfo;
use diego::sim::SimCell;
use diego::{CellState, DesiredLrp, Task, TaskDefinition, Work};
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn cell(id: &str, zone: &str, memory_mb: u64) -> CellState {
    let capacity = Resources { memory_mb, disk_mb: 10_000, containers: 100 };
    let presence = SimCell::presence(id, zone, capacity);
    CellState {
        presence,
        available: capacity,
        lrps: Vec::new(),
        tasks: Vec::new(),
        starting: 0,
        layers: Vec::new(),
    }
}

fn run(memory_mb: u64) -> RunInfo {
    RunInfo { rootfs: "preloaded:base".to_owned(), memory_mb, disk_mb: 10, ..RunInfo::default() }
}

fn lrp(process: &str, run: RunInfo) -> Arc<DesiredLrp> {
    Arc::new(DesiredLrp {
        process_guid: process.into(),
        domain: "d".into(),
        instances: 1,
        run,
        routes: BTreeMap::new(),
        annotation: String::new(),
        metric_tags: BTreeMap::new(),
        modification_tag: Default::default(),
    })
}

fn starts(process: &str, indices: std::ops::Range<u32>, run: RunInfo) -> Work {
    let desired = lrp(process, run);
    Work {
        lrps: indices.map(|index| LrpStart { index, desired: desired.clone() }).collect(),
        tasks: Vec::new(),
    }
}

fn task(guid: &str, memory_mb: u64) -> Arc<Task> {
    let definition = TaskDefinition { run: run(memory_mb), ..TaskDefinition::default() };
    Arc::new(Task::pending(guid.into(), "d".into(), definition, base::Timestamp::ZERO))
}

fn hold(cell: &mut CellState, process: &str, index: u32, memory_mb: u64) {
    let resources = Resources { memory_mb, disk_mb: 10, containers: 1 };
    let key = diego::LrpKey { process_guid: process.into(), index, domain: "d".into() };
    cell.lrps.push(LrpHeld {
        key,
        instance_guid: format!("{process}-{index}").as_str().into(),
        resources,
    });
    cell.available.memory_mb -= memory_mb;
    cell.available.disk_mb -= 10;
    cell.available.containers -= 1;
}

fn show(outcome: &Outcome) -> String {
    let mut lines = Vec::new();
    for (cell, work) in &outcome.placed {
        let lrps =
            work.lrps.iter().map(|start| format!("{}/{}", start.desired.process_guid, start.index));
        let tasks = work.tasks.iter().map(|task| task.task_guid.to_string());
        lines.push(format!("{cell}: {}", lrps.chain(tasks).collect::<Vec<_>>().join(" ")));
    }
    lines.extend(outcome.failed_lrps.iter().map(|(key, why)| format!("{key}: {why}")));
    lines.extend(outcome.failed_tasks.iter().map(|(guid, why)| format!("{guid}: {why}")));
    lines.join("\n")
}

#[track_caller]
fn check(cells: &[CellState], work: Work, want: Expect) {
    want.assert_eq(&show(&place(cells, work, &Weights::default())));
}

#[test]
fn instances_spread_over_zones_then_cells() {
    let cells = [cell("a1", "a", 4000), cell("a2", "a", 4000), cell("b1", "b", 1000)];
    check(
        &cells,
        starts("p", 0..4, run(100)),
        expect![[r#"
        a1: p/0
        a2: p/2
        b1: p/1 p/3"#]],
    );
}

#[test]
fn a_full_zone_gives_way_to_the_next() {
    let cells = [cell("a1", "a", 4000), cell("b1", "b", 150)];
    check(
        &cells,
        starts("p", 0..4, run(100)),
        expect![[r#"
        a1: p/0 p/2 p/3
        b1: p/1"#]],
    );
}

#[test]
fn what_a_cell_holds_counts() {
    let mut held = cell("a", "z", 4000);
    hold(&mut held, "p", 0, 10);
    let mut busy = cell("b", "z", 4000);
    hold(&mut busy, "q", 0, 3000);
    check(&[held.clone(), busy.clone()], starts("p", 1..2, run(100)), expect!["b: p/1"]);
    check(&[held, busy], starts("r", 0..1, run(100)), expect!["a: r/0"]);
}

#[test]
fn first_instances_then_tasks_then_the_rest_largest_first() {
    let mut work = starts("small", 0..2, run(100));
    work.lrps.extend(starts("large", 0..2, run(300)).lrps);
    work.tasks = vec![task("little", 50), task("big", 200)];
    let order: Vec<_> = in_order(work)
        .iter()
        .map(|item| match item {
            Item::Lrp(start) => start.key().to_string(),
            Item::Task(task) => task.task_guid.to_string(),
        })
        .collect();
    assert_eq!(order, ["large/0", "small/0", "big", "little", "large/1", "small/1"]);
}

#[test]
fn evacuating_cells_get_nothing_and_twins_count_once() {
    let mut leaving = cell("a", "z", 4000);
    leaving.presence.evacuating = true;
    let mut work = starts("p", 0..1, run(100));
    work.lrps.extend(starts("p", 0..1, run(100)).lrps);
    check(&[leaving.clone(), cell("b", "z", 4000)], work, expect!["b: p/0"]);
    check(
        &[leaving],
        starts("p", 0..1, run(100)),
        expect!["p/0: unable to communicate to compatible cells"],
    );
}

#[test]
fn refusals_say_what_is_missing() {
    let mut special = cell("c", "z", 9000);
    special.presence.placement_tags = vec!["gpu".to_owned()];
    let cells = [cell("a", "z", 380), cell("b", "z", 200), special];
    check(
        &cells,
        starts("p", 0..1, run(512)),
        expect![
            "p/0: insufficient resources: memory: 2 of 3 cells lack memory: needed 512 MB, most free 380 MB; 1 cell takes only work with placement tag gpu"
        ],
    );
    let tagged = RunInfo { placement_tags: vec!["ssd".to_owned(), "gpu".to_owned()], ..run(10) };
    check(
        &cells,
        starts("p", 0..1, tagged),
        expect![[
            r#"p/0: found no compatible cell with placement tag "gpu and ssd": 2 cells lack placement tag gpu; 1 cell lacks placement tag ssd"#
        ]],
    );
    let other = RunInfo { rootfs: "preloaded:other".to_owned(), ..run(10) };
    check(
        &cells,
        starts("p", 0..1, other),
        expect!["p/0: found no compatible cell for required rootfs: 3 cells lack preloaded:other"],
    );
    check(
        &cells[2..],
        starts("p", 0..1, run(10)),
        expect![
            "p/0: found no compatible cell with no placement tags: 1 cell takes only work with placement tag gpu"
        ],
    );
    check(
        &[],
        starts("p", 0..1, run(10)),
        expect!["p/0: unable to communicate to compatible cells"],
    );
    let mut disk = cell("d", "z", 9000);
    disk.available.disk_mb = 1;
    check(
        &[cells[0].clone(), disk],
        starts("p", 0..1, run(512)),
        expect![
            "p/0: insufficient resources: 1 of 2 cells lacks disk: needed 10 MB, most free 10000 MB; 1 of 2 cells lacks memory: needed 512 MB, most free 9000 MB"
        ],
    );
}

#[test]
fn placement_tags_match_both_ways() {
    let mut tagged = cell("a", "z", 4000);
    tagged.presence.placement_tags = vec!["gpu".to_owned()];
    tagged.presence.optional_placement_tags = vec!["ssd".to_owned()];
    let cells = [tagged, cell("b", "z", 4000)];
    let wants = |tags: &[&str]| RunInfo {
        placement_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..run(10)
    };
    check(&cells, starts("p", 0..1, wants(&["gpu"])), expect!["a: p/0"]);
    check(&cells, starts("p", 0..1, wants(&["ssd", "gpu"])), expect!["a: p/0"]);
    check(&cells, starts("p", 0..1, wants(&[])), expect!["b: p/0"]);
}

#[test]
fn the_refusal_of_a_rare_tag_counts_all_cells() {
    let gpu = |id, memory_mb| {
        let mut made = cell(id, "z", memory_mb);
        made.presence.placement_tags = vec!["gpu".to_owned()];
        made
    };
    let wanted = RunInfo { placement_tags: vec!["gpu".to_owned()], ..run(512) };
    check(
        &[gpu("a", 380), gpu("b", 200), cell("c", "z", 9000)],
        starts("p", 0..1, wanted),
        expect![
            "p/0: insufficient resources: memory: 2 of 3 cells lack memory: needed 512 MB, most free 380 MB; 1 cell lacks placement tag gpu"
        ],
    );
}

#[test]
fn volumes_need_their_driver() {
    let mut nfs = cell("b", "z", 1000);
    nfs.presence.volume_drivers = vec!["nfsv3driver".to_owned()];
    let mount =
        diego::desired_lrp::VolumeMount { driver: "nfsv3driver".to_owned(), ..Default::default() };
    let wanted = RunInfo { volume_mounts: vec![mount], ..run(10) };
    check(&[cell("a", "z", 4000), nfs], starts("p", 0..1, wanted.clone()), expect!["b: p/0"]);
    check(
        &[cell("a", "z", 4000)],
        starts("p", 0..1, wanted),
        expect![
            "p/0: found no compatible cell with required volume drivers: 1 cell lacks volume driver nfsv3driver"
        ],
    );
}

#[test]
fn a_cell_that_has_the_droplet_wins_by_a_little_and_never_against_spread() {
    let layer =
        diego::desired_lrp::ImageLayer { digest_value: "d1".to_owned(), ..Default::default() };
    let wanted = || RunInfo { image_layers: vec![layer.clone()], ..run(100) };
    let mut holder = cell("b", "z", 4000);
    holder.layers = vec!["d0".to_owned(), "d1".to_owned()];
    check(&[cell("a", "z", 4000), holder.clone()], starts("p", 0..1, wanted()), expect!["b: p/0"]);
    // A little fuller is worth it, much fuller is not.
    hold(&mut holder, "q", 0, 400);
    check(&[cell("a", "z", 4000), holder.clone()], starts("p", 0..1, wanted()), expect!["b: p/0"]);
    hold(&mut holder, "q", 1, 400);
    check(&[cell("a", "z", 4000), holder], starts("p", 0..1, wanted()), expect!["a: p/0"]);
    let mut sibling = cell("b", "z", 4000);
    sibling.layers = vec!["d1".to_owned()];
    hold(&mut sibling, "p", 1, 10);
    check(&[cell("a", "z", 4000), sibling.clone()], starts("p", 0..1, wanted()), expect!["a: p/0"]);
    check(&[cell("a", "y", 4000), sibling], starts("p", 0..1, wanted()), expect!["a: p/0"]);
}

#[test]
fn docker_images_run_anywhere() {
    let docker = RunInfo { rootfs: "docker:///library/busybox#latest".to_owned(), ..run(10) };
    check(&[cell("a", "z", 100)], starts("p", 0..1, docker), expect!["a: p/0"]);
    let layered = RunInfo { rootfs: "preloaded+layer:base?layer=http://x".to_owned(), ..run(10) };
    check(&[cell("a", "z", 100)], starts("p", 0..1, layered), expect!["a: p/0"]);
}

#[test]
fn starts_in_flight_are_bounded() {
    let weights = Weights { most_starting: 2, ..Weights::default() };
    let outcome = place(&[cell("a", "z", 4000)], starts("p", 0..3, run(10)), &weights);
    assert_eq!(outcome.placed["a"].lrps.len(), 2);
    assert_eq!(
        outcome.failed_lrps[0].1,
        "waiting to start instance: reached in-flight start limit"
    );
}

#[test]
fn bin_packing_fills_cell_after_cell() {
    let weights = Weights { bin_pack: 10.0, sibling: 0.0, ..Weights::default() };
    let mut work = Work::default();
    for process in ["p", "q", "r"] {
        work.lrps.extend(starts(process, 0..1, run(10)).lrps);
    }
    let outcome = place(&[cell("a", "z", 25), cell("b", "z", 4000)], work, &weights);
    assert_eq!((outcome.placed["a"].lrps.len(), outcome.placed["b"].lrps.len()), (2, 1));
}

fn some_cells() -> impl Strategy<Value = Vec<CellState>> {
    let one = (0_u64..3000, 0_u64..500, 0_u64..6, 0..3_u8, any::<bool>(), 0_u32..4, 0..10_u8);
    prop::collection::vec(one, 0..12).prop_map(|cells| {
        let made = cells.into_iter().enumerate().map(
            |(number, (memory_mb, disk_mb, containers, zone, tagged, starting, leaving))| {
                let mut made = cell(&format!("cell-{number}"), &format!("z{zone}"), 4000);
                made.available = Resources { memory_mb, disk_mb, containers };
                made.starting = starting;
                made.presence.evacuating = leaving == 0;
                made.presence.placement_tags =
                    if tagged { vec!["gpu".to_owned()] } else { Vec::new() };
                made
            },
        );
        made.collect()
    })
}

fn some_work() -> impl Strategy<Value = Work> {
    let lrp_part = (0..5_u8, 0_u32..6, 1_u64..1500, any::<bool>());
    let task_part = (0..20_u8, 1_u64..1500);
    let parts = (prop::collection::vec(lrp_part, 0..40), prop::collection::vec(task_part, 0..10));
    parts.prop_map(|(lrps, tasks)| Work {
        lrps: lrps
            .into_iter()
            .map(|(process, index, memory_mb, tagged)| {
                let placement_tags = if tagged { vec!["gpu".to_owned()] } else { Vec::new() };
                LrpStart {
                    index,
                    desired: lrp(
                        &format!("p{process}"),
                        RunInfo { placement_tags, ..run(memory_mb) },
                    ),
                }
            })
            .collect(),
        tasks: tasks
            .into_iter()
            .map(|(guid, memory_mb)| task(&format!("t{guid}"), memory_mb))
            .collect(),
    })
}

fn used(work: &Work) -> Resources {
    let runs = work
        .lrps
        .iter()
        .map(|start| &start.desired.run)
        .chain(work.tasks.iter().map(|task| &task.definition.run));
    runs.map(Resources::of).fold(Resources::default(), |sum, one| Resources {
        memory_mb: sum.memory_mb + one.memory_mb,
        disk_mb: sum.disk_mb + one.disk_mb,
        containers: sum.containers + one.containers,
    })
}

proptest! {
    #[test]
    fn no_cell_is_overcommitted(cells in some_cells(), work in some_work()) {
        let outcome = place(&cells, work, &Weights::default());
        for (id, placed) in &outcome.placed {
            let cell = cells.iter().find(|cell| cell.presence.cell_id == *id).unwrap();
            let (used, free) = (used(placed), cell.available);
            prop_assert!(used.memory_mb <= free.memory_mb && used.disk_mb <= free.disk_mb && used.containers <= free.containers);
            prop_assert!(!cell.presence.evacuating);
            let gpu = vec!["gpu".to_owned()];
            for run in placed.lrps.iter().map(|start| &start.desired.run) {
                prop_assert_eq!(run.placement_tags == gpu, cell.presence.placement_tags == gpu);
            }
        }
    }

    #[test]
    fn all_work_is_placed_or_refused_once(cells in some_cells(), work in some_work()) {
        let wanted = in_order(work.clone()).len();
        let outcome = place(&cells, work, &Weights::default());
        let placed: usize = outcome.placed.values().map(|work| work.lrps.len() + work.tasks.len()).sum();
        prop_assert_eq!(placed + outcome.failed_lrps.len() + outcome.failed_tasks.len(), wanted);
    }

    /// What is refused for want of room would not fit on any fit cell after all else was placed either.
    #[test]
    fn nothing_is_refused_while_it_fits(cells in some_cells(), work in some_work()) {
        let outcome = place(&cells, work.clone(), &Weights::default());
        for (key, why) in &outcome.failed_lrps {
            let start = work.lrps.iter().find(|start| start.key() == *key).unwrap();
            let wanted = Resources::of(&start.desired.run);
            for cell in cells.iter().filter(|cell| !cell.presence.evacuating) {
                let used = outcome.placed.get(&cell.presence.cell_id).map(used).unwrap_or_default();
                let fits = used.memory_mb + wanted.memory_mb <= cell.available.memory_mb
                    && used.disk_mb + wanted.disk_mb <= cell.available.disk_mb
                    && used.containers < cell.available.containers;
                let compatible = start.desired.run.placement_tags == cell.presence.placement_tags;
                prop_assert!(!(fits && compatible), "{why}");
            }
        }
    }

    /// With room everywhere the instances of a process differ by at most one between zones, and between cells of a zone.
    #[test]
    fn instances_spread(zones in prop::collection::vec(1_usize..5, 1..5), instances in 1_u32..60) {
        let mut cells = Vec::new();
        for (zone, count) in zones.iter().enumerate() {
            cells.extend((0..*count).map(|number| cell(&format!("z{zone}-{number}"), &format!("z{zone}"), 1_000_000)));
        }
        let outcome = place(&cells, starts("p", 0..instances, run(10)), &Weights::default());
        prop_assert!(outcome.failed_lrps.is_empty());
        let mut by_zone: HashMap<&str, Vec<usize>> = HashMap::new();
        for cell in &cells {
            let count = outcome.placed.get(&cell.presence.cell_id).map_or(0, |work| work.lrps.len());
            by_zone.entry(&cell.presence.zone).or_default().push(count);
        }
        let spread = |counts: &[usize]| counts.iter().max().unwrap() - counts.iter().min().unwrap();
        let sums: Vec<usize> = by_zone.values().map(|counts| counts.iter().sum()).collect();
        prop_assert!(spread(&sums) <= 1, "{by_zone:?}");
        for counts in by_zone.values() {
            prop_assert!(spread(counts) <= 1, "{by_zone:?}");
        }
    }

    #[test]
    fn the_order_of_cells_does_not_matter(cells in some_cells(), work in some_work(), turn in 0_usize..12) {
        let mut turned = cells.clone();
        turned.rotate_left(if cells.is_empty() { 0 } else { turn % cells.len() });
        prop_assert_eq!(place(&cells, work.clone(), &Weights::default()), place(&turned, work, &Weights::default()));
    }
}
