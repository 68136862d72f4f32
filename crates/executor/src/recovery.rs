//! Takes up the containers of an earlier life of this program, and keeps the books straight afterwards.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use base::Timestamp;
use diego::cell::Resources;
use garden::{ContainerInfo, Handle};
use tracing::{info, warn};

use crate::container::{ContainerRequest, Event, Outcome, State};
use crate::executor::Executor;
use crate::journal::Journal;
use crate::life::OWNER;
use crate::member::{Member, Traces};
use crate::progress::Progress;

/// What becomes of a container that an earlier life of this program wrote about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Resumption {
    /// All is over but the telling.
    Completed(Outcome),
    /// Its recipe goes on where it was.
    GoOn { running: bool },
    /// Nothing of the owner's has run; it is made anew.
    Anew,
}

fn resumption(progress: &Progress, exists: bool) -> Resumption {
    match (&progress.outcome, progress.created, exists) {
        (Some(outcome), _, _) => Resumption::Completed(outcome.clone()),
        (None, true, true) => Resumption::GoOn { running: progress.healthy },
        (None, true, false) => Resumption::Completed(Outcome::failed("missing garden container")),
        (None, false, _) => Resumption::Anew,
    }
}

impl Executor {
    /// Finds out what the host can hold, and takes up what an earlier life of this program left. To be called once,
    /// before anything else.
    pub async fn recover(self: &Arc<Self>) -> anyhow::Result<()> {
        let capacity = self.garden.capacity().await.context("asking for the capacity")?;
        self.set_total(Resources {
            memory_mb: self.config.memory_mb.unwrap_or(capacity.memory_mb),
            disk_mb: self.config.disk_mb.unwrap_or(capacity.disk_mb),
            containers: self.config.containers.min(capacity.containers),
        });
        let mut containers = self.own_containers().await?;
        for (request, journal) in Journal::open_all(&self.recipes())? {
            let found = containers.remove(&request.guid);
            if let Err(error) = self.resume(request, journal, found).await {
                warn!(error = %format!("{error:#}"), "a container could not be taken up");
            }
        }
        self.tidy_identities();
        self.take_up_crashed(|guid| containers.contains_key(guid))?;
        containers.retain(|guid, _| !self.crashed.lock().contains_key(guid));
        for stranger in containers.keys() {
            warn!(container.guid = %stranger, "destroying a container without a recipe");
            if let Err(error) = self.garden.destroy(stranger).await {
                warn!(container.guid = %stranger, %error, "left for housekeeping");
            }
        }
        Ok(())
    }

    async fn own_containers(&self) -> anyhow::Result<HashMap<Handle, ContainerInfo>> {
        let all = self.garden.containers().await.context("listing containers")?;
        let own = |container: &ContainerInfo| {
            container.properties.get(OWNER) == Some(&self.config.cell_id)
        };
        Ok(all
            .into_iter()
            .filter(own)
            .map(|container| (container.handle.clone(), container))
            .collect())
    }

    async fn resume(
        self: &Arc<Self>,
        request: ContainerRequest,
        journal: Journal,
        found: Option<ContainerInfo>,
    ) -> anyhow::Result<()> {
        let progress = journal.progress();
        request.image_layers.iter().for_each(|layer| self.supplies.recall(layer));
        let traces = Traces { journal: Arc::new(journal), log: self.logger(&request) };
        if let Some(tags) = &progress.tags {
            traces.log.retag(tags);
        }
        let what = resumption(&progress, found.is_some());
        info!(container.guid = %request.guid, ?what, "taking up a container");
        let member = |state| {
            let (guid, resources, owner) =
                (request.guid.clone(), request.resources, request.owner.clone());
            Arc::new(self.new_member(guid, Resources { containers: 1, ..resources }, owner, state))
        };
        let (state, found) = match what {
            Resumption::Completed(outcome) => {
                let member = member(State::Completed(outcome));
                member.remember(traces);
                self.insert(member);
                return Ok(());
            }
            Resumption::GoOn { running } => {
                let found = found.context("a container that goes on exists")?;
                let state = if running {
                    State::Running { net: self.net(&found), routable: progress.routable }
                } else {
                    State::Created
                };
                (state, Some(found))
            }
            Resumption::Anew => {
                self.garden.destroy(&request.guid).await.context("clearing what was begun")?;
                (State::Reserved, None)
            }
        };
        let member = member(state);
        if progress.stop_asked {
            member.stop.cancel();
        }
        member.begin(traces.clone());
        self.insert(member.clone());
        self.spawn(self.clone().live(member, request, traces, found));
        Ok(())
    }

    /// Ends what nobody makes use of and what has lost its container, and removes containers nobody knows.
    pub(crate) async fn keep_house(&self) {
        let now = self.clock.now();
        for member in self.members() {
            if is_expired(&member, now, self.config.timings.reservation)
                && member.traces().is_none()
            {
                member.mark_deleted();
                member.advance(Event::Complete(Outcome::failed("expired container")), now);
            }
        }
        let in_use = || {
            let journals = self.members().into_iter().filter_map(|member| member.traces());
            let running = journals.flat_map(|traces| traces.journal.progress().layers);
            running.chain(self.crashed_layers()).collect()
        };
        self.trim_crashed().await;
        if let Err(error) = self.supplies.evict(in_use).await {
            warn!(error = %format!("{error:#}"), "layers could not be looked through");
        }
        let made: Vec<_> =
            self.members().into_iter().filter(|member| has_container(member)).collect();
        // What is made after this listing is known already, so nothing new is taken for a stranger.
        let containers = match self.own_containers().await {
            Ok(containers) => containers,
            Err(error) => {
                return warn!(error = %format!("{error:#}"), "containers could not be looked through");
            }
        };
        for member in made
            .iter()
            .filter(|member| !containers.contains_key(&member.guid) && has_container(member))
        {
            warn!(container.guid = %member.guid, "a container has gone missing");
            member.lost.cancel();
        }
        let is_known =
            |guid: &Handle| self.crashed.lock().contains_key(guid) || self.member(guid).is_some();
        for guid in containers.keys().filter(|guid| !is_known(guid)) {
            warn!(container.guid = %guid, "destroying a container that nobody knows");
            if let Err(error) = self.garden.destroy(guid).await {
                warn!(container.guid = %guid, %error, "left for the next round");
            }
        }
    }
}

fn has_container(member: &Member) -> bool {
    matches!(member.container().state, State::Created | State::Running { .. })
}

fn is_expired(member: &Member, now: Timestamp, after: std::time::Duration) -> bool {
    let container = member.container();
    container.state == State::Reserved && now.since(container.since) > after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(progress: &Progress, exists: bool, want: &Resumption) {
        assert_eq!(resumption(progress, exists), *want);
    }

    #[test]
    fn every_past_has_a_future() {
        let done = Outcome::failed("done");
        let completed =
            Progress { created: true, outcome: Some(done.clone()), ..Progress::default() };
        check(&completed, false, &Resumption::Completed(done));
        let created = Progress { created: true, ..Progress::default() };
        check(&created, true, &Resumption::GoOn { running: false });
        check(&created, false, &Resumption::Completed(Outcome::failed("missing garden container")));
        check(&Progress { healthy: true, ..created }, true, &Resumption::GoOn { running: true });
        check(&Progress::default(), true, &Resumption::Anew);
        check(&Progress::default(), false, &Resumption::Anew);
    }
}
