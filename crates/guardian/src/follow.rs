//! Hands a process's output and exit to whoever takes it up, as they come to be on disk.

use std::path::{Path, PathBuf};

use garden::{Exit, Output, Process, ProcessId};
use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::containers::Life;
use crate::output::{self, Reader};
use crate::watch::Watched;

/// Pieces that wait for a slow reader; the rest waits on disk.
const PIECES: usize = 16;

/// The reading end, and the task that feeds it.
pub fn follow(
    id: ProcessId,
    dir: &Path,
    from: u64,
    watched: Watched,
    life: Life,
) -> (Process, impl Future<Output = ()> + use<>) {
    let (output, pieces) = mpsc::channel(PIECES);
    let (exit, exits) = watch::channel(None);
    let follower = Follower {
        dir: dir.into(),
        reader: Reader::new(dir, from),
        watched,
        life,
        output,
        exit,
        lost: false,
    };
    (Process { id, output: pieces, exit: exits }, follower.run())
}

struct Follower {
    dir: PathBuf,
    reader: Reader,
    watched: Watched,
    life: Life,
    output: mpsc::Sender<Output>,
    exit: watch::Sender<Option<Exit>>,
    /// The output can no longer be read; the exit still can.
    lost: bool,
}

impl Follower {
    async fn run(mut self) {
        let mut waiting = None;
        loop {
            // Looked at before the output: what is read after an exit was seen is all there is.
            self.look_for_exit();
            let ended = self.exit.borrow().is_some();
            if waiting.is_none() {
                waiting = self.next();
            }
            if ended && (waiting.is_none() || self.output.is_closed()) {
                return;
            }
            if self.output.is_closed() && self.exit.is_closed() {
                return;
            }
            tokio::select! {
                place = self.output.reserve(), if waiting.is_some() => match (place, waiting.take()) {
                    (Ok(place), Some(piece)) => place.send(piece),
                    _ => self.lost = true,
                },
                () = self.watched.changed(), if !ended => {}
                () = self.life.ended(), if !ended => if !self.keeper_ended() { return },
                () = left_alone(&self.output, &self.exit) => return,
            }
        }
    }

    fn look_for_exit(&self) {
        // How it ended because its container was removed is nobody's business.
        if !self.life.removed()
            && self.exit.borrow().is_none()
            && let Some(exit) = output::exit(&self.dir)
        {
            self.exit.send_replace(Some(exit));
        }
    }

    /// The keeper dies with everything in the container. `false` when that was asked for: there is no exit to tell then.
    fn keeper_ended(&self) -> bool {
        self.look_for_exit();
        if self.life.removed() {
            return false;
        }
        if self.exit.borrow().is_none() {
            self.exit.send_replace(Some(Exit::Signal(9)));
        }
        true
    }

    fn next(&mut self) -> Option<Output> {
        if self.lost || self.output.is_closed() {
            return None;
        }
        self.reader.next().unwrap_or_else(|error| {
            warn!(folder = %self.dir.display(), %error, "output cannot be read");
            self.lost = true;
            None
        })
    }
}

/// Nobody reads, and nobody waits for the end.
async fn left_alone(output: &mpsc::Sender<Output>, exit: &watch::Sender<Option<Exit>>) {
    output.closed().await;
    exit.closed().await;
}
