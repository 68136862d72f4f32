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
    read(connection, "s.guid = $1", guid).await
}

pub async fn of_org(connection: &mut Connection, guid: &str) -> Result<Usage> {
    let usage = read(connection, "s.org_guid = $1", guid).await?;
    let row = query("SELECT COUNT(*) AS domains FROM domains WHERE org_guid = $1", [guid.into()])
        .one(connection)
        .await?;
    Ok(Usage { domains: row.int("domains")?, ..usage })
}

/// One query; `spaces` is the condition on the spaces that count.
async fn read(connection: &mut Connection, spaces: &str, guid: &str) -> Result<Usage> {
    let processes = format!(
        "FROM processes p JOIN apps a ON a.guid = p.app_guid JOIN spaces s ON s.guid = a.space_guid WHERE a.state = 'STARTED' AND {spaces}"
    );
    let tasks = format!(
        "FROM tasks t JOIN apps a ON a.guid = t.app_guid JOIN spaces s ON s.guid = a.space_guid WHERE t.state IN ('PENDING', 'RUNNING') AND {spaces}"
    );
    let routes = format!("FROM routes r JOIN spaces s ON s.guid = r.space_guid WHERE {spaces}");
    let instances =
        format!("FROM service_instances i JOIN spaces s ON s.guid = i.space_guid WHERE {spaces}");
    let text = format!(
        "SELECT (SELECT CAST(COALESCE(SUM(p.instances), 0) AS BIGINT) {processes}) AS started_instances, \
         (SELECT CAST(COALESCE(SUM(p.instances * p.memory_mb), 0) AS BIGINT) {processes}) AS app_memory, \
         (SELECT CAST(COALESCE(SUM(t.memory_mb), 0) AS BIGINT) {tasks}) AS task_memory, \
         (SELECT CAST(COALESCE(SUM(p.instances * p.log_rate), 0) AS BIGINT) {processes} AND p.log_rate > 0) AS log_rate, \
         (SELECT COUNT(*) {tasks}) AS tasks, \
         (SELECT COUNT(*) {routes}) AS routes, \
         (SELECT COUNT(*) {routes} AND r.port > 0) AS reserved_ports, \
         (SELECT COUNT(*) {instances} AND i.type = 'managed') AS service_instances, \
         (SELECT COUNT(*) FROM service_credential_bindings b JOIN service_instances i ON i.guid = b.service_instance_guid \
         JOIN spaces s ON s.guid = i.space_guid WHERE b.type = 'key' AND {spaces}) AS service_keys"
    );
    let row = query(&text, [guid.into()]).one(connection).await?;
    Ok(Usage {
        started_instances: row.int("started_instances")?,
        memory_in_mb: row.int("app_memory")? + row.int("task_memory")?,
        log_rate: row.int("log_rate")?,
        routes: row.int("routes")?,
        reserved_ports: row.int("reserved_ports")?,
        domains: 0,
        tasks: row.int("tasks")?,
        service_instances: row.int("service_instances")?,
        service_keys: row.int("service_keys")?,
    })
}
