//! `/v3/deployments`: bring an app from one version to the next while it serves.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use base::Timestamp;
use serde_json::{Value, json};
use sql::Connection;

use crate::actions::deployments as actions;
use crate::auth::Caller;
use crate::db::access::{self, OPERATORS};
use crate::db::apps::{self, App};
use crate::db::deployments::{self, Deployment};
use crate::db::droplets::{self, Droplet};
use crate::db::metadata::Metadata;
use crate::db::processes::WEB;
use crate::db::revisions::{self, Revision};
use crate::db::{self, Columns as _, Row, Stored};
use crate::errors::{ApiError, ApiResult};
use crate::message::{Body, Fields};
use crate::query::{Filter, List};
use crate::urls::Urls;
use crate::v3::processes::Scale;
use crate::v3::resource::{self, OfApp, Resource, present_one, visible};
use crate::{Cc, respond};

const KIND: &str = "deployment";

const LIST: List = List {
    table: "deployments",
    filters: &[
        ("app_guids", Filter::Text("deployments.app_guid")),
        ("states", Filter::Text("deployments.state")),
        ("status_values", Filter::Text("deployments.status_value")),
        ("status_reasons", Filter::Text("deployments.status_reason")),
    ],
    orders: &[],
    includes: &[],
    labels: Some(KIND),
};

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/deployments", get(resource::list::<Shown>).post(create))
        .route("/v3/deployments/{guid}", get(find).patch(resource::update_metadata::<Shown>))
        .route("/v3/deployments/{guid}/actions/cancel", post(cancel))
        .route("/v3/deployments/{guid}/actions/continue", post(proceed))
}

/// Held until the deployment has ended or waits for a person, or for a step where steps take their time.
async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let look = || load(cc.clone(), caller.clone(), guid.clone());
    let settled = |shown: &Shown| {
        !shown.deployment.is_active() || shown.deployment.state == deployments::PAUSED
    };
    let at_most = cc.config.timings.hold_deployment(cc.config.limits.hold);
    let shown = cc.changes.hold(&guid, at_most, look, settled).await?;
    Ok(respond::ok(present_one(&mut *cc.db.read().await?, &shown, &urls).await?))
}

async fn load(cc: Cc, caller: Caller, guid: String) -> ApiResult<Shown> {
    Ok(visible::<Shown>(&mut *cc.db.read().await?, &caller, &guid).await?.0)
}

/// A deployment with what only readers want.
struct Shown {
    deployment: Deployment,
    revision_version: Option<i64>,
    error: Option<String>,
    healthy_at: Option<Timestamp>,
    changed_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl Stored for Shown {
    const TABLE: &'static str = "deployments";
    const COLUMNS: &'static str = "deployments.*";
    const FROM: &'static str = "deployments JOIN apps a ON a.guid = deployments.app_guid";

    fn read(row: &Row) -> db::Result<Shown> {
        let moment =
            |column: &str| Ok::<_, db::Error>(row.maybe_int(column)?.map(Timestamp::from_nanos));
        Ok(Shown {
            deployment: deployments::read(row)?,
            revision_version: row.maybe_int("revision_version")?,
            error: row.maybe_text("error")?,
            healthy_at: moment("last_healthy_at")?,
            changed_at: moment("status_changed_at")?,
            created_at: row.moment("created_at")?,
            updated_at: row.moment("updated_at")?,
        })
    }
}

impl OfApp for Shown {
    const WHAT: &'static str = "Deployment";
    const LIST: List = LIST;

    fn app_guid(&self) -> &str {
        &self.deployment.app_guid
    }
}

/// What a deployment is asked to be.
struct Message {
    app: String,
    strategy: String,
    droplet: Option<String>,
    revision: Option<String>,
    options: Value,
    scale: Scale,
}

impl Message {
    fn read(fields: &mut Fields<'_>) -> Message {
        let [app] = fields.relationships(["app"]);
        let strategy = match fields.value("strategy") {
            None => deployments::ROLLING.to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        if ![deployments::ROLLING, deployments::CANARY].contains(&strategy.as_str()) {
            fields.error(format!("Strategy '{strategy}' is not a supported deployment strategy"));
        }
        let droplet = fields.inside("droplet", |droplet| droplet.required_text("guid"));
        let revision = fields.inside("revision", |revision| revision.required_text("guid"));
        if droplet.is_some() && revision.is_some() {
            fields.error("Droplet Cannot set both fields 'droplet' and 'revision'");
        }
        let (options, scale) = match fields.object("options") {
            Some(object) => {
                let mut options = Fields::new(object);
                let read = read_options(&mut options, strategy == deployments::CANARY);
                options.into_errors().into_iter().for_each(|error| fields.error(error));
                let unknown: Vec<&str> = object
                    .keys()
                    .map(String::as_str)
                    .filter(|key| !OPTIONS.contains(key))
                    .collect();
                if !unknown.is_empty() {
                    let unknown = unknown.join(", ");
                    fields.error(format!("Options has unsupported key(s): {unknown}"));
                }
                read
            }
            None => (json!({ "max_in_flight": 1 }), Scale::default()),
        };
        Message { app, strategy, droplet, revision, options, scale }
    }
}

const OPTIONS: [&str; 6] = [
    "canary",
    "max_in_flight",
    "web_instances",
    "memory_in_mb",
    "disk_in_mb",
    "log_rate_limit_in_bytes_per_second",
];

/// The options as they are kept and shown, and the sizes among them.
fn read_options(options: &mut Fields<'_>, canary: bool) -> (Value, Scale) {
    const MOST: i64 = i32::MAX as i64;
    let scale = Scale {
        instances: options.int("web_instances", 0..=MOST),
        memory_mb: options.int("memory_in_mb", 1..=MOST),
        disk_mb: options.int("disk_in_mb", 1..=MOST),
        log_rate: options.int("log_rate_limit_in_bytes_per_second", -1..=i64::MAX),
    };
    let max_in_flight = match options.value("max_in_flight").map(Value::as_i64) {
        None => 1,
        Some(Some(number)) if number >= 1 => number,
        Some(_) => {
            options.error("Max in flight must be an integer greater than 0");
            1
        }
    };
    let mut kept = json!({ "max_in_flight": max_in_flight });
    let sizes = [
        ("web_instances", scale.instances),
        ("memory_in_mb", scale.memory_mb),
        ("disk_in_mb", scale.disk_mb),
        ("log_rate_limit_in_bytes_per_second", scale.log_rate),
    ];
    for (name, size) in sizes {
        if let Some(size) = size {
            kept[name] = size.into();
        }
    }
    match options.value("canary").map(Value::as_object) {
        None => {}
        Some(None) => options.error("Options canary must be an object"),
        Some(Some(_)) if !canary => {
            options.error("Options canary are only valid for Canary deployments");
        }
        Some(Some(object)) => {
            if let Some(steps) = object.get("steps").filter(|steps| !steps.is_null()) {
                wrong_steps(steps).into_iter().for_each(|error| options.error(error));
                kept["canary"] = json!({ "steps": steps });
            }
        }
    }
    (kept, scale)
}

/// What is wrong with the steps of a canary.
fn wrong_steps(steps: &Value) -> Vec<String> {
    const STEPS: &str = "Options canary steps";
    const WEIGHT: &str = "instance_weight";
    let objects: Option<Vec<_>> =
        steps.as_array().and_then(|list| list.iter().map(Value::as_object).collect());
    let Some(objects) = objects else {
        return vec![format!("{STEPS} must be an array of objects")];
    };
    let mut wrong = Vec::new();
    for step in &objects {
        let unknown: Vec<&str> =
            step.keys().map(String::as_str).filter(|key| *key != WEIGHT).collect();
        if !unknown.is_empty() {
            wrong.push(format!("{STEPS} has unsupported key(s): {}", unknown.join(", ")));
        }
    }
    if objects.iter().any(|step| !step.contains_key(WEIGHT)) {
        wrong.push(format!("{STEPS} missing key: \"{WEIGHT}\""));
    }
    let weights: Option<Vec<i64>> = objects.iter().map(|step| step.get(WEIGHT)?.as_i64()).collect();
    let range = format!("{STEPS} instance weight must be an Integer between 1-100 (inclusive)");
    match weights {
        None => wrong.push(range),
        Some(weights) => {
            if weights.iter().any(|weight| !(1..=100).contains(weight)) {
                wrong.push(range);
            }
            if !weights.is_sorted() {
                wrong.push(format!("{STEPS} instance weight must be sorted in ascending order"));
            }
        }
    }
    wrong
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    let mut fields = body.fields();
    let message = Message::read(&mut fields);
    let metadata = fields.metadata();
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let unusable = || {
        ApiError::unprocessable(
            "Unable to use app. Ensure that the app exists and you have access to it.",
        )
    };
    let app = apps::find(&mut tx, &message.app).await?.ok_or_else(unusable)?;
    let rights = access::in_space(&mut tx, &caller, &app.space_guid).await?;
    rights.see("App").map_err(|_| unusable())?;
    rights.change("App", OPERATORS)?;
    let target = target(&mut tx, &app, message.revision.as_deref()).await?;
    let droplet = droplet(&mut tx, &app, message.droplet.as_deref(), target.as_ref()).await?;
    let wanted = actions::Wanted {
        strategy: message.strategy,
        options: message.options,
        scale: message.scale,
        droplet,
        target,
        request: body.redacted(&[]),
    };
    let superseded = deployments::active_of_app(&mut tx, &app.guid).await?;
    let deployment = actions::create(&cc, &mut tx, &caller, &app, &wanted).await?;
    crate::v3::common::write_metadata(&mut tx, KIND, &deployment.guid, &metadata).await?;
    let (shown, _, _) = visible::<Shown>(&mut tx, &caller, &deployment.guid).await?;
    let document = present_one(&mut tx, &shown, &urls).await?;
    let names = apps::names(&mut tx, &app.guid).await?;
    tx.commit().await?;
    cc.nsync.poke();
    cc.rollouts.poke();
    if let Some(superseded) = superseded {
        cc.changes.tell(&superseded.guid);
    }
    cc.api_log(&names, &format!("Creating deployment for app with guid {}", app.guid));
    Ok(respond::created(document))
}

async fn target(
    connection: &mut Connection,
    app: &App,
    guid: Option<&str>,
) -> ApiResult<Option<Revision>> {
    let Some(guid) = guid else { return Ok(None) };
    if !app.revisions_enabled {
        let detail =
            "Cannot create deployment from a revision for an app without revisions enabled";
        return Err(ApiError::unprocessable(detail));
    }
    let found =
        revisions::find(connection, guid).await?.filter(|revision| revision.app_guid == app.guid);
    found.map(Some).ok_or_else(|| ApiError::unprocessable("The revision does not exist"))
}

async fn droplet(
    connection: &mut Connection,
    app: &App,
    given: Option<&str>,
    target: Option<&Revision>,
) -> ApiResult<Droplet> {
    let guid = match target {
        Some(target) => target.droplet_guid.as_deref(),
        None => given.or(app.droplet_guid.as_deref()),
    };
    let found = match guid {
        Some(guid) => {
            droplets::find(connection, guid).await?.filter(|droplet| droplet.app_guid == app.guid)
        }
        None => None,
    };
    found.filter(|droplet| droplet.state == droplets::STAGED).ok_or_else(|| {
        ApiError::unprocessable(match (target, given) {
            (Some(_), _) => "Unable to deploy this revision, the droplet for this revision no longer exists.",
            (None, Some(_)) => "Unable to assign current droplet. Ensure the droplet exists and belongs to this app.",
            (None, None) => "Invalid droplet. Please specify a droplet in the request or set a current droplet for the app.",
        })
    })
}

/// The old process grows again while the new one goes; whoever waits for the deployment is told when that is done.
async fn cancel(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let kind = "audit.app.deployment.cancel";
    turn(&cc, &caller, &urls, &guid, kind, |deployment| {
        if deployment.is_active() {
            return Ok((deployments::CANCELING, deployment.canary_step));
        }
        Err(format!("Cannot cancel a {} deployment", deployment.state))
    })
    .await
}

/// A canary goes on to its next step, or all the way after the last.
async fn proceed(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let kind = "audit.app.deployment.continue";
    turn(&cc, &caller, &urls, &guid, kind, |deployment| {
        if deployment.state != deployments::PAUSED {
            let (value, reason) = (&deployment.status_value, &deployment.status_reason);
            return Err(format!(
                "Cannot continue a deployment with status: {value} and reason: {reason}"
            ));
        }
        if deployment.canary_step < deployment.canary_steps() {
            return Ok((deployments::PREPAUSED, deployment.canary_step + 1));
        }
        Ok((deployments::DEPLOYING, deployment.canary_step))
    })
    .await
}

async fn turn(
    cc: &Cc,
    caller: &Caller,
    urls: &Urls,
    guid: &str,
    event: &str,
    decide: impl FnOnce(&Deployment) -> Result<(&'static str, i64), String>,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let (_, app, rights) = visible::<Shown>(&mut tx, caller, guid).await?;
    rights.change("Deployment", OPERATORS)?;
    deployments::lock_app(&mut tx, &app.guid).await?;
    let (Shown { deployment, .. }, _, _) = visible(&mut tx, caller, guid).await?;
    let (state, step) = decide(&deployment).map_err(ApiError::unprocessable)?;
    if state != deployment.state {
        let set = vec![("canary_step", step.into())];
        crate::db::update(&mut tx, "deployments", guid, set).await?;
        deployments::advance(&mut tx, cc.now(), guid, state).await?;
    }
    let data = json!({ "deployment_guid": guid, "droplet_guid": deployment.droplet_guid });
    crate::actions::apps::audit(cc, &mut tx, caller, event, &app, data).await?;
    let (shown, _, _) = visible::<Shown>(&mut tx, caller, guid).await?;
    let document = present_one(&mut tx, &shown, urls).await?;
    tx.commit().await?;
    cc.rollouts.poke();
    cc.changes.tell(guid);
    Ok(respond::ok(document))
}

impl Resource for Shown {
    const KIND: &'static str = KIND;

    fn guid(&self) -> &str {
        &self.deployment.guid
    }

    fn present(&self, metadata: &Metadata, urls: &Urls) -> Value {
        let deployment = &self.deployment;
        let (guid, app) = (&deployment.guid, &deployment.app_guid);
        let moment = |moment: Option<Timestamp>| moment.map(|moment| moment.to_rfc3339());
        let mut status = json!({
            "value": deployment.status_value,
            "reason": deployment.status_reason,
            "details": {
                "last_successful_healthcheck": moment(self.healthy_at),
                "last_status_change": moment(self.changed_at),
            },
        });
        if deployment.strategy == deployments::CANARY {
            let (current, total) = (deployment.canary_step, deployment.canary_steps());
            status["canary"] = json!({ "steps": { "current": current, "total": total } });
        }
        if let Some(error) = &self.error {
            status["details"]["error"] = error.as_str().into();
        }
        let revision = deployment.revision_guid.as_ref();
        let process = |guid: &String| json!({ "guid": guid, "type": WEB });
        let mut links = json!({
            "self": urls.link(&format!("deployments/{guid}")),
            "app": urls.link(&format!("apps/{app}")),
        });
        let action =
            |name: &str| urls.action(&format!("deployments/{guid}/actions/{name}"), "POST");
        if deployment.is_active() {
            links["cancel"] = action("cancel");
        }
        if deployment.state == deployments::PAUSED {
            links["continue"] = action("continue");
        }
        json!({
            "guid": guid,
            "created_at": self.created_at.to_rfc3339(),
            "updated_at": self.updated_at.to_rfc3339(),
            "status": status,
            "strategy": deployment.strategy,
            "options": deployment.options,
            "droplet": { "guid": deployment.droplet_guid },
            "previous_droplet": { "guid": deployment.previous_droplet_guid },
            "new_processes": deployment.web_process_guid.iter().map(process).collect::<Vec<_>>(),
            "revision": revision.map(|guid| json!({ "guid": guid, "version": self.revision_version })),
            "relationships": { "app": { "data": { "guid": app } } },
            "metadata": metadata.to_json(),
            "links": links,
        })
    }
}
