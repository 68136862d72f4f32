//! OAuth clients.

use base::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sql::Connection;
use sqlx::AssertSqlSafe;

/// A client as it is stored and shown; its secret is kept apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Client {
    pub client_id: String,
    #[serde(default)]
    pub scope: Vec<String>,
    #[serde(default)]
    pub authorities: Vec<String>,
    #[serde(default)]
    pub authorized_grant_types: Vec<String>,
    #[serde(default)]
    pub redirect_uri: Vec<String>,
    /// `true` or a list of scopes.
    #[serde(default)]
    pub autoapprove: Value,
    #[serde(default)]
    pub resource_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token_validity: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token_validity: Option<i64>,
    /// Names, descriptions and what else its makers attach.
    #[serde(flatten)]
    pub more: Map<String, Value>,
    #[serde(skip)]
    pub secret_hash: String,
    #[serde(skip)]
    pub second_hash: String,
    #[serde(skip)]
    pub updated_at: Timestamp,
}

impl Client {
    pub(crate) fn may(&self, grant: &str) -> bool {
        self.authorized_grant_types.iter().any(|granted| granted == grant)
    }

    pub(crate) fn approves(&self, scope: &str) -> bool {
        match &self.autoapprove {
            Value::Bool(all) => *all,
            Value::Array(scopes) => {
                scopes.iter().any(|approved| approved == scope || approved == "true")
            }
            _ => false,
        }
    }
}

type Row = (String, String, String, i64);

const COLUMNS: &str = "details, secret_hash, second_hash, updated_at";

pub(crate) async fn find(
    connection: &mut Connection,
    client_id: &str,
) -> anyhow::Result<Option<Client>> {
    let text = format!("SELECT {COLUMNS} FROM uaa_clients WHERE client_id = $1");
    let row: Option<Row> = sqlx::query_as(AssertSqlSafe(text))
        .bind(client_id.to_owned())
        .fetch_optional(connection)
        .await?;
    row.map(read).transpose()
}

/// In the order of their ids, at most `most`.
pub(crate) async fn list(connection: &mut Connection, most: i64) -> anyhow::Result<Vec<Client>> {
    let text = format!("SELECT {COLUMNS} FROM uaa_clients ORDER BY client_id LIMIT {most}");
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(text)).fetch_all(connection).await?;
    rows.into_iter().map(read).collect()
}

pub(crate) async fn existing(
    connection: &mut Connection,
    ids: &[String],
) -> sqlx::Result<Vec<String>> {
    let mut found = Vec::new();
    for chunk in ids.chunks(500) {
        let text = format!(
            "SELECT client_id FROM uaa_clients WHERE client_id IN ({})",
            sql::placeholders(1, chunk.len())
        );
        let query = chunk
            .iter()
            .fold(sqlx::query_scalar(AssertSqlSafe(text)), |query, id| query.bind(id.clone()));
        found.extend(query.fetch_all(&mut *connection).await?);
    }
    Ok(found)
}

/// Fails with a taken key when there is such a client.
pub(crate) async fn insert(
    tx: &mut Connection,
    client: &Client,
    now: Timestamp,
) -> anyhow::Result<()> {
    const INSERT: &str = "INSERT INTO uaa_clients (client_id, details, secret_hash, second_hash, updated_at) VALUES ($1, $2, $3, $4, $5)";
    let query =
        sqlx::query(INSERT).bind(client.client_id.clone()).bind(serde_json::to_string(client)?);
    let query = query
        .bind(client.secret_hash.clone())
        .bind(client.second_hash.clone())
        .bind(now.as_nanos());
    query.execute(tx).await?;
    Ok(())
}

pub(crate) async fn update(
    tx: &mut Connection,
    client: &Client,
    now: Timestamp,
) -> anyhow::Result<()> {
    const UPDATE: &str = "UPDATE uaa_clients SET details = $1, secret_hash = $2, second_hash = $3, updated_at = $4 WHERE client_id = $5";
    let query =
        sqlx::query(UPDATE).bind(serde_json::to_string(client)?).bind(client.secret_hash.clone());
    let query =
        query.bind(client.second_hash.clone()).bind(now.as_nanos()).bind(client.client_id.clone());
    query.execute(tx).await?;
    Ok(())
}

pub(crate) async fn delete(tx: &mut Connection, client_id: &str) -> sqlx::Result<()> {
    for statement in [
        "DELETE FROM uaa_codes WHERE client_id = $1",
        "DELETE FROM uaa_clients WHERE client_id = $1",
    ] {
        sqlx::query(statement).bind(client_id).execute(&mut *tx).await?;
    }
    Ok(())
}

fn read((details, secret_hash, second_hash, updated_at): Row) -> anyhow::Result<Client> {
    let client: Client = serde_json::from_str(&details)?;
    Ok(Client { secret_hash, second_hash, updated_at: Timestamp::from_nanos(updated_at), ..client })
}
