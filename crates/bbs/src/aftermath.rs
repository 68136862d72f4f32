//! What follows a commit: answers, events, routes, auctions, stops, callbacks. Each is only begun here.

use std::sync::Arc;

use base::TaskTracker;
use diego::{CellId, TaskGuid};
use tracing::warn;

use crate::alarm::Alarm;
use crate::auctioneer::Auctioneer;
use crate::callbacks::Callbacks;
use crate::cells::Cells;
use crate::emitter::Emitter;
use crate::hub::Hub;
use crate::retagger::Retagger;
use crate::retirer::Retirer;
use crate::writer::batch::Batch;

pub(crate) struct Aftermath {
    pub hub: Arc<Hub>,
    pub emitter: Arc<Emitter>,
    pub auctioneer: Arc<Auctioneer>,
    pub retirer: Arc<Retirer>,
    pub retagger: Arc<Retagger>,
    pub callbacks: Arc<Callbacks>,
    pub alarm: Arc<Alarm>,
    pub cells: Arc<Cells>,
    pub tasks: TaskTracker,
}

impl Aftermath {
    pub fn follow(&self, batch: Batch) {
        let follow = batch.follow;
        self.hub.publish(&follow.events);
        self.emitter.changed(follow.rerouted, follow.moved);
        self.auctioneer.moved(follow.moves);
        self.auctioneer.request(follow.auction, follow.auction_tasks);
        for (reply, answer) in batch.replies {
            // Whoever asked may have gone.
            let _ = reply.send(answer);
        }
        for guid in follow.retired {
            Retirer::retire(&self.retirer, guid);
        }
        for process in follow.retagged {
            Retagger::retag(&self.retagger, process);
        }
        for guid in follow.completed {
            Callbacks::call(&self.callbacks, guid);
        }
        for (cell, task) in follow.cancels {
            self.cancel(&cell, task);
        }
        for cell in follow.cells_gone {
            self.cells.forget(&cell);
            self.retirer.forget(&cell);
        }
        if follow.converge {
            self.alarm.now();
        }
        if let Some(due) = follow.due {
            self.alarm.no_later_than(due);
        }
    }

    /// Best effort: the cell finds out by itself when it asks about its task.
    fn cancel(&self, cell: &CellId, task: TaskGuid) {
        let Some(reached) = self.cells.reach(cell) else { return };
        self.tasks.spawn(async move {
            if let Err(error) = reached.cancel_task(&task).await {
                warn!(task.guid = %task, %error, "the cell was not told of a cancelled task");
            }
        });
    }
}
