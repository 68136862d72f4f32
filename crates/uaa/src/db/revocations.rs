//! Tokens that ended before their time.

use sql::Connection;
use sqlx::AssertSqlSafe;

use crate::tokens::Revocation;

type Row = (String, i64, i64);

pub(crate) async fn list(connection: &mut Connection) -> sqlx::Result<Vec<(String, Revocation)>> {
    let rows: Vec<Row> = sqlx::query_as("SELECT id, before, until FROM uaa_revocations")
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(read).collect())
}

pub(crate) async fn find(
    connection: &mut Connection,
    ids: &[String],
) -> sqlx::Result<Vec<(String, Revocation)>> {
    let text = format!(
        "SELECT id, before, until FROM uaa_revocations WHERE id IN ({})",
        sql::placeholders(1, ids.len())
    );
    let query =
        ids.iter().fold(sqlx::query_as(AssertSqlSafe(text)), |query, id| query.bind(id.clone()));
    let rows: Vec<Row> = query.fetch_all(connection).await?;
    Ok(rows.into_iter().map(read).collect())
}

pub(crate) async fn put(tx: &mut Connection, id: &str, revocation: Revocation) -> sqlx::Result<()> {
    const PUT: &str = "INSERT INTO uaa_revocations (id, before, until) VALUES ($1, $2, $3) \
                       ON CONFLICT (id) DO UPDATE SET before = excluded.before, until = excluded.until";
    sqlx::query(PUT)
        .bind(id)
        .bind(revocation.before)
        .bind(revocation.until)
        .execute(tx)
        .await
        .map(drop)
}

pub(crate) async fn forget_expired(tx: &mut Connection, now_secs: i64) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM uaa_revocations WHERE until <= $1")
        .bind(now_secs)
        .execute(tx)
        .await
        .map(drop)
}

fn read((id, before, until): Row) -> (String, Revocation) {
    (id, Revocation { before, until })
}
