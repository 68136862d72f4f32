//! Whether one more task still fits into the quotas of its space and organization.

use sql::Connection;

use super::tasks::Task;
use super::usage::{self, Usage};
use super::{Columns as _, Row, query};
use crate::errors::{ApiError, ApiResult};

const LIMITS: &str = "q.total_memory_in_mb, q.per_process_memory_in_mb, q.per_app_tasks, \
                      q.log_rate_limit_in_bytes_per_second AS log_rate";

/// # Errors
/// 422 with Cloud Foundry's words for the first limit that is exceeded.
pub async fn check(connection: &mut Connection, space: &str, task: &Task) -> ApiResult<()> {
    let text = format!(
        "SELECT {LIMITS}, s.name, s.guid AS scope FROM spaces s JOIN space_quotas q ON q.guid = s.quota_guid WHERE s.guid = $1"
    );
    if let Some(limits) = query(&text, [space.into()]).optional(connection).await? {
        fits(&limits, &usage::of_space(connection, space).await?, "space", task)?;
    }
    let text = format!(
        "SELECT {LIMITS}, o.name, o.guid AS scope FROM spaces s JOIN organizations o ON o.guid = s.org_guid \
         JOIN organization_quotas q ON q.guid = o.quota_guid WHERE s.guid = $1"
    );
    if let Some(limits) = query(&text, [space.into()]).optional(connection).await? {
        let used = usage::of_org(connection, &limits.text("scope")?).await?;
        fits(&limits, &used, "organization", task)?;
    }
    Ok(())
}

fn fits(limits: &Row, used: &Usage, spoken: &str, task: &Task) -> ApiResult<()> {
    let refuse = |detail: String| Err(ApiError::unprocessable(detail));
    let over =
        |limit: Option<i64>, wanted: i64| limit.is_some_and(|limit| limit >= 0 && wanted > limit);
    if over(
        limits.maybe_int("total_memory_in_mb")?,
        used.memory_in_mb.saturating_add(task.memory_mb),
    ) {
        return refuse(format!("memory_in_mb exceeds {spoken} memory quota"));
    }
    if over(limits.maybe_int("per_process_memory_in_mb")?, task.memory_mb) {
        return refuse(format!("memory_in_mb exceeds {spoken} instance memory quota"));
    }
    if over(limits.maybe_int("per_app_tasks")?, used.tasks + 1) {
        return refuse("app_task_limit quota exceeded".to_owned());
    }
    let rate = limits.maybe_int("log_rate")?;
    if rate.is_some_and(|rate| rate >= 0) && task.log_rate < 0 {
        return refuse(format!(
            "log_rate_limit cannot be unlimited in {spoken} '{}'.",
            limits.text("name")?
        ));
    }
    if over(rate, used.log_rate.saturating_add(task.log_rate.max(0))) {
        return refuse(format!("log_rate_limit exceeds {spoken} log rate quota"));
    }
    Ok(())
}
