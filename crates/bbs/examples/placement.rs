//! Runs the placement benchmark: `placement CELLS INSTANCES [DATABASE_URL]`.

use anyhow::Context as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(std::env::var("RUST_LOG").unwrap_or_default())
        .with_writer(std::io::stderr)
        .init();
    let mut arguments = std::env::args().skip(1);
    let cells = arguments.next().context("how many cells")?.parse()?;
    let instances = arguments.next().context("how many instances")?.parse()?;
    let folder = tempfile::tempdir()?;
    let db = match arguments.next() {
        Some(url) => sql::Db::open(&url).await?,
        None => sql::Db::open_file(&folder.path().join("bbs.db")).await?,
    };
    let report = bbs::bench::placement(db, &bbs::bench::Placement::new(cells, instances)).await?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
