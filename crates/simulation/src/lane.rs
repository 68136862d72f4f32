//! What a cell does for one container, one thing after the other: the real tables say what, the brain's answers what
//! follows.

use std::collections::VecDeque;

use bbs::simulation::{Answer, Command};
use diego::BbsError;
use diego::bbs::{Evacuation, Keep};
use diego::task::Attempt;
use executor::State;
use rep::simulation::{lrp, task};

use crate::cell::{Mode, Owner};
use crate::world::{BrainAsk, Event, MS, Reply, SECOND, Said, Then, World};

/// What the brain is known to know of a container.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    Lrp(lrp::View),
    Task(task::View),
}

#[derive(Clone, Debug)]
pub(crate) enum LaneCall {
    Lrp(lrp::Call),
    Task(task::Call),
    Evacuate(Evacuation),
}

#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// Something happened since the step began.
    dirty: bool,
    queue: VecDeque<LaneCall>,
    /// Waits before it tries again; whoever wakes it names this.
    waiting: Option<u64>,
    tokens: u64,
    backoff: u64,
}

impl World {
    /// Something happened to a container.
    pub fn poke(&mut self, cell: usize, handle: &str) {
        if !self.cells[cell].up {
            return;
        }
        match self.cells[cell].lanes.get_mut(handle) {
            Some(lane) => {
                lane.dirty = true;
                if lane.waiting.take().is_some() {
                    self.step(cell, handle);
                }
            }
            None => {
                self.cells[cell].lanes.insert(handle.to_owned(), Lane::default());
                self.step(cell, handle);
            }
        }
    }

    pub fn wake(&mut self, cell: usize, life: u64, handle: &str, token: u64) {
        if self.cells[cell].life != life {
            return;
        }
        if let Some(lane) = self.cells[cell].lanes.get_mut(handle)
            && lane.waiting == Some(token)
        {
            lane.waiting = None;
            self.step(cell, handle);
        }
    }

    fn step(&mut self, cell: usize, handle: &str) {
        let it = &mut self.cells[cell];
        let Some(container) = it.containers.get(handle) else {
            it.seen.remove(handle);
            it.lanes.remove(handle);
            return;
        };
        let queue: VecDeque<LaneCall> = match &container.owner {
            Owner::Lrp(..) if it.mode != Mode::Open => {
                [LaneCall::Evacuate(lrp::evacuation_step(&container.state, ""))].into()
            }
            Owner::Lrp(..) => {
                let view = match it.seen.get(handle) {
                    Some(Seen::Lrp(view)) => view.clone(),
                    _ => lrp::View::Unknown,
                };
                let calls = lrp::lrp_step(&container.state, "", &view);
                calls.into_iter().map(LaneCall::Lrp).collect()
            }
            Owner::Task(..) => {
                let view = match it.seen.remove(handle) {
                    Some(Seen::Task(view)) => view,
                    _ => task::View::Unknown,
                };
                let calls = task::task_step(&container.state, view);
                calls.into_iter().map(LaneCall::Task).collect()
            }
        };
        if let Some(lane) = it.lanes.get_mut(handle) {
            (lane.dirty, lane.queue) = (false, queue);
        }
        self.next(cell, handle);
    }

    /// Does what can be done here, up to the next question to the brain or the end of the step.
    fn next(&mut self, cell: usize, handle: &str) {
        loop {
            let Some(lane) = self.cells[cell].lanes.get_mut(handle) else { return };
            let Some(call) = lane.queue.pop_front() else {
                lane.backoff = 0;
                if lane.dirty {
                    return self.step(cell, handle);
                }
                self.cells[cell].lanes.remove(handle);
                return;
            };
            match &call {
                LaneCall::Lrp(lrp::Call::Run) | LaneCall::Task(task::Call::Run) => {
                    self.begin(cell, handle)
                }
                LaneCall::Lrp(lrp::Call::Stop) => self.stop_container(cell, handle),
                // What is kept of a crash is no container any more.
                LaneCall::Lrp(lrp::Call::Delete | lrp::Call::Keep)
                | LaneCall::Task(task::Call::Delete) => self.delete(cell, handle),
                _ => {
                    if matches!(call, LaneCall::Task(task::Call::Start))
                        && let Some(container) = self.cells[cell].containers.get_mut(handle)
                    {
                        container.asks += 1;
                    }
                    if let Some(command) = self.command(cell, handle, &call) {
                        let life = self.cells[cell].life;
                        let handle = handle.to_owned();
                        let then = Then::Lane { cell, life, handle, call };
                        return self.ask_brain(Some(cell), BrainAsk::Do(command), then);
                    }
                }
            }
        }
    }

    fn command(&self, cell: usize, handle: &str, call: &LaneCall) -> Option<Command> {
        let it = &self.cells[cell];
        let container = it.containers.get(handle)?;
        let cell_id = it.presence.cell_id.clone();
        match (&container.owner, call) {
            (Owner::Lrp(key, guid), LaneCall::Lrp(call)) => {
                let (key, by) = (key.clone(), it.instance(guid));
                Some(match call {
                    lrp::Call::Claim => Command::Claim(key, by),
                    lrp::Call::Start(net, routable) => {
                        Command::Start { key, by, net: net.clone(), routable: *routable }
                    }
                    lrp::Call::Crash(reason) => Command::Crash { key, by, reason: reason.clone() },
                    lrp::Call::Remove => Command::Remove(key, by),
                    lrp::Call::Run | lrp::Call::Stop | lrp::Call::Delete | lrp::Call::Keep => {
                        return None;
                    }
                })
            }
            (Owner::Lrp(key, guid), LaneCall::Evacuate(evacuation)) => {
                Some(Command::Evacuate(key.clone(), it.instance(guid), evacuation.clone()))
            }
            (Owner::Task(guid, rejections), LaneCall::Task(call)) => {
                let (guid, by) = (guid.clone(), Attempt { cell_id, rejections: *rejections });
                Some(match call {
                    task::Call::Start => Command::StartTask(guid, by),
                    task::Call::Reject(reason) => {
                        Command::RejectTask { guid, by: Some(by), reason: reason.clone() }
                    }
                    task::Call::Complete => {
                        let State::Completed(outcome) = &container.state else { return None };
                        let failure = outcome.failed.then(|| outcome.reason.clone());
                        Command::CompleteTask { guid, by, failure, result: String::new() }
                    }
                    task::Call::Run | task::Call::Delete => return None,
                })
            }
            _ => None,
        }
    }

    pub fn lane_heard(&mut self, cell: usize, handle: &str, call: LaneCall, reply: Reply) {
        if !self.cells[cell].lanes.contains_key(handle) {
            return;
        }
        match (call, reply) {
            (LaneCall::Evacuate(evacuation), reply) => {
                return self.heard_evacuation(cell, handle, &evacuation, reply);
            }
            (_, Err(error)) if lrp::is_passing(error.kind) => return self.again(cell, handle),
            (LaneCall::Lrp(call), Err(error)) => {
                self.note(|| format!("cell-{cell} {handle} {call:?} refused: {error}"));
                self.cells[cell].seen.remove(handle);
                if let Some(consequence) = lrp::refused(&call) {
                    self.queue(cell, handle, [LaneCall::Lrp(consequence)].into());
                }
            }
            (LaneCall::Task(call), Err(error)) => {
                self.note(|| format!("cell-{cell} {handle} {call:?} refused: {error}"));
                if let Some(consequence) = task::refused(&call) {
                    self.queue(cell, handle, [LaneCall::Task(consequence)].into());
                }
            }
            (LaneCall::Lrp(lrp::Call::Claim), Ok(_)) => {
                let view = lrp::View::Claimed { mine: true };
                self.cells[cell].seen.insert(handle.to_owned(), Seen::Lrp(view));
            }
            (LaneCall::Lrp(lrp::Call::Start(net, routable)), Ok(_)) => {
                let view = lrp::View::Running(Some((net, routable)));
                self.cells[cell].seen.insert(handle.to_owned(), Seen::Lrp(view));
            }
            (LaneCall::Task(task::Call::Start), Ok(Said::Answer(Answer::Granted(false)))) => {
                let container = self.cells[cell].containers.get(handle);
                let asked = container.is_some_and(|container| container.asks > 1);
                if let Some(consequence) = task::granted_before(asked) {
                    self.note(|| format!("cell-{cell} {handle} had its run before"));
                    self.queue(cell, handle, [LaneCall::Task(consequence)].into());
                }
            }
            _ => {}
        }
        self.next(cell, handle);
    }

    fn heard_evacuation(
        &mut self,
        cell: usize,
        handle: &str,
        evacuation: &Evacuation,
        reply: Reply,
    ) {
        let running = matches!(evacuation, Evacuation::Running { .. });
        let gone =
            |error: &BbsError| error.is_not_found() || (!running && !lrp::is_passing(error.kind));
        match reply {
            Ok(Said::Answer(Answer::Keep(Keep::Keep))) if running => {}
            Ok(_) => self.delete(cell, handle),
            Err(error) if gone(&error) => self.delete(cell, handle),
            Err(_) => return self.again(cell, handle),
        }
        self.next(cell, handle);
    }

    fn queue(&mut self, cell: usize, handle: &str, calls: VecDeque<LaneCall>) {
        if let Some(lane) = self.cells[cell].lanes.get_mut(handle) {
            lane.queue = calls;
        }
    }

    /// The step could not be done; another try comes after a while, or when something happens.
    fn again(&mut self, cell: usize, handle: &str) {
        let life = self.cells[cell].life;
        let Some(lane) = self.cells[cell].lanes.get_mut(handle) else { return };
        lane.queue.clear();
        lane.backoff = (lane.backoff * 2).clamp(50 * MS, 5 * SECOND);
        lane.tokens += 1;
        lane.waiting = Some(lane.tokens);
        let (after, token) = (lane.backoff, lane.tokens);
        self.at(after, Event::Wake { cell, life, handle: handle.to_owned(), token });
    }

    fn delete(&mut self, cell: usize, handle: &str) {
        self.cells[cell].containers.remove(handle);
        self.cells[cell].seen.remove(handle);
        self.note(|| format!("cell-{cell} deletes {handle}"));
        if let Some(lane) = self.cells[cell].lanes.get_mut(handle) {
            lane.dirty = true;
        }
    }
}
