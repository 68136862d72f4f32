//! One container as the executor holds it.

use std::sync::Arc;

use base::{CancellationToken, Timestamp};
use diego::cell::Resources;
use garden::Handle;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::container::{Container, Event, OwnerTags, State, Usage};
use crate::journal::Journal;
use crate::logger::Logger;

pub(crate) struct Member {
    pub guid: Handle,
    pub resources: Resources,
    pub owner: OwnerTags,
    inner: Mutex<Inner>,
    /// Asks the recipe to end, gracefully.
    pub stop: CancellationToken,
    /// The recipe is at its end, whatever that was.
    pub ended: CancellationToken,
    /// Its container is not there any more.
    pub lost: CancellationToken,
    /// Only one deletes at a time.
    pub deleting: tokio::sync::Mutex<()>,
    events: broadcast::Sender<Handle>,
}

struct Inner {
    state: State,
    since: Timestamp,
    usage: Option<Usage>,
    life: Life,
}

/// Whether a recipe is being carried out.
#[derive(Clone)]
pub(crate) enum Life {
    /// Reserved only.
    None,
    Begun(Traces),
    /// On its way out: no recipe may begin.
    Deleted(Option<Traces>),
}

/// What a recipe leaves behind it.
#[derive(Clone)]
pub(crate) struct Traces {
    pub journal: Arc<Journal>,
    pub log: Logger,
}

impl Member {
    pub fn new(
        guid: Handle,
        resources: Resources,
        owner: OwnerTags,
        state: State,
        now: Timestamp,
        events: broadcast::Sender<Handle>,
    ) -> Member {
        let inner = Inner { state, since: now, usage: None, life: Life::None };
        let (stop, ended, lost) = Default::default();
        let deleting = tokio::sync::Mutex::new(());
        Member {
            guid,
            resources,
            owner,
            inner: Mutex::new(inner),
            stop,
            ended,
            lost,
            deleting,
            events,
        }
    }

    pub fn container(&self) -> Container {
        let inner = self.inner.lock();
        Container {
            guid: self.guid.clone(),
            resources: self.resources,
            owner: self.owner.clone(),
            state: inner.state.clone(),
            since: inner.since,
            usage: inner.usage,
        }
    }

    /// What it takes of the cell: when all is over, only the disk.
    pub fn taken(&self) -> Resources {
        match self.inner.lock().state {
            State::Completed(_) => {
                Resources { disk_mb: self.resources.disk_mb, ..Resources::default() }
            }
            _ => self.resources,
        }
    }

    /// Moves the state on and tells whoever listens. `false` when there was nothing to move.
    pub fn advance(&self, event: Event, now: Timestamp) -> bool {
        {
            let mut inner = self.inner.lock();
            let Some(next) = inner.state.after(event) else { return false };
            (inner.state, inner.since) = (next, now);
        }
        // Nobody may be listening yet; whoever comes later lists first.
        let _ = self.events.send(self.guid.clone());
        true
    }

    pub fn keep_usage(&self, usage: Usage) {
        self.inner.lock().usage = Some(usage);
    }

    /// `false` when a recipe was begun before, or the container is on its way out.
    pub fn begin(&self, traces: Traces) -> bool {
        let mut inner = self.inner.lock();
        let may = matches!(inner.life, Life::None) && !matches!(inner.state, State::Completed(_));
        if may {
            inner.life = Life::Begun(traces);
        }
        may
    }

    /// For one that was completed in an earlier life.
    pub fn remember(&self, traces: Traces) {
        self.inner.lock().life = Life::Begun(traces);
        self.ended.cancel();
    }

    pub fn traces(&self) -> Option<Traces> {
        match &self.inner.lock().life {
            Life::None => None,
            Life::Begun(traces) => Some(traces.clone()),
            Life::Deleted(traces) => traces.clone(),
        }
    }

    /// From here on no recipe can begin; answers with what one that did leaves behind.
    pub fn mark_deleted(&self) -> Option<Traces> {
        let mut inner = self.inner.lock();
        let traces = match &inner.life {
            Life::None => None,
            Life::Begun(traces) => Some(traces.clone()),
            Life::Deleted(traces) => traces.clone(),
        };
        inner.life = Life::Deleted(traces.clone());
        traces
    }
}
