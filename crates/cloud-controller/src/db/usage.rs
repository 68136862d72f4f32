//! What a space or an organization uses of what its quota grants.

use serde_json::{Value, json};
use sql::Connection;

use super::{Columns as _, Result, query};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub started_instances: i64,
    pub memory_in_mb: i64,
    /// Bytes per second of those with a limit.
    pub log_rate: i64,
    pub routes: i64,
    pub reserved_ports: i64,
    /// Owned by the organization; 0 for a space.
    pub domains: i64,
    pub tasks: i64,
    pub service_instances: i64,
    pub service_keys: i64,
}

impl Usage {
    pub fn to_json(&self) -> Value {
        json!({
            "started_instances": self.started_instances,
            "memory_in_mb": self.memory_in_mb,
            "routes": self.routes,
            "service_instances": self.service_instances,
            "reserved_ports": self.reserved_ports,
            "per_app_tasks": self.tasks,
            "service_keys": self.service_keys,
        })
    }
}

pub async fn of_space(connection: &mut Connection, guid: &str) -> Result<Usage> {
    read(connection, "s.guid = $1", guid, "").await
}

pub async fn of_org(connection: &mut Connection, guid: &str) -> Result<Usage> {
    let usage = of_org_without(connection, guid, "").await?;
    let row = query("SELECT COUNT(*) AS domains FROM domains WHERE org_guid = $1", [guid.into()])
        .one(connection)
        .await?;
    Ok(Usage { domains: row.int("domains")?, ..usage })
}

/// What is used beside a process, which may be changing; an empty guid leaves none out.
pub async fn of_space_without(
    connection: &mut Connection,
    guid: &str,
    process: &str,
) -> Result<Usage> {
    read(connection, "s.guid = $1", guid, process).await
}

/// As [`of_space_without`]; domains are not counted.
pub async fn of_org_without(
    connection: &mut Connection,
    guid: &str,
    process: &str,
) -> Result<Usage> {
    read(connection, "s.org_guid = $1", guid, process).await
}

/// One query; `spaces` is the condition on the spaces that count. Products may be larger than any column can hold.
async fn read(
    connection: &mut Connection,
    spaces: &str,
    guid: &str,
    without: &str,
) -> Result<Usage> {
    let processes = format!(
        "FROM processes p JOIN apps a ON a.guid = p.app_guid JOIN spaces s ON s.guid = a.space_guid \
         WHERE a.state = 'STARTED' AND p.guid <> $2 AND {spaces}"
    );
    let tasks = format!(
        "FROM tasks t JOIN apps a ON a.guid = t.app_guid JOIN spaces s ON s.guid = a.space_guid WHERE t.state IN ('PENDING', 'RUNNING') AND {spaces}"
    );
    let routes = format!("FROM routes r JOIN spaces s ON s.guid = r.space_guid WHERE {spaces}");
    let instances =
        format!("FROM service_instances i JOIN spaces s ON s.guid = i.space_guid WHERE {spaces}");
    let sum = |number: &str| format!("CAST(COALESCE(SUM({number}), 0) AS DOUBLE PRECISION)");
    let of_process = |each: &str| sum(&format!("CAST(p.instances AS DOUBLE PRECISION) * p.{each}"));
    let of_task = |each: &str| sum(&format!("CAST(t.{each} AS DOUBLE PRECISION)"));
    let text = format!(
        "SELECT (SELECT CAST(COALESCE(SUM(p.instances), 0) AS BIGINT) {processes}) AS started_instances, \
         (SELECT {} {processes}) AS app_memory, \
         (SELECT {} {tasks}) AS task_memory, \
         (SELECT {} {processes} AND p.log_rate > 0) AS app_log_rate, \
         (SELECT {} {tasks} AND t.log_rate > 0) AS task_log_rate, \
         (SELECT COUNT(*) {tasks}) AS tasks, \
         (SELECT COUNT(*) {routes}) AS routes, \
         (SELECT COUNT(*) {routes} AND r.port > 0) AS reserved_ports, \
         (SELECT COUNT(*) {instances} AND i.type = 'managed') AS service_instances, \
         (SELECT COUNT(*) FROM service_credential_bindings b JOIN service_instances i ON i.guid = b.service_instance_guid \
         JOIN spaces s ON s.guid = i.space_guid WHERE b.type = 'key' AND {spaces}) AS service_keys",
        of_process("memory_mb"),
        of_task("memory_mb"),
        of_process("log_rate"),
        of_task("log_rate"),
    );
    let row = query(&text, [guid.into(), without.into()]).one(connection).await?;
    Ok(Usage {
        started_instances: row.int("started_instances")?,
        memory_in_mb: row.sum("app_memory")?.saturating_add(row.sum("task_memory")?),
        log_rate: row.sum("app_log_rate")?.saturating_add(row.sum("task_log_rate")?),
        routes: row.int("routes")?,
        reserved_ports: row.int("reserved_ports")?,
        domains: 0,
        tasks: row.int("tasks")?,
        service_instances: row.int("service_instances")?,
        service_keys: row.int("service_keys")?,
    })
}
