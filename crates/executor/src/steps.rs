//! Carries out actions. Each action is a step with a place in the recipe, and that place is its name: what ended is
//! written down under it, and a process is found again by it, so a recipe can be taken up in the middle.

mod group;
mod process;
mod transfer;

use std::sync::Arc;

use base::{CancellationToken, Timestamp};
use bytes::Bytes;
use diego::Action;
use diego::action::{EmitProgressAction, TimeoutAction};
use envelope::Mark;
use futures::future::BoxFuture;
use garden::Stream;
use parking_lot::Mutex;

pub(crate) use group::{End, codependent};

use crate::failure::Failure;
use crate::logger::Logger;
use crate::progress::Entry;
use crate::scene::Scene;
use crate::text;

pub(crate) type Outcome = Result<(), Failure>;

/// Where in a recipe a step is, and what surrounds it there.
#[derive(Clone)]
pub(crate) struct Place {
    pub name: String,
    pub log: Logger,
    /// Asks the step to end, gracefully.
    pub cancel: CancellationToken,
    pub kind: Kind,
}

#[derive(Clone)]
pub(crate) enum Kind {
    /// Is done once, whatever happens to this program.
    Once,
    /// As `Once`; its first process is what makes the container run.
    Main,
    /// Is done again and again to find out whether all is well. What it writes explains its failure and is no log.
    Probe(Arc<Mutex<Vec<u8>>>),
}

impl Place {
    pub fn new(name: &str, log: &Logger, cancel: &CancellationToken, kind: Kind) -> Place {
        Place { name: name.to_owned(), log: log.clone(), cancel: cancel.clone(), kind }
    }

    fn child(&self, nth: usize, source: &str) -> Place {
        let name = format!("{}.{nth}", self.name);
        Place { name, log: self.log.from(source), ..self.clone() }
    }

    fn inner(&self, source: &str) -> Place {
        Place { log: self.log.from(source), ..self.clone() }
    }

    fn is_probe(&self) -> bool {
        matches!(self.kind, Kind::Probe(_))
    }

    fn say(&self, stream: Stream, line: impl Into<String>) {
        match &self.kind {
            Kind::Probe(_) => {}
            Kind::Once | Kind::Main => self.log.say(stream, line),
        }
    }

    async fn output(&self, lines: Vec<(Stream, Bytes)>, mark: Mark) {
        match &self.kind {
            Kind::Probe(kept) => keep(&mut kept.lock(), &lines),
            Kind::Once | Kind::Main => self.log.output(lines, mark).await,
        }
    }
}

/// What a probe wrote, as far as a crash reason can hold it.
fn keep(kept: &mut Vec<u8>, lines: &[(Stream, Bytes)]) {
    const MOST: usize = 1024;
    for (_, line) in lines {
        if !kept.is_empty() && kept.len() < MOST {
            kept.push(b'\n');
        }
        let room = MOST - kept.len().min(MOST);
        kept.extend_from_slice(&line[..line.len().min(room)]);
    }
}

pub(crate) fn perform<'a>(
    scene: &'a Scene,
    place: Place,
    action: &'a Action,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        match action {
            Action::Run(run) => {
                let place = place.inner(&run.log_source);
                once(scene, &place, process::run(scene, &place, run)).await
            }
            Action::Download(download) => {
                let place = place.inner(&download.log_source);
                once(scene, &place, transfer::download(scene, &place, download)).await
            }
            Action::Upload(upload) => {
                let place = place.inner(&upload.log_source);
                once(scene, &place, transfer::upload(scene, &place, upload)).await
            }
            Action::Serial(list) => {
                for (nth, action) in list.actions.iter().enumerate() {
                    perform(scene, place.child(nth, &list.log_source), action).await?;
                }
                Ok(())
            }
            Action::Parallel(list) => {
                let steps = children(scene, &place, &list.actions, &list.log_source);
                group::parallel(steps).await
            }
            Action::Codependent(list) => {
                let place = Place { cancel: place.cancel.child_token(), ..place };
                let cancel = place.cancel.clone();
                let steps = children(scene, &place, &list.actions, &list.log_source);
                codependent(steps, &cancel, End::Failure).await
            }
            Action::Timeout(timeout) => in_time(scene, place, timeout).await,
            Action::Try(attempt) => {
                match perform(scene, place.inner(&attempt.log_source), &attempt.action).await {
                    Err(Failure::Told(_)) | Ok(()) => Ok(()),
                    Err(cancelled) => Err(cancelled),
                }
            }
            Action::EmitProgress(emit) => with_messages(scene, place, emit).await,
        }
    })
}

fn children<'a>(
    scene: &'a Scene,
    place: &Place,
    actions: &'a [Action],
    source: &str,
) -> Vec<BoxFuture<'a, Outcome>> {
    actions
        .iter()
        .enumerate()
        .map(|(nth, action)| perform(scene, place.child(nth, source), action))
        .collect()
}

/// A step that ended in an earlier life ends the same way again, at once.
async fn once(scene: &Scene, place: &Place, step: impl Future<Output = Outcome>) -> Outcome {
    if place.is_probe() {
        return step.await;
    }
    if let Some(result) = scene.journal.ended(&place.name) {
        return result;
    }
    let result = step.await;
    scene.journal.end(&place.name, &result);
    result
}

async fn in_time(scene: &Scene, place: Place, timeout: &TimeoutAction) -> Outcome {
    let limit = std::time::Duration::from_millis(timeout.timeout_ms);
    let left = limit.saturating_sub(scene.clock.now().since(began(scene, &place)));
    let cancel = place.cancel.child_token();
    let inner = Place { cancel: cancel.clone(), ..place.inner(&timeout.log_source) };
    let mut step = perform(scene, inner, &timeout.action);
    tokio::select! {
        result = &mut step => return result,
        () = tokio::time::sleep(left) => cancel.cancel(),
    }
    let mut text = format!("exceeded {} timeout", text::span(limit));
    if let Err(Failure::Told(cause)) = step.await {
        text = format!("{text}; {cause}");
    }
    if place.cancel.is_cancelled() { Err(Failure::Cancelled) } else { Err(Failure::Told(text)) }
}

/// When the step began, in whichever life.
fn began(scene: &Scene, place: &Place) -> Timestamp {
    let now = scene.clock.now();
    if place.is_probe() {
        return now;
    }
    if let Some(at) = scene.journal.progress().began.get(&place.name) {
        return *at;
    }
    scene.journal.note(Entry::Began { step: place.name.clone(), at: now });
    now
}

async fn with_messages(scene: &Scene, place: Place, emit: &EmitProgressAction) -> Outcome {
    let place = place.inner(&emit.log_source);
    // What was said in an earlier life is not said again.
    let fresh = scene.journal.ended(&format!("{}.said", place.name)).is_none();
    if fresh && !emit.start_message.is_empty() {
        place.say(Stream::Stdout, &emit.start_message);
    }
    if fresh && !place.is_probe() {
        scene.journal.end(&format!("{}.said", place.name), &Ok(()));
    }
    let result = perform(scene, place.clone(), &emit.action).await;
    match &result {
        Ok(()) if !emit.success_message.is_empty() => {
            place.say(Stream::Stdout, &emit.success_message)
        }
        Err(Failure::Told(text)) if !emit.failure_message_prefix.is_empty() => {
            place.say(Stream::Stderr, format!("{}: {text}", emit.failure_message_prefix));
        }
        Err(_) if !emit.failure_message_prefix.is_empty() => {
            place.say(Stream::Stderr, &emit.failure_message_prefix);
        }
        _ => {}
    }
    result
}
