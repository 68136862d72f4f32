//! The containers of a cell: what may be asked of them from the outside.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use base::{CancellationToken, Clock, TaskTracker};
use diego::cell::Resources;
use envelope::Sink;
use garden::{Garden, Handle, Stream};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, broadcast, watch};
use tracing::warn;

use crate::cache::Cache;
use crate::config::Config;
use crate::container::{Container, ContainerRequest, Event, LogTags, Outcome, OwnerTags, State};
use crate::crashed::Crashed;
use crate::fetch::Fetcher;
use crate::gate::Gate;
use crate::identity::Identities;
use crate::images::Images;
use crate::journal::Journal;
use crate::logger::Logger;
use crate::member::{Member, Traces};
use crate::probe::Prober;
use crate::progress::Entry;
use crate::supplies::Supplies;
use crate::transfer::{Transfers, folders, small_file};

/// Changes that a slow listener may fall behind by; it is told when it has, and lists anew.
const BACKLOG: usize = 4096;
const MEGABYTE: u64 = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    #[error("no container {0}")]
    Unknown(Handle),
    #[error("container {0} exists")]
    Exists(Handle),
    #[error("insufficient resources")]
    Full,
    #[error("no file {0} in the container")]
    NoFile(String),
    /// What was asked does not go with the container's state.
    #[error("container {0} is beyond that")]
    InvalidTransition(Handle),
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

pub type Result<T> = std::result::Result<T, ExecutorError>;

/// Knows containers and recipes; whose they are and why they run is the owner's business.
pub struct Executor {
    pub(crate) garden: Arc<dyn Garden>,
    pub(crate) supplies: Supplies,
    pub(crate) transfers: Arc<Transfers>,
    pub(crate) prober: Arc<Prober>,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) creates: Semaphore,
    pub(crate) gate: OnceLock<Arc<dyn Gate>>,
    pub(crate) identities: OnceLock<Arc<dyn Identities>>,
    pub(crate) crashed: Mutex<HashMap<Handle, Crashed>>,
    deletes: Semaphore,
    sink: Arc<dyn Sink>,
    members: Mutex<HashMap<Handle, Arc<Member>>>,
    total: Mutex<Resources>,
    events: broadcast::Sender<Handle>,
    tasks: TaskTracker,
    /// This program goes; containers stay as they are.
    pub(crate) detached: CancellationToken,
}

impl Executor {
    /// Until [`Executor::recover`] it has no room and holds nothing.
    pub fn new(
        garden: Arc<dyn Garden>,
        store: Arc<image::Store>,
        sink: Arc<dyn Sink>,
        config: Config,
        clock: Clock,
    ) -> anyhow::Result<Arc<Executor>> {
        let (downloads, temp_dir) = folders(&config.dir);
        // An earlier life may have left something in the middle of being made or sent.
        if let Err(error) = std::fs::remove_dir_all(&temp_dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("clearing {}", temp_dir.display()));
        }
        std::fs::create_dir_all(&temp_dir)
            .with_context(|| format!("making {}", temp_dir.display()))?;
        forget_before_boot(&config.dir, &downloads)?;
        let (client, timings) = (base::http::client(None), config.timings.clone());
        let most_bytes = config.download_mb * MEGABYTE;
        let fetcher = Fetcher { client: client.clone(), timings: timings.clone(), most_bytes };
        let most_kept = config.cache_mb * MEGABYTE;
        let cache =
            Cache::open(&downloads, most_kept, config.downloads_at_once, fetcher, clock.clone())?;
        let uploads = Semaphore::new(config.uploads_at_once.max(1));
        let transfers = Arc::new(Transfers { cache, client, uploads, timings, temp_dir });
        Ok(Arc::new(Executor {
            supplies: Supplies::new(Images(store), transfers.clone(), config.layers_mb * MEGABYTE),
            transfers,
            prober: Arc::new(Prober::new(
                config.checks_at_once,
                config.timings.check_timeout,
                clock.clone(),
            )),
            creates: Semaphore::new(config.creates_at_once.max(1)),
            deletes: Semaphore::new(config.deletes_at_once.max(1)),
            gate: OnceLock::new(),
            identities: OnceLock::new(),
            crashed: Mutex::default(),
            garden,
            sink,
            config,
            clock,
            members: Mutex::default(),
            total: Mutex::default(),
            events: broadcast::channel(BACKLOG).0,
            tasks: TaskTracker::new(),
            detached: CancellationToken::new(),
        }))
    }

    /// Has `gate` asked before any recipe begins. To be called once, before [`Executor::recover`].
    pub fn guard(&self, gate: Arc<dyn Gate>) {
        if self.gate.set(gate).is_err() {
            warn!("the executor has a guard already");
        }
    }

    /// The guid of every container whose state changes, or that goes, from now on. Who falls behind hears of it and must list anew.
    pub fn subscribe(&self) -> broadcast::Receiver<Handle> {
        self.events.subscribe()
    }

    pub fn list(&self) -> Vec<Container> {
        self.members.lock().values().map(|member| member.container()).collect()
    }

    pub fn get(&self, guid: &Handle) -> Option<Container> {
        self.member(guid).map(|member| member.container())
    }

    /// Digests of image layers that lie here unpacked, as containers named them: a start with them costs no download.
    /// At most 128, those asked for last first.
    pub fn layers(&self) -> Vec<String> {
        self.supplies.held_layers()
    }

    /// Changes whenever [`Executor::layers`] answers another set.
    pub fn layers_changed(&self) -> watch::Receiver<u64> {
        self.supplies.layers_told()
    }

    /// Drivers of volumes that containers here can have.
    pub fn volume_drivers(&self) -> Vec<String> {
        self.config.volume_drivers.keys().cloned().collect()
    }

    /// All there is room for.
    pub fn total(&self) -> Resources {
        *self.total.lock()
    }

    /// What is left of it. A completed container has nothing but its files.
    pub fn remaining(&self) -> Resources {
        remaining(self.total(), self.members.lock().values().map(|member| member.taken()))
    }

    /// Counts a container in; nothing is made yet.
    pub fn reserve(&self, guid: &Handle, resources: Resources, owner: OwnerTags) -> Result<()> {
        let mut members = self.members.lock();
        if members.contains_key(guid) {
            return Err(ExecutorError::Exists(guid.clone()));
        }
        if !fits(
            remaining(*self.total.lock(), members.values().map(|member| member.taken())),
            resources,
        ) {
            return Err(ExecutorError::Full);
        }
        let resources = Resources { containers: 1, ..resources };
        let member = self.new_member(guid.clone(), resources, owner, State::Reserved);
        members.insert(guid.clone(), Arc::new(member));
        drop(members);
        // Nobody may be listening yet.
        let _ = self.events.send(guid.clone());
        Ok(())
    }

    /// Begins the recipe of a reserved container. What comes of it is told by [`Executor::subscribe`].
    pub fn run(self: &Arc<Self>, request: ContainerRequest) -> Result<()> {
        let member = self
            .member(&request.guid)
            .ok_or_else(|| ExecutorError::Unknown(request.guid.clone()))?;
        let State::Reserved = member.container().state else {
            return Err(ExecutorError::InvalidTransition(request.guid));
        };
        let journal = Arc::new(Journal::begin(&self.recipes(), &request)?);
        let traces = Traces { journal, log: self.logger(&request) };
        if !member.begin(traces.clone()) {
            // It was stopped or deleted meanwhile, and must not come back at the next start.
            traces.journal.remove().context("removing a recipe that did not begin")?;
            return Err(ExecutorError::InvalidTransition(request.guid));
        }
        self.tasks.spawn(self.clone().live(member, request, traces, None));
        Ok(())
    }

    /// Completes a reserved container whose recipe cannot begin.
    pub fn fail(&self, guid: &Handle, reason: &str) {
        if let Some(member) = self.member(guid).filter(|member| member.traces().is_none()) {
            member.mark_deleted();
            member.advance(Event::Complete(Outcome::never_ran(reason)), self.clock.now());
        }
    }

    /// Asks a container to end, gracefully: it completes as stopped. Unknown and completed ones are no error.
    pub fn stop(&self, guid: &Handle) {
        let Some(member) = self.member(guid) else { return };
        if member.stop.is_cancelled() || matches!(member.container().state, State::Completed(_)) {
            return;
        }
        match member.traces() {
            Some(traces) => {
                traces.journal.note(Entry::StopAsked);
                traces.log.say(
                    Stream::Stdout,
                    format!("Cell {} stopping instance {guid}", self.config.cell_id),
                );
                member.stop.cancel();
            }
            None => {
                member.stop.cancel();
                member.mark_deleted();
                let outcome = Outcome {
                    failed: true,
                    reason: "stopped-before-running".to_owned(),
                    stopped: true,
                    retryable: false,
                };
                member.advance(Event::Complete(outcome), self.clock.now());
            }
        }
    }

    /// Ends a container if need be, gracefully, and removes every trace of it. Unknown ones are no error.
    pub async fn delete(&self, guid: &Handle) -> Result<()> {
        let Some(member) = self.member(guid) else { return Ok(()) };
        let _turn = member.deleting.lock().await;
        if self.member(guid).is_none() {
            return Ok(());
        }
        let traces = member.mark_deleted();
        if let Some(traces) = &traces {
            member.stop.cancel();
            if tokio::time::timeout(self.patience(), member.ended.cancelled()).await.is_err() {
                warn!(container.guid = %guid, "a recipe did not end in time");
            }
            let text =
                format!("Cell {} destroying container for instance {guid}", self.config.cell_id);
            traces.log.say(Stream::Stdout, text);
        }
        {
            let _slot = self.deletes.acquire().await.context("waiting to delete")?;
            self.garden
                .destroy(guid)
                .await
                .with_context(|| format!("destroying container {guid}"))?;
        }
        self.forget_identity(guid);
        if let Some(traces) = &traces {
            traces.journal.remove().with_context(|| format!("removing the recipe of {guid}"))?;
            let text = format!(
                "Cell {} successfully destroyed container for instance {guid}",
                self.config.cell_id
            );
            traces.log.say(Stream::Stdout, text);
        }
        self.forget(guid);
        Ok(())
    }

    pub(crate) fn forget(&self, guid: &Handle) {
        self.members.lock().remove(guid);
        // Nobody may be listening.
        let _ = self.events.send(guid.clone());
    }

    /// A small file of a container, also of a completed one.
    pub async fn read_file(&self, guid: &Handle, path: &str, most: usize) -> Result<Vec<u8>> {
        let tar = self
            .garden
            .stream_out(guid, path, "root")
            .await
            .with_context(|| format!("reading {path}"))?;
        Ok(small_file(tar, most).await?)
    }

    /// From now on log lines and metrics carry these tags, unless later ones came before.
    pub fn retag(&self, guid: &Handle, tags: &LogTags) {
        if let Some(traces) = self.member(guid).and_then(|member| member.traces())
            && traces.log.retag(tags)
        {
            traces.journal.note(Entry::Retagged(tags.clone()));
        }
    }

    /// A line in a container's log, for instance why it has to go.
    pub fn log(&self, guid: &Handle, what: &str) {
        if let Some(traces) = self.member(guid).and_then(|member| member.traces()) {
            traces.log.say(Stream::Stdout, format!("Cell {} {what}", self.config.cell_id));
        }
    }

    /// Looks after the cell until `stop`, then lets go of all containers: they run on, and the next
    /// [`Executor::recover`] takes them up.
    pub async fn serve(&self, stop: CancellationToken) {
        let every = self.config.timings.housekeeping;
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(every) => self.keep_house().await,
            }
        }
        self.detached.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// How long a recipe may take to come to its end; creating a container is not broken off.
    fn patience(&self) -> Duration {
        let timings = &self.config.timings;
        timings.grace + timings.after_kill + Duration::from_secs(60)
    }

    pub(crate) fn member(&self, guid: &Handle) -> Option<Arc<Member>> {
        self.members.lock().get(guid).cloned()
    }

    pub(crate) fn members(&self) -> Vec<Arc<Member>> {
        self.members.lock().values().cloned().collect()
    }

    pub(crate) fn new_member(
        &self,
        guid: Handle,
        resources: Resources,
        owner: OwnerTags,
        state: State,
    ) -> Member {
        Member::new(guid, resources, owner, state, self.clock.now(), self.events.clone())
    }

    pub(crate) fn insert(&self, member: Arc<Member>) {
        self.members.lock().insert(member.guid.clone(), member);
    }

    pub(crate) fn set_total(&self, total: Resources) {
        *self.total.lock() = total;
    }

    pub(crate) fn spawn(&self, life: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(life);
    }

    pub(crate) fn logger(&self, request: &ContainerRequest) -> Logger {
        let lines = self.config.log_lines_per_second;
        Logger::new(self.sink.clone(), self.clock.clone(), &request.log, lines)
    }

    pub(crate) fn recipes(&self) -> std::path::PathBuf {
        self.config.dir.join("recipes")
    }
}

fn remaining(total: Resources, taken: impl Iterator<Item = Resources>) -> Resources {
    taken.fold(total, |left, taken| Resources {
        memory_mb: left.memory_mb.saturating_sub(taken.memory_mb),
        disk_mb: left.disk_mb.saturating_sub(taken.disk_mb),
        containers: left.containers.saturating_sub(taken.containers),
    })
}

fn fits(left: Resources, wanted: Resources) -> bool {
    left.memory_mb >= wanted.memory_mb && left.disk_mb >= wanted.disk_mb && left.containers >= 1
}

/// Downloads are not synced to disk, since they can be had again: after a reboot of the machine there are none.
fn forget_before_boot(dir: &std::path::Path, downloads: &std::path::Path) -> anyhow::Result<()> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let seen = dir.join("boot");
    if std::fs::read_to_string(&seen).unwrap_or_default() != boot {
        if let Err(error) = std::fs::remove_dir_all(downloads)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("clearing {}", downloads.display()));
        }
        std::fs::write(&seen, boot).with_context(|| format!("writing {}", seen.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_gone() {
        let total = Resources { memory_mb: 100, disk_mb: 100, containers: 2 };
        let one = Resources { memory_mb: 60, disk_mb: 10, containers: 1 };
        let left = remaining(total, [one].into_iter());
        assert_eq!(left, Resources { memory_mb: 40, disk_mb: 90, containers: 1 });
        assert!(fits(left, Resources { memory_mb: 40, disk_mb: 90, containers: 1 }));
        assert!(!fits(left, one));
        let none = remaining(total, [one, one].into_iter());
        assert!(!fits(none, Resources::default()));
    }
}
