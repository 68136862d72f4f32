//! `/v3/tasks` and `/v3/apps/:guid/tasks`: run an app's droplet once.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post, put};
use serde_json::{Value, json};
use sql::Connection;
use tracing::warn;

use crate::auth::Caller;
use crate::bridge::tasks as bridge;
use crate::db::access::{DEVELOPERS, OPERATORS, Rights};
use crate::db::apps::{self, App};
use crate::db::droplets::{self, Droplet, STAGED};
use crate::db::metadata::Metadata;
use crate::db::processes::{self, Process};
use crate::db::tasks::{self, CANCELING, PENDING, RUNNING, Task};
use crate::db::{feature_flags, quota_usage, usage_events};
use crate::errors::{ApiError, ApiResult, Kind, when_taken};
use crate::message::{Body, Fields};
use crate::query::{Filter, List, Params};
use crate::urls::Urls;
use crate::v3::resource::{self, OfApp, Resource, fetch, present_one, visible};
use crate::{Cc, REDACTED, actions, respond};

const KIND: &str = "task";
const MAX_INT: i64 = i32::MAX as i64;
/// What lists show in place of a command.
const HIDDEN: &str = "[PRIVATE DATA HIDDEN IN LISTS]";

const LIST: List = List {
    table: "tasks",
    filters: &[
        ("names", Filter::Text("tasks.name")),
        ("states", Filter::Text("tasks.state")),
        ("app_guids", Filter::Text("tasks.app_guid")),
        ("space_guids", Filter::Text("a.space_guid")),
        (
            "organization_guids",
            Filter::Sql("a.space_guid IN (SELECT guid FROM spaces WHERE org_guid IN ({}))"),
        ),
    ],
    orders: &[],
    includes: &[],
    labels: Some(KIND),
};

const LIST_OF_APP: List = List {
    filters: &[
        ("names", Filter::Text("tasks.name")),
        ("states", Filter::Text("tasks.state")),
        ("sequence_ids", Filter::Int("tasks.sequence_id")),
    ],
    ..LIST
};

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/tasks", get(resource::list::<Task>))
        .route("/v3/tasks/{guid}", get(find).patch(resource::update_metadata::<Task>))
        .route("/v3/tasks/{guid}/actions/cancel", post(cancel))
        .route("/v3/tasks/{guid}/cancel", put(cancel))
        .route("/v3/apps/{guid}/tasks", get(list_of_app).post(create))
}

async fn list_of_app(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    params: Params,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut listing = LIST_OF_APP.read(params)?;
    let mut connection = cc.db.read().await?;
    let (_, rights) = crate::v3::apps::visible(&mut connection, &caller, &guid).await?;
    listing.equals("tasks.app_guid", &guid);
    let (total, _, mut documents) = fetch::<Task>(&mut connection, &listing, &urls).await?;
    documents.iter_mut().for_each(|document| hide_from(document, &rights));
    Ok(respond::ok(listing.present(&urls, total, documents, BTreeMap::new())))
}

/// Who may not read the command sees something in its place.
fn hide_from(document: &mut Value, rights: &Rights) {
    if !rights.can_read_secrets() {
        document["command"] = REDACTED.into();
    }
}

async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    let (task, _, rights) = visible::<Task>(&mut connection, &caller, &guid).await?;
    let mut document = present_one(&mut connection, &task, &urls).await?;
    hide_from(&mut document, &rights);
    Ok(respond::ok(document))
}

/// What a task is asked to be.
#[derive(Debug, Default)]
struct Wanted {
    name: Option<String>,
    command: Option<String>,
    user: Option<String>,
    memory_mb: Option<i64>,
    disk_mb: Option<i64>,
    log_rate: Option<i64>,
    droplet: Option<String>,
    /// The process whose command and size are taken where nothing else is said.
    template: Option<String>,
}

impl Wanted {
    fn read(fields: &mut Fields<'_>) -> Wanted {
        let longest =
            |fields: &mut Fields<'_>, text: &Option<String>, spoken: &str, most: usize| {
                if text.as_ref().is_some_and(|text| !(1..=most).contains(&text.chars().count())) {
                    fields.error(format!("{spoken} must be between 1 and {most} characters"));
                }
            };
        let (name, command, user) =
            (fields.text("name"), fields.text("command"), fields.text("user"));
        longest(fields, &name, "Name", 255);
        longest(fields, &command, "Command", 4096);
        longest(fields, &user, "User", 255);
        let template = fields.inside("template", |template| {
            template.inside("process", |process| process.required_text("guid"))
        });
        if command.is_none() && template.is_none() && !fields.has("command") {
            fields.error("No command or template provided");
        }
        Wanted {
            name,
            command,
            user,
            memory_mb: fields.int("memory_in_mb", 1..=MAX_INT),
            disk_mb: fields.int("disk_in_mb", 1..=MAX_INT),
            log_rate: fields.int("log_rate_limit_in_bytes_per_second", -1..=i64::MAX),
            droplet: fields.text("droplet_guid"),
            template: template.flatten(),
        }
    }
}

async fn create(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut fields = body.fields();
    let wanted = Wanted::read(&mut fields);
    let metadata = fields.metadata();
    fields.finish()?;

    let mut tx = cc.db.begin().await?;
    feature_flags::require(&mut tx, &caller, "task_creation").await?;
    let (app, rights) = crate::v3::apps::visible(&mut tx, &caller, &guid).await?;
    rights.change("App", DEVELOPERS)?;
    let droplet = droplet(&mut tx, &app, wanted.droplet.as_deref()).await?;
    let template = template(&mut tx, &app, wanted.template.as_deref()).await?;
    let sequence_id = tasks::next_sequence(&mut tx, &app.guid).await?;
    let task = task(&cc, &app, &droplet, sequence_id, wanted, template)?;
    quota_usage::check_task(&mut tx, &app.space_guid, &task).await?;
    let again = || {
        Kind::TaskError.with("Task error: another task was made at the same time, please try again")
    };
    tasks::insert(&mut tx, &task).await.map_err(|error| when_taken(error, again()))?;
    crate::v3::common::write_metadata(&mut tx, KIND, &task.guid, &metadata).await?;
    usage_events::record_task(&mut tx, cc.now(), "TASK_STARTED", &task).await?;
    let data = json!({ "task_guid": task.guid, "request": body.redacted(&["command", "environment_variables"]) });
    actions::apps::audit(&cc, &mut tx, &caller, "audit.app.task.create", &app, data).await?;
    let recipe = bridge::recipe(&cc, &mut tx, task, app, droplet).await?;
    let names = apps::names(&mut tx, &guid).await?;
    tx.commit().await?;
    let own = recipe.task.guid.as_str();
    cc.api_log(&names, &format!("Creating task {} with guid {own}", recipe.task.name));
    if let Err(error) = bridge::desire(&cc, &recipe).await {
        warn!(task.guid = own, error = %format!("{error:#}"), "a task could not be run");
        return Err(Kind::TaskWorkersUnavailable
            .with("Task workers are unavailable: Diego does not take the task"));
    }
    let mut connection = cc.db.read().await?;
    let (task, _, _) = visible::<Task>(&mut connection, &caller, own).await?;
    Ok(respond::accepted(present_one(&mut connection, &task, &urls).await?))
}

async fn droplet(
    connection: &mut Connection,
    app: &App,
    wanted: Option<&str>,
) -> ApiResult<Droplet> {
    let found = match wanted.or(app.droplet_guid.as_deref()) {
        Some(guid) => {
            droplets::find(connection, guid).await?.filter(|droplet| droplet.app_guid == app.guid)
        }
        None => None,
    };
    match found {
        Some(droplet) if droplet.state == STAGED => Ok(droplet),
        None if wanted.is_some() => Err(ApiError::not_found("Droplet")),
        _ => {
            let detail = "Task must have a droplet. Assign current droplet to app.";
            Err(ApiError::unprocessable(detail))
        }
    }
}

async fn template(
    connection: &mut Connection,
    app: &App,
    wanted: Option<&str>,
) -> ApiResult<Option<Process>> {
    let Some(guid) = wanted else { return Ok(None) };
    let found =
        processes::find(connection, guid).await?.filter(|process| process.app_guid == app.guid);
    found.map(Some).ok_or_else(|| ApiError::not_found("Process"))
}

fn task(
    cc: &Cc,
    app: &App,
    droplet: &Droplet,
    sequence_id: i64,
    wanted: Wanted,
    template: Option<Process>,
) -> ApiResult<Task> {
    let (limits, template, now, guid) =
        (&cc.config.limits, template.as_ref(), cc.now(), base::new_guid());
    let inherited = || template.and_then(Process::start_command).map(str::to_owned);
    let Some(command) = wanted.command.or_else(inherited) else {
        return Err(ApiError::unprocessable("Command can't be blank"));
    };
    let disk_mb =
        wanted.disk_mb.or(template.map(|process| process.disk_mb)).unwrap_or(limits.app_disk_mb);
    if disk_mb > limits.max_app_disk_mb {
        let most = limits.max_app_disk_mb;
        return Err(ApiError::unprocessable(format!(
            "Cannot request disk_in_mb greater than {most}"
        )));
    }
    Ok(Task {
        app_guid: app.guid.clone(),
        sequence_id,
        // Eight of the guid's own digits name those that were not named.
        name: wanted.name.unwrap_or_else(|| guid.chars().filter(|c| *c != '-').take(8).collect()),
        guid,
        command,
        run_as: wanted.user.or_else(|| template.and_then(|process| process.run_as.clone())),
        state: PENDING.to_owned(),
        memory_mb: wanted
            .memory_mb
            .or(template.map(|process| process.memory_mb))
            .unwrap_or(limits.app_memory_mb),
        disk_mb,
        log_rate: wanted
            .log_rate
            .or(template.map(|process| process.log_rate))
            .unwrap_or(limits.app_log_rate),
        droplet_guid: droplet.guid.clone(),
        failure_reason: None,
        created_at: now,
        updated_at: now,
    })
}

/// The task's end is told by Diego, as any other.
async fn cancel(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let (task, app, rights) = visible::<Task>(&mut tx, &caller, &guid).await?;
    rights.change("Task", OPERATORS)?;
    let open = [PENDING, RUNNING, CANCELING];
    if !tasks::advance(&mut tx, cc.now(), &guid, &open, CANCELING, None).await? {
        let detail = format!("Task state is {} and therefore cannot be canceled", task.state);
        return Err(ApiError::unprocessable(detail));
    }
    let data = json!({ "task_guid": guid });
    actions::apps::audit(&cc, &mut tx, &caller, "audit.app.task.cancel", &app, data).await?;
    let (task, _, _) = visible::<Task>(&mut tx, &caller, &guid).await?;
    let mut document = present_one(&mut tx, &task, &urls).await?;
    hide_from(&mut document, &rights);
    tx.commit().await?;
    if let Err(error) = cc.bbs.cancel_task(&guid.as_str().into()).await
        && !error.is_not_found()
    {
        warn!(task.guid = guid, error = %error, "canceling a task is left for the next sweep");
    }
    Ok(respond::accepted(document))
}

impl Resource for Task {
    const KIND: &'static str = KIND;

    fn guid(&self) -> &str {
        &self.guid
    }

    fn present(&self, metadata: &Metadata, urls: &Urls) -> Value {
        let own = format!("tasks/{}", self.guid);
        json!({
            "guid": self.guid,
            "created_at": self.created_at.to_rfc3339(),
            "updated_at": self.updated_at.to_rfc3339(),
            "sequence_id": self.sequence_id,
            "name": self.name,
            "command": self.command,
            "user": self.run_as.as_deref().unwrap_or("vcap"),
            "state": self.state,
            "memory_in_mb": self.memory_mb,
            "disk_in_mb": self.disk_mb,
            "log_rate_limit_in_bytes_per_second": self.log_rate,
            "result": { "failure_reason": self.failure_reason },
            "droplet_guid": self.droplet_guid,
            "relationships": { "app": { "data": { "guid": self.app_guid } } },
            "metadata": metadata.to_json(),
            "links": {
                "self": urls.link(&own),
                "app": urls.link(&format!("apps/{}", self.app_guid)),
                "cancel": urls.action(&format!("{own}/actions/cancel"), "POST"),
                "droplet": urls.link(&format!("droplets/{}", self.droplet_guid)),
            },
        })
    }
}

impl OfApp for Task {
    const WHAT: &'static str = "Task";
    const LIST: List = LIST;

    fn app_guid(&self) -> &str {
        &self.app_guid
    }

    fn hide(document: &mut Value) {
        document["command"] = HIDDEN.into();
    }
}
