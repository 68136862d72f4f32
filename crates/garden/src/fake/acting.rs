//! A process that only acts as one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, watch};

use super::{End, Play};
use crate::{Exit, Input, Output, Process, ProcessId, ProcessSignal, ProcessSpec, Stream};

pub(super) struct Acting {
    pub(super) spec: ProcessSpec,
    end: End,
    pieces: watch::Sender<Vec<Output>>,
    /// It was given an input.
    reads: bool,
    followers: Arc<AtomicUsize>,
    exit: watch::Sender<Option<Exit>>,
}

/// One more who reads its output, for as long as this lives.
struct Following(Arc<AtomicUsize>);

impl Following {
    fn begin(followers: Arc<AtomicUsize>) -> Following {
        followers.fetch_add(1, Ordering::SeqCst);
        Following(followers)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What is written is heard at once, and said again by those that echo.
struct Pipe {
    pieces: watch::Sender<Vec<Output>>,
    exit: watch::Receiver<Option<Exit>>,
    echoes: bool,
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.exit.borrow().is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.echoes {
            append(&self.pieces, Stream::Stdout, Bytes::copy_from_slice(bytes));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn append(pieces: &watch::Sender<Vec<Output>>, stream: Stream, data: Bytes) {
    if data.is_empty() {
        return;
    }
    pieces.send_modify(|pieces| {
        let end = pieces.last().map_or(0, |piece| piece.end) + data.len() as u64;
        pieces.push(Output { stream, data, end, lost: 0 });
    });
}

impl Acting {
    pub(super) fn begin(spec: &ProcessSpec, play: Play) -> Acting {
        let (pieces, exit) = (watch::Sender::new(Vec::new()), watch::Sender::new(None));
        let reads = spec.stdin || spec.tty.is_some();
        let (spec, followers) = (spec.clone(), Arc::new(AtomicUsize::new(0)));
        let acting = Acting { spec, end: play.end, pieces, exit, reads, followers };
        play.output.iter().for_each(|(stream, text)| acting.say(*stream, text));
        if let End::At(exit) = &acting.end {
            acting.end(exit.clone());
        }
        acting
    }

    /// Whether somebody reads what it says.
    pub(super) fn is_followed(&self) -> bool {
        self.followers.load(Ordering::SeqCst) > 0
    }

    /// Where it reads from, while it does.
    pub(super) fn input(&self) -> Option<Input> {
        let reads = self.reads && self.exit.borrow().is_none();
        reads.then(|| {
            let echoes = matches!(self.end, End::Echo);
            Box::pin(Pipe { pieces: self.pieces.clone(), exit: self.exit.subscribe(), echoes })
                as Input
        })
    }

    /// `false` when it reads from nowhere.
    pub(super) fn close_input(&self) -> bool {
        if self.reads && matches!(self.end, End::Echo) {
            self.end(Exit::Status(0));
        }
        self.reads
    }

    pub(super) fn say(&self, stream: Stream, text: &str) {
        if self.exit.borrow().is_none() {
            append(&self.pieces, stream, Bytes::copy_from_slice(text.as_bytes()));
        }
    }

    pub(super) fn end(&self, exit: Exit) {
        self.exit.send_if_modified(|now| {
            let first = now.is_none();
            now.get_or_insert(exit);
            first
        });
        // Readers look again.
        self.pieces.send_modify(|_| ());
    }

    pub(super) fn signal(&self, signal: ProcessSignal) {
        if signal == ProcessSignal::Kill || !matches!(self.end, End::WhenKilled) {
            self.end(Exit::Signal(signal.number()));
        }
    }

    pub(super) fn follow(&self, id: ProcessId, from: u64) -> Process {
        let (output, receiver) = mpsc::channel(16);
        let (mut pieces, exit) = (self.pieces.subscribe(), self.exit.subscribe());
        let ended = exit.clone();
        let following = Following::begin(self.followers.clone());
        tokio::spawn(async move {
            let _following = following;
            let mut position = from;
            loop {
                let done = ended.borrow().is_some();
                let next =
                    pieces.borrow_and_update().iter().find(|piece| piece.end > position).cloned();
                match next {
                    Some(mut piece) => {
                        let begin = piece.end - piece.data.len() as u64;
                        piece.data = piece.data.slice(position.saturating_sub(begin) as usize..);
                        position = piece.end;
                        if output.send(piece).await.is_err() {
                            return;
                        }
                    }
                    None if done => return,
                    None => tokio::select! {
                        changed = pieces.changed() => if changed.is_err() { return },
                        () = output.closed() => return,
                    },
                }
            }
        });
        Process { id, output: receiver, exit }
    }
}
