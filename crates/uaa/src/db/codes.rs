//! One-time codes; only their digests are kept.

use base::Timestamp;
use sha2::{Digest as _, Sha256};
use sql::Connection;

use crate::jti::hex;

pub(crate) struct Code {
    pub kind: &'static str,
    pub user_guid: String,
    pub client_id: String,
    pub details: String,
    pub expires_at: Timestamp,
}

pub(crate) async fn insert(
    tx: &mut Connection,
    text: &str,
    code: &Code,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM uaa_codes WHERE expires_at <= $1")
        .bind(now.as_nanos())
        .execute(&mut *tx)
        .await?;
    const INSERT: &str = "INSERT INTO uaa_codes (digest, kind, user_guid, client_id, details, expires_at) VALUES ($1, $2, $3, $4, $5, $6)";
    let query = sqlx::query(INSERT).bind(digest(text)).bind(code.kind).bind(code.user_guid.clone());
    let query = query
        .bind(code.client_id.clone())
        .bind(code.details.clone())
        .bind(code.expires_at.as_nanos());
    query.execute(tx).await.map(drop)
}

/// A user has one passcode: the newest.
pub(crate) async fn delete_of_user(
    tx: &mut Connection,
    kind: &str,
    user_guid: &str,
) -> sqlx::Result<()> {
    const DELETE: &str = "DELETE FROM uaa_codes WHERE kind = $1 AND user_guid = $2";
    sqlx::query(DELETE).bind(kind).bind(user_guid).execute(tx).await.map(drop)
}

/// Gives the code's user, client and details to the first who asks, and to nobody after.
pub(crate) async fn take(
    tx: &mut Connection,
    kind: &str,
    text: &str,
    now: Timestamp,
) -> sqlx::Result<Option<(String, String, String)>> {
    const FIND: &str = "SELECT user_guid, client_id, details FROM uaa_codes WHERE digest = $1 AND kind = $2 AND expires_at > $3";
    let digest = digest(text);
    let query = sqlx::query_as(FIND).bind(digest.clone()).bind(kind).bind(now.as_nanos());
    let found: Option<(String, String, String)> = query.fetch_optional(&mut *tx).await?;
    let gone = sqlx::query("DELETE FROM uaa_codes WHERE digest = $1 AND kind = $2")
        .bind(digest)
        .bind(kind)
        .execute(tx)
        .await?;
    Ok(found.filter(|_| gone.rows_affected() == 1))
}

fn digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}
