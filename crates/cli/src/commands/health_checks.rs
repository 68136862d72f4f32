//! How an app's processes are found to be healthy, and ready for requests.

use serde_json::json;

use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Error, Result};
use crate::resources::Process;
use crate::table::{self, row};
use crate::ui::say;

async fn processes(cx: &Context<'_>, app: &str) -> Result<Vec<Process>> {
    let app = cx.client.app(app, &cx.space().guid).await?;
    Ok(cx.client.list(&format!("/v3/apps/{}/processes", app.guid), &[]).await?.resources)
}

fn number(of: Option<u64>) -> String {
    of.map(|seconds| seconds.to_string()).unwrap_or_default()
}

/// `cf get-health-check`
#[derive(clap::Args)]
pub struct GetHealthCheck {
    #[arg(value_name = "APP_NAME")]
    app: String,
}

impl Command for GetHealthCheck {
    const SPEC: &'static Spec = &Spec {
        name: "get-health-check",
        about: "Show the type of health check performed on an app",
        usage: "{cf} get-health-check APP_NAME",
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Getting health check type for app {name} in {place}...\n");
        let processes = processes(cx, &self.app).await?;
        if processes.is_empty() {
            say!(cx.ui, "App has no processes");
            return Ok(());
        }
        let mut rows =
            vec![row!["process", "health check", "endpoint (for http)", "invocation timeout"]];
        for process in processes {
            let check = process.health_check;
            let seconds = check.data.invocation_timeout.filter(|seconds| *seconds > 0).unwrap_or(1);
            rows.push(row![
                process.kind,
                check.kind.unwrap_or_default(),
                check.data.endpoint.unwrap_or_default(),
                seconds
            ]);
        }
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

/// `cf get-readiness-health-check`
#[derive(clap::Args)]
pub struct GetReadinessHealthCheck {
    #[arg(value_name = "APP_NAME")]
    app: String,
}

impl Command for GetReadinessHealthCheck {
    const SPEC: &'static Spec = &Spec {
        name: "get-readiness-health-check",
        about: "Show the type of readiness health check performed on an app",
        usage: "{cf} get-readiness-health-check APP_NAME",
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Getting readiness health check type for app {name} in {place}...\n");
        let processes = processes(cx, &self.app).await?;
        if processes.is_empty() {
            say!(cx.ui, "App has no processes");
            return Ok(());
        }
        let mut rows =
            vec![row!["process", "type", "endpoint (for http)", "invocation timeout", "interval"]];
        for process in processes {
            let check = process.readiness_health_check;
            rows.push(row![
                process.kind,
                check.kind.unwrap_or_default(),
                check.data.endpoint.unwrap_or_default(),
                number(check.data.invocation_timeout),
                number(check.data.interval)
            ]);
        }
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

fn kind(text: &str) -> std::result::Result<String, String> {
    match text.to_lowercase().as_str() {
        // Older habits say `none` where `process` is meant.
        "none" => Ok("process".to_owned()),
        known @ ("process" | "port" | "http") => Ok(known.to_owned()),
        _ => Err("HEALTH_CHECK_TYPE must be \"port\", \"process\", or \"http\"".to_owned()),
    }
}

/// `cf set-health-check`
#[derive(clap::Args)]
pub struct SetHealthCheck {
    #[arg(value_name = "APP_NAME")]
    app: String,
    #[arg(value_name = "HEALTH_CHECK_TYPE", value_parser = kind)]
    kind: String,
    /// Path on the app
    #[arg(long, default_value = "/")]
    endpoint: String,
    /// Time (in seconds) that controls individual health check invocations
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    invocation_timeout: Option<u64>,
    /// App process to update
    #[arg(long, default_value = "web")]
    process: String,
}

impl Command for SetHealthCheck {
    const SPEC: &'static Spec = &Spec {
        name: "set-health-check",
        about: "Change type of health check performed on an app's process",
        usage: "{cf} set-health-check APP_NAME (process | port | http [--endpoint PATH]) [--process PROCESS] [--invocation-timeout INVOCATION_TIMEOUT]",
        examples: "{cf} set-health-check worker-app process --process worker\n{cf} set-health-check my-web-app http --endpoint /foo\n{cf} set-health-check my-web-app http --invocation-timeout 10",
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let kind = self.kind.as_str();
        let (name, process, place) =
            (cx.ui.name(&self.app), cx.ui.name(&self.process), cx.place()?);
        say!(cx.ui, "Updating health check type for app {name} process {process} in {place}...\n");
        if kind != "http" && self.endpoint != "/" {
            return Err(Error::Failed(
                "Health check type must be 'http' to set a health check HTTP endpoint.".to_owned(),
            ));
        }
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let path = format!("/v3/apps/{}/processes/{}", app.guid, self.process);
        let found: Process =
            cx.client.get(&path).await.map_err(|error| missing(error, &self.process))?;
        let mut data = json!({});
        if kind == "http" {
            data["endpoint"] = json!(self.endpoint);
        }
        if let Some(seconds) = self.invocation_timeout {
            data["invocation_timeout"] = json!(seconds);
        }
        let body = json!({ "health_check": { "type": kind, "data": data } });
        cx.client.patch(&format!("/v3/processes/{}", found.guid), body).await?;
        cx.ui.ok();
        if app.is_started() {
            say!(cx.ui, "TIP: An app restart is required for the change to take effect.");
        }
        Ok(())
    }
}

/// A process type the app does not have.
pub fn missing(error: Error, process: &str) -> Error {
    if error.is_not_found() { Error::Failed(format!("Process {process} not found")) } else { error }
}
