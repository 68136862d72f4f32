//! Packages: an app's source as it was uploaded.

use std::path::PathBuf;

use crate::command::{Command, Context, Needs, Spec};
use crate::commands::deploy;
use crate::commands::lifecycle::{newest_ready, packages};
use crate::commands::push::source;
use crate::commands::summary::friendly_date;
use crate::error::{Error, Result};
use crate::manifest::Docker;
use crate::resources::{App, Droplet};
use crate::table::{self, row};
use crate::ui::say;

/// `cf packages`
#[derive(clap::Args)]
pub struct Packages {
    #[arg(value_name = "APP_NAME")]
    app: String,
}

impl Command for Packages {
    const SPEC: &'static Spec = &Spec {
        name: "packages",
        about: "List packages of an app",
        usage: "{cf} packages APP_NAME",
        see_also: &["app", "create-package", "droplets", "push"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Getting packages of app {name} in {place}...\n");
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let packages = packages(cx, &app).await?;
        if packages.is_empty() {
            say!(cx.ui, "No packages found.");
            return Ok(());
        }
        let mut rows = vec![row!["guid", "state", "created"]];
        rows.extend(packages.into_iter().map(|package| {
            row![package.guid, package.state.to_lowercase(), friendly_date(&package.created_at)]
        }));
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

/// `cf create-package`
#[derive(clap::Args)]
pub struct CreatePackage {
    #[arg(value_name = "APP_NAME")]
    app: String,
    /// Docker image to use (e.g. user/docker-image-name)
    #[arg(long, short = 'o')]
    docker_image: Option<String>,
    /// Path to app directory or to a zip file of the contents of the app directory
    #[arg(short = 'p')]
    path: Option<PathBuf>,
}

impl Command for CreatePackage {
    const SPEC: &'static Spec = &Spec {
        name: "create-package",
        about: "Uploads a Package",
        usage: "{cf} create-package APP_NAME [-p APP_PATH | --docker-image [REGISTRY_HOST:PORT/]IMAGE[:TAG]]",
        see_also: &["app", "droplets", "packages", "push"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        if self.docker_image.is_some() && self.path.is_some() {
            return Err(Error::together(&["--docker-image", "-o", "-p"]));
        }
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        let guid = if let Some(image) = self.docker_image {
            say!(cx.ui, "Creating docker package for app {name} in {place}...");
            let app = cx.client.app(&self.app, &cx.space().guid).await?;
            source::docker_package(cx, &app, &Docker { image, username: None }, None).await?
        } else {
            say!(cx.ui, "Creating and uploading bits package for app {name} in {place}...");
            let app = cx.client.app(&self.app, &cx.space().guid).await?;
            let dir = cx.ui.io.dir.clone();
            let path = self.path.map_or(dir.clone(), |path| dir.join(path));
            source::upload_bits(cx, &app, &path).await?
        };
        say!(cx.ui, "Package with guid '{guid}' has been created.");
        cx.ui.ok();
        Ok(())
    }
}

/// `cf stage-package`
#[derive(clap::Args)]
pub struct StagePackage {
    #[arg(value_name = "APP_NAME")]
    app: String,
    /// The guid of the package to stage (default: latest ready package)
    #[arg(long)]
    package_guid: Option<String>,
}

impl Command for StagePackage {
    const SPEC: &'static Spec = &Spec {
        name: "stage-package",
        alias: "stage",
        about: "Stage a package into a droplet",
        usage: "{cf} stage-package APP_NAME [--package-guid PACKAGE_GUID]",
        environment: &[("CF_STAGING_TIMEOUT=15", "Max wait time for staging, in minutes")],
        see_also: &["app", "create-package", "droplets", "packages", "push", "set-droplet"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Staging package for {name} in {place}...");
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let package = match self.package_guid {
            Some(guid) => of_app(cx, &app, guid).await?,
            None => newest_ready(cx, &app).await?.guid,
        };
        let droplet = deploy::stage(cx, &app, &package).await?;
        let droplet: Droplet = cx.client.get(&format!("/v3/droplets/{droplet}")).await?;
        say!(cx.ui, "\nPackage staged");
        let rows = [
            ("droplet guid:", droplet.guid),
            ("state:", droplet.state.to_lowercase()),
            ("created:", friendly_date(&droplet.created_at)),
        ];
        table::key_values(&mut cx.ui, &rows);
        Ok(())
    }
}

/// The package, when it is one of this very app.
async fn of_app(cx: &Context<'_>, app: &App, guid: String) -> Result<String> {
    if packages(cx, app).await?.iter().any(|package| package.guid == guid) {
        return Ok(guid);
    }
    Err(Error::Failed(format!("Package with guid '{guid}' not found in app '{}'.", app.name)))
}
