//! Diego's brain in memory, as far as the Cloud Controller asks it. Tests move its instances and tasks by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use diego::bbs::{ActualLrpFilter, ErrorKind, Evacuation, Keep, Result, TaskFilter};
use diego::task::Attempt;
use diego::{
    ActualLrp, Bbs, BbsError, CellId, CellPresence, DesiredLrp, DesiredLrpUpdate, Domain, Event,
    InstanceKey, LrpKey, NetInfo, ProcessGuid, SchedulingInfo, Task, TaskDefinition, TaskGuid,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::{Notify, broadcast};

#[derive(Default)]
struct State {
    desired: BTreeMap<ProcessGuid, Arc<DesiredLrp>>,
    actual: BTreeMap<LrpKey, Arc<ActualLrp>>,
    tasks: BTreeMap<TaskGuid, Arc<Task>>,
    domains: Vec<Domain>,
}

pub struct FakeBbs {
    state: parking_lot::Mutex<State>,
    events: broadcast::Sender<Event>,
    changed: Notify,
}

impl Default for FakeBbs {
    fn default() -> FakeBbs {
        FakeBbs {
            state: Default::default(),
            events: broadcast::Sender::new(1024),
            changed: Notify::new(),
        }
    }
}

fn not_found() -> BbsError {
    BbsError::new(ErrorKind::ResourceNotFound, "the requested resource could not be found")
}

fn unasked<T>() -> Result<T> {
    Err(BbsError::new(ErrorKind::Unknown, "the Cloud Controller does not ask this"))
}

impl FakeBbs {
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
        self.changed.notify_waiters();
    }

    /// Waits until `look` finds what it wants among the desired LRPs.
    pub async fn desired_when<T>(&self, look: impl Fn(&[Arc<DesiredLrp>]) -> Option<T>) -> T {
        self.when(|state| look(&state.desired.values().cloned().collect::<Vec<_>>())).await
    }

    /// Waits until a task with this guid is there.
    pub async fn task_when(&self, guid: &str) -> Arc<Task> {
        self.when(|state| state.tasks.get(guid).cloned()).await
    }

    /// Waits until there is no such task any more.
    pub async fn no_task_when(&self, guid: &str) {
        self.when(|state| (!state.tasks.contains_key(guid)).then_some(())).await;
    }

    async fn when<T>(&self, look: impl Fn(&State) -> Option<T>) -> T {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = look(&self.state.lock()) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .expect("what was waited for never came")
    }

    /// An instance comes to be, or to another state.
    pub fn set_actual(&self, lrp: ActualLrp) {
        let after = Arc::new(lrp);
        let before = self.state.lock().actual.insert(after.key.clone(), after.clone());
        self.tell(match before {
            Some(before) => Event::ActualLrpChanged { before, after },
            None => Event::ActualLrpCreated { actual_lrp: after },
        });
    }

    /// No cell took a task, once more.
    pub fn reject_task(&self, guid: &str, reason: &str) {
        let mut state = self.state.lock();
        let before = state.tasks[&TaskGuid::from(guid)].clone();
        let mut after = Task::clone(&before);
        after.rejection_count += 1;
        after.rejection_reason = reason.to_owned();
        let after = Arc::new(after);
        state.tasks.insert(guid.into(), after.clone());
        drop(state);
        self.tell(Event::TaskChanged { before, after });
    }

    pub fn tell_crash(&self, event: Event) {
        self.tell(event);
    }
}

#[async_trait]
impl Bbs for FakeBbs {
    async fn upsert_domain(&self, domain: &Domain, _: Option<Duration>) -> Result<()> {
        self.state.lock().domains.push(domain.clone());
        self.changed.notify_waiters();
        Ok(())
    }

    async fn domains(&self) -> Result<Vec<Domain>> {
        Ok(self.state.lock().domains.clone())
    }

    async fn desire_lrp(&self, lrp: DesiredLrp) -> Result<()> {
        let desired_lrp = Arc::new(lrp);
        {
            let mut state = self.state.lock();
            if state.desired.contains_key(&desired_lrp.process_guid) {
                return Err(BbsError::new(
                    ErrorKind::ResourceExists,
                    "the requested resource already exists",
                ));
            }
            state.desired.insert(desired_lrp.process_guid.clone(), desired_lrp.clone());
        }
        self.tell(Event::DesiredLrpCreated { desired_lrp });
        Ok(())
    }

    async fn update_lrp(&self, guid: &ProcessGuid, update: DesiredLrpUpdate) -> Result<()> {
        let (before, after) = {
            let mut state = self.state.lock();
            let before = state.desired.get(guid).cloned().ok_or_else(not_found)?;
            let after = Arc::new(DesiredLrp::clone(&before).updated(update));
            state.desired.insert(guid.clone(), after.clone());
            (before, after)
        };
        self.tell(Event::DesiredLrpChanged { before, after });
        Ok(())
    }

    async fn remove_lrp(&self, guid: &ProcessGuid) -> Result<()> {
        let (desired_lrp, gone) = {
            let mut state = self.state.lock();
            let desired = state.desired.remove(guid).ok_or_else(not_found)?;
            let keys: Vec<LrpKey> =
                state.actual.keys().filter(|key| key.process_guid == *guid).cloned().collect();
            let gone: Vec<Arc<ActualLrp>> =
                keys.iter().filter_map(|key| state.actual.remove(key)).collect();
            (desired, gone)
        };
        self.tell(Event::DesiredLrpRemoved { desired_lrp });
        for actual_lrp in gone {
            self.tell(Event::ActualLrpRemoved { actual_lrp });
        }
        Ok(())
    }

    async fn desired_lrp(&self, guid: &ProcessGuid) -> Result<DesiredLrp> {
        self.state.lock().desired.get(guid).map(|lrp| DesiredLrp::clone(lrp)).ok_or_else(not_found)
    }

    async fn desired_lrps(&self, _: Option<&Domain>) -> Result<Vec<DesiredLrp>> {
        Ok(self.state.lock().desired.values().map(|lrp| DesiredLrp::clone(lrp)).collect())
    }

    async fn scheduling_infos(&self, _: Option<&Domain>) -> Result<Vec<SchedulingInfo>> {
        Ok(self.state.lock().desired.values().map(|lrp| lrp.scheduling_info()).collect())
    }

    async fn actual_lrps(&self, _: &ActualLrpFilter) -> Result<Vec<ActualLrp>> {
        Ok(self.state.lock().actual.values().map(|lrp| ActualLrp::clone(lrp)).collect())
    }

    async fn retire(&self, key: &LrpKey) -> Result<()> {
        let actual_lrp = self.state.lock().actual.remove(key).ok_or_else(not_found)?;
        self.tell(Event::ActualLrpRemoved { actual_lrp });
        Ok(())
    }

    async fn claim(&self, _: &LrpKey, _: &InstanceKey) -> Result<()> {
        unasked()
    }

    async fn start(&self, _: &LrpKey, _: &InstanceKey, _: &NetInfo, _: bool) -> Result<()> {
        unasked()
    }

    async fn crash(&self, _: &LrpKey, _: &InstanceKey, _: &str) -> Result<()> {
        unasked()
    }

    async fn remove(&self, _: &LrpKey, _: &InstanceKey) -> Result<()> {
        unasked()
    }

    async fn evacuate(&self, _: &LrpKey, _: &InstanceKey, _: Evacuation) -> Result<Keep> {
        unasked()
    }

    async fn desire_task(
        &self,
        guid: &TaskGuid,
        domain: &Domain,
        definition: TaskDefinition,
    ) -> Result<()> {
        let task = Arc::new(Task {
            task_guid: guid.clone(),
            domain: domain.clone(),
            definition,
            created_at: super::START,
            updated_at: super::START,
            rejection_count: 0,
            rejection_reason: String::new(),
            state: diego::task::State::Pending,
        });
        self.state.lock().tasks.insert(guid.clone(), task.clone());
        self.tell(Event::TaskCreated { task });
        Ok(())
    }

    async fn task(&self, guid: &TaskGuid) -> Result<Task> {
        self.state.lock().tasks.get(guid).map(|task| Task::clone(task)).ok_or_else(not_found)
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>> {
        let state = self.state.lock();
        let found = state.tasks.values().filter(|task| filter.matches(task));
        Ok(found.map(|task| Task::clone(task)).collect())
    }

    async fn start_task(&self, _: &TaskGuid, _: &Attempt) -> Result<bool> {
        unasked()
    }

    async fn complete_task(
        &self,
        _: &TaskGuid,
        _: &Attempt,
        _: Option<&str>,
        _: &str,
    ) -> Result<()> {
        unasked()
    }

    async fn reject_task(&self, _: &TaskGuid, _: &Attempt, _: &str) -> Result<()> {
        unasked()
    }

    async fn cancel_task(&self, guid: &TaskGuid) -> Result<()> {
        let task = self.state.lock().tasks.remove(guid).ok_or_else(not_found)?;
        self.tell(Event::TaskRemoved { task });
        Ok(())
    }

    async fn resolve_task(&self, _: &TaskGuid) -> Result<()> {
        unasked()
    }

    async fn delete_task(&self, guid: &TaskGuid) -> Result<()> {
        let task = self.state.lock().tasks.remove(guid).ok_or_else(not_found)?;
        self.tell(Event::TaskRemoved { task });
        Ok(())
    }

    async fn announce(&self, _: &CellPresence, _: Duration) -> Result<()> {
        unasked()
    }

    async fn retract(&self, _: &CellId) -> Result<()> {
        unasked()
    }

    async fn cells(&self) -> Result<Vec<CellPresence>> {
        Ok(Vec::new())
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>> {
        let stream = tokio_stream::wrappers::BroadcastStream::new(self.events.subscribe());
        Ok(stream
            .take_while(|event| std::future::ready(event.is_ok()))
            .filter_map(async |event| event.ok())
            .boxed())
    }
}
