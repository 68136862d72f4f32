//! Takes work, and does for each container what the tables say.

use std::sync::Arc;

use base::Backoff;
use diego::bbs::{Evacuation, Keep};
use diego::cell::{LrpStart, Refused, Resources};
use diego::desired_lrp::RunInfo;
use diego::task::Attempt;
use diego::{BbsError, Task, Work};
use executor::{Container, Outcome, State};
use garden::Handle;
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use crate::cell::{Mode, Rep};
use crate::owner::{Owner, handle};
use crate::{convert, lrp, task};

/// The largest result of a task.
const MAX_RESULT: usize = 50 * 1024;

pub(crate) enum Pending {
    Lrp(LrpStart),
    Task(Arc<Task>),
}

/// What the brain is known to know.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    Lrp(lrp::View),
    Task(task::View),
    /// A replacement was asked for.
    Evacuating,
}

/// Everything that keeps a step from its end; the lane tries again.
pub(crate) enum Hitch {
    Brain(BbsError),
    Container(executor::ExecutorError),
}

pub(crate) type Step = Result<(), Hitch>;

impl Rep {
    /// Reserves what fits and begins it; the rest is handed back.
    pub(crate) fn perform(self: &Arc<Self>, work: Work) -> Refused {
        let mut refused = Refused::default();
        let (mut lrps, mut tasks) = (work.lrps, work.tasks);
        lrps.sort_by_key(|start| std::cmp::Reverse(start.desired.run.memory_mb));
        tasks.sort_by_key(|task| std::cmp::Reverse(task.definition.run.memory_mb));
        for start in lrps {
            let owner =
                convert::lrp_owner(&start.desired, start.index, convert::new_instance_guid());
            let key = start.key();
            let desired = start.desired.clone();
            if !self.take(&owner, &desired.run, Pending::Lrp(start)) {
                refused.lrps.push(key);
            }
        }
        for task in tasks {
            let (owner, guid, whole) =
                (convert::task_owner(&task), task.task_guid.clone(), task.clone());
            // The same work may come twice; it is taken once.
            let known = self.executor.get(&handle(&guid)).is_some();
            if !known && !self.take(&owner, &whole.definition.run, Pending::Task(task)) {
                refused.tasks.push(guid);
            }
        }
        refused
    }

    fn take(self: &Arc<Self>, owner: &Owner, run: &RunInfo, work: Pending) -> bool {
        if self.mode() != Mode::Open || !self.has_rootfs(&run.rootfs) {
            return false;
        }
        let guid = match owner {
            Owner::Lrp { instance_guid, .. } => handle(instance_guid),
            Owner::Task { guid, .. } => handle(guid),
        };
        self.pending.lock().insert(guid.clone(), work);
        match self.executor.reserve(&guid, Resources::of(run), owner.tags()) {
            Ok(()) => {
                self.poke(&guid);
                true
            }
            Err(error) => {
                debug!(container.guid = %guid, %error, "work is handed back");
                self.pending.lock().remove(&guid);
                false
            }
        }
    }

    fn has_rootfs(&self, rootfs: &str) -> bool {
        match rootfs.strip_prefix("preloaded:") {
            Some(stack) => self.config.stacks.iter().any(|held| held == stack || held == rootfs),
            None => self.config.images,
        }
    }

    /// Something happened to a container: look after it.
    pub(crate) fn poke(self: &Arc<Self>, guid: &Handle) {
        if let Some(wake) = self.lanes.poke(guid) {
            self.tasks.spawn(self.clone().drive(guid.clone(), wake));
        }
    }

    pub(crate) fn poke_all(self: &Arc<Self>) {
        for container in self.executor.list() {
            self.poke(&container.guid);
        }
    }

    async fn drive(self: Arc<Self>, guid: Handle, wake: Arc<Notify>) {
        let mut backoff =
            Backoff::new(self.config.timings.first_retry, self.config.timings.last_retry);
        loop {
            self.lanes.begin(&guid);
            let step = tokio::select! {
                () = self.stop.cancelled() => return,
                step = self.step(&guid) => step,
                // Connections of before the cell was cut off are dead, and whoever waits for an answer waits in vain.
                () = self.lease.next_term() => continue,
            };
            match step {
                Ok(()) => {
                    backoff.reset();
                    if self.lanes.end(&guid) {
                        return;
                    }
                }
                Err(hitch) => {
                    match hitch {
                        Hitch::Brain(error) => {
                            debug!(container.guid = %guid, %error, "the brain could not be told yet")
                        }
                        Hitch::Container(error) => {
                            let error = format!("{:#}", anyhow::Error::new(error));
                            warn!(container.guid = %guid, %error, "a container could not be dealt with yet");
                        }
                    }
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = wake.notified() => {}
                        () = tokio::time::sleep(backoff.step()) => {}
                    }
                }
            }
        }
    }

    async fn step(self: &Arc<Self>, guid: &Handle) -> Step {
        let Some(container) = self.executor.get(guid) else {
            self.forget(guid);
            return Ok(());
        };
        let evacuating =
            matches!(self.mode(), Mode::Evacuating | Mode::Closing { evacuated: true });
        match Owner::of(&container.owner) {
            Some(owner @ Owner::Lrp { .. }) if evacuating => {
                self.evacuate_one(&container, &owner).await
            }
            Some(owner @ Owner::Lrp { .. }) => self.step_lrp(&container, &owner).await,
            Some(owner @ Owner::Task { .. }) => self.step_task(&container, &owner).await,
            None => self.delete(guid).await,
        }
    }

    async fn step_lrp(self: &Arc<Self>, container: &Container, owner: &Owner) -> Step {
        let Owner::Lrp { log_source, .. } = owner else { return Ok(()) };
        let view = match (&container.state, self.book.seen(&container.guid)) {
            // An end is told once, and the brain may have learned more since it was asked: let it decide.
            (State::Completed(_), _) => lrp::View::Unknown,
            (_, Some(Seen::Lrp(view))) => view,
            _ => lrp::View::Unknown,
        };
        for call in lrp::lrp_step(&container.state, log_source, &view) {
            match self.call_lrp(container, owner, &call).await {
                Err(Hitch::Brain(error)) if !lrp::is_passing(error.kind) => {
                    info!(container.guid = %container.guid, ?call, %error, "the brain decided otherwise");
                    self.book.take(&container.guid);
                    if let Some(consequence) = lrp::refused(&call) {
                        return self.call_lrp(container, owner, &consequence).await;
                    }
                }
                result => result?,
            }
        }
        Ok(())
    }

    async fn call_lrp(
        self: &Arc<Self>,
        container: &Container,
        owner: &Owner,
        call: &lrp::Call,
    ) -> Step {
        let (Owner::Lrp { key, .. }, Some(instance)) = (owner, self.instance(owner)) else {
            return Ok(());
        };
        let guid = &container.guid;
        let now_knows = |view| self.book.told(guid, Seen::Lrp(view));
        self.book.telling(guid);
        match call {
            lrp::Call::Run => return self.begin(guid).await,
            lrp::Call::Claim => {
                self.bbs.claim(key, &instance).await.map_err(Hitch::Brain)?;
                now_knows(lrp::View::Claimed { mine: true });
            }
            lrp::Call::Start(net, routable) => {
                self.bbs.start(key, &instance, net, *routable).await.map_err(Hitch::Brain)?;
                now_knows(lrp::View::Running(Some((net.clone(), *routable))));
            }
            lrp::Call::Crash(why) => {
                self.bbs
                    .crash(key, &instance, &diego::text::reason(why))
                    .await
                    .map_err(Hitch::Brain)?;
            }
            lrp::Call::Remove => self.bbs.remove(key, &instance).await.map_err(Hitch::Brain)?,
            lrp::Call::Stop => self.executor.stop(guid),
            lrp::Call::Delete => return self.delete(guid).await,
            lrp::Call::Keep => {
                let group = key.process_guid.as_str();
                self.executor.keep(guid, group).await.map_err(Hitch::Container)?;
                self.forget(guid);
            }
        }
        Ok(())
    }

    async fn step_task(self: &Arc<Self>, container: &Container, owner: &Owner) -> Step {
        let view = match self.book.take(&container.guid) {
            Some(Seen::Task(view)) => view,
            _ => task::View::Unknown,
        };
        for call in task::task_step(&container.state, view) {
            match self.call_task(container, owner, &call).await {
                Err(Hitch::Brain(error)) if !lrp::is_passing(error.kind) => {
                    info!(container.guid = %container.guid, ?call, %error, "the brain decided otherwise");
                    if task::refused(&call).is_some() {
                        return self.delete(&container.guid).await;
                    }
                }
                result => result?,
            }
        }
        Ok(())
    }

    async fn call_task(
        self: &Arc<Self>,
        container: &Container,
        owner: &Owner,
        call: &task::Call,
    ) -> Step {
        let Owner::Task { guid: task, result_file, rejections } = owner else { return Ok(()) };
        let guid = &container.guid;
        let by = Attempt { cell_id: self.config.cell_id.clone(), rejections: *rejections };
        match call {
            task::Call::Start => {
                let term = self.lease.term();
                let asked = !self.asked.lock().insert(guid.clone());
                let granted = self.bbs.start_task(task, &by).await.map_err(Hitch::Brain)?;
                if !granted && task::granted_before(asked).is_some() {
                    info!(container.guid = %guid, "another container had this run");
                    return self.delete(guid).await;
                }
                if let Some(term) = term {
                    self.grants.lock().insert(guid.clone(), term);
                }
                Ok(())
            }
            task::Call::Run => self.begin(guid).await,
            task::Call::Reject(why) => self
                .bbs
                .reject_task(task, &by, &diego::text::reason(why))
                .await
                .map_err(Hitch::Brain),
            task::Call::Complete => {
                let State::Completed(outcome) = &container.state else { return Ok(()) };
                let (failure, result) = self.outcome(guid, outcome, result_file).await;
                let failure = failure.as_deref().map(diego::text::reason);
                self.bbs
                    .complete_task(task, &by, failure.as_deref(), &result)
                    .await
                    .map_err(Hitch::Brain)
            }
            task::Call::Delete => self.delete(guid).await,
        }
    }

    /// What a task comes to: why it failed, and its result.
    async fn outcome(
        &self,
        guid: &Handle,
        outcome: &Outcome,
        result_file: &str,
    ) -> (Option<String>, String) {
        let failure = outcome.failed.then(|| outcome.reason.clone());
        if result_file.is_empty() {
            return (failure, String::new());
        }
        let content =
            self.executor.read_file(guid, result_file, MAX_RESULT).await.map(String::from_utf8);
        match (content, failure) {
            (Ok(Ok(result)), failure) => (failure, result),
            (_, Some(failure)) => (Some(failure), String::new()),
            (_, None) => (Some("failed to fetch result".to_owned()), String::new()),
        }
    }

    /// Begins the recipe of what was taken.
    async fn begin(self: &Arc<Self>, guid: &Handle) -> Step {
        let Some(work) = self.pending.lock().remove(guid) else { return Ok(()) };
        let request = match &work {
            Pending::Lrp(start) => convert::lrp_request(
                &start.desired,
                &convert::lrp_owner(&start.desired, start.index, guid.as_str().into()),
            ),
            Pending::Task(task) => convert::task_request(task, &convert::task_owner(task)),
        };
        let began = match request {
            Ok(request) => self.executor.run(request),
            Err(error) => Err(executor::ExecutorError::Failed(error)),
        };
        if let Err(error) = began {
            let error = format!("{:#}", anyhow::Error::new(error));
            warn!(container.guid = %guid, %error, "a container could not be begun");
            self.executor.fail(guid, &format!("failed to create container: {error}"));
        }
        Ok(())
    }

    pub(crate) async fn delete(&self, guid: &Handle) -> Step {
        self.executor.delete(guid).await.map_err(Hitch::Container)?;
        self.forget(guid);
        Ok(())
    }

    fn forget(&self, guid: &Handle) {
        self.pending.lock().remove(guid);
        self.grants.lock().remove(guid);
        self.asked.lock().remove(guid);
        self.book.forget(guid);
    }

    /// The brain decides whether the container stays for now.
    async fn evacuate_one(self: &Arc<Self>, container: &Container, owner: &Owner) -> Step {
        let (Owner::Lrp { key, log_source, .. }, Some(instance)) = (owner, self.instance(owner))
        else {
            return Ok(());
        };
        let guid = &container.guid;
        let evacuation = lrp::evacuation_step(&container.state, log_source);
        let running = matches!(evacuation, Evacuation::Running { .. });
        self.book.told(guid, Seen::Evacuating);
        if running && self.book.is_first_replacement(guid) {
            self.executor.log(guid, &format!("requesting replacement for instance {guid}"));
        }
        match self.bbs.evacuate(key, &instance, evacuation).await {
            Ok(Keep::Keep) if running => Ok(()),
            Ok(_) => self.delete(guid).await,
            // Nobody waits for it; but what serves is not taken away for an answer that was not understood.
            Err(error) if error.is_not_found() || (!running && !lrp::is_passing(error.kind)) => {
                self.delete(guid).await
            }
            Err(error) => Err(Hitch::Brain(error)),
        }
    }
}
