//! Asks cells how they stand: those of which nothing is known before work is placed, the others now and then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::Backoff;
use diego::bbs::ErrorKind;
use diego::{BbsError, CellPresence};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tracing::warn;

use super::Auctioneer;
use super::asking::{Asking, MORE_TRIES};

/// How many cells of which something is known are asked at a time: what a cell holds is taken in piece by piece, which
/// costs more than the placements of a round.
const AT_ONCE: usize = 8;

/// Asks the cells of which nothing is known, again and again while there is no other. Whether there was anybody to ask.
pub(super) async fn the_unknown(auctioneer: &Auctioneer, present: &[Arc<CellPresence>]) -> bool {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    for attempt in 0..=MORE_TRIES {
        let asking = Asking::of_unknown(&mut auctioneer.floor.lock(), present, Instant::now());
        let Some((asking, cells)) = asking else { return attempt > 0 };
        if !ask(auctioneer, asking, &cells).await {
            return true;
        }
        if attempt < MORE_TRIES {
            tokio::time::sleep(backoff.step()).await;
        }
    }
    true
}

/// A few of those that are due, aside from what else goes on.
pub(super) fn the_due(auctioneer: &Arc<Auctioneer>) {
    let Ok(alone) = auctioneer.asking.clone().try_acquire_owned() else { return };
    let asking = Asking::of_due(&mut auctioneer.floor.lock(), Instant::now(), AT_ONCE);
    let Some((asking, cells)) = asking else { return };
    let me = auctioneer.clone();
    auctioneer.tasks.spawn(async move {
        tokio::select! {
            _ = ask(&me, asking, &cells) => {}
            () = me.stop.cancelled() => {}
        }
        drop(alone);
    });
}

/// The first may take its time; once one has answered, the others are waited for no longer than patience allows.
/// Whether to ask once more.
async fn ask(auctioneer: &Auctioneer, mut asking: Asking, cells: &[Arc<CellPresence>]) -> bool {
    let timings = &auctioneer.timings;
    let ask = |presence: &Arc<CellPresence>| {
        let (cell, presence) = (auctioneer.cells.dial(presence), presence.clone());
        async move {
            let late = || BbsError::new(ErrorKind::Unreachable, "no answer in time");
            let state = tokio::time::timeout(timings.cell_timeout, cell.state())
                .await
                .unwrap_or_else(|_| Err(late()));
            (presence, state)
        }
    };
    let mut asked: FuturesUnordered<_> = cells.iter().map(ask).collect();
    let patience = tokio::time::sleep(asking.first(timings.cell_timeout, timings.cell_patience));
    tokio::pin!(patience);
    loop {
        let (presence, answer) = tokio::select! {
            biased;
            answer = asked.next() => match answer {
                Some(answer) => answer,
                None => break,
            },
            () = &mut patience => {
                warn!(missing = asked.len(), "an auction goes on without slow cells");
                break;
            }
        };
        let first = {
            // A long placement may hold the floor: the state must not wait with it.
            let mut floor = auctioneer.floor.lock();
            auctioneer.catch_up(&mut floor);
            let state = auctioneer.state.read();
            asking.heard(&mut floor, &state, presence, answer, Instant::now())
        };
        if first {
            patience.as_mut().reset(tokio::time::Instant::now() + timings.cell_patience);
        }
    }
    asking.end(&mut auctioneer.floor.lock(), timings.cell_patience, Instant::now())
}
