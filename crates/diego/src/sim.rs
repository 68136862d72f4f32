//! A cell that runs nothing: it accounts for what it holds and plays the part that a script gives it. For tests and
//! simulations; it keeps the promises of [`Cell`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use base::TaskTracker;

use crate::bbs::{ActualLrpFilter, ErrorKind, Evacuation, Keep};
use crate::cell::{Dial, LrpHeld, LrpStart, LrpUpdate, Refused, Resources, TaskHeld};
use crate::{
    Bbs, BbsError, Cell, CellId, CellPresence, CellState, DesiredLrp, InstanceGuid, InstanceKey,
    LrpKey, NetInfo, PortMapping, ProcessGuid, Task, TaskGuid, Work,
};

/// What the cell does with what it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    pub lrps: OnLrp,
    pub tasks: OnTask,
    /// Whether anything of it answers.
    pub reachable: bool,
    /// Whether work is handed back although it would fit.
    pub hands_back: bool,
    /// Digests of the image layers that it says it holds.
    pub layers: Vec<String>,
}

impl Default for Script {
    fn default() -> Script {
        Script {
            lrps: OnLrp::Run,
            tasks: OnTask::Succeed("done".to_owned()),
            reachable: true,
            hands_back: false,
            layers: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnLrp {
    /// Claims, then starts.
    Run,
    /// Claims and never becomes healthy.
    Claim,
    /// Claims, then crashes with this reason.
    Crash(String),
    /// Reserves and is never heard of again.
    Ignore,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnTask {
    Succeed(String),
    Fail(String),
    /// Starts and does not end.
    Run,
    /// The container cannot be made.
    Reject(String),
    /// Reserves and is never heard of again.
    Ignore,
}

#[derive(Debug)]
struct Lrp {
    key: LrpKey,
    resources: Resources,
    running: bool,
    /// What it tags its lines with; nobody's but the process's own until somebody asks.
    desired: Arc<DesiredLrp>,
    retagged: Option<BTreeMap<String, String>>,
}

struct Inner {
    presence: CellPresence,
    script: Script,
    lrps: BTreeMap<InstanceGuid, Lrp>,
    tasks: BTreeMap<TaskGuid, Resources>,
    bbs: Option<Arc<dyn Bbs>>,
    /// Work that came, for tests that ask how often.
    performed: usize,
}

pub struct SimCell {
    inner: Mutex<Inner>,
    /// What the cell has begun to report; tests wait for it.
    pub reports: TaskTracker,
    me: Weak<SimCell>,
}

impl SimCell {
    pub fn new(presence: CellPresence) -> Arc<SimCell> {
        let inner = Inner {
            presence,
            script: Script::default(),
            lrps: BTreeMap::new(),
            tasks: BTreeMap::new(),
            bbs: None,
            performed: 0,
        };
        Arc::new_cyclic(|me| SimCell {
            inner: Mutex::new(inner),
            reports: TaskTracker::new(),
            me: me.clone(),
        })
    }

    /// A presence with everything an ordinary cell has.
    pub fn presence(id: &str, zone: &str, capacity: Resources) -> CellPresence {
        CellPresence {
            cell_id: id.into(),
            rep_url: format!("sim://{id}"),
            zone: zone.to_owned(),
            capacity,
            stacks: vec!["preloaded:base".to_owned()],
            placement_tags: Vec::new(),
            optional_placement_tags: Vec::new(),
            volume_drivers: Vec::new(),
            evacuating: false,
        }
    }

    /// From now on the cell reports to this brain.
    pub fn attach(&self, bbs: Arc<dyn Bbs>) {
        self.lock().bbs = Some(bbs);
    }

    pub fn set_script(&self, script: Script) {
        self.lock().script = script;
    }

    pub fn set_reachable(&self, reachable: bool) {
        self.lock().script.reachable = reachable;
    }

    /// One heartbeat.
    pub async fn announce(&self, ttl: Duration) -> Result<(), BbsError> {
        let presence = self.lock().presence.clone();
        self.brain()?.announce(&presence, ttl).await
    }

    /// What it holds, whether running or not.
    pub fn instances(&self) -> Vec<(LrpKey, InstanceGuid)> {
        self.lock().lrps.iter().map(|(guid, lrp)| (lrp.key.clone(), guid.clone())).collect()
    }

    /// What an instance's log lines are tagged with.
    pub fn tags(&self, guid: &InstanceGuid) -> Option<BTreeMap<String, String>> {
        let inner = self.lock();
        let lrp = inner.lrps.get(guid)?;
        Some(lrp.retagged.clone().unwrap_or_else(|| lrp.desired.metric_tags.clone()))
    }

    pub fn task_guids(&self) -> Vec<TaskGuid> {
        self.lock().tasks.keys().cloned().collect()
    }

    /// How many pieces of work it was ever given.
    pub fn performed(&self) -> usize {
        self.lock().performed
    }

    pub fn available(&self) -> Resources {
        self.lock().available()
    }

    /// The instance's process ends by itself.
    pub async fn crash(&self, guid: &InstanceGuid, reason: &str) -> Result<(), BbsError> {
        let Some(lrp) = self.lock().lrps.remove(guid) else { return Err(unknown(guid.as_str())) };
        self.brain()?.crash(&lrp.key, &self.instance_key(guid), reason).await
    }

    /// The instance's readiness check turns.
    pub async fn set_routable(&self, guid: &InstanceGuid, routable: bool) -> Result<(), BbsError> {
        let key = self
            .lock()
            .lrps
            .get(guid)
            .map(|lrp| lrp.key.clone())
            .ok_or_else(|| unknown(guid.as_str()))?;
        self.brain()?.start(&key, &self.instance_key(guid), &self.net(guid), routable).await
    }

    /// One pass of evacuation over everything it holds; `true` when nothing is left.
    pub async fn evacuate(&self) -> Result<bool, BbsError> {
        self.lock().presence.evacuating = true;
        let held: Vec<_> = self
            .lock()
            .lrps
            .iter()
            .map(|(guid, lrp)| (guid.clone(), lrp.key.clone(), lrp.running))
            .collect();
        for (guid, key, running) in held {
            let net = self.net(&guid);
            let kind = if running {
                Evacuation::Running { net, routable: true }
            } else {
                Evacuation::Claimed
            };
            if self.brain()?.evacuate(&key, &self.instance_key(&guid), kind).await? == Keep::Delete
            {
                self.lock().lrps.remove(&guid);
            }
        }
        Ok(self.lock().lrps.is_empty())
    }

    /// What a real cell does now and then: puts itself and the brain's records of it in step.
    pub async fn reconcile(&self) -> Result<(), BbsError> {
        let bbs = self.brain()?;
        let cell_id = self.lock().presence.cell_id.clone();
        let held: Vec<_> = self
            .lock()
            .lrps
            .iter()
            .map(|(guid, lrp)| (guid.clone(), lrp.key.clone(), lrp.running))
            .collect();
        for (guid, key, running) in held {
            if running {
                if bbs.start(&key, &self.instance_key(&guid), &self.net(&guid), true).await.is_err()
                {
                    self.lock().lrps.remove(&guid);
                }
            } else if let Some(me) = self.me.upgrade() {
                let on_lrp = me.lock().script.lrps.clone();
                me.run_lrp(guid, key, on_lrp).await;
            }
        }
        let mine = ActualLrpFilter { cell_id: Some(cell_id), ..ActualLrpFilter::default() };
        for lrp in bbs.actual_lrps(&mine).await? {
            if let Some(by) =
                lrp.instance().filter(|by| !self.lock().lrps.contains_key(&by.instance_guid))
            {
                // Refused when it was settled in the meantime.
                let _ = bbs.remove(&lrp.key, by).await;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn brain(&self) -> Result<Arc<dyn Bbs>, BbsError> {
        self.lock()
            .bbs
            .clone()
            .ok_or_else(|| BbsError::new(ErrorKind::Unreachable, "no brain attached"))
    }

    fn instance_key(&self, guid: &InstanceGuid) -> InstanceKey {
        InstanceKey { instance_guid: guid.clone(), cell_id: self.lock().presence.cell_id.clone() }
    }

    /// An address of its own for each instance, made from its guid.
    fn net(&self, guid: &InstanceGuid) -> NetInfo {
        let sum = guid
            .as_str()
            .bytes()
            .fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let [_, b, c, d] = sum.to_be_bytes();
        let host_port = 61_000 + u16::from(d);
        let ports = vec![PortMapping { container_port: 8080, listen_port: 8080, host_port }];
        NetInfo { address: [127, 0, 0, 1].into(), instance_address: [10, b, c, d].into(), ports }
    }

    fn report<F: Future<Output = ()> + Send + 'static>(
        &self,
        work: impl FnOnce(Arc<SimCell>) -> F,
    ) {
        if let Some(me) = self.me.upgrade() {
            self.reports.spawn(work(me));
        }
    }

    async fn run_lrp(self: Arc<SimCell>, guid: InstanceGuid, key: LrpKey, on_lrp: OnLrp) {
        let Ok(bbs) = self.brain() else { return };
        let instance = self.instance_key(&guid);
        if on_lrp == OnLrp::Ignore {
            return;
        }
        if bbs.claim(&key, &instance).await.is_err() {
            self.lock().lrps.remove(&guid);
            return;
        }
        match on_lrp {
            OnLrp::Run => {
                if let Some(lrp) = self.lock().lrps.get_mut(&guid) {
                    lrp.running = true;
                }
                if bbs.start(&key, &instance, &self.net(&guid), true).await.is_err() {
                    self.lock().lrps.remove(&guid);
                }
            }
            OnLrp::Crash(reason) => {
                self.lock().lrps.remove(&guid);
                // Refused when it was retired in the meantime: then nobody wants to know.
                let _ = bbs.crash(&key, &instance, &reason).await;
            }
            OnLrp::Claim | OnLrp::Ignore => {}
        }
    }

    async fn run_task(self: Arc<SimCell>, task: Arc<Task>, on_task: OnTask) {
        let Ok(bbs) = self.brain() else { return };
        if on_task == OnTask::Ignore {
            return;
        }
        let (guid, cell_id) = (&task.task_guid, self.lock().presence.cell_id.clone());
        let by = &task.attempt_by(cell_id);
        let granted = bbs.start_task(guid, by).await.unwrap_or(false);
        if granted && on_task == OnTask::Run {
            return;
        }
        self.lock().tasks.remove(guid);
        // Refused when it was cancelled in the meantime: then nobody wants to know.
        let _ = match (granted, on_task) {
            (true, OnTask::Succeed(result)) => bbs.complete_task(guid, by, None, &result).await,
            (true, OnTask::Fail(reason)) => bbs.complete_task(guid, by, Some(&reason), "").await,
            (true, OnTask::Reject(reason)) => bbs.reject_task(guid, by, &reason).await,
            _ => Ok(()),
        };
    }
}

impl Inner {
    fn available(&self) -> Resources {
        let held = self.lrps.values().map(|lrp| &lrp.resources).chain(self.tasks.values());
        held.fold(self.presence.capacity, |free, used| Resources {
            memory_mb: free.memory_mb.saturating_sub(used.memory_mb),
            disk_mb: free.disk_mb.saturating_sub(used.disk_mb),
            containers: free.containers.saturating_sub(used.containers),
        })
    }

    fn fits(&self, wanted: &Resources) -> bool {
        let free = self.available();
        let room = wanted.memory_mb <= free.memory_mb
            && wanted.disk_mb <= free.disk_mb
            && wanted.containers <= free.containers;
        room && !self.script.hands_back && !self.presence.evacuating
    }

    fn reserve_lrp(&mut self, start: &LrpStart) -> Result<(InstanceGuid, LrpKey), LrpKey> {
        let (key, resources) = (start.key(), Resources::of(&start.desired.run));
        if !self.fits(&resources) {
            return Err(key);
        }
        let guid = InstanceGuid::from(&base::new_guid()[..28]);
        self.lrps.insert(
            guid.clone(),
            Lrp {
                key: key.clone(),
                resources,
                running: false,
                desired: start.desired.clone(),
                retagged: None,
            },
        );
        Ok((guid, key))
    }

    fn reserve_task(&mut self, task: &Task) -> bool {
        let resources = Resources::of(&task.definition.run);
        if !self.tasks.contains_key(&task.task_guid) && !self.fits(&resources) {
            return false;
        }
        self.tasks.insert(task.task_guid.clone(), resources);
        true
    }
}

fn unknown(what: &str) -> BbsError {
    BbsError::new(ErrorKind::ResourceNotFound, format!("{what} is not on this cell"))
}

#[async_trait]
impl Cell for SimCell {
    async fn state(&self) -> Result<CellState, BbsError> {
        let inner = self.lock();
        if !inner.script.reachable {
            return Err(BbsError::new(ErrorKind::Unreachable, "the simulated cell is cut off"));
        }
        let lrp = |(guid, lrp): (&InstanceGuid, &Lrp)| LrpHeld {
            key: lrp.key.clone(),
            instance_guid: guid.clone(),
            resources: lrp.resources,
        };
        let task = |(guid, resources): (&TaskGuid, &Resources)| TaskHeld {
            task_guid: guid.clone(),
            resources: *resources,
        };
        Ok(CellState {
            presence: inner.presence.clone(),
            available: inner.available(),
            lrps: inner.lrps.iter().map(lrp).collect(),
            tasks: inner.tasks.iter().map(task).collect(),
            starting: u32::try_from(inner.lrps.values().filter(|lrp| !lrp.running).count())
                .unwrap_or(u32::MAX),
            layers: inner.script.layers.clone(),
        })
    }

    async fn perform(&self, work: Work) -> Result<Refused, BbsError> {
        let mut inner = self.lock();
        if !inner.script.reachable {
            return Err(BbsError::new(ErrorKind::Unreachable, "the simulated cell is cut off"));
        }
        inner.performed += work.lrps.len() + work.tasks.len();
        let mut refused = Refused::default();
        // As the script is now: whoever asks for the count may change it next.
        let script = inner.script.clone();
        for start in &work.lrps {
            match inner.reserve_lrp(start) {
                Ok((guid, key)) => {
                    let on_lrp = script.lrps.clone();
                    self.report(|me| me.run_lrp(guid, key, on_lrp));
                }
                Err(key) => refused.lrps.push(key),
            }
        }
        for task in &work.tasks {
            if inner.reserve_task(task) {
                let (task, on_task) = (task.clone(), script.tasks.clone());
                self.report(|me| me.run_task(task, on_task));
            } else {
                refused.tasks.push(task.task_guid.clone());
            }
        }
        Ok(refused)
    }

    async fn stop_lrp(
        &self,
        _process_guid: &ProcessGuid,
        guid: &InstanceGuid,
    ) -> Result<(), BbsError> {
        if !self.lock().script.reachable {
            return Err(BbsError::new(ErrorKind::Unreachable, "the simulated cell is cut off"));
        }
        let Some(lrp) = self.lock().lrps.remove(guid) else { return Ok(()) };
        let guid = guid.clone();
        self.report(|me| async move {
            if let Ok(bbs) = me.brain() {
                // Refused when the record went another way: then nothing is left to remove.
                let _ = bbs.remove(&lrp.key, &me.instance_key(&guid)).await;
            }
        });
        Ok(())
    }

    async fn update_lrp(
        &self,
        _process_guid: &ProcessGuid,
        guid: &InstanceGuid,
        update: &LrpUpdate,
    ) -> Result<(), BbsError> {
        let mut inner = self.lock();
        if !inner.script.reachable {
            return Err(BbsError::new(ErrorKind::Unreachable, "the simulated cell is cut off"));
        }
        if let Some(lrp) = inner.lrps.get_mut(guid) {
            lrp.retagged = Some(update.metric_tags.clone());
        }
        Ok(())
    }

    async fn cancel_task(&self, guid: &TaskGuid) -> Result<(), BbsError> {
        self.lock().tasks.remove(guid);
        Ok(())
    }
}

/// Reaches simulated cells by their id.
#[derive(Clone, Default)]
pub struct SimDial(Arc<Mutex<BTreeMap<CellId, Arc<SimCell>>>>);

impl SimDial {
    pub fn add(&self, cell: &Arc<SimCell>) {
        let id = cell.lock().presence.cell_id.clone();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, cell.clone());
    }
}

impl Dial for SimDial {
    /// An unknown cell is one that nobody answers for.
    fn dial(&self, presence: &CellPresence) -> Arc<dyn Cell> {
        let cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match cells.get(&presence.cell_id) {
            Some(cell) => cell.clone(),
            None => {
                let nobody = SimCell::new(presence.clone());
                nobody.set_reachable(false);
                nobody
            }
        }
    }
}
