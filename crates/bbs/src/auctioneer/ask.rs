//! Asks all cells at once how they stand.

use std::sync::Arc;
use std::time::Duration;

use base::Backoff;
use diego::bbs::ErrorKind;
use diego::{BbsError, CellPresence, CellState};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tracing::warn;

use super::Auctioneer;

/// When cells are there and none answers.
const MORE_TRIES: usize = 3;

/// The states of those that answer, and under the name they announced.
pub(super) async fn states(
    auctioneer: &Auctioneer,
    present: &[Arc<CellPresence>],
) -> Vec<CellState> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    for _ in 0..MORE_TRIES {
        let states = once(auctioneer, present).await;
        if !states.is_empty() || present.is_empty() {
            return states;
        }
        tokio::time::sleep(backoff.step()).await;
    }
    once(auctioneer, present).await
}

/// Once one has answered, the others are waited for no longer than patience allows.
async fn once(auctioneer: &Auctioneer, present: &[Arc<CellPresence>]) -> Vec<CellState> {
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
    let mut asked: FuturesUnordered<_> = present.iter().map(ask).collect();
    let mut states = Vec::with_capacity(present.len());
    let patience = tokio::time::sleep(timings.cell_timeout);
    tokio::pin!(patience);
    loop {
        let (presence, state) = tokio::select! {
            biased;
            answer = asked.next() => match answer {
                Some(answer) => answer,
                None => return states,
            },
            () = &mut patience => {
                warn!(missing = asked.len(), "an auction goes on without slow cells");
                return states;
            }
        };
        match state {
            Ok(state) if state.presence.cell_id == presence.cell_id => {
                if states.is_empty() {
                    patience.as_mut().reset(tokio::time::Instant::now() + timings.cell_patience);
                }
                states.push(state);
            }
            Ok(state) => {
                warn!(cell.id = %presence.cell_id, answered = %state.presence.cell_id, "another cell answered")
            }
            Err(error) => {
                warn!(cell.id = %presence.cell_id, %error, "a cell takes no part in the auction")
            }
        }
    }
}
