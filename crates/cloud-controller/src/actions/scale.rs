//! Other sizes and numbers of instances, within the limits and quotas that hold.

use sql::Connection;

use crate::Cc;
use crate::db::processes::{self, Process};
use crate::db::{quota_usage, usage_events};
use crate::errors::{ApiError, ApiResult};
use crate::v3::processes::Scale;

/// Writes the new size. Only another number of instances leaves those that run alone.
pub async fn run(
    cc: &Cc,
    connection: &mut Connection,
    process: &Process,
    scale: Scale,
) -> ApiResult<()> {
    let after = Process {
        instances: scale.instances.unwrap_or(process.instances),
        memory_mb: scale.memory_mb.unwrap_or(process.memory_mb),
        disk_mb: scale.disk_mb.unwrap_or(process.disk_mb),
        log_rate: scale.log_rate.unwrap_or(process.log_rate),
        ..process.clone()
    };
    let most = cc.config.limits.max_app_disk_mb;
    if after.disk_mb > most {
        let detail = format!(
            "disk_quota too much disk requested (requested {} MB - must be less than {most} MB)",
            after.disk_mb
        );
        return Err(ApiError::unprocessable(detail));
    }
    quota_usage::check_process(connection, &after, process).await?;
    let set = vec![
        ("instances", after.instances.into()),
        ("memory_mb", after.memory_mb.into()),
        ("disk_mb", after.disk_mb.into()),
        ("log_rate", after.log_rate.into()),
    ];
    processes::update(connection, cc.now(), &process.guid, set).await?;
    if process.app_started {
        if after.memory_mb == process.memory_mb {
            processes::changed(connection, &process.guid, &process.version).await?;
        } else {
            processes::renew(connection, cc.now(), process).await?;
        }
        usage_events::record(connection, cc.now(), "STARTED", &after).await?;
    }
    Ok(())
}
