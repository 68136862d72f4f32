//! How much of its organization's and its space's quota is in use; what goes over is refused.

use sql::Connection;

use super::processes::Process;
use super::{Columns as _, Row, query};
use crate::errors::{ApiError, ApiResult};

const LIMITS: &str = "q.total_memory_in_mb, q.per_process_memory_in_mb, q.total_instances, q.log_rate_limit_in_bytes_per_second AS log_rate";

/// Whether a started process may be as big as `after`. A stopped one uses nothing but must keep within the size of one.
///
/// # Errors
/// 422 with Cloud Foundry's words for the first limit that is exceeded.
pub async fn check_process(
    connection: &mut Connection,
    after: &Process,
    before: &Process,
) -> ApiResult<()> {
    let org = format!(
        "SELECT {LIMITS}, o.guid AS scope, o.name FROM spaces s JOIN organizations o ON o.guid = s.org_guid \
         JOIN organization_quotas q ON q.guid = o.quota_guid WHERE s.guid = $1"
    );
    let space = format!(
        "SELECT {LIMITS}, s.guid AS scope, s.name FROM spaces s JOIN space_quotas q ON q.guid = s.quota_guid WHERE s.guid = $1"
    );
    for (text, own, spoken) in [(space, "s.guid", "space"), (org, "s.org_guid", "organization")] {
        let Some(limits) = query(&text, [(&after.space_guid).into()]).optional(connection).await?
        else {
            continue;
        };
        check(connection, &limits, own, spoken, after, before).await?;
    }
    Ok(())
}

async fn check(
    connection: &mut Connection,
    limits: &Row,
    own: &str,
    spoken: &str,
    after: &Process,
    before: &Process,
) -> ApiResult<()> {
    let per_process = limits.maybe_int("per_process_memory_in_mb")?;
    let bigger = after.memory_mb > before.memory_mb
        || after.instances > before.instances
        || !before.app_started;
    if per_process.is_some_and(|most| after.memory_mb > most) && after.memory_mb > before.memory_mb
    {
        return Err(ApiError::unprocessable(
            format!("memory {spoken}_instance_memory_limit_exceeded").replace("organization_", ""),
        ));
    }
    let grows_log = after.log_rate != before.log_rate;
    if !after.app_started || !(bigger || grows_log) {
        return Ok(());
    }
    let text = format!(
        "SELECT CAST(COALESCE(SUM(p.memory_mb * p.instances), 0) + (SELECT COALESCE(SUM(t.memory_mb), 0) FROM tasks t \
         JOIN apps ta ON ta.guid = t.app_guid JOIN spaces s ON s.guid = ta.space_guid \
         WHERE {own} = $1 AND t.state IN ('PENDING', 'RUNNING')) AS BIGINT) AS memory, \
         CAST(COALESCE(SUM(p.instances), 0) AS BIGINT) AS instances, \
         CAST(COALESCE(SUM(CASE WHEN p.log_rate > 0 THEN p.log_rate * p.instances ELSE 0 END), 0) AS BIGINT) AS log_rate \
         FROM processes p JOIN apps a ON a.guid = p.app_guid JOIN spaces s ON s.guid = a.space_guid \
         WHERE {own} = $1 AND a.state = 'STARTED' AND p.guid <> $2"
    );
    let used =
        query(&text, [limits.text("scope")?.into(), (&after.guid).into()]).one(connection).await?;
    let over = |limit: Option<i64>, used: i64, more: i64| {
        limit.is_some_and(|limit| used.saturating_add(more) > limit)
    };
    if bigger
        && over(
            limits.maybe_int("total_memory_in_mb")?,
            used.int("memory")?,
            after.memory_mb * after.instances,
        )
    {
        let name =
            if spoken == "space" { "memory space_quota_exceeded" } else { "memory quota_exceeded" };
        return Err(ApiError::unprocessable(name));
    }
    if bigger && over(limits.maybe_int("total_instances")?, used.int("instances")?, after.instances)
    {
        let name = if spoken == "space" {
            "app_instance_limit space_app_instance_limit_exceeded"
        } else {
            "app_instance_limit app_instance_limit_exceeded"
        };
        return Err(ApiError::unprocessable(name));
    }
    let rate = limits.maybe_int("log_rate")?;
    if rate.is_some_and(|rate| rate >= 0) && after.log_rate < 0 && after.instances > 0 {
        let detail =
            format!("log_rate_limit cannot be unlimited in {spoken} '{}'.", limits.text("name")?);
        return Err(ApiError::unprocessable(detail));
    }
    if over(rate, used.int("log_rate")?, after.log_rate.max(0) * after.instances) {
        return Err(ApiError::unprocessable(format!(
            "log_rate_limit exceeds {spoken} log rate quota"
        )));
    }
    Ok(())
}
