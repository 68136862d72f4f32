//! All that a platform keeps, seen from outside, and whether it fits together: rows, LRPs, containers, blobs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::http::Secret;
use diego::Bbs as _;
use diego::actual_lrp::State;
use diego::bbs::{ActualLrpFilter, TaskFilter};
use sql::Db;
use sqlx::Row as _;

use crate::harness::{Cupola, pids};

/// The longest that anything takes to come right by itself; the slow timers go off every 30 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is under way, and must not be for long: a text for each, and what asks for it.
const UNSETTLED: [(&str, &str); 9] = [
    ("job", "SELECT guid FROM jobs WHERE state NOT IN ('COMPLETE', 'FAILED')"),
    ("build", "SELECT guid FROM builds WHERE state NOT IN ('STAGED', 'FAILED')"),
    ("package", "SELECT guid FROM packages WHERE state IN ('PROCESSING_UPLOAD', 'COPYING')"),
    (
        "droplet",
        "SELECT guid FROM droplets WHERE state NOT IN ('STAGED', 'FAILED', 'EXPIRED', 'AWAITING_UPLOAD')",
    ),
    ("deployment", "SELECT guid FROM deployments WHERE status_value <> 'FINALIZED'"),
    ("task", "SELECT guid FROM tasks WHERE state NOT IN ('SUCCEEDED', 'FAILED')"),
    ("change not yet at Diego", "SELECT process_guid FROM lrp_changes"),
    (
        "app without its droplet",
        "SELECT guid FROM apps WHERE droplet_guid IS NOT NULL AND droplet_guid NOT IN (SELECT guid FROM droplets)",
    ),
    (
        "build without its droplet",
        "SELECT b.guid FROM builds b LEFT JOIN droplets d ON d.guid = b.droplet_guid \
         WHERE b.state = 'STAGED' AND d.state NOT IN ('STAGED', 'EXPIRED')",
    ),
];

const WANTED: &str = "SELECT p.guid || '-' || p.version, p.instances FROM processes p \
    JOIN apps a ON a.guid = p.app_guid JOIN droplets d ON d.guid = a.droplet_guid \
    WHERE a.state = 'STARTED' AND d.state = 'STAGED'";

const NEEDED: [(&str, &str); 4] = [
    ("packages", "SELECT sha256 FROM packages WHERE state = 'READY' AND sha256 IS NOT NULL"),
    ("droplets", "SELECT sha256 FROM droplets WHERE state = 'STAGED' AND sha256 IS NOT NULL"),
    ("caches", "SELECT buildpack_cache FROM apps WHERE buildpack_cache IS NOT NULL"),
    (
        "buildpacks",
        "SELECT sha256 FROM buildpacks WHERE sha256 IS NOT NULL UNION \
         SELECT system_sha256 FROM buildpacks WHERE system_sha256 IS NOT NULL",
    ),
];

pub struct World {
    db: Db,
    bbs: bbs::Client,
    data: PathBuf,
}

/// A running instance: LRP, index, and the guid that its container bears.
pub type Instances = BTreeMap<(String, u32), String>;

impl World {
    async fn of(cupola: &Cupola) -> anyhow::Result<World> {
        base::http::install_crypto();
        let data = cupola.data();
        let kept =
            |name: &str| std::fs::read_to_string(data.join(name)).map(|t| t.trim().to_owned());
        let url = format!("http://127.0.0.1:{}", kept("internal-port")?);
        Ok(World {
            db: Db::open_file(&data.join("cloud_controller.db")).await?,
            bbs: bbs::Client::new(url, &Secret::new(kept("secret")?)),
            data,
        })
    }

    /// What does not fit; empty when all is well.
    async fn faults(&self) -> anyhow::Result<Vec<String>> {
        let mut faults = Vec::new();
        for (what, text) in UNSETTLED {
            let rows = self.texts(text).await?;
            faults.extend(rows.iter().map(|guid| format!("{what}: {guid}")));
        }
        self.runtime_faults(&mut faults).await?;
        self.blob_faults(&mut faults).await?;
        for folder in ["blobs/incoming", "executor/temporary", "images/tmp", "tmp"] {
            let left = names(&self.data.join(folder));
            faults.extend(left.iter().map(|name| format!("left over: {folder}/{name}")));
        }
        Ok(faults)
    }

    /// Desired are exactly the processes of started apps, each instance runs once, and nothing else is on the cell.
    async fn runtime_faults(&self, faults: &mut Vec<String>) -> anyhow::Result<()> {
        let mut connection = self.db.read().await?;
        let rows = sqlx::query(WANTED).fetch_all(&mut *connection).await?;
        drop(connection);
        let wanted: BTreeMap<String, i64> =
            rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let desired = self.bbs.scheduling_infos(None).await?;
        let desired: BTreeMap<String, i64> = desired
            .iter()
            .map(|info| (info.process_guid.to_string(), i64::from(info.instances)))
            .collect();
        if wanted != desired {
            faults.push(format!("wanted is {wanted:?}, desired {desired:?}"));
        }
        let mut instances = BTreeSet::new();
        let mut missing: BTreeSet<(String, u32)> = desired
            .iter()
            .flat_map(|(guid, count)| {
                (0..u32::try_from(*count).expect("few")).map(|index| (guid.clone(), index))
            })
            .collect();
        for lrp in self.bbs.actual_lrps(&ActualLrpFilter::default()).await? {
            let known = missing.remove(&(lrp.key.process_guid.to_string(), lrp.key.index));
            match &lrp.state {
                State::Running { by, routable: true, .. } if known => {
                    instances.insert(by.instance_guid.to_string());
                }
                state => faults.push(format!("instance {}: {state:?}, desired: {known}", lrp.key)),
            }
        }
        faults.extend(missing.iter().map(|(guid, index)| format!("no instance {guid}/{index}")));
        for task in self.bbs.tasks(&TaskFilter::default()).await? {
            faults.push(format!("Diego's task {}: {:?}", task.task_guid, task.state));
        }
        self.cell_faults(&instances, faults);
        Ok(())
    }

    fn cell_faults(&self, instances: &BTreeSet<String>, faults: &mut Vec<String>) {
        let recipes: BTreeSet<String> =
            names(&self.data.join("executor/recipes")).into_iter().collect();
        if recipes != *instances {
            faults.push(format!("instances are {instances:?}, recipes {recipes:?}"));
        }
        let folder = self.data.join("containers/c");
        let (mut handles, mut numbers) = (BTreeSet::new(), BTreeSet::new());
        for name in names(&folder) {
            let record = std::fs::read(folder.join(&name).join("container.json"));
            let record: Option<serde_json::Value> =
                record.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            match record.as_ref().and_then(|record| record["handle"].as_str()) {
                Some(handle) => drop(handles.insert(handle.to_owned())),
                None => faults.push(format!("a container's folder without a record: {name}")),
            }
            numbers.insert(folder.join(name));
        }
        if handles != *instances {
            faults.push(format!("instances are {instances:?}, containers {handles:?}"));
        }
        for pid in pids() {
            let Ok(cwd) = std::fs::read_link(format!("/proc/{pid}/cwd")) else { continue };
            if cwd.starts_with(&folder) && !numbers.iter().any(|number| cwd.starts_with(number)) {
                faults.push(format!("process {pid} is in {}", cwd.display()));
            }
        }
    }

    async fn blob_faults(&self, faults: &mut Vec<String>) -> anyhow::Result<()> {
        for (kind, text) in NEEDED {
            let needed: BTreeSet<String> = self.texts(text).await?.into_iter().collect();
            let folder = self.data.join("blobs/blobs").join(kind);
            let there: BTreeSet<String> =
                names(&folder).iter().flat_map(|part| names(&folder.join(part))).collect();
            faults.extend(needed.difference(&there).map(|blob| format!("no blob {kind}/{blob}")));
            // What is noted down goes with the next tidying.
            let noted = "SELECT digest FROM blob_candidates";
            let known: BTreeSet<String> =
                self.texts(noted).await?.into_iter().chain(needed).collect();
            faults.extend(there.difference(&known).map(|blob| format!("waste: {kind}/{blob}")));
        }
        Ok(())
    }

    async fn texts(&self, text: &'static str) -> anyhow::Result<Vec<String>> {
        let mut connection = self.db.read().await?;
        let rows = sqlx::query(text).fetch_all(&mut *connection).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

/// Waits until all fits together; answers how long that took.
#[track_caller]
pub fn settle(cupola: &Cupola, what: &str) -> Duration {
    let begun = Instant::now();
    let faults = within(async {
        let world = World::of(cupola).await?;
        loop {
            let faults = match world.faults().await {
                Ok(faults) => faults,
                Err(error) => vec![format!("{error:#}")],
            };
            if faults.is_empty() || begun.elapsed() > PATIENCE {
                world.db.close().await;
                return Ok(faults);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(
        faults.is_empty(),
        "{what}: it does not come right:\n{}\n--- platform:\n{}",
        faults.join("\n"),
        cupola.log()
    );
    begun.elapsed()
}

/// What runs now, by the brain's own word.
pub fn instances(cupola: &Cupola) -> Instances {
    within(async {
        let world = World::of(cupola).await?;
        let all = world.bbs.actual_lrps(&ActualLrpFilter::default()).await?;
        world.db.close().await;
        let running = all.into_iter().filter_map(|lrp| match &lrp.state {
            State::Running { by, .. } => Some((
                (lrp.key.process_guid.to_string(), lrp.key.index),
                by.instance_guid.to_string(),
            )),
            _ => None,
        });
        Ok(running.collect())
    })
}

/// Where each instance of the only process runs, by index: its guid and its cell.
pub fn places(cupola: &Cupola) -> BTreeMap<u32, (String, String)> {
    within(async {
        let world = World::of(cupola).await?;
        let all = world.bbs.actual_lrps(&ActualLrpFilter::default()).await?;
        world.db.close().await;
        let running = all.into_iter().filter_map(|lrp| match &lrp.state {
            State::Running { by, .. } => {
                Some((lrp.key.index, (by.instance_guid.to_string(), by.cell_id.to_string())))
            }
            _ => None,
        });
        Ok(running.collect())
    })
}

fn within<T>(work: impl Future<Output = anyhow::Result<T>>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
