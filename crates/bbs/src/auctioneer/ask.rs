//! Asks cells how they stand: those of which nothing is known before work is placed, the others now and then.

use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, Timestamp};
use diego::bbs::ErrorKind;
use diego::{BbsError, CellPresence, CellState};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tracing::warn;

use super::{ASK_AGAIN, ASK_AT_ONCE, Auctioneer};

/// When cells are there and none answers.
const MORE_TRIES: usize = 3;

/// Asks the cells of which nothing is known, again and again while there is no other.
pub(super) async fn the_unknown(
    auctioneer: &Auctioneer,
    present: &[Arc<CellPresence>],
    now: Timestamp,
) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    for attempt in 0..=MORE_TRIES {
        let (unknown, alone) = {
            let mut floor = auctioneer.floor.lock();
            let unknown = floor.unknown(present);
            let alone = unknown.len() == present.len();
            (if alone { unknown } else { floor.not_silent(unknown) }, alone)
        };
        if unknown.is_empty() {
            return;
        }
        let timings = &auctioneer.timings;
        let first = if alone { timings.cell_timeout } else { timings.cell_patience };
        let some = ask(auctioneer, &unknown, first, now).await;
        if some || !alone || attempt == MORE_TRIES {
            return;
        }
        tokio::time::sleep(backoff.step()).await;
    }
}

/// A few of those that were not asked for long, aside from what else goes on.
pub(super) fn again(auctioneer: &Arc<Auctioneer>, now: Timestamp) {
    let old = auctioneer.floor.lock().oldest(now - ASK_AGAIN, ASK_AT_ONCE);
    if old.is_empty() {
        return;
    }
    let me = auctioneer.clone();
    auctioneer.tasks.spawn(async move {
        let Ok(_alone) = me.asking.try_acquire() else { return };
        tokio::select! {
            _ = ask(&me, &old, me.timings.cell_timeout, now) => {}
            () = me.stop.cancelled() => {}
        }
    });
}

/// Takes in what they say. The first may take as long as `first`; once one has answered, the others are waited for no
/// longer than patience allows. Whether any did.
async fn ask(
    auctioneer: &Auctioneer,
    cells: &[Arc<CellPresence>],
    first: Duration,
    now: Timestamp,
) -> bool {
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
    let mut missing: std::collections::BTreeSet<_> =
        cells.iter().map(|presence| presence.cell_id.clone()).collect();
    let mut some = false;
    let patience = tokio::time::sleep(first);
    tokio::pin!(patience);
    loop {
        let (presence, state) = tokio::select! {
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
        match usable(&presence, state) {
            Some(state) => {
                if !some {
                    patience.as_mut().reset(tokio::time::Instant::now() + timings.cell_patience);
                }
                some = true;
                missing.remove(&presence.cell_id);
                auctioneer.floor.lock().set(presence, &state, now);
            }
            None => auctioneer.floor.lock().doubt(&presence.cell_id),
        }
    }
    let mut floor = auctioneer.floor.lock();
    missing.into_iter().for_each(|cell| floor.silent(cell, timings.cell_patience));
    some
}

/// Only what comes under the name that was announced.
fn usable(presence: &CellPresence, state: Result<CellState, BbsError>) -> Option<CellState> {
    match state {
        Ok(state) if state.presence.cell_id == presence.cell_id => Some(state),
        Ok(state) => {
            warn!(cell.id = %presence.cell_id, answered = %state.presence.cell_id, "another cell answered");
            None
        }
        Err(error) => {
            warn!(cell.id = %presence.cell_id, %error, "a cell takes no part in the auction");
            None
        }
    }
}
