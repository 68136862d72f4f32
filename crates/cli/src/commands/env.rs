//! An app's environment.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::command::{Command, Context, Needs, Spec};
use crate::error::Result;
use crate::ui::{Ui, say};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Environment {
    environment_variables: Map<String, Value>,
    staging_env_json: Map<String, Value>,
    running_env_json: Map<String, Value>,
    system_env_json: Map<String, Value>,
    application_env_json: Map<String, Value>,
}

/// `cf env`
#[derive(clap::Args)]
pub struct Env {
    #[arg(value_name = "APP_NAME")]
    app: String,
}

impl Command for Env {
    const SPEC: &'static Spec = &Spec {
        name: "env",
        alias: "e",
        about: "Show all env variables for an app",
        usage: "{cf} env APP_NAME",
        see_also: &["app", "apps", "set-env", "unset-env"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Getting env variables for app {name} in {place}...");
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let env: Environment = cx.client.get(&format!("/v3/apps/{}/env", app.guid)).await?;
        if env.system_env_json.is_empty() && env.application_env_json.is_empty() {
            say!(cx.ui, "No system-provided env variables have been set");
        } else {
            let head = cx.ui.bold("System-Provided:");
            say!(cx.ui, "{head}");
            show_json(&mut cx.ui, &env.system_env_json);
            if !env.application_env_json.is_empty() {
                say!(cx.ui);
                show_json(&mut cx.ui, &env.application_env_json);
            }
        }
        say!(cx.ui);
        for (title, kind, group) in [
            ("User-Provided:", "user-provided", &env.environment_variables),
            ("Running Environment Variable Groups:", "running", &env.running_env_json),
            ("Staging Environment Variable Groups:", "staging", &env.staging_env_json),
        ] {
            show_group(&mut cx.ui, title, kind, group);
        }
        Ok(())
    }
}

fn show_json(ui: &mut Ui, group: &Map<String, Value>) {
    for (key, value) in group {
        say!(ui, "{key}: {value:#}\n");
    }
}

fn show_group(ui: &mut Ui, title: &str, kind: &str, group: &Map<String, Value>) {
    if group.is_empty() {
        say!(ui, "No {kind} env variables have been set");
    } else {
        let head = ui.bold(title);
        say!(ui, "{head}");
    }
    for (key, value) in group {
        say!(ui, "{key}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    say!(ui);
}

/// `cf set-env`
#[derive(clap::Args)]
pub struct SetEnv {
    #[arg(value_name = "APP_NAME")]
    app: String,
    #[arg(value_name = "ENV_VAR_NAME")]
    name: String,
    #[arg(value_name = "ENV_VAR_VALUE", allow_hyphen_values = true)]
    value: String,
}

impl Command for SetEnv {
    const SPEC: &'static Spec = &Spec {
        name: "set-env",
        alias: "se",
        about: "Set an env variable for an app",
        usage: "{cf} set-env APP_NAME ENV_VAR_NAME ENV_VAR_VALUE",
        see_also: &["apps", "env", "restart", "unset-env"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (variable, name, place) = (cx.ui.name(&self.name), cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Setting env variable {variable} for app {name} in {place}...");
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let body = json!({ "var": { &self.name: self.value } });
        cx.client.patch(&format!("/v3/apps/{}/environment_variables", app.guid), body).await?;
        cx.ui.ok();
        tip(cx, &self.app);
        Ok(())
    }
}

/// `cf unset-env`
#[derive(clap::Args)]
pub struct UnsetEnv {
    #[arg(value_name = "APP_NAME")]
    app: String,
    #[arg(value_name = "ENV_VAR_NAME")]
    name: String,
}

impl Command for UnsetEnv {
    const SPEC: &'static Spec = &Spec {
        name: "unset-env",
        alias: "ue",
        about: "Remove an env variable from an app",
        usage: "{cf} unset-env APP_NAME ENV_VAR_NAME",
        see_also: &["apps", "env", "restart", "set-env"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (variable, name, place) = (cx.ui.name(&self.name), cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Removing env variable {variable} from app {name} in {place}...");
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let env: Environment = cx.client.get(&format!("/v3/apps/{}/env", app.guid)).await?;
        if !env.environment_variables.contains_key(&self.name) {
            say!(cx.ui, "Env variable {} was not set.", self.name);
            cx.ui.ok();
            return Ok(());
        }
        let body = json!({ "var": { &self.name: null } });
        cx.client.patch(&format!("/v3/apps/{}/environment_variables", app.guid), body).await?;
        cx.ui.ok();
        tip(cx, &self.app);
        Ok(())
    }
}

fn tip(cx: &mut Context, app: &str) {
    let cf = cx.cf();
    say!(cx.ui, "TIP: Use '{cf} restage {app}' to ensure your env variable changes take effect.");
}
