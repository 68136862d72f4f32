//! Where the platform's tables are: in files of the data directory, or in one PostgreSQL that several machines share.

use anyhow::{Context as _, ensure};
use sql::{Db, Postgres};

use crate::data_dir::{self, DataDir};
use crate::settings::Settings;

pub enum Storage {
    Files,
    /// Each owner has a schema of its own.
    Shared(Postgres),
}

impl Storage {
    /// A data directory stays with the storage it began with, so that nobody finds an empty platform by leaving out a
    /// setting.
    pub fn of(settings: &Settings, data: &DataDir) -> anyhow::Result<Storage> {
        let kept = match std::fs::read_to_string(data.file(data_dir::DATABASE)) {
            Ok(text) => Some(Postgres::parse(text.trim()).with_context(|| {
                format!("the address in {}", data.file(data_dir::DATABASE).display())
            })?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).context("reading the database's address"),
        };
        let Some(database) = settings.database.clone().or(kept.clone()) else {
            return Ok(Storage::Files);
        };
        ensure!(
            kept.is_some() || !data.file("cloud_controller.db").exists(),
            "database: the data directory {} holds a platform with its own database files, which are not moved to \
             PostgreSQL: leave the setting out, or begin a new platform with another --data",
            data.file("").display()
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
