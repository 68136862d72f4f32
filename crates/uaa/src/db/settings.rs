//! Single remembered values.

use sql::Connection;

pub(crate) async fn get(connection: &mut Connection, name: &str) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar("SELECT value FROM uaa_settings WHERE name = $1")
        .bind(name)
        .fetch_optional(connection)
        .await
}

pub(crate) async fn put(tx: &mut Connection, name: &str, value: &str) -> sqlx::Result<()> {
    const PUT: &str = "INSERT INTO uaa_settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    sqlx::query(PUT).bind(name).bind(value).execute(tx).await.map(drop)
}
