//! What must be there before the first request: stacks, buildpacks, a quota, domains, a router group, security groups.

use base::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sql::Connection;

use crate::Cc;
use crate::blobstore;
use crate::db::{self, Columns as _, query};

/// The quota of organizations that have no other. Its name is Cloud Foundry's.
pub const DEFAULT_QUOTA: &str = "default";

/// Fills in what was never there and changes nothing that somebody set: what was deleted or renamed since stays so.
pub async fn run(cc: &Cc) -> anyhow::Result<()> {
    store_buildpacks(cc).await?;
    let now = cc.now();
    let mut tx = cc.db.begin().await?;
    for stack in &cc.config.stacks {
        let columns =
            vec![("name", (&stack.name).into()), ("description", (&stack.description).into())];
        once(&mut tx, now, "stacks", &stack.name, columns).await?;
    }
    for domain in &cc.config.app_domains {
        once(&mut tx, now, "domains", domain, vec![("name", domain.into())]).await?;
    }
    if let Some(ports) = &cc.config.tcp_ports {
        db::router_groups::configure(&mut tx, now, ports).await?;
    }
    let quota = vec![
        ("name", DEFAULT_QUOTA.into()),
        ("total_memory_in_mb", 102_400_i64.into()),
        ("total_routes", 1000_i64.into()),
    ];
    once(&mut tx, now, "organization_quotas", DEFAULT_QUOTA, quota).await?;
    for (name, rules) in security_groups(&cc.config.dns_servers) {
        let columns = vec![
            ("name", name.into()),
            ("rules", (&rules).into()),
            ("running_default", true.into()),
            ("staging_default", true.into()),
        ];
        once(&mut tx, now, "security_groups", name, columns).await?;
    }
    db::isolation_segments::ensure_shared(&mut tx, now).await?;
    register_buildpacks(cc, &mut tx, now).await?;
    tx.commit().await?;
    Ok(())
}

/// Makes a row of a table unless one of that name is there, or was made before.
async fn once(
    connection: &mut Connection,
    now: Timestamp,
    table: &str,
    name: &str,
    columns: Vec<(&str, db::Arg)>,
) -> db::Result<()> {
    let find = format!("SELECT guid FROM {table} WHERE name = $1");
    let is_there = query(&find, [name.into()]).optional(connection).await?.is_some();
    if !is_first(connection, table, name).await? || is_there {
        return Ok(());
    }
    db::insert_new(connection, now, table, columns).await.map(drop)
}

/// Whether this name is seen for the first time; from now on it is not.
async fn is_first(connection: &mut Connection, kind: &str, name: &str) -> db::Result<bool> {
    let find = "SELECT name FROM seeded WHERE kind = $1 AND name = $2";
    if query(find, [kind.into(), name.into()]).optional(connection).await?.is_some() {
        return Ok(false);
    }
    db::insert(connection, "seeded", vec![("kind", kind.into()), ("name", name.into())]).await?;
    Ok(true)
}

/// Public addresses, and name service; private ones stay closed.
fn security_groups(dns: &[String]) -> [(&'static str, Value); 2] {
    let public = [
        "0.0.0.0-9.255.255.255",
        "11.0.0.0-169.253.255.255",
        "169.255.0.0-172.15.255.255",
        "172.32.0.0-192.167.255.255",
        "192.169.0.0-255.255.255.255",
    ];
    let networks =
        public.iter().map(|range| json!({ "protocol": "all", "destination": range })).collect();
    let servers = if dns.is_empty() { vec!["0.0.0.0/0".to_owned()] } else { dns.to_vec() };
    let names = servers.iter().flat_map(|server| {
        ["tcp", "udp"]
            .map(|protocol| json!({ "protocol": protocol, "destination": server, "ports": "53" }))
    });
    [("public_networks", networks), ("dns", names.collect())]
}

async fn store_buildpacks(cc: &Cc) -> anyhow::Result<()> {
    for buildpack in &cc.config.buildpacks {
        let key = blobstore::key("buildpacks", &hex(&Sha256::digest(&buildpack.zip)));
        cc.blobs.put(&key, buildpack.zip.clone()).await?;
    }
    Ok(())
}

/// A newer program brings newer buildpacks; those an operator replaced, locked or deleted stay so.
async fn register_buildpacks(
    cc: &Cc,
    connection: &mut Connection,
    now: Timestamp,
) -> db::Result<()> {
    for (position, buildpack) in (1_i64..).zip(&cc.config.buildpacks) {
        let digest = hex(&Sha256::digest(&buildpack.zip));
        let find = "SELECT guid, sha256, system_sha256, locked FROM buildpacks WHERE name = $1 AND stack = '' AND lifecycle = 'buildpack'";
        let contents = vec![
            ("sha256", (&digest).into()),
            ("system_sha256", (&digest).into()),
            ("filename", (&buildpack.filename).into()),
            ("state", "READY".into()),
        ];
        let first = is_first(connection, "buildpacks", &buildpack.name).await?;
        let Some(row) = query(find, [(&buildpack.name).into()]).optional(connection).await? else {
            if !first {
                continue;
            }
            let rest = vec![("name", (&buildpack.name).into()), ("position", position.into())];
            let columns = contents.into_iter().chain(rest).collect();
            db::insert_new(connection, now, "buildpacks", columns).await?;
            continue;
        };
        let ours = row.maybe_text("sha256")? == row.maybe_text("system_sha256")?;
        if ours && !row.flag("locked")? && row.maybe_text("sha256")?.as_deref() != Some(&digest) {
            db::change(connection, now, "buildpacks", &row.text("guid")?, contents).await?;
        }
    }
    Ok(())
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
