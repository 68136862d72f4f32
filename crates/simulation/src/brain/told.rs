//! What changed, in a line of the trace.

use diego::Event as Change;

pub(super) fn told(change: &Change) -> String {
    let lrp = |lrp: &diego::ActualLrp| {
        let by = lrp.instance().map(|by| format!(" {}@{}", by.instance_guid, by.cell_id));
        format!("{} {:?} {}{}", lrp.key, lrp.presence, lrp.state.name(), by.unwrap_or_default())
    };
    match change {
        Change::ActualLrpCreated { actual_lrp } => format!("+ {}", lrp(actual_lrp)),
        Change::ActualLrpChanged { before, after } => {
            format!("~ {} -> {}", lrp(before), lrp(after))
        }
        Change::ActualLrpRemoved { actual_lrp } => format!("- {}", lrp(actual_lrp)),
        Change::TaskCreated { task } => format!("+ task {}", task.task_guid),
        Change::TaskChanged { after, .. } => {
            format!("~ task {} {:?}", after.task_guid, after.state)
        }
        Change::TaskRemoved { task } => format!("- task {}", task.task_guid),
        Change::DesiredLrpCreated { desired_lrp } => {
            format!("+ desired {} {}", desired_lrp.process_guid, desired_lrp.instances)
        }
        Change::DesiredLrpChanged { after, .. } => {
            format!("~ desired {} {}", after.process_guid, after.instances)
        }
        Change::DesiredLrpRemoved { desired_lrp } => {
            format!("- desired {}", desired_lrp.process_guid)
        }
        other => format!("{other:?}"),
    }
}
