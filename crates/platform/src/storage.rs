//! Where the platform's tables are: in files of the data directory, or in one PostgreSQL that several machines share.

use std::path::Path;

use anyhow::{Context as _, ensure};
use sql::{Db, Postgres};

use crate::data_dir::{self, DataDir};
use crate::settings::Settings;

/// The owners of tables in a shared database.
pub const SCHEMAS: [&str; 4] = ["cloud_controller", "uaa", "bbs", "cluster"];

pub enum Storage {
    Files,
    /// Each owner has a schema of its own.
    Shared(Postgres),
}

impl Storage {
    /// A data directory stays with the storage it began with, so that nobody finds an empty platform by leaving out a
    /// setting.
    pub fn of(settings: &Settings, data: &DataDir) -> anyhow::Result<Storage> {
        Storage::named(settings, &data.file(""))
    }

    /// As the settings, or else the data directory at `path`, name it.
    pub fn named(settings: &Settings, path: &Path) -> anyhow::Result<Storage> {
        let file = path.join(data_dir::DATABASE);
        let kept = match std::fs::read_to_string(&file) {
            Ok(text) => Some(
                Postgres::parse(text.trim())
                    .with_context(|| format!("the address in {}", file.display()))?,
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
        };
        let Some(database) = settings.database.clone().or(kept.clone()) else {
            return Ok(Storage::Files);
        };
        ensure!(
            kept.is_some() || !path.join("cloud_controller.db").exists(),
            "database: the data directory {} holds a platform with its own database files, which are not moved to \
             PostgreSQL: leave the setting out, or begin a new platform with another --data",
            path.display()
        );
        Ok(Storage::Shared(database))
    }

    /// Once it has proved good.
    pub fn remember(&self, data: &DataDir) -> anyhow::Result<()> {
        match self {
            Storage::Files => Ok(()),
            Storage::Shared(database) => data.keep(data_dir::DATABASE, database.expose()),
        }
    }

    pub fn shared(&self) -> Option<&Postgres> {
        match self {
            Storage::Files => None,
            Storage::Shared(database) => Some(database),
        }
    }

    /// The tables of `owner`.
    pub async fn open(&self, data: &DataDir, owner: &'static str) -> anyhow::Result<Db> {
        match self {
            Storage::Files => Db::open_file(&data.file(&format!("{owner}.db"))).await,
            Storage::Shared(database) => database.schema(owner).await,
        }
    }
}
