//! `cf logs`

use crate::command::{Command, Context, Needs, Spec};
use crate::error::Result;
use crate::logs::{Since, Tail, recent, show};
use crate::ui::say;

/// `cf logs`
#[derive(clap::Args)]
pub struct Logs {
    #[arg(value_name = "APP_NAME")]
    app: String,
    /// Dump recent logs instead of tailing
    #[arg(long)]
    recent: bool,
}

impl Command for Logs {
    const SPEC: &'static Spec = &Spec {
        name: "logs",
        about: "Tail or show recent logs for an app",
        usage: "{cf} logs APP_NAME [--recent]",
        see_also: &["app", "apps"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Retrieving logs for app {name} in {place}...\n");
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        if self.recent {
            for line in recent(&cx.client, &app.guid).await? {
                show(&mut cx.ui, &line, true);
            }
            return Ok(());
        }
        let mut tail = Tail::start(&cx.client, &app.guid, Since::Now).await;
        loop {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return Ok(()),
                line = tail.next() => match line {
                    None => return Ok(()),
                    Some(Ok(line)) => show(&mut cx.ui, &line, true),
                    Some(Err(error)) => cx.ui.warn(&format!("Failed to retrieve logs from Log Cache: {error}")),
                },
            }
            if cx.ui.is_broken() {
                return Ok(());
            }
        }
    }
}
