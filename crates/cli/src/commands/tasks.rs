//! Tasks: commands that run once on an app's droplet.

use serde_json::json;

use crate::client::{Body, Pace};
use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Error, Result, failed};
use crate::resources::{self, Process};
use crate::size;
use crate::table::{self, row};
use crate::ui::say;

/// `cf run-task`
#[derive(clap::Args)]
pub struct RunTask {
    #[arg(value_name = "APP_NAME")]
    app: String,
    /// The command to execute
    #[arg(long, short = 'c', allow_hyphen_values = true)]
    command: Option<String>,
    /// Disk limit (e.g. 256M, 1024M, 1G)
    #[arg(short = 'k', value_parser = size::megabytes)]
    disk: Option<u64>,
    /// Memory limit (e.g. 256M, 1024M, 1G)
    #[arg(short = 'm', value_parser = size::megabytes)]
    memory: Option<u64>,
    /// Log rate limit per second, in bytes (e.g. 128B, 4K, 1M). -l=-1 represents unlimited
    #[arg(short = 'l', value_parser = size::log_rate, allow_hyphen_values = true)]
    log_rate: Option<i64>,
    /// Name of the task (made up if omitted)
    #[arg(long)]
    name: Option<String>,
    /// Process type to take command, memory and disk from
    #[arg(long)]
    process: Option<String>,
    /// Wait for the task to complete
    #[arg(long, short = 'w')]
    wait: bool,
}

impl Command for RunTask {
    const SPEC: &'static Spec = &Spec {
        name: "run-task",
        alias: "rt",
        about: "Run a one-off task on an app",
        usage: "{cf} run-task APP_NAME [--command COMMAND] [-k DISK] [-m MEMORY] [-l LOG_RATE_LIMIT] [--name TASK_NAME] [--process PROCESS_TYPE] [-w]\n\nTIP:\n   '{cf} logs' shows the output of the app and of all its tasks.",
        examples: "{cf} run-task my-app --command \"bundle exec rake db:migrate\" --name migrate\n{cf} run-task my-app --process batch_job",
        see_also: &["logs", "task", "tasks", "terminate-task"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Creating task for app {name} in {place}...");
        let mut body = json!({});
        let fields = [
            ("command", self.command.as_ref().map(|text| json!(text))),
            ("name", self.name.as_ref().map(|text| json!(text))),
            ("disk_in_mb", self.disk.map(|size| json!(size))),
            ("memory_in_mb", self.memory.map(|size| json!(size))),
            ("log_rate_limit_in_bytes_per_second", self.log_rate.map(|rate| json!(rate))),
        ];
        for (key, value) in fields {
            if let Some(value) = value {
                body[key] = value;
            }
        }
        let template = self.process.or_else(|| self.command.is_none().then(|| "task".to_owned()));
        if let Some(kind) = template {
            let path = format!("/v3/apps/{}/processes/{kind}", app.guid);
            let process: Process = cx.client.get(&path).await.map_err(|error| {
                if error.is_not_found() {
                    Error::Failed(format!("Process {kind} not found"))
                } else {
                    error
                }
            })?;
            body["template"] = json!({ "process": { "guid": process.guid } });
        }
        let task: resources::Task =
            cx.client.post(&format!("/v3/apps/{}/tasks", app.guid), body).await?.json()?;
        say!(cx.ui, "Task has been submitted successfully for execution.");
        cx.ui.ok();
        table::key_values(
            &mut cx.ui,
            &[("task name:", task.name.clone()), ("task id:", task.sequence_id.to_string())],
        );
        if self.wait {
            say!(cx.ui, "\nWaiting for task to complete execution...");
            wait(cx, task).await?;
            say!(cx.ui, "\nTask has completed successfully.");
        }
        cx.ui.ok();
        Ok(())
    }
}

async fn wait(cx: &Context<'_>, mut task: resources::Task) -> Result<()> {
    let (path, mut pace) = (format!("/v3/tasks/{}", task.guid), Pace::default());
    loop {
        match task.state.as_str() {
            "SUCCEEDED" => return Ok(()),
            "FAILED" => return failed("Task failed to complete successfully"),
            _ => {}
        }
        let reply = cx.client.send(reqwest::Method::GET, &path, &[], Body::None).await?;
        task = reply.json()?;
        if task.state != "SUCCEEDED" && task.state != "FAILED" {
            pace.wait(reply.took).await;
        }
    }
}

/// `cf tasks`
#[derive(clap::Args)]
pub struct Tasks {
    #[arg(value_name = "APP_NAME")]
    app: String,
}

impl Command for Tasks {
    const SPEC: &'static Spec = &Spec {
        name: "tasks",
        about: "List tasks of an app",
        usage: "{cf} tasks APP_NAME",
        see_also: &["apps", "logs", "run-task", "task", "terminate-task"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Getting tasks for app {name} in {place}...\n");
        let path = format!("/v3/apps/{}/tasks", app.guid);
        let tasks: Vec<resources::Task> =
            cx.client.list(&path, &[("order_by", "-created_at")]).await?.resources;
        if tasks.is_empty() {
            say!(cx.ui, "No tasks found for application.");
            return Ok(());
        }
        let mut rows = vec![row!["id", "name", "state", "start time", "command"]];
        for task in tasks {
            let start = long_date(&task.created_at);
            rows.push(row![task.sequence_id, task.name, task.state, start, command(task.command)]);
        }
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

fn long_date(text: &str) -> String {
    let moment: Option<jiff::Timestamp> = text.parse().ok();
    moment.map_or_else(
        || text.to_owned(),
        |moment| moment.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string(),
    )
}

/// Who may not see secrets does not see commands either.
fn command(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "[hidden]".to_owned())
}

async fn find(cx: &Context<'_>, app: &str, sequence: u64) -> Result<resources::Task> {
    let app = cx.client.app(app, &cx.space().guid).await?;
    let (path, wanted) = (format!("/v3/apps/{}/tasks", app.guid), sequence.to_string());
    let found = cx.client.list(&path, &[("sequence_ids", &wanted)]).await?.resources;
    found
        .into_iter()
        .next()
        .ok_or_else(|| Error::Failed(format!("Task sequence ID {sequence} not found.")))
}

/// `cf task`
#[derive(clap::Args)]
pub struct Task {
    #[arg(value_name = "APP_NAME")]
    app: String,
    #[arg(value_name = "TASK_ID")]
    id: u64,
}

impl Command for Task {
    const SPEC: &'static Spec = &Spec {
        name: "task",
        about: "Display a task of an app",
        usage: "{cf} task APP_NAME TASK_ID",
        see_also: &["apps", "logs", "run-task", "tasks", "terminate-task"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (id, name, place) = (cx.ui.name(self.id), cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Getting task {id} for app {name} in {place}...\n");
        let task = find(cx, &self.app, self.id).await?;
        let rows = [
            ("id:", task.sequence_id.to_string()),
            ("name:", task.name),
            ("state:", task.state),
            ("start time:", task.created_at),
            ("command:", command(task.command)),
            ("memory in mb:", task.memory_in_mb.to_string()),
            ("disk in mb:", task.disk_in_mb.to_string()),
            ("log rate limit:", task.log_rate_limit_in_bytes_per_second.to_string()),
            ("failure reason:", task.result.failure_reason.unwrap_or_default()),
        ];
        table::key_values(&mut cx.ui, &rows);
        Ok(())
    }
}

/// `cf terminate-task`
#[derive(clap::Args)]
pub struct TerminateTask {
    #[arg(value_name = "APP_NAME")]
    app: String,
    #[arg(value_name = "TASK_ID")]
    id: u64,
}

impl Command for TerminateTask {
    const SPEC: &'static Spec = &Spec {
        name: "terminate-task",
        about: "Terminate a running task of an app",
        usage: "{cf} terminate-task APP_NAME TASK_ID",
        see_also: &["task", "tasks"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let task = find(cx, &self.app, self.id).await?;
        let (id, name, place) = (cx.ui.name(self.id), cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Terminating task {id} of app {name} in {place}...");
        cx.client
            .send(reqwest::Method::PUT, &format!("/v3/tasks/{}/cancel", task.guid), &[], Body::None)
            .await?;
        cx.ui.ok();
        Ok(())
    }
}
