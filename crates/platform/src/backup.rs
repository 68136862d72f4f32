//! `cupola backup` and `cupola restore`: all that cannot be made again of a data directory, as one file.
//!
//! The file is a tar compressed with zstd. First comes the mark (`version`), then what the platform made for itself, the
//! databases, and the blobs. Containers, caches and logs stay behind: the first two are made again from the rest.

mod archive;
mod contents;

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Args;
use sql::Db;

use crate::data_dir::{self, DataDir, format};
use crate::print::megabytes;
use crate::settings::DataArgs;
use archive::Writer;
use contents::{Blobs, DATABASES, FILES, Workplace};

#[derive(Args)]
pub struct BackupArgs {
    /// The file to make; it holds every secret of the platform
    file: PathBuf,
    #[command(flatten)]
    data: DataArgs,
}

#[derive(Args)]
pub struct RestoreArgs {
    /// A file that cupola backup made
    file: PathBuf,
    #[command(flatten)]
    data: DataArgs,
}

pub fn main(args: BackupArgs) -> anyhow::Result<()> {
    let data = args.data.resolve()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    ensure!(
        data.join("secret").exists(),
        "there is no data directory {} that this user can read: name another with --data",
        data.display()
    );
    let mark = format::check(&data)?.unwrap_or_else(format::Mark::own);
    ensure!(!args.file.exists(), "{} is there already: name a new file", args.file.display());
    let mut writer = Writer::create(&args.file)?;
    // Blobs are never changed. Those of before and those of after the databases' moment are together at least what the
    // databases speak of, whatever is pushed and deleted meanwhile.
    let workplace = Workplace::make(&data)?;
    let blobs = Blobs::hold(&data, &workplace)?;
    for name in DATABASES.iter().filter(|name| data.join(name).exists()) {
        let copy = workplace.file(name);
        runtime.block_on(async {
            let db = Db::open_file(&data.join(name)).await?;
            let copied = db.copy_to(&copy).await;
            db.close().await;
            copied
        })?;
    }
    blobs.hold_new(&data)?;
    writer.text(format::FILE, &toml::to_string(&mark)?)?;
    for name in FILES.iter().filter(|name| data.join(name).exists()) {
        writer.file(name, &data.join(name))?;
    }
    for name in DATABASES.iter().filter(|name| workplace.file(name).exists()) {
        writer.file(name, &workplace.file(name))?;
    }
    let held = blobs.files()?;
    for (name, path) in &held {
        writer.file(name, path)?;
    }
    let bytes = writer.finish()?;
    println!(
        "backed up {} to {} ({}, {} blobs)",
        data.display(),
        args.file.display(),
        megabytes(bytes.div_ceil(1 << 20)),
        held.len()
    );
    if let Ok(database) = std::fs::read_to_string(data.join(data_dir::DATABASE)) {
        let database = sql::Postgres::parse(database.trim())?;
        println!(
            "its tables are in {database} and not in this file: keep a pg_dump of that database, made just before, beside it"
        );
    }
    println!(
        "keep it as safe as a password: whoever has it can read every secret of this platform"
    );
    Ok(())
}

pub fn restore(args: RestoreArgs) -> anyhow::Result<()> {
    let data = args.data.resolve()?;
    let failed =
        || format!("making the data directory {}: name another with --data", data.display());
    std::fs::create_dir_all(&data).with_context(failed)?;
    let mut entries = std::fs::read_dir(&data).with_context(failed)?.flatten();
    ensure!(
        // A file system's own folder is nobody's.
        entries.all(|entry| entry.file_name() == "lost+found"),
        "{} is not empty: restore into a new folder, and nothing is lost",
        data.display()
    );
    // Moved to its place when it is whole, so that a restore that fails leaves no half of a data directory.
    let beside = tempfile::Builder::new().prefix(".restore-").tempdir_in(&data);
    let beside = beside.with_context(failed)?;
    let mark = archive::unpack(&args.file, beside.path())?;
    // The same checks as at a start; what an older program wrote is brought forward.
    drop(DataDir::open(beside.path())?);
    for entry in std::fs::read_dir(beside.path())?.flatten() {
        std::fs::rename(entry.path(), data.join(entry.file_name())).with_context(failed)?;
    }
    println!(
        "restored {} (of cupola {}) to {}\nstart it: cupola up --data {}, with the settings it had",
        args.file.display(),
        mark.program,
        data.display(),
        data.display()
    );
    Ok(())
}
