//! Rows that are old enough to go: what happened long ago, and what ended long ago.

use base::Timestamp;
use sql::Connection;

use super::{Arg, Columns as _, Result, Sql, query};

/// Rows that go at once; the next ones have a turn of their own, so that nobody waits long for the database.
const BATCH: i64 = 1000;
/// Ended builds and deployments that an app keeps.
const KEPT_PER_APP: i64 = 100;

/// What goes from one table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub table: &'static str,
    /// The resource type under which its labels and annotations are.
    kind: Option<&'static str>,
    /// Of rows that may go; `$1` is the moment before which they must have been written.
    condition: &'static str,
}

pub const JOBS: Rule = Rule {
    table: "jobs",
    kind: None,
    condition: "updated_at < $1 AND state IN ('COMPLETE', 'FAILED')",
};
pub const AUDIT_EVENTS: Rule =
    Rule { table: "audit_events", kind: None, condition: "created_at < $1" };
/// Of what still runs the beginning stays: the next event tells what was before.
pub const APP_USAGE_EVENTS: Rule = Rule {
    table: "app_usage_events",
    kind: None,
    condition: "created_at < $1 AND (state <> 'STARTED' OR EXISTS (SELECT 1 FROM app_usage_events later WHERE \
                later.process_guid = app_usage_events.process_guid AND later.state IN ('STARTED', 'STOPPED') AND \
                later.id > app_usage_events.id))",
};
pub const SERVICE_USAGE_EVENTS: Rule =
    Rule { table: "service_usage_events", kind: None, condition: "created_at < $1" };
pub const TASKS: Rule = Rule {
    table: "tasks",
    kind: Some("task"),
    condition: "updated_at < $1 AND state IN ('SUCCEEDED', 'FAILED')",
};

/// Forgets what the rule names, as far as one turn reaches; answers whether there may be more.
pub async fn old(connection: &mut Connection, rule: Rule, before: Timestamp) -> Result<bool> {
    let text = format!(
        "SELECT guid FROM {} WHERE {} ORDER BY id LIMIT {BATCH}",
        rule.table, rule.condition
    );
    forget(connection, rule.table, rule.kind, &text, vec![before.into()]).await
}

/// Forgets builds and deployments of apps that have many, the oldest first; answers whether there may be more.
pub async fn surplus(connection: &mut Connection) -> Result<bool> {
    let mut more = false;
    for (table, kind, ended) in [
        ("builds", "build", "state IN ('STAGED', 'FAILED')"),
        ("deployments", "deployment", "status_value = 'FINALIZED'"),
    ] {
        let text = format!(
            "SELECT guid FROM (SELECT id, guid, ROW_NUMBER() OVER (PARTITION BY app_guid ORDER BY id DESC) AS newer \
             FROM {table} WHERE {ended}) counted WHERE newer > {KEPT_PER_APP} ORDER BY id LIMIT {BATCH}"
        );
        more |= forget(connection, table, Some(kind), &text, Vec::new()).await?;
    }
    Ok(more)
}

async fn forget(
    connection: &mut Connection,
    table: &str,
    kind: Option<&str>,
    choice: &str,
    args: Vec<Arg>,
) -> Result<bool> {
    let rows = query(choice, args).all(connection).await?;
    let guids: Vec<String> = rows.iter().map(|row| row.text("guid")).collect::<Result<_>>()?;
    if guids.is_empty() {
        return Ok(false);
    }
    let mut places = vec![(table, "guid")];
    if table == "deployments" {
        places.push(("deployment_processes", "deployment_guid"));
    }
    for (table, column) in places {
        let mut sql = Sql::default();
        let list = sql.list(&guids);
        sql.push(&format!("DELETE FROM {table} WHERE {column} IN ({list})"));
        sql.run(connection).await?;
    }
    for table in kind.iter().flat_map(|_| ["labels", "annotations"]) {
        let mut sql = Sql::default();
        let kind = sql.arg(kind);
        let list = sql.list(&guids);
        sql.push(&format!(
            "DELETE FROM {table} WHERE resource_type = {kind} AND resource_guid IN ({list})"
        ));
        sql.run(connection).await?;
    }
    Ok(i64::try_from(guids.len()).is_ok_and(|count| count >= BATCH))
}
