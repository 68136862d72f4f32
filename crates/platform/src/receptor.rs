//! `cupola diego …`: looks at the brain and steers it, by the Receptor API.

mod client;
mod show;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use futures::TryStreamExt as _;
use serde_json::Value;

use client::Receptor;

use crate::print;

#[derive(Args)]
pub struct DiegoArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    place: Place,
    /// Print the API's own JSON
    #[arg(long, global = true)]
    json: bool,
}

/// Where the Receptor API answers.
#[derive(Args)]
struct Place {
    /// The data directory of the platform [default: /var/lib/cupola as root, else ~/.local/share/cupola]
    #[arg(long, env = "CUPOLA_DATA", value_name = "FOLDER", global = true)]
    data: Option<PathBuf>,
    /// Another Receptor than that of the data directory: http://USER:PASSWORD@HOST:PORT
    #[arg(long, env = "RECEPTOR", value_name = "URL", global = true, hide_env_values = true)]
    receptor: Option<String>,
}

#[derive(Subcommand)]
enum What {
    /// Cells, and how much of each is taken
    Cells,
    /// Long running processes: wanted and running instances
    Lrps(InDomain),
    /// One long running process with its instances
    Lrp { process_guid: String },
    /// Tasks
    Tasks(InDomain),
    /// One task
    Task { task_guid: String },
    /// Domains whose desired state is complete
    Domains,
    /// What happens to long running processes from now on; Ctrl-C ends it
    Events,
    /// Stop one instance; it is started anew while it is wanted
    Restart { process_guid: String, index: u32 },
    /// Cancel a task
    Cancel { task_guid: String },
}

#[derive(Args)]
struct InDomain {
    /// Only those of this domain
    #[arg(long)]
    domain: Option<String>,
}

pub fn main(args: DiegoArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: DiegoArgs) -> anyhow::Result<()> {
    let receptor = match &args.place.receptor {
        Some(url) => Receptor::at(url)?,
        None => Receptor::of(&crate::settings::data_folder(args.place.data, "cupola")?)?,
    };
    let within = |path: &str, filter: InDomain| match filter.domain {
        Some(domain) => format!("{path}?{}", client::query("domain", &domain)),
        None => path.to_owned(),
    };
    // As the API says it, or for people.
    let print = |value: &Value, lines: Vec<String>| {
        let text = if args.json { format!("{value:#}") } else { lines.join("\n") };
        print::out(&format!("{text}\n"));
    };
    match args.what {
        What::Cells => {
            let cells = receptor.get("/v1/cells").await?;
            let desired = receptor.get("/v1/desired_lrps").await?;
            let actual = receptor.get("/v1/actual_lrps").await?;
            let tasks = receptor.get("/v1/tasks").await?;
            print(&cells, show::cells(&cells, &desired, &actual, &tasks));
        }
        What::Lrps(filter) => {
            let desired = receptor.get(&within("/v1/desired_lrps", filter)).await?;
            let actual = receptor.get("/v1/actual_lrps").await?;
            print(&desired, show::lrps(&desired, &actual));
        }
        What::Lrp { process_guid } => {
            let guid = client::segment(&process_guid);
            let desired = receptor.get(&format!("/v1/desired_lrps/{guid}")).await?;
            let actual = receptor.get(&format!("/v1/actual_lrps/{guid}")).await?;
            let both = serde_json::json!({ "desired_lrp": desired, "actual_lrps": actual });
            print(&both, show::lrp(&desired, &actual, base::Clock::system().now()));
        }
        What::Tasks(filter) => {
            let tasks = receptor.get(&within("/v1/tasks", filter)).await?;
            print(&tasks, show::tasks(&tasks, base::Clock::system().now()));
        }
        What::Task { task_guid } => {
            let task = receptor.get(&format!("/v1/tasks/{}", client::segment(&task_guid))).await?;
            print(&task, show::task(&task, base::Clock::system().now()));
        }
        What::Domains => {
            let domains = receptor.get("/v1/domains").await?;
            print(&domains, show::domains(&domains));
        }
        What::Events => {
            let mut events = std::pin::pin!(receptor.events().await?);
            while let Some((name, body)) = events.try_next().await? {
                let line = if args.json {
                    serde_json::json!({ "event": name, "data": body }).to_string()
                } else {
                    show::event(&name, &body, base::Clock::system().now())
                };
                if !print::tell(&line) {
                    return Ok(());
                }
            }
            anyhow::bail!(
                "the event stream ended: the platform stopped, or this reader was too slow"
            );
        }
        What::Restart { process_guid, index } => {
            let guid = client::segment(&process_guid);
            receptor.delete(&format!("/v1/actual_lrps/{guid}/index/{index}")).await?;
            print::out(&format!("instance {index} stops\n"));
        }
        What::Cancel { task_guid } => {
            let path = format!("/v1/tasks/{}/cancel", client::segment(&task_guid));
            receptor.post(&path).await.context("cancelling")?;
            print::out("the task is cancelled\n");
        }
    }
    Ok(())
}
