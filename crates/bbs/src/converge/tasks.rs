//! Tasks that nobody moved for too long.

use base::Timestamp;
use diego::Task;
use diego::task::State as TaskState;

use super::{Remedy, Round};
use crate::config::Timings;
use crate::state::State;

pub(super) fn one(
    round: &mut Round,
    state: &State,
    task: &Task,
    now: Timestamp,
    timings: &Timings,
) {
    let guid = || task.task_guid.clone();
    match &task.state {
        TaskState::Pending => {
            if round.is_due(task.created_at + timings.pending_gives_up, now) {
                round.act(Remedy::FailTask(guid(), "not started within time limit"));
                return;
            }
            // An auction had its time to answer, or found no room before a cell came.
            let new_chance = task.rejection_count > 0 && task.updated_at < state.newest_cell();
            if new_chance || round.has_passed(timings.stale_pending, task.updated_at, now) {
                round.act(Remedy::AuctionTask(guid()));
                round.wait_until(now + timings.stale_pending);
            }
        }
        TaskState::Running { cell_id } => {
            let lost = state.last_seen(cell_id) + timings.task_lost;
            if !state.is_present(cell_id, now) && round.is_due(lost, now) {
                round.act(Remedy::FailTask(guid(), "cell disappeared before completion"));
            }
        }
        TaskState::Completed { outcome } | TaskState::Resolving { outcome } => {
            if round.is_due(outcome.first_completed_at + timings.completed_expires, now) {
                return round.act(Remedy::DeleteTask(guid()));
            }
            let resolving = matches!(task.state, TaskState::Resolving { .. });
            if resolving && !round.is_due(task.updated_at + timings.resolving_falls_back, now) {
                return;
            }
            if resolving {
                round.act(Remedy::UnresolveTask(guid()));
            }
            let called = !task.definition.completion_callback_url.is_empty();
            if called && round.is_due(task.updated_at + timings.callback_again, now) {
                round.act(Remedy::CallBack(guid()));
            }
        }
    }
}
