//! How long a container takes: `cargo run --release --example speed -- [starts] [crowd] [large crowd]`, as root.

use guardian::bench::{Options, containers};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let mut options = Options::default();
    options.starts = args.next().unwrap_or(options.starts);
    options.crowds = options.crowds.map(|size| args.next().unwrap_or(size));
    let dir = tempfile::tempdir()?;
    let report = containers(dir.path(), &options).await?;
    report.lines().iter().for_each(|line| println!("{line}"));
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
