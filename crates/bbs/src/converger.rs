//! The loop around `converge`: woken at once by events, else when the next thing is due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{CancellationToken, Clock};
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info};

use crate::alarm::Alarm;
use crate::auctioneer::Auctioneer;
use crate::callbacks::Callbacks;
use crate::config::Timings;
use crate::converge::{Remedy, converge};
use crate::decide::Command;
use crate::retagger::Retagger;
use crate::retirer::Retirer;
use crate::state::State;
use crate::writer::Job;

/// However much is due, rounds leave the others some time: at least this, and so many times what the look at the state
/// took, during which nothing could change.
const PAUSE: Duration = Duration::from_millis(20);
const REST: u32 = 10;
const LONGEST_REST: Duration = Duration::from_secs(5);

pub(crate) struct Converger {
    pub state: Arc<RwLock<State>>,
    pub clock: Clock,
    pub timings: Timings,
    pub alarm: Arc<Alarm>,
    pub jobs: mpsc::Sender<Job>,
    pub auctioneer: Arc<Auctioneer>,
    pub retirer: Arc<Retirer>,
    pub retagger: Arc<Retagger>,
    pub callbacks: Arc<Callbacks>,
    pub stop: CancellationToken,
}

impl Converger {
    pub async fn run(self) {
        tokio::select! {
            () = self.rounds() => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn rounds(&self) {
        loop {
            self.alarm.clear();
            let began = Instant::now();
            let round = converge(&self.state.read(), self.clock.now(), &self.timings);
            let rest = (began.elapsed() * REST).clamp(PAUSE, LONGEST_REST);
            if !round.remedies.is_empty() {
                info!(remedies = round.remedies.len(), "convergence");
            }
            self.carry_out(round.remedies).await;
            if let Some(next) = round.next {
                self.alarm.no_later_than(next);
            }
            tokio::time::sleep(rest).await;
            self.alarm.wait(&self.clock, self.timings.converge_every).await;
        }
    }

    /// Changes go to the writer, in order and as few commits; what only has to be begun comes after them.
    async fn carry_out(&self, remedies: Vec<Remedy>) {
        let (mut lrps, mut tasks, mut stops, mut calls, mut retags) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut last = None;
        for remedy in remedies {
            debug!(?remedy, "convergence");
            match remedy {
                Remedy::Auction(slot) => lrps.push(slot),
                Remedy::AuctionTask(guid) => tasks.push(guid),
                Remedy::StopAgain(guid) => stops.push(guid),
                Remedy::Retag(process) => retags.push(process),
                Remedy::CallBack(guid) => calls.push(guid),
                change => {
                    let (reply, answer) = oneshot::channel();
                    let job = Job { command: Command::Remedy(change), reply: Some(reply) };
                    if self.jobs.send(job).await.is_err() {
                        return;
                    }
                    last = Some(answer);
                }
            }
        }
        if let Some(last) = last {
            // Jobs are done in order: when the last is answered, all are. How it went, the next round sees.
            let _ = last.await;
        }
        self.auctioneer.request(lrps, tasks);
        stops.into_iter().for_each(|guid| self.retirer.retire(guid));
        retags.into_iter().for_each(|process| self.retagger.retag(process));
        calls.into_iter().for_each(|guid| self.callbacks.call(guid));
    }
}
