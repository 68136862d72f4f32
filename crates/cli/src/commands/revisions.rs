//! Revisions: what an app was made of at the times it was deployed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Error, Result};
use crate::resources::{Feature, Revision as Revised};
use crate::table::{self, row};
use crate::ui::say;

/// An app's revisions, newest first.
pub async fn all(cx: &Context<'_>, app: &str) -> Result<Vec<Revised>> {
    let path = format!("/v3/apps/{app}/revisions");
    Ok(cx.client.list(&path, &[("order_by", "-created_at")]).await?.resources)
}

pub async fn find(cx: &Context<'_>, app: &str, version: u64) -> Result<Revised> {
    let (path, wanted) = (format!("/v3/apps/{app}/revisions"), version.to_string());
    cx.client
        .only(&path, &[("versions", &wanted)], || format!("Revision '{version}' not found"))
        .await
}

async fn deployed(cx: &Context<'_>, app: &str) -> Result<Vec<Revised>> {
    Ok(cx.client.list(&format!("/v3/apps/{app}/revisions/deployed"), &[]).await?.resources)
}

/// `cf revisions`
#[derive(clap::Args)]
pub struct Revisions {
    #[arg(value_name = "APP_NAME")]
    app: String,
}

impl Command for Revisions {
    const SPEC: &'static Spec = &Spec {
        name: "revisions",
        about: "List revisions of an app",
        usage: "{cf} revisions APP_NAME",
        see_also: &["revision", "rollback"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Getting revisions for app {name} in {place}...\n");
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let feature: Feature =
            cx.client.get(&format!("/v3/apps/{}/features/revisions", app.guid)).await?;
        if !feature.enabled {
            cx.ui.warn(&format!(
                "Warning: Revisions for app '{}' are disabled. Updates to the app will not create new revisions.",
                self.app
            ));
        }
        if !app.is_started() {
            say!(
                cx.ui,
                "Info: this app is in a stopped state. It is not possible to determine which revision is currently deployed.\n"
            );
        }
        let revisions = all(cx, &app.guid).await?;
        if revisions.is_empty() {
            say!(cx.ui, "No revisions found");
            return Ok(());
        }
        let deployed = deployed(cx, &app.guid).await?;
        if deployed.len() > 1 {
            say!(
                cx.ui,
                "Info: this app is in the middle of a deployment. More than one revision is deployed.\n"
            );
        }
        let mut rows =
            vec![row!["revision", "description", "deployable", "revision guid", "created at"]];
        for of in revisions {
            let mark =
                if deployed.iter().any(|now| now.guid == of.guid) { "(deployed)" } else { "" };
            let version = format!("{}{mark}", of.version);
            rows.push(row![version, of.description, of.deployable, of.guid, of.created_at]);
        }
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

/// `cf revision`
#[derive(clap::Args)]
pub struct Revision {
    #[arg(value_name = "APP_NAME")]
    app: String,
    /// The integer representing the specific revision to show
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    version: Option<u64>,
}

impl Command for Revision {
    const SPEC: &'static Spec = &Spec {
        name: "revision",
        about: "Show details for a specific app revision",
        usage: "{cf} revision APP_NAME [--version VERSION]",
        see_also: &["revisions", "rollback"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        match self.version {
            Some(version) => {
                let version = cx.ui.name(version);
                say!(cx.ui, "Showing revision {version} for app {name} in {place}...\n");
            }
            None => say!(cx.ui, "Showing revisions for app {name} in {place}...\n"),
        }
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let deployed = deployed(cx, &app.guid).await?;
        match self.version {
            None => {
                for revision in deployed {
                    show(cx, &revision, true).await?;
                }
                Ok(())
            }
            Some(version) => {
                let revision = find(cx, &app.guid, version).await?;
                let is_deployed = deployed.iter().any(|now| now.guid == revision.guid);
                show(cx, &revision, is_deployed).await
            }
        }
    }
}

async fn show(cx: &mut Context<'_>, revision: &Revised, is_deployed: bool) -> Result<()> {
    let rows = [
        ("revision:", revision.version.to_string()),
        ("deployed:", is_deployed.to_string()),
        ("description:", revision.description.clone()),
        ("deployable:", revision.deployable.to_string()),
        ("revision GUID:", revision.guid.clone()),
        ("droplet GUID:", revision.droplet.guid.clone()),
        ("created on:", revision.created_at.clone()),
    ];
    table::key_values(&mut cx.ui, &rows);
    say!(cx.ui);
    section(cx, "labels:", &revision.metadata.labels);
    section(cx, "annotations:", &revision.metadata.annotations);
    let env = environment(cx, &revision.guid).await?;
    section(cx, "application environment variables:", &env);
    if env.is_empty() {
        say!(cx.ui);
    }
    Ok(())
}

/// What the app's environment was; who may not read secrets sees none.
async fn environment(cx: &Context<'_>, revision: &str) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Found {
        #[serde(default)]
        var: Map<String, Value>,
    }
    let path = format!("/v3/revisions/{revision}/environment_variables");
    let found = match cx.client.get::<Found>(&path).await {
        Err(Error::Api(error)) if matches!(error.status, 403 | 404) => return Ok(BTreeMap::new()),
        found => found?,
    };
    let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Ok(found.var.into_iter().map(|(key, value)| (key, text(value))).collect())
}

fn section(cx: &mut Context, title: &str, values: &BTreeMap<String, String>) {
    let head = cx.ui.bold(title);
    say!(cx.ui, "{head}");
    let keys: Vec<String> = values.keys().map(|key| format!("{key}:")).collect();
    let rows: Vec<(&str, String)> =
        keys.iter().map(String::as_str).zip(values.values().cloned()).collect();
    table::key_values(&mut cx.ui, &rows);
    if !values.is_empty() {
        say!(cx.ui);
    }
}
