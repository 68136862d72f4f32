//! `cf scale`

use serde_json::{Map, Value, json};

use crate::command::{Command, Context, Needs, Spec};
use crate::commands::deploy::{act, wait_running};
use crate::commands::summary;
use crate::error::{Error, Result};
use crate::size;
use crate::ui::say;

/// `cf scale`
#[derive(clap::Args)]
pub struct Scale {
    #[arg(value_name = "APP_NAME")]
    app: String,
    /// Restart the app without asking
    #[arg(long, short = 'f')]
    force: bool,
    /// Number of instances
    #[arg(long, short = 'i', allow_negative_numbers = true)]
    instances: Option<u32>,
    /// Disk limit (e.g. 256M, 1024M, 1G)
    #[arg(short = 'k', value_parser = size::megabytes)]
    disk: Option<u64>,
    /// Memory limit (e.g. 256M, 1024M, 1G)
    #[arg(short = 'm', value_parser = size::megabytes)]
    memory: Option<u64>,
    /// Log rate limit per second, in bytes (e.g. 128B, 4K, 1M). -l=-1 represents unlimited
    #[arg(short = 'l', value_parser = size::log_rate, allow_hyphen_values = true)]
    log_rate: Option<i64>,
    /// App process to scale
    #[arg(long, default_value = "web")]
    process: String,
}

impl Command for Scale {
    const SPEC: &'static Spec = &Spec {
        name: "scale",
        about: "Change or view the instance count, disk space limit, memory limit, and log rate limit for an app",
        usage: "{cf} scale APP_NAME [--process PROCESS] [-i INSTANCES] [-k DISK] [-m MEMORY] [-l LOG_RATE_LIMIT] [-f]\n\nOther limits than the number of instances make the app restart.",
        environment: &[(
            "CF_STARTUP_TIMEOUT=5",
            "Max wait time for app instance startup, in minutes",
        )],
        see_also: &["push"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let body = self.body();
        if body.is_empty() {
            return self.show(cx).await;
        }
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Scaling app {name} in {place}...\n");
        let restart = self.restarts();
        if restart && !self.force {
            let question = format!(
                "This will cause the app to restart. Are you sure you want to scale {}?",
                self.app
            );
            if !cx.ui.confirm(&question)? {
                say!(cx.ui, "Scaling cancelled");
                return Ok(());
            }
            say!(cx.ui);
        }
        let path = format!("/v3/apps/{}/processes/{}/actions/scale", app.guid, self.process);
        cx.client.post(&path, Value::Object(body)).await.map_err(|error| {
            match error.api_detail(404) {
                Some("Process not found") => {
                    Error::Failed(format!("Process {} not found", self.process))
                }
                _ => error,
            }
        })?;
        if restart {
            say!(cx.ui, "Stopping app {name} in {place}...\n");
            act(cx, &app.guid, "stop").await?;
            say!(cx.ui, "Starting app {name} in {place}...\n");
            act(cx, &app.guid, "start").await?;
        }
        let mut done = Ok(());
        if restart || app.is_started() {
            done = wait_running(cx, &app, false).await;
            say!(cx.ui);
        }
        match &done {
            Ok(()) | Err(Error::Crashed { .. }) => self.show(cx).await?,
            Err(_) => {}
        }
        done
    }
}

impl Scale {
    fn restarts(&self) -> bool {
        self.disk.is_some() || self.memory.is_some() || self.log_rate.is_some()
    }

    fn body(&self) -> Map<String, Value> {
        let fields = [
            ("instances", self.instances.map(|count| json!(count))),
            ("memory_in_mb", self.memory.map(|size| json!(size))),
            ("disk_in_mb", self.disk.map(|size| json!(size))),
            ("log_rate_limit_in_bytes_per_second", self.log_rate.map(|rate| json!(rate))),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    async fn show(&self, cx: &mut Context<'_>) -> Result<()> {
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Showing current scale of app {name} in {place}...\n");
        summary::show_app(cx, &self.app, false).await
    }
}
