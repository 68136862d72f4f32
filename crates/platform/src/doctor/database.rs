//! Whether the PostgreSQL that the settings name lets the platform in, and whether the way there is safe.

use std::time::Instant;

use super::Finding;
use crate::settings::Settings;
use crate::storage::{SCHEMAS, Storage};

const NAME: &str = "database";

/// Nothing where the tables are in files.
pub async fn check(settings: &Settings) -> Option<Finding> {
    let storage = match Storage::named(settings, &settings.data) {
        Ok(storage) => storage,
        Err(error) => return Some(refused(&error)),
    };
    let database = storage.shared()?;
    let began = Instant::now();
    Some(match database.examine(&SCHEMAS).await {
        Err(error) => refused(&error.context(database.to_string())),
        Ok(found) => {
            let took = began.elapsed().as_millis();
            let detail = format!("{database}: PostgreSQL {}, answers in {took} ms", found.version);
            match found.is_encrypted || database.is_local() {
                true => Finding::ok(NAME, detail),
                false => Finding::warn(
                    NAME,
                    format!("{detail}, without TLS"),
                    "whoever is on the way reads and changes everything: add ?sslmode=verify-full&sslrootcert=FILE to its address",
                ),
            }
        }
    })
}

fn refused(error: &anyhow::Error) -> Finding {
    Finding::fail(
        NAME,
        format!("{error:#}"),
        "the platform keeps its tables there and cannot start without it",
    )
}
