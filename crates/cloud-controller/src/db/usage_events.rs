//! App usage events: what billing reads.

use base::Timestamp;
use serde_json::json;
use sql::Connection;

use super::processes::Process;
use super::{Columns as _, Result, query};

/// Records that a process came to `state`: `STARTED`, `STOPPED`, `BUILDPACK_SET`.
pub async fn record(
    connection: &mut Connection,
    now: Timestamp,
    state: &str,
    process: &Process,
) -> Result<()> {
    let names = "SELECT a.name, s.guid AS space_guid, s.name AS space_name, s.org_guid, p.guid AS package_guid, p.state AS package_state \
                 FROM apps a JOIN spaces s ON s.guid = a.space_guid LEFT JOIN droplets d ON d.guid = a.droplet_guid \
                 LEFT JOIN packages p ON p.guid = d.package_guid WHERE a.guid = $1";
    let Some(row) = query(names, [(&process.app_guid).into()]).optional(connection).await? else {
        return Ok(());
    };
    let previous =
        "SELECT state FROM app_usage_events WHERE process_guid = $1 ORDER BY id DESC LIMIT 1";
    let before = query(previous, [(&process.guid).into()]).optional(connection).await?;
    let before = before.map(|row| row.text("state")).transpose()?;
    let package_state = row.maybe_text("package_state")?.map_or("PENDING", |_| "STAGED");
    let data = json!({
        "state": { "current": state, "previous": before.unwrap_or_else(|| "STOPPED".to_owned()) },
        "app": { "guid": process.app_guid, "name": row.text("name")? },
        "process": { "guid": process.guid, "type": process.kind },
        "space": { "guid": row.text("space_guid")?, "name": row.text("space_name")? },
        "organization": { "guid": row.text("org_guid")? },
        "buildpack": { "guid": null, "name": null },
        "task": { "guid": null, "name": null },
        "memory_in_mb_per_instance": { "current": process.memory_mb, "previous": process.memory_mb },
        "instance_count": { "current": process.instances, "previous": process.instances },
        "package": { "state": package_state },
    });
    let columns = vec![
        ("guid", base::new_guid().into()),
        ("state", state.into()),
        ("app_guid", (&process.app_guid).into()),
        ("process_guid", (&process.guid).into()),
        ("data", (&data).into()),
        ("created_at", now.into()),
        ("updated_at", now.into()),
    ];
    super::insert(connection, "app_usage_events", columns).await
}
