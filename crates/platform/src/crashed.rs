//! `cupola cell crashed …`: looks into what crashed instances left behind, on whichever cell.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use base::http::Secret;
use base::{Clock, Timestamp};
use clap::{Args, Subcommand};
use diego::{Bbs as _, InstanceGuid};
use futures::TryStreamExt as _;
use rep::{Client, CrashedInstance, FileKind, Listing, Pieces};

use crate::data_dir::CellAtWork;
use crate::{operator, print, settings};

#[derive(Args)]
pub struct CrashedArgs {
    #[command(subcommand)]
    what: What,
    /// The data directory of the platform, or of the cell [default: /var/lib/cupola as root, else ~/.local/share/cupola]
    #[arg(long, env = "CUPOLA_DATA", value_name = "FOLDER", global = true)]
    data: Option<PathBuf>,
}

#[derive(Subcommand)]
enum What {
    /// Crashed instances whose files are still there, the latest first
    List {
        #[arg(long)]
        json: bool,
    },
    /// What lies in a folder of a crashed instance
    Ls {
        #[arg(value_name = "INSTANCE")]
        guid: String,
        #[arg(default_value = "/home/vcap/app")]
        path: String,
    },
    /// Print a file of a crashed instance
    Cat {
        #[arg(value_name = "INSTANCE")]
        guid: String,
        path: String,
    },
    /// Print a tar archive of a file or a folder of a crashed instance
    Tar {
        #[arg(value_name = "INSTANCE")]
        guid: String,
        #[arg(default_value = "/home/vcap/app")]
        path: String,
    },
    /// Remove what is kept of a crashed instance
    Rm {
        #[arg(value_name = "INSTANCE")]
        guid: String,
    },
}

pub fn main(args: CrashedArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: CrashedArgs) -> anyhow::Result<()> {
    let cells = cells(args.data).await?;
    match args.what {
        What::List { json } => {
            let all: Vec<_> =
                all(&cells).await?.into_iter().map(|(_, instance)| instance).collect();
            let text = if json {
                serde_json::to_string_pretty(&all)?
            } else {
                list(&all, Clock::system().now()).join("\n")
            };
            print::out(&format!("{text}\n"));
            Ok(())
        }
        What::Ls { guid, path } => {
            let (cell, guid) = holder(&cells, &guid).await?;
            let listing = cell.crashed_list(&guid, &path).await?;
            folder(&listing).iter().for_each(|line| print::out(&format!("{line}\n")));
            Ok(())
        }
        What::Cat { guid, path } => {
            let (cell, guid) = holder(&cells, &guid).await?;
            copy(cell.crashed_file(&guid, &path).await?).await
        }
        What::Tar { guid, path } => {
            let (cell, guid) = holder(&cells, &guid).await?;
            copy(cell.crashed_tar(&guid, &path).await?).await
        }
        What::Rm { guid } => {
            let (cell, guid) = holder(&cells, &guid).await?;
            Ok(cell.crashed_remove(&guid).await?)
        }
    }
}

/// The cell at work on a data directory, or all cells of the platform there.
async fn cells(data: Option<PathBuf>) -> anyhow::Result<Vec<Client>> {
    let data = settings::data_folder(data, "cupola")?;
    if let Some(cell) = CellAtWork::find(&data) {
        let joined = crate::join::joined_at(&data)?;
        base::tls::trust(&joined.authority)?;
        let http = base::http::client(Some(&Secret::new(joined.secret)));
        return Ok(vec![Client::new(http, &cell.api)]);
    }
    let asking = operator::connect(&data).await?;
    let cells = asking.bbs.cells().await;
    let cells = cells.with_context(|| format!("asking the platform on {}", data.display()))?;
    let http = base::http::client(Some(&asking.secret));
    Ok(cells.iter().map(|cell| Client::new(http.clone(), &cell.rep_url)).collect())
}

/// Cells that do not answer are told of on standard error: what the others keep is of use all the same.
async fn all(cells: &[Client]) -> anyhow::Result<Vec<(&Client, CrashedInstance)>> {
    let mut found = Vec::new();
    let mut answered = cells.is_empty();
    for cell in cells {
        match cell.crashed().await {
            Ok(instances) => {
                answered = true;
                found.extend(instances.into_iter().map(|instance| (cell, instance)));
            }
            Err(error) => eprintln!("a cell does not answer: {error}"),
        }
    }
    ensure!(answered, "no cell answers");
    found.sort_by_key(|(_, instance)| std::cmp::Reverse(instance.crashed_at));
    Ok(found)
}

/// The one instance whose guid begins so.
async fn holder<'a>(cells: &'a [Client], guid: &str) -> anyhow::Result<(&'a Client, InstanceGuid)> {
    let mut found = all(cells).await?;
    found.retain(|(_, instance)| instance.instance_guid.as_str().starts_with(guid));
    ensure!(
        found.len() < 2,
        "{guid} begins the names of {} instances: write more of it",
        found.len()
    );
    let (cell, instance) = found.pop().with_context(|| {
        format!("no files of a crashed instance {guid} are kept: see `cupola cell crashed list`")
    })?;
    Ok((cell, instance.instance_guid))
}

/// To standard output, until all is written or nobody reads any more.
async fn copy(mut pieces: Pieces) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    while let Some(piece) = pieces.try_next().await? {
        match out.write_all(&piece) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    Ok(out.flush()?)
}

fn list(instances: &[CrashedInstance], now: Timestamp) -> Vec<String> {
    if instances.is_empty() {
        return vec!["no files of crashed instances are kept".to_owned()];
    }
    let mut lines = Vec::new();
    for instance in instances {
        let ago = print::span(now.since(instance.crashed_at));
        let left = print::span(instance.kept_until.since(now));
        let reason = print::plain(&instance.reason);
        lines.push(format!("{}  on {}, {ago} ago", instance.instance_guid, instance.cell_id));
        lines.push(format!("    {}/{}: {reason}", instance.process_guid, instance.index));
        lines.push(format!("    {} bytes written, kept for {left}", instance.bytes));
    }
    lines
}

fn folder(listing: &Listing) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for entry in &listing.entries {
        let kind = match entry.kind {
            FileKind::File => '-',
            FileKind::Folder => 'd',
            FileKind::Link => 'l',
            FileKind::Other => '?',
        };
        let name = print::plain(&entry.name);
        let link = entry.link.as_ref().map(|to| format!(" -> {}", print::plain(to)));
        lines.push(format!(
            "{kind}{:04o}  {:>12}  {}  {name}{}",
            entry.mode & 0o7777,
            entry.size,
            entry.modified_at.to_rfc3339(),
            link.unwrap_or_default()
        ));
    }
    if listing.truncated {
        lines.push("… there is more".to_owned());
    }
    lines
}
