//! Runs a process to its end, or takes up one that an earlier life of this program started.

use std::time::Duration;

use bytes::Bytes;
use diego::action::RunAction;
use envelope::Mark;
use garden::{Exit, GardenError, Output, Process, ProcessId, ProcessSignal, Stream};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use super::{Kind, Outcome, Place};
use crate::failure::Failure;
use crate::journal::PositionFile;
use crate::lines::{Lines, Position};
use crate::scene::Scene;
use crate::{surroundings, text};

/// Pieces of output that are dealt with together.
const BATCH: usize = 64;
/// How long the rest of its output may take to come after a process has ended.
const REST: Duration = Duration::from_secs(5);

pub(super) async fn run(scene: &Scene, place: &Place, action: &RunAction) -> Outcome {
    if place.cancel.is_cancelled() {
        return Err(Failure::Cancelled);
    }
    let id = process_id(place);
    let mut sink = OutputSink::open(scene, place, &id, action.suppress_log_output);
    let mut process = match begin(scene, place, action, &id, sink.lines_from()).await {
        Ok(process) => process,
        Err(error) => {
            let text = chain(&error);
            place.say(Stream::Stdout, format!("failed-creating-process: {text}"));
            return Err(Failure::Told(text));
        }
    };
    if matches!(place.kind, Kind::Main) {
        scene.started.cancel();
    }
    let (exit, manner) = accompany(scene, place, &id, &mut process, &mut sink).await?;
    rest(&mut process, &mut sink).await;
    conclude(scene, place, action, &id, &exit, manner).await
}

/// Named for its place, so that it is found again; a probe is a new process each time.
fn process_id(place: &Place) -> ProcessId {
    match place.kind {
        Kind::Probe(_) => ProcessId::from(format!("{}.{}", place.name, &base::new_guid()[..8])),
        Kind::Once | Kind::Main => ProcessId::from(place.name.as_str()),
    }
}

async fn begin(
    scene: &Scene,
    place: &Place,
    action: &RunAction,
    id: &ProcessId,
    from: u64,
) -> Result<Process, GardenError> {
    if !place.is_probe() && scene.known.contains(id) {
        debug!(container.guid = %scene.handle, process = %id, "taking up a running process");
        return scene.garden.attach(&scene.handle, id, from).await;
    }
    let spec = garden::ProcessSpec {
        id: Some(id.clone()),
        ..surroundings::process(&scene.env, action, &scene.net)
    };
    scene.garden.run(&scene.handle, spec).await
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    OfItsOwn,
    Terminated,
    Killed,
}

/// Waits for the end, and brings it about when asked to.
async fn accompany(
    scene: &Scene,
    place: &Place,
    id: &ProcessId,
    process: &mut Process,
    sink: &mut OutputSink<'_>,
) -> Result<(Option<Exit>, Manner), Failure> {
    let mut manner = Manner::OfItsOwn;
    let mut deadline = Instant::now();
    let mut batch = Vec::with_capacity(BATCH);
    let mut talking = true;
    loop {
        tokio::select! {
            count = process.output.recv_many(&mut batch, BATCH), if talking => {
                talking = count > 0;
                sink.take(&mut batch).await;
            }
            exit = ended(&mut process.exit) => return Ok((exit, manner)),
            () = place.cancel.cancelled(), if manner == Manner::OfItsOwn => {
                signal(scene, id, ProcessSignal::Terminate).await;
                manner = Manner::Terminated;
                deadline = Instant::now() + scene.timings.grace;
            }
            () = sleep_until(deadline), if manner != Manner::OfItsOwn => {
                if manner == Manner::Killed {
                    return Err(Failure::Stuck);
                }
                signal(scene, id, ProcessSignal::Kill).await;
                manner = Manner::Killed;
                deadline = Instant::now() + scene.timings.after_kill;
            }
        }
    }
}

/// `None` when the container went away and took the process with it.
async fn ended(exit: &mut tokio::sync::watch::Receiver<Option<Exit>>) -> Option<Exit> {
    exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone())
}

async fn signal(scene: &Scene, id: &ProcessId, signal: ProcessSignal) {
    if let Err(error) = scene.garden.signal(&scene.handle, id, signal).await {
        warn!(container.guid = %scene.handle, process = %id, error = %chain(&error), "a process could not be signalled");
    }
}

async fn rest(process: &mut Process, sink: &mut OutputSink<'_>) {
    let mut batch = Vec::with_capacity(BATCH);
    let drain = async {
        while process.output.recv_many(&mut batch, BATCH).await > 0 {
            sink.take(&mut batch).await;
        }
    };
    if timeout(REST, drain).await.is_err() {
        debug!(process = %process.id, "output did not end with its process");
    }
    sink.finish().await;
}

async fn conclude(
    scene: &Scene,
    place: &Place,
    action: &RunAction,
    id: &ProcessId,
    exit: &Option<Exit>,
    manner: Manner,
) -> Outcome {
    let Some(exit) = exit else {
        return match manner {
            Manner::OfItsOwn => Err(Failure::told("container was destroyed")),
            Manner::Terminated | Manner::Killed => Err(Failure::Cancelled),
        };
    };
    let status = exit.status();
    let memory = if matches!(exit, Exit::OutOfMemory(_)) { " (out of memory)" } else { "" };
    let grace = match manner {
        Manner::Killed => {
            format!(" (exceeded {} graceful shutdown interval)", text::span(scene.timings.grace))
        }
        Manner::OfItsOwn | Manner::Terminated => String::new(),
    };
    if !action.suppress_log_output && !place.is_probe() {
        let line = format!("Exit status {status}{grace}{memory}");
        place.log.say_once(Stream::Stdout, line, format!("{}/{id}/exit", scene.handle)).await;
    }
    match manner {
        Manner::Killed => Err(Failure::Overstayed),
        Manner::Terminated => Err(Failure::Cancelled),
        Manner::OfItsOwn if exit.success() => Ok(()),
        Manner::OfItsOwn => Err(Failure::Told(format!(
            "{}: Exited with status {status}{memory}",
            place.log.source_type()
        ))),
    }
}

fn chain(error: &GardenError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Makes log lines of output and remembers how far it got: with the lines themselves, so that no line is lost or comes
/// twice whenever this program is killed, and in a file, for when the lines have given way to newer ones.
struct OutputSink<'a> {
    place: &'a Place,
    lines: Lines,
    key: String,
    position: Option<PositionFile>,
    from: u64,
    silent: bool,
}

impl<'a> OutputSink<'a> {
    fn open(scene: &Scene, place: &'a Place, id: &ProcessId, silent: bool) -> OutputSink<'a> {
        let file = match place.kind {
            Kind::Probe(_) => None,
            Kind::Once | Kind::Main => match scene.journal.position(id.as_str()) {
                Ok(file) => Some(file),
                Err(error) => {
                    warn!(container.guid = %scene.handle, %error, "log lines may come twice after a restart");
                    None
                }
            },
        };
        let key = format!("{}/{id}", scene.handle);
        let marked = file.as_ref().and_then(|_| place.log.mark(&key));
        let marked = marked.and_then(|at| Some(Position::from_bytes(at.as_ref().try_into().ok()?)));
        let position = file.as_ref().map(PositionFile::read).unwrap_or_default();
        let position = marked.unwrap_or_default().later(position);
        OutputSink {
            place,
            key,
            lines: Lines::after(position),
            position: file,
            from: position.from,
            silent,
        }
    }

    fn lines_from(&self) -> u64 {
        self.from
    }

    async fn take(&mut self, batch: &mut Vec<Output>) {
        let mut lines = Vec::new();
        for piece in batch.drain(..) {
            self.lines.take(piece, &mut lines);
        }
        self.emit(lines).await;
    }

    async fn finish(&mut self) {
        let mut lines = Vec::new();
        self.lines.finish(&mut lines);
        self.emit(lines).await;
    }

    async fn emit(&mut self, lines: Vec<(Stream, Bytes)>) {
        let position: Position = self.lines.position();
        if !lines.is_empty() && (!self.silent || self.place.is_probe()) {
            let at = Bytes::copy_from_slice(&position.to_bytes());
            self.place.output(lines, Mark { key: self.key.clone(), at }).await;
        }
        if let Some(file) = &self.position
            && let Err(error) = file.write(position)
        {
            warn!(step = self.place.name, %error, "log lines may come twice after a restart");
        }
    }
}
