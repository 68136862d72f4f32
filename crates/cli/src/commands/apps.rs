//! Apps as things: listing, showing, making, renaming, deleting.

use std::collections::BTreeMap;

use futures::future::try_join;
use reqwest::Method;
use serde_json::json;

use crate::client::Body;
use crate::command::{Command, Context, Needs, Spec};
use crate::commands::summary::{self, healthy, urls};
use crate::error::{Error, Result, failed, unopened};
use crate::resources::{self, Process, Route, related};
use crate::table::{self, row};
use crate::ui::say;

/// `cf apps`
#[derive(clap::Args)]
pub struct Apps {
    /// Selector to filter apps by labels
    #[arg(long)]
    labels: Option<String>,
    /// Do not retrieve process stats
    #[arg(long)]
    no_stats: bool,
}

impl Command for Apps {
    const SPEC: &'static Spec = &Spec {
        name: "apps",
        alias: "a",
        about: "List all apps in the target space",
        usage: "{cf} apps [--labels SELECTOR] [--no-stats]",
        examples: "{cf} apps\n{cf} apps --labels 'environment in (production,staging),tier in (backend)'",
        see_also: &["events", "logs", "map-route", "push", "restart", "scale", "start", "stop"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let place = cx.place()?;
        say!(cx.ui, "Getting apps in {place}...\n");
        let space = cx.space().guid;
        let mut query = vec![("space_guids", space.as_str()), ("order_by", "name")];
        query.extend(self.labels.as_deref().map(|labels| ("label_selector", labels)));
        let (apps, routes) = try_join(
            cx.client.list::<resources::App>("/v3/apps", &query),
            cx.client.list::<Route>("/v3/routes", &[("space_guids", &space)]),
        )
        .await?;
        if apps.resources.is_empty() {
            say!(cx.ui, "No apps found");
            return Ok(());
        }
        let processes = if self.no_stats { BTreeMap::new() } else { processes(cx, &space).await? };
        let mut rows = vec![row!["name", "requested state"]];
        rows[0].extend((!self.no_stats).then(|| "processes".to_owned()));
        rows[0].push("routes".to_owned());
        for app in apps.resources {
            let reaches =
                |route: &&Route| route.destinations.iter().any(|to| to.app.guid == app.guid);
            let routes: Vec<Route> = routes.resources.iter().filter(reaches).cloned().collect();
            let mut row = row![app.name, app.state.to_lowercase()];
            row.extend(
                (!self.no_stats).then(|| processes.get(&app.guid).cloned().unwrap_or_default()),
            );
            row.push(urls(&routes));
            rows.push(row);
        }
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

/// `web:1/1, worker:0/2` by app, in one request; a server without embedding is asked for each process.
async fn processes(cx: &Context<'_>, space: &str) -> Result<BTreeMap<String, String>> {
    let embedded = [("space_guids", space), ("embed", "process_instances")];
    let processes = match cx.client.list::<Process>("/v3/processes", &embedded).await {
        Err(error) if error.api_detail(400).is_some() => {
            let mut plain = cx
                .client
                .list::<Process>("/v3/processes", &[("space_guids", space)])
                .await?
                .resources;
            for process in &mut plain {
                let stats = cx
                    .client
                    .get::<resources::Stats>(&format!("/v3/processes/{}/stats", process.guid))
                    .await;
                // A process may go away between the two questions.
                process.process_instances = match stats {
                    Err(error) if error.is_not_found() => Vec::new(),
                    stats => stats?.resources,
                };
            }
            plain
        }
        list => list?.resources,
    };
    let mut by_app: BTreeMap<String, Vec<Process>> = BTreeMap::new();
    for process in processes {
        if let Some(app) = related(&process.relationships, "app") {
            by_app.entry(app.to_owned()).or_default().push(process);
        }
    }
    Ok(by_app.into_iter().map(|(app, processes)| (app, counts(processes))).collect())
}

/// Pure: the web process first, the others by name.
fn counts(mut processes: Vec<Process>) -> String {
    processes.sort_by_key(|process| (process.kind != "web", process.kind.clone()));
    let text = |process: &Process| {
        let instances = &process.process_instances;
        format!("{}:{}/{}", process.kind, healthy(instances), instances.len())
    };
    processes.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// `cf app`
#[derive(clap::Args)]
pub struct App {
    #[arg(value_name = "APP_NAME")]
    app: String,
    /// Retrieve and display the given app's guid. All other health and status output for the app is suppressed.
    #[arg(long)]
    guid: bool,
}

impl Command for App {
    const SPEC: &'static Spec = &Spec {
        name: "app",
        about: "Display health and status for an app",
        usage: "{cf} app APP_NAME [--guid]",
        see_also: &["apps", "events", "logs", "map-route", "push", "unmap-route"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        if self.guid {
            let app = cx.client.app(&self.app, &cx.space().guid).await?;
            say!(cx.ui, "{}", app.guid);
            return Ok(());
        }
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Showing health and status for app {name} in {place}...\n");
        summary::show_app(cx, &self.app, false).await
    }
}

/// `cf create-app`
#[derive(clap::Args)]
pub struct CreateApp {
    #[arg(value_name = "APP_NAME")]
    app: String,
    /// How the app is staged and run: buildpack, docker or cnb
    #[arg(long, default_value = "buildpack", value_parser = ["buildpack", "docker", "cnb"])]
    app_type: String,
    /// Buildpack by name or Git URL; may be given several times
    #[arg(long = "buildpack", short = 'b')]
    buildpacks: Vec<String>,
}

impl Command for CreateApp {
    const SPEC: &'static Spec = &Spec {
        name: "create-app",
        about: "Create an Application in the target space",
        usage: "{cf} create-app APP_NAME [--app-type (buildpack | docker | cnb)]",
        see_also: &["app", "apps", "push"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Creating app {name} in {place}...");
        say!(cx.ui, "Using app type \"{}\"", self.app_type);
        if self.app_type == "cnb" && self.buildpacks.is_empty() {
            return failed("buildpack(s) must be provided when using --app-type cnb");
        }
        let data = if self.buildpacks.is_empty() {
            json!({})
        } else {
            json!({ "buildpacks": self.buildpacks })
        };
        let mut body = json!({ "name": self.app, "relationships": { "space": { "data": { "guid": cx.space().guid } } } });
        if self.app_type != "buildpack" || !self.buildpacks.is_empty() {
            body["lifecycle"] = json!({ "type": self.app_type, "data": data });
        }
        match cx.client.post("/v3/apps", body).await {
            Err(error) if error.already_exists().is_some() => say!(cx.ui, "{error}"),
            done => drop(done?),
        }
        cx.ui.ok();
        Ok(())
    }
}

/// `cf delete`
#[derive(clap::Args)]
pub struct Delete {
    #[arg(value_name = "APP_NAME")]
    app: String,
    /// Do not ask first
    #[arg(short = 'f')]
    force: bool,
    /// Also delete any mapped routes
    #[arg(short = 'r')]
    routes: bool,
}

impl Command for Delete {
    const SPEC: &'static Spec = &Spec {
        name: "delete",
        alias: "d",
        about: "Delete an app",
        usage: "{cf} delete APP_NAME [-r] [-f]",
        see_also: &["apps", "scale", "stop"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        if !self.force {
            let more = if self.routes { " and associated routes" } else { "" };
            if self.routes {
                say!(
                    cx.ui,
                    "Deleting the app and associated routes will make apps with this route, in any org, unreachable."
                );
            }
            if !cx.ui.confirm(&format!("Really delete the app {}{more}?", self.app))? {
                say!(cx.ui, "App '{}' has not been deleted.", self.app);
                return Ok(());
            }
        }
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Deleting app {name} in {place}...");
        match cx.client.app(&self.app, &cx.space().guid).await {
            Err(Error::Missing(_)) => cx.ui.warn(&format!("App '{}' does not exist.", self.app)),
            app => self.delete(cx, &app?.guid).await?,
        }
        cx.ui.ok();
        Ok(())
    }
}

impl Delete {
    async fn delete(&self, cx: &Context<'_>, app: &str) -> Result<()> {
        let routes = if self.routes {
            cx.client.list::<Route>(&format!("/v3/apps/{app}/routes"), &[]).await?.resources
        } else {
            Vec::new()
        };
        if let Some(shared) =
            routes.iter().find(|route| route.destinations.iter().any(|to| to.app.guid != app))
        {
            let cf = cx.cf();
            return failed(format!(
                "App '{name}' was not deleted because route '{url}' is mapped to more than one app.\n\nTIP: Run '{cf} delete {name}' to delete the app and '{cf} delete-route' to delete the route.",
                name = self.app,
                url = shared.url
            ));
        }
        cx.client.delete(&format!("/v3/apps/{app}")).await?;
        for route in routes {
            match cx.client.delete(&format!("/v3/routes/{}", route.guid)).await {
                Err(error) if error.is_not_found() => {}
                done => done?,
            }
        }
        Ok(())
    }
}

/// `cf rename`
#[derive(clap::Args)]
pub struct Rename {
    #[arg(value_name = "APP_NAME")]
    app: String,
    #[arg(value_name = "NEW_APP_NAME")]
    new: String,
}

impl Command for Rename {
    const SPEC: &'static Spec = &Spec {
        name: "rename",
        about: "Rename an app",
        usage: "{cf} rename APP_NAME NEW_APP_NAME",
        see_also: &["apps", "delete"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (old, new, place) = (cx.ui.name(&self.app), cx.ui.name(&self.new), cx.place()?);
        say!(cx.ui, "Renaming app {old} to {new} in {place}...");
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        cx.client.patch(&format!("/v3/apps/{}", app.guid), json!({ "name": self.new })).await?;
        cx.ui.ok();
        Ok(())
    }
}

/// `cf create-app-manifest`
#[derive(clap::Args)]
pub struct CreateAppManifest {
    #[arg(value_name = "APP_NAME")]
    app: String,
    /// The file to write, instead of APP_NAME_manifest.yml in this directory
    #[arg(short = 'p')]
    path: Option<String>,
}

impl Command for CreateAppManifest {
    const SPEC: &'static Spec = &Spec {
        name: "create-app-manifest",
        about: "Create an app manifest for an app that has been pushed successfully",
        usage: "{cf} create-app-manifest APP_NAME [-p /path/to/<app-name>_manifest.yml]",
        see_also: &["apps", "push"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Creating an app manifest from current settings of app {name} in {place}...");
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let reply = cx
            .client
            .send(Method::GET, &format!("/v3/apps/{}/manifest", app.guid), &[], Body::None)
            .await?;
        let path =
            cx.ui.io.dir.join(self.path.unwrap_or_else(|| format!("{}_manifest.yml", self.app)));
        std::fs::write(&path, &reply.body).map_err(|error| {
            Error::Failed(format!("Error creating file: {}", unopened(&path, &error)))
        })?;
        say!(cx.ui, "Manifest file created successfully at {}", path.display());
        cx.ui.ok();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_is_counted_first() {
        let process = |kind: &str, states: &[&str]| Process {
            kind: kind.to_owned(),
            process_instances: states
                .iter()
                .map(|state| resources::Instance {
                    state: (*state).to_owned(),
                    ..Default::default()
                })
                .collect(),
            ..Process::default()
        };
        let counted = counts(vec![process("clock", &[]), process("web", &["RUNNING", "CRASHED"])]);
        assert_eq!(counted, "web:1/2, clock:0/0");
    }
}
