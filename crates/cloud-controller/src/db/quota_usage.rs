//! Whether what is to run keeps within the quotas of its space and its organization; what goes over is refused.

use sql::Connection;

use super::processes::Process;
use super::quotas::{self, Level, Scope};
use super::tasks::Task;
use crate::errors::{ApiError, ApiResult};

/// Whether a started process may become as big as `after`. A stopped one uses nothing, and one that shrinks is let
/// through whatever the quota says.
///
/// # Errors
/// 422 with Cloud Foundry's words for each limit that is exceeded.
pub async fn check_process(
    connection: &mut Connection,
    after: &Process,
    before: &Process,
) -> ApiResult<()> {
    let change = Change::between(before, after);
    if !after.app_started || change == Change::default() {
        return Ok(());
    }
    let scopes = quotas::over_space(connection, &after.space_guid, &after.guid).await?;
    let size =
        Size { memory_mb: after.memory_mb, instances: after.instances, log_rate: after.log_rate };
    told(&process_errors(&scopes, size, change))
}

/// Whether one more task may run.
///
/// # Errors
/// 422 with Cloud Foundry's words for each limit that is exceeded.
pub async fn check_task(connection: &mut Connection, space: &str, task: &Task) -> ApiResult<()> {
    told(&task_errors(&quotas::over_space(connection, space, "").await?, task))
}

/// Whether a build may take this much while it runs.
///
/// # Errors
/// 422 with Cloud Foundry's words for the first limit that is exceeded.
pub async fn check_staging(
    connection: &mut Connection,
    space: &str,
    memory_mb: Option<i64>,
    log_rate: i64,
) -> ApiResult<()> {
    let scopes = quotas::over_space(connection, space, "").await?;
    match staging_error(&scopes, memory_mb, log_rate) {
        Some(error) => Err(ApiError::unprocessable(error)),
        None => Ok(()),
    }
}

fn told(errors: &[String]) -> ApiResult<()> {
    if errors.is_empty() { Ok(()) } else { Err(ApiError::unprocessable(errors.join(", "))) }
}

/// What counts of a process.
#[derive(Clone, Copy, Debug)]
struct Size {
    memory_mb: i64,
    instances: i64,
    log_rate: i64,
}

/// What of a process grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Change {
    size: bool,
    log_rate: bool,
}

impl Change {
    fn between(before: &Process, after: &Process) -> Change {
        let starts = !before.app_started;
        let more = after.instances > before.instances;
        let louder = after.log_rate != before.log_rate;
        Change {
            size: starts || more || after.memory_mb > before.memory_mb,
            log_rate: starts || more || louder,
        }
    }
}

/// The space comes first, as Cloud Foundry lists them; those that are told organization first are turned round.
fn process_errors(scopes: &[Scope], size: Size, change: Change) -> Vec<String> {
    let mut errors = Vec::new();
    let named = |scope: &Scope, error: &str| match scope.level {
        Level::Space => format!("space_{error}"),
        Level::Organization => error.to_owned(),
    };
    if change.size {
        let memory = size.memory_mb.saturating_mul(size.instances);
        let full = |scope: &&Scope| over(scope.limits.memory_mb, scope.used.memory_in_mb, memory);
        let told = |scope: &Scope| format!("memory {}", named(scope, "quota_exceeded"));
        errors.extend(scopes.iter().filter(full).map(told));
        let big = |scope: &&Scope| over(scope.limits.process_memory_mb, 0, size.memory_mb);
        let told =
            |scope: &Scope| format!("memory {}", named(scope, "instance_memory_limit_exceeded"));
        errors.extend(scopes.iter().rev().filter(big).map(told));
        let many = |scope: &&Scope| {
            over(scope.limits.instances, scope.used.started_instances, size.instances)
        };
        let told = |scope: &Scope| {
            format!("app_instance_limit {}", named(scope, "app_instance_limit_exceeded"))
        };
        errors.extend(scopes.iter().rev().filter(many).map(told));
    }
    if change.log_rate && size.instances > 0 {
        let rate = size.log_rate.saturating_mul(if size.log_rate < 0 { 1 } else { size.instances });
        errors.extend(scopes.iter().filter_map(|scope| log_rate_error(scope, rate)));
    }
    errors
}

/// Those of the organization come first here.
fn task_errors(scopes: &[Scope], task: &Task) -> Vec<String> {
    let mut errors = Vec::new();
    let scopes = || scopes.iter().rev();
    for scope in scopes() {
        if over(scope.limits.memory_mb, scope.used.memory_in_mb, task.memory_mb) {
            errors.push(format!("memory_in_mb exceeds {} memory quota", scope.spoken()));
        }
        if over(scope.limits.process_memory_mb, 0, task.memory_mb) {
            errors.push(format!("memory_in_mb exceeds {} instance memory quota", scope.spoken()));
        }
    }
    errors.extend(scopes().filter_map(|scope| log_rate_error(scope, task.log_rate)));
    let many = |scope: &&Scope| over(scope.limits.app_tasks, scope.used.tasks, 1);
    errors.extend(scopes().filter(many).map(|_| "app_task_limit quota exceeded".to_owned()));
    errors
}

fn staging_error(scopes: &[Scope], memory_mb: Option<i64>, log_rate: i64) -> Option<String> {
    let memory = memory_mb.and_then(|memory| {
        let full = |scope: &&Scope| over(scope.limits.memory_mb, scope.used.memory_in_mb, memory);
        let scope = scopes.iter().find(full)?;
        let spoken = scope.spoken();
        Some(format!("{spoken}'s memory limit exceeded: staging requires {memory}M memory"))
    });
    memory.or_else(|| {
        let full = |scope: &&Scope| over(scope.limits.log_rate, scope.used.log_rate, log_rate);
        let spoken = scopes.iter().find(full)?.spoken();
        Some(format!(
            "{spoken}'s log rate limit exceeded: staging requires {log_rate} bytes per second"
        ))
    })
}

fn log_rate_error(scope: &Scope, rate: i64) -> Option<String> {
    if rate < 0 && scope.limits.log_rate.is_some() {
        let (spoken, name) = (scope.spoken(), &scope.name);
        return Some(format!("log_rate_limit cannot be unlimited in {spoken} '{name}'."));
    }
    let full = over(scope.limits.log_rate, scope.used.log_rate, rate);
    full.then(|| format!("log_rate_limit exceeds {} log rate quota", scope.spoken()))
}

fn over(limit: Option<i64>, used: i64, more: i64) -> bool {
    limit.is_some_and(|limit| used.saturating_add(more) > limit)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::db::quotas::Limits;
    use crate::db::usage::Usage;

    fn scopes(limits: &Limits) -> Vec<Scope> {
        [(Level::Space, "s"), (Level::Organization, "o")]
            .map(|(level, name)| Scope {
                level,
                name: name.to_owned(),
                limits: limits.clone(),
                used: Usage {
                    memory_in_mb: 50,
                    started_instances: 2,
                    log_rate: 5,
                    tasks: 1,
                    ..Usage::default()
                },
            })
            .into()
    }

    #[track_caller]
    fn check(limits: Limits, memory_mb: i64, instances: i64, log_rate: i64, want: Expect) {
        let size = Size { memory_mb, instances, log_rate };
        let change = Change { size: true, log_rate: true };
        want.assert_eq(&process_errors(&scopes(&limits), size, change).join("\n"));
    }

    #[test]
    fn every_limit_that_is_exceeded_is_told_in_cloud_foundrys_order() {
        let limits = Limits {
            memory_mb: Some(100),
            process_memory_mb: Some(30),
            instances: Some(3),
            log_rate: Some(10),
            ..Limits::default()
        };
        check(limits.clone(), 30, 1, 5, expect![[""]]);
        check(
            limits.clone(),
            31,
            2,
            6,
            expect![[r#"
                memory space_quota_exceeded
                memory quota_exceeded
                memory instance_memory_limit_exceeded
                memory space_instance_memory_limit_exceeded
                app_instance_limit app_instance_limit_exceeded
                app_instance_limit space_app_instance_limit_exceeded
                log_rate_limit exceeds space log rate quota
                log_rate_limit exceeds organization log rate quota"#]],
        );
        check(
            limits.clone(),
            1,
            1,
            -1,
            expect![[r#"
                log_rate_limit cannot be unlimited in space 's'.
                log_rate_limit cannot be unlimited in organization 'o'."#]],
        );
        check(Limits::default(), i64::MAX, i64::MAX, i64::MAX, expect![[""]]);
        check(
            Limits { memory_mb: Some(i64::MAX - 1), ..Limits::default() },
            i64::MAX,
            i64::MAX,
            0,
            expect![[r#"
                memory space_quota_exceeded
                memory quota_exceeded"#]],
        );
    }

    #[test]
    fn staging_is_told_what_it_needs() {
        let limits = Limits { memory_mb: Some(1000), log_rate: Some(10), ..Limits::default() };
        let told = |memory, rate| staging_error(&scopes(&limits), memory, rate);
        assert_eq!(told(None, -1), None);
        assert_eq!(told(Some(950), 5), None);
        let memory = "space's memory limit exceeded: staging requires 1024M memory";
        assert_eq!(told(Some(1024), 6).unwrap(), memory);
        let rate = "space's log rate limit exceeded: staging requires 6 bytes per second";
        assert_eq!(told(None, 6).unwrap(), rate);
    }
}
