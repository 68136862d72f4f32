//! Files that clients need not send again: which are kept, how large they are, and when they were last of use.

use std::collections::HashMap;

use base::Timestamp;
use sql::Connection;

use super::{Columns as _, Result, Sql, query};

/// Of those digests that are kept, how many bytes each has.
pub async fn sizes(
    connection: &mut Connection,
    digests: &[String],
) -> Result<HashMap<String, u64>> {
    let mut found = HashMap::new();
    // Engines limit how many values one statement takes.
    for part in digests.chunks(5000) {
        let mut sql = Sql::default();
        let list = sql.list(part);
        sql.push(&format!("SELECT sha1, bytes FROM resources WHERE sha1 IN ({list})"));
        for row in sql.all(connection).await? {
            let bytes = u64::try_from(row.int("bytes")?).unwrap_or(0);
            found.insert(row.text("sha1")?, bytes);
        }
    }
    Ok(found)
}

/// Notes that a file is kept, or is of use again.
pub async fn keep(
    connection: &mut Connection,
    now: Timestamp,
    sha1: &str,
    bytes: u64,
) -> Result<()> {
    let text = "INSERT INTO resources (sha1, bytes, used_at) VALUES ($1, $2, $3) \
                ON CONFLICT (sha1) DO UPDATE SET used_at = excluded.used_at";
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    query(text, [sha1.into(), bytes.into(), now.into()]).run(connection).await.map(drop)
}

/// Notes that these are of use.
pub async fn used(connection: &mut Connection, now: Timestamp, digests: &[String]) -> Result<()> {
    for part in digests.chunks(5000) {
        let mut sql = Sql::default();
        let now = sql.arg(now);
        let list = sql.list(part);
        sql.push(&format!("UPDATE resources SET used_at = {now} WHERE sha1 IN ({list})"));
        sql.run(connection).await?;
    }
    Ok(())
}

/// What has to go so that no more than `most` bytes are kept: the longest unused first, and none used after `young`.
pub async fn surplus(
    connection: &mut Connection,
    most: u64,
    young: Timestamp,
) -> Result<Vec<String>> {
    let text = "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS total FROM resources";
    let total = query(text, []).one(connection).await?.int("total")?;
    let mut over = total.saturating_sub(i64::try_from(most).unwrap_or(i64::MAX));
    let mut gone = Vec::new();
    if over <= 0 {
        return Ok(gone);
    }
    let text = "SELECT sha1, bytes FROM resources WHERE used_at < $1 ORDER BY used_at LIMIT 1000";
    for row in query(text, [young.into()]).all(connection).await? {
        if over <= 0 {
            break;
        }
        over -= row.int("bytes")?;
        gone.push(row.text("sha1")?);
    }
    Ok(gone)
}
