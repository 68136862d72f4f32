//! Installed buildpacks. Positions count from 1 within a lifecycle, without gaps.

use base::Timestamp;
use sql::Connection;

use super::{Columns as _, Result, Row, Stored, query};

#[derive(Clone, Debug)]
pub struct Buildpack {
    pub guid: String,
    pub name: String,
    /// Empty = any stack.
    pub stack: String,
    pub lifecycle: String,
    pub state: String,
    pub filename: Option<String>,
    pub sha256: Option<String>,
    pub position: i64,
    pub enabled: bool,
    pub locked: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Stored for Buildpack {
    const TABLE: &'static str = "buildpacks";
    const COLUMNS: &'static str = "buildpacks.*";

    fn read(row: &Row) -> Result<Buildpack> {
        Ok(Buildpack {
            guid: row.text("guid")?,
            name: row.text("name")?,
            stack: row.text("stack")?,
            lifecycle: row.text("lifecycle")?,
            state: row.text("state")?,
            filename: row.maybe_text("filename")?,
            sha256: row.maybe_text("sha256")?,
            position: row.int("position")?,
            enabled: row.flag("enabled")?,
            locked: row.flag("locked")?,
            created_at: row.moment("created_at")?,
            updated_at: row.moment("updated_at")?,
        })
    }
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<Buildpack>> {
    super::find(connection, guid).await
}

/// Whether another one has the name, the stack and the lifecycle.
pub async fn is_taken(
    connection: &mut Connection,
    name: &str,
    stack: &str,
    lifecycle: &str,
    except: &str,
) -> Result<bool> {
    let text = "SELECT guid FROM buildpacks WHERE name = $1 AND stack = $2 AND lifecycle = $3 AND guid <> $4";
    let args = [name.into(), stack.into(), lifecycle.into(), except.into()];
    Ok(query(text, args).optional(connection).await?.is_some())
}

/// What a new buildpack is made of.
#[derive(Clone, Debug)]
pub struct NewBuildpack {
    pub name: String,
    pub stack: String,
    pub lifecycle: String,
    pub position: i64,
    pub enabled: bool,
    pub locked: bool,
}

/// Takes its place among the others; those at and after it make room.
pub async fn insert(
    connection: &mut Connection,
    now: Timestamp,
    new: &NewBuildpack,
) -> Result<String> {
    let columns = vec![
        ("name", (&new.name).into()),
        ("stack", (&new.stack).into()),
        ("lifecycle", (&new.lifecycle).into()),
        ("state", "AWAITING_UPLOAD".into()),
        ("position", i64::MAX.into()),
        ("enabled", new.enabled.into()),
        ("locked", new.locked.into()),
    ];
    let guid = super::insert_new(connection, now, "buildpacks", columns).await?;
    move_to(connection, &new.lifecycle, &guid, Some(new.position)).await?;
    Ok(guid)
}

/// Pure: the order after one was taken out and put in at `position` (from 1); `None` leaves it out.
pub fn reordered(mut guids: Vec<String>, guid: &str, position: Option<i64>) -> Vec<String> {
    guids.retain(|other| other != guid);
    if let Some(position) = position {
        let at = usize::try_from(position - 1).unwrap_or(0).min(guids.len());
        guids.insert(at, guid.to_owned());
    }
    guids
}

/// Puts one at a position and numbers all of the lifecycle anew; `None` for one that is going.
pub async fn move_to(
    connection: &mut Connection,
    lifecycle: &str,
    guid: &str,
    position: Option<i64>,
) -> Result<()> {
    let text = "SELECT guid, position FROM buildpacks WHERE lifecycle = $1 ORDER BY position, id";
    let rows = query(text, [lifecycle.into()]).all(connection).await?;
    let before = rows
        .iter()
        .map(|row| Ok((row.text("guid")?, row.int("position")?)))
        .collect::<Result<Vec<_>>>()?;
    let order = reordered(before.iter().map(|(guid, _)| guid.clone()).collect(), guid, position);
    for (position, guid) in (1_i64..).zip(&order) {
        if before.iter().any(|(other, old)| other == guid && *old != position) {
            super::update(connection, "buildpacks", guid, vec![("position", position.into())])
                .await?;
        }
    }
    Ok(())
}

pub async fn delete(connection: &mut Connection, buildpack: &Buildpack) -> Result<()> {
    super::metadata::remove(connection, "buildpack", &buildpack.guid).await?;
    super::delete(connection, "buildpacks", "guid", &buildpack.guid).await?;
    move_to(connection, &buildpack.lifecycle, &buildpack.guid, None).await
}

/// Whether any buildpack still has these bits.
pub async fn uses_bits(connection: &mut Connection, sha256: &str) -> Result<bool> {
    let text = "SELECT guid FROM buildpacks WHERE sha256 = $1 OR system_sha256 = $1 LIMIT 1";
    Ok(query(text, [sha256.into()]).optional(connection).await?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_make_room_and_close_gaps() {
        let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(reordered(list("a b c"), "c", Some(1)), list("c a b"));
        assert_eq!(reordered(list("a b c"), "a", Some(2)), list("b a c"));
        assert_eq!(reordered(list("a b c"), "a", Some(99)), list("b c a"));
        assert_eq!(reordered(list("a b c"), "b", None), list("a c"));
    }
}
