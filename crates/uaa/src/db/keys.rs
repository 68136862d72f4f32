//! Sealed signing keys, the newest last.

use base::Timestamp;
use sql::Connection;

pub(crate) async fn list(connection: &mut Connection) -> sqlx::Result<Vec<(String, String)>> {
    sqlx::query_as("SELECT kid, sealed FROM uaa_keys ORDER BY slot").fetch_all(connection).await
}

/// Changes nothing when somebody else was first.
pub(crate) async fn insert_first(
    tx: &mut Connection,
    kid: &str,
    sealed: &str,
    now: Timestamp,
) -> sqlx::Result<()> {
    const INSERT: &str = "INSERT INTO uaa_keys (slot, kid, sealed, created_at) VALUES (1, $1, $2, $3) ON CONFLICT DO NOTHING";
    sqlx::query(INSERT).bind(kid).bind(sealed).bind(now.as_nanos()).execute(tx).await.map(drop)
}
