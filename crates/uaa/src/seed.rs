//! Filling an empty database, and following the configuration at later starts.

use base::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::config::{ClientConfig, Config};
use crate::db;
use crate::db::clients::Client;
use crate::db::groups::Member;
use crate::defaults;
use crate::jti::hex;
use crate::password::Passwords;
use crate::scim;
use crate::scim::user::OWN_ORIGIN;

/// The setting that says which clients were last written.
const CLIENTS: &str = "clients";

pub(crate) async fn seed(
    db: &sql::Db,
    config: &Config,
    passwords: &Passwords,
    now: Timestamp,
) -> anyhow::Result<()> {
    clients(db, config, passwords, now).await?;
    groups(db, now).await?;
    administrator(db, config, passwords, now).await
}

/// The built-in clients with the configured ones in their place.
fn wanted(config: &Config) -> Vec<ClientConfig> {
    let mut wanted = defaults::clients(config.issuer());
    for client in &config.clients {
        match wanted.iter_mut().find(|known| known.client_id == client.client_id) {
            Some(known) => *known = overlaid(known, client),
            None => wanted.push(client.clone()),
        }
    }
    wanted
}

/// A configured client that only says its secret keeps the built-in rights.
fn overlaid(known: &ClientConfig, client: &ClientConfig) -> ClientConfig {
    let says_rights = !client.authorized_grant_types.is_empty();
    let base = if says_rights { client } else { known };
    ClientConfig { secret: client.secret.clone(), ..base.clone() }
}

/// Written only when something changed since the last start: hashing secrets takes time. Clients that others made stay.
async fn clients(
    db: &sql::Db,
    config: &Config,
    passwords: &Passwords,
    now: Timestamp,
) -> anyhow::Result<()> {
    let wanted = wanted(config);
    let described: Vec<Value> =
        wanted.iter().map(|client| json!([details(client), client.secret])).collect();
    let mut digest = Sha256::new();
    digest.update(&config.encryption_key);
    digest.update(serde_json::to_vec(&described)?);
    let fingerprint = hex(&digest.finalize());
    if db::settings::get(&mut *db.read().await?, CLIENTS).await?.as_ref() == Some(&fingerprint) {
        return Ok(());
    }
    let mut ready = Vec::new();
    for client in &wanted {
        let secret_hash = passwords.hash_secret(client.secret.as_deref()).await?;
        ready.push(Client { secret_hash, ..details(client) });
    }
    let mut tx = db.begin().await?;
    for client in &ready {
        match db::clients::find(&mut tx, &client.client_id).await? {
            Some(_) => db::clients::update(&mut tx, client, now).await?,
            None => db::clients::insert(&mut tx, client, now).await?,
        }
    }
    db::settings::put(&mut tx, CLIENTS, &fingerprint).await?;
    tx.commit().await?;
    Ok(())
}

pub(crate) fn details(client: &ClientConfig) -> Client {
    Client {
        client_id: client.client_id.clone(),
        scope: client.scope.clone(),
        authorities: client.authorities.clone(),
        authorized_grant_types: client.authorized_grant_types.clone(),
        redirect_uri: client.redirect_uri.clone(),
        autoapprove: if client.autoapprove { json!(true) } else { json!([]) },
        access_token_validity: client.access_token_seconds,
        refresh_token_validity: client.refresh_token_seconds,
        ..Client::default()
    }
}

async fn groups(db: &sql::Db, now: Timestamp) -> anyhow::Result<()> {
    let mut tx = db.begin().await?;
    let names =
        defaults::USER_GROUPS.iter().chain(defaults::ADMIN_GROUPS).chain(defaults::OTHER_GROUPS);
    for name in names {
        if db::groups::find_by_name(&mut tx, name).await?.is_none() {
            let group = scim::group::new(name, "", now).expect("built-in names are valid");
            db::groups::insert(&mut tx, &group).await?;
        }
    }
    tx.commit().await?;
    Ok(())
}

async fn administrator(
    db: &sql::Db,
    config: &Config,
    passwords: &Passwords,
    now: Timestamp,
) -> anyhow::Result<()> {
    if db::users::find_by_name(&mut *db.read().await?, &config.admin_user, OWN_ORIGIN)
        .await?
        .is_some()
    {
        return Ok(());
    }
    let message = json!({ "userName": config.admin_user, "emails": [{ "value": config.admin_user }], "verified": true });
    let message: scim::user::Message = serde_json::from_value(message)?;
    let hash = passwords.hash(&config.admin_password).await?;
    let account = message
        .create(hash, now)
        .map_err(|error| anyhow::anyhow!("the administrator: {}", error.description))?;
    let mut tx = db.begin().await?;
    db::users::insert(&mut tx, &account).await?;
    for name in defaults::ADMIN_GROUPS {
        if let Some(group) = db::groups::find_by_name(&mut tx, name).await? {
            let member = Member {
                guid: account.guid.clone(),
                kind: "USER".to_owned(),
                origin: OWN_ORIGIN.to_owned(),
            };
            db::groups::add_member(&mut tx, &group.guid, &member).await?;
        }
    }
    tx.commit().await?;
    Ok(())
}
