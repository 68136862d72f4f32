//! Droplets: what staging made of an app's packages.

use std::path::PathBuf;

use crate::command::{Command, Context, Needs, Spec};
use crate::commands::deploy;
use crate::commands::summary::friendly_date;
use crate::error::{Error, Result};
use crate::resources::{App, Droplet};
use crate::table::{self, row};
use crate::ui::say;

/// The droplet the app runs, when it has one.
async fn current(cx: &Context<'_>, app: &App) -> Result<Option<Droplet>> {
    match cx.client.get(&format!("/v3/apps/{}/droplets/current", app.guid)).await {
        Err(error) if error.is_not_found() => Ok(None),
        found => found.map(Some),
    }
}

/// `cf droplets`
#[derive(clap::Args)]
pub struct Droplets {
    #[arg(value_name = "APP_NAME")]
    app: String,
}

impl Command for Droplets {
    const SPEC: &'static Spec = &Spec {
        name: "droplets",
        about: "List droplets of an app",
        usage: "{cf} droplets APP_NAME",
        see_also: &["app", "create-package", "packages", "push", "set-droplet"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Getting droplets of app {name} in {place}...\n");
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let query = [("app_guids", app.guid.as_str()), ("order_by", "-created_at")];
        let droplets: Vec<Droplet> = cx.client.list("/v3/droplets", &query).await?.resources;
        if droplets.is_empty() {
            say!(cx.ui, "No droplets found");
            return Ok(());
        }
        let current = current(cx, &app).await?.map(|droplet| droplet.guid).unwrap_or_default();
        let mut rows = vec![row!["guid", "state", "created"]];
        for droplet in droplets {
            let mark = if droplet.guid == current { " (current)" } else { "" };
            rows.push(row![
                format!("{}{mark}", droplet.guid),
                droplet.state.to_lowercase(),
                friendly_date(&droplet.created_at)
            ]);
        }
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

/// `cf set-droplet`
#[derive(clap::Args)]
pub struct SetDroplet {
    #[arg(value_name = "APP_NAME")]
    app: String,
    #[arg(value_name = "DROPLET_GUID")]
    droplet: String,
}

impl Command for SetDroplet {
    const SPEC: &'static Spec = &Spec {
        name: "set-droplet",
        about: "Set the droplet used to run an app",
        usage: "{cf} set-droplet APP_NAME DROPLET_GUID",
        see_also: &["app", "create-package", "droplets", "packages", "push", "stage-package"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, droplet, place) =
            (cx.ui.name(&self.app), cx.ui.name(&self.droplet), cx.place()?);
        say!(cx.ui, "Setting app {name} to droplet {droplet} in {place}...");
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        deploy::set_droplet(cx, &app.guid, &self.droplet).await?;
        cx.ui.ok();
        Ok(())
    }
}

/// `cf download-droplet`
#[derive(clap::Args)]
pub struct DownloadDroplet {
    #[arg(value_name = "APP_NAME")]
    app: String,
    /// The guid of the droplet to download (default: app's current droplet).
    #[arg(long)]
    droplet: Option<String>,
    /// File path to download droplet to (default: current working directory).
    #[arg(long, short = 'p')]
    path: Option<PathBuf>,
}

impl Command for DownloadDroplet {
    const SPEC: &'static Spec = &Spec {
        name: "download-droplet",
        about: "Download an application droplet",
        usage: "{cf} download-droplet APP_NAME [--droplet DROPLET_GUID] [--path /path/to/droplet.tgz]",
        see_also: &["apps", "droplets", "push", "set-droplet"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        match &self.droplet {
            Some(guid) => {
                let guid = cx.ui.name(guid);
                say!(cx.ui, "Downloading droplet {guid} for app {name} in {place}...");
            }
            None => say!(cx.ui, "Downloading current droplet for app {name} in {place}..."),
        }
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let guid = self.wanted(cx, &app).await?;
        let dir = cx.ui.io.dir.clone();
        let file = format!("droplet_{guid}.tgz");
        let path = match self.path.map(|path| dir.join(path)) {
            None => dir.join(file),
            Some(path) if path.is_dir() => path.join(file),
            Some(path) => path,
        };
        cx.client.download(&format!("/v3/droplets/{guid}/download"), &path).await?;
        say!(cx.ui, "Droplet downloaded successfully at {}", path.display());
        cx.ui.ok();
        Ok(())
    }
}

impl DownloadDroplet {
    /// A droplet of this very app: the one named, else the one it runs.
    async fn wanted(&self, cx: &Context<'_>, app: &App) -> Result<String> {
        let Some(guid) = &self.droplet else {
            let current = current(cx, app).await?.map(|droplet| droplet.guid);
            return current.ok_or_else(|| {
                Error::Failed(format!("App '{}' does not have a current droplet.", self.app))
            });
        };
        let query = [("app_guids", app.guid.as_str()), ("guids", guid)];
        let found = cx.client.list::<Droplet>("/v3/droplets", &query).await?.resources;
        found.into_iter().next().map(|droplet| droplet.guid).ok_or_else(|| {
            Error::Failed(format!("Droplet '{guid}' not found for app '{}'", self.app))
        })
    }
}
