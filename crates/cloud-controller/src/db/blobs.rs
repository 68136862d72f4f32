//! Which blobs are needed. Content is addressed by its digest and shared, so a row that goes only makes its blob a candidate.

use std::collections::HashSet;

use base::Timestamp;
use sql::Connection;

use super::{Columns as _, Result, query};

/// A blob that may be needed no more.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub id: i64,
    /// `packages`, `droplets`, `caches`, `buildpacks`: the folder of its key.
    pub kind: String,
    pub digest: String,
}

/// Notes down every blob that an app names; to be called before its rows go.
pub async fn note_app(connection: &mut Connection, now: Timestamp, app: &str) -> Result<()> {
    for (kind, from, column, own) in [
        ("packages", "packages", "sha256", "app_guid"),
        ("droplets", "droplets", "sha256", "app_guid"),
        ("caches", "apps", "buildpack_cache", "guid"),
    ] {
        let text = format!(
            "INSERT INTO blob_candidates (kind, digest, noted_at) SELECT '{kind}', {column}, {} FROM {from} \
             WHERE {own} = $1 AND {column} IS NOT NULL",
            now.as_nanos()
        );
        query(&text, [app.into()]).run(connection).await?;
    }
    Ok(())
}

/// Notes one down; without a digest there is none.
pub async fn note(
    connection: &mut Connection,
    now: Timestamp,
    kind: &str,
    digest: Option<&str>,
) -> Result<()> {
    let Some(digest) = digest else { return Ok(()) };
    let columns = vec![("kind", kind.into()), ("digest", digest.into()), ("noted_at", now.into())];
    super::insert(connection, "blob_candidates", columns).await
}

/// What [`is_needed`] knows.
pub const KINDS: [&str; 4] = ["packages", "droplets", "caches", "buildpacks"];

/// Notes down what of `there` no row names.
pub async fn note_strays(
    connection: &mut Connection,
    now: Timestamp,
    kind: &str,
    there: Vec<String>,
) -> Result<()> {
    let named = match kind {
        "packages" => "SELECT sha256 AS digest FROM packages WHERE state <> 'EXPIRED'",
        "droplets" => "SELECT sha256 AS digest FROM droplets WHERE state <> 'EXPIRED'",
        "caches" => "SELECT buildpack_cache AS digest FROM apps",
        _ => {
            "SELECT sha256 AS digest FROM buildpacks UNION SELECT system_sha256 AS digest FROM buildpacks"
        }
    };
    let rows = query(named, []).all(connection).await?;
    let named: HashSet<String> = rows
        .iter()
        .filter_map(|row| row.maybe_text("digest").transpose())
        .collect::<Result<_>>()?;
    for digest in there.iter().filter(|digest| !named.contains(*digest)) {
        note(connection, now, kind, Some(digest)).await?;
    }
    Ok(())
}

/// The next ones to look at, oldest first.
pub async fn candidates(connection: &mut Connection) -> Result<Vec<Candidate>> {
    let text = "SELECT id, kind, digest FROM blob_candidates ORDER BY id LIMIT 500";
    let rows = query(text, []).all(connection).await?;
    let read = |row: &super::Row| {
        Ok(Candidate { id: row.int("id")?, kind: row.text("kind")?, digest: row.text("digest")? })
    };
    rows.iter().map(read).collect()
}

pub async fn is_needed(connection: &mut Connection, candidate: &Candidate) -> Result<bool> {
    let text = match candidate.kind.as_str() {
        "packages" => "SELECT guid FROM packages WHERE sha256 = $1 AND state <> 'EXPIRED' LIMIT 1",
        "droplets" => "SELECT guid FROM droplets WHERE sha256 = $1 AND state <> 'EXPIRED' LIMIT 1",
        "caches" => "SELECT guid FROM apps WHERE buildpack_cache = $1 LIMIT 1",
        "buildpacks" => {
            "SELECT guid FROM buildpacks WHERE sha256 = $1 OR system_sha256 = $1 LIMIT 1"
        }
        // What is not known is not thrown away.
        _ => return Ok(true),
    };
    Ok(query(text, [(&candidate.digest).into()]).optional(connection).await?.is_some())
}

pub async fn forget(connection: &mut Connection, candidate: &Candidate) -> Result<()> {
    let text = "DELETE FROM blob_candidates WHERE kind = $1 AND digest = $2 AND id <= $3";
    let args = [(&candidate.kind).into(), (&candidate.digest).into(), candidate.id.into()];
    query(text, args).run(connection).await.map(drop)
}

/// Old packages and droplets of an app expire: all but the newest `kept`, what it runs, and what that was made from.
pub async fn expire(
    connection: &mut Connection,
    now: Timestamp,
    app: &str,
    kept: usize,
) -> Result<()> {
    // Between two web processes of a deployment there are two droplets that run.
    let current = "SELECT droplet_guid FROM apps WHERE guid = $1 AND droplet_guid IS NOT NULL UNION \
                   SELECT r.droplet_guid FROM processes p JOIN revisions r ON r.guid = p.revision_guid \
                   WHERE p.app_guid = $1 AND r.droplet_guid IS NOT NULL";
    let made_from = format!(
        "SELECT package_guid FROM droplets WHERE guid IN ({current}) AND package_guid IS NOT NULL"
    );
    for (table, state, but) in
        [("packages", "READY", made_from.as_str()), ("droplets", "STAGED", current)]
    {
        let text = format!(
            "SELECT guid, sha256 FROM {table} WHERE app_guid = $1 AND state = '{state}' AND sha256 IS NOT NULL \
             AND guid NOT IN ({but}) ORDER BY id DESC LIMIT 1000 OFFSET {kept}"
        );
        for row in query(&text, [app.into()]).all(connection).await? {
            let set = vec![("state", "EXPIRED".into())];
            super::change(connection, now, table, &row.text("guid")?, set).await?;
            note(connection, now, table, row.maybe_text("sha256")?.as_deref()).await?;
        }
    }
    Ok(())
}
