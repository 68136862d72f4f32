//! Tasks of apps at Diego: what they are in its words, how they end, and what becomes of those it lost.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use anyhow::Context as _;
use diego::action::{EnvVar, ResourceLimits, RunAction};
use diego::bbs::{ErrorKind, TaskFilter};
use diego::desired_lrp::RunInfo;
use diego::task::TaskCallback;
use diego::{Action, TaskDefinition};
use serde_json::Value;
use tracing::warn;

use super::TASKS_DOMAIN;
use super::environment::{self, Limits, View};
use super::recipe::{self, LIFECYCLE, unsigned};
use crate::Cc;
use crate::config::Config;
use crate::db::apps::App;
use crate::db::droplets::Droplet;
use crate::db::recipes::{self, Phase};
use crate::db::tasks::{self, CANCELING, FAILED, PENDING, RUNNING, SUCCEEDED, Task};
use crate::db::{self, apps, droplets, routing, usage_events};
use crate::internal::address;

/// A task this young may not be at Diego yet.
const YOUNG: Duration = Duration::from_secs(30);
const LOST: &str = "Unable to determine completion status";

/// A task with all it needs.
#[derive(Clone, Debug)]
pub struct TaskRecipe {
    pub task: Task,
    pub app: App,
    pub droplet: Droplet,
    pub view: View,
    pub security_rules: Vec<Value>,
    pub isolation_segment: Option<String>,
}

pub async fn recipe(
    cc: &Cc,
    connection: &mut sql::Connection,
    task: Task,
    app: App,
    droplet: Droplet,
) -> anyhow::Result<TaskRecipe> {
    let mappings = routing::of_apps(connection, std::slice::from_ref(&app.guid)).await?;
    let mappings = mappings.get(&app.guid).map_or(&[][..], Vec::as_slice);
    let view =
        recipes::view(connection, &cc.seal, &cc.config.cf_api(), &app, mappings, Phase::Running)
            .await?;
    Ok(TaskRecipe {
        view,
        security_rules: recipes::security_rules(connection, &app.space_guid, Phase::Running)
            .await?,
        isolation_segment: recipes::isolation_segment(connection, &app.space_guid).await?,
        task,
        app,
        droplet,
    })
}

/// Pure: the task in Diego's words.
pub fn definition(recipe: &TaskRecipe, config: &Config) -> TaskDefinition {
    let task = &recipe.task;
    let image = recipe.droplet.docker_image.as_deref();
    let user = task.run_as.as_deref().unwrap_or(if image.is_some() { "root" } else { "vcap" });
    let lang = EnvVar::new(environment::LANG.0, environment::LANG.1);
    let limits = Limits {
        memory_mb: task.memory_mb,
        disk_mb: Some(task.disk_mb),
        fds: Some(config.limits.app_fds),
    };
    let launcher = Action::Run(RunAction {
        path: format!("{LIFECYCLE}/launcher"),
        args: vec![
            "app".to_owned(),
            task.command.clone(),
            recipe.droplet.execution_metadata.clone(),
        ],
        env: recipe.view.variables(&[], limits, None),
        resource_limits: ResourceLimits { nofile: Some(config.limits.app_fds) },
        user: user.to_owned(),
        log_source: String::new(),
        ..RunAction::default()
    });
    TaskDefinition {
        run: RunInfo {
            rootfs: recipe::rootfs(&recipe.droplet, config),
            env: if image.is_some() { Vec::new() } else { vec![lang] },
            action: Some(launcher),
            memory_mb: unsigned(task.memory_mb),
            disk_mb: unsigned(task.disk_mb),
            max_pids: config.limits.app_max_pids,
            cpu_weight: recipe::cpu_weight(task.memory_mb),
            egress_rules: recipe::egress_rules(&recipe.security_rules),
            cached_dependencies: vec![recipe::lifecycle(config)],
            image_layers: recipe::droplet_layer(&recipe.droplet, config).into_iter().collect(),
            volume_mounted_files: recipe.view.mounted_files(),
            placement_tags: recipe.isolation_segment.iter().cloned().collect(),
            certificate_properties: Some(Box::new(recipe::certificate(&recipe.view.names))),
            log_guid: recipe.app.guid.clone(),
            log_source: format!("APP/TASK/{}", task.name),
            metrics_guid: recipe.app.guid.clone(),
            log_rate_limit: task.log_rate,
            ..RunInfo::default()
        },
        result_file: String::new(),
        completion_callback_url: address(
            config,
            &format!("/internal/tasks/{}/completed", task.guid),
        ),
        annotation: String::new(),
        ..TaskDefinition::default()
    }
}

/// Hands the task to Diego. One that Diego does not take has failed.
pub async fn desire(cc: &Cc, recipe: &TaskRecipe) -> anyhow::Result<()> {
    let guid = recipe.task.guid.as_str();
    let definition = definition(recipe, &cc.config);
    // One that is there already is what was asked for.
    if let Err(error) = cc.bbs.desire_task(&guid.into(), &TASKS_DOMAIN.into(), definition).await
        && error.kind != ErrorKind::ResourceExists
    {
        end(cc, guid, Some("Unable to request task to be run")).await?;
        return Err(error).context("asking Diego to run a task");
    }
    let mut tx = cc.db.begin().await?;
    tasks::advance(&mut tx, cc.now(), guid, &[PENDING], RUNNING, None).await?;
    tx.commit().await?;
    Ok(())
}

/// Records how a task ended. Told twice, it changes nothing the second time.
pub async fn complete(cc: &Cc, guid: &str, callback: &TaskCallback) -> anyhow::Result<()> {
    end(cc, guid, callback.failed.then_some(callback.failure_reason.as_str())).await
}

async fn end(cc: &Cc, guid: &str, failure: Option<&str>) -> anyhow::Result<()> {
    let now = cc.now();
    let state = if failure.is_some() { FAILED } else { SUCCEEDED };
    let mut tx = cc.db.begin().await?;
    if !tasks::advance(&mut tx, now, guid, &[PENDING, RUNNING, CANCELING], state, failure).await? {
        return Ok(());
    }
    if let Some(task) = tasks::find(&mut tx, guid).await? {
        usage_events::record_task(&mut tx, now, "TASK_STOPPED", &task).await?;
    }
    tx.commit().await?;
    cc.changes.tell(guid);
    Ok(())
}

/// What one look at both sides asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Differences {
    /// Open here and gone at Diego.
    lost: Vec<String>,
    /// At Diego, and unknown, ended or to be canceled here.
    unwanted: Vec<String>,
}

/// Pure. `open` are those here that must be at Diego by now, `states` those here of what is there; of that, `busy`
/// has not ended.
fn compare(
    open: &[String],
    states: &HashMap<String, String>,
    at_diego: &BTreeSet<&str>,
    busy: &BTreeSet<&str>,
) -> Differences {
    let wanted = |guid: &str| {
        states.get(guid).is_some_and(|state| [PENDING, RUNNING].contains(&state.as_str()))
    };
    Differences {
        lost: open.iter().filter(|guid| !at_diego.contains(guid.as_str())).cloned().collect(),
        unwanted: busy.iter().filter(|guid| !wanted(guid)).map(|guid| (*guid).to_owned()).collect(),
    }
}

/// Hands tasks to Diego that did not get there because their request was cut off, ends those that Diego lost, and cancels those at Diego that nobody wants any more.
pub async fn sweep(cc: &Cc) -> anyhow::Result<()> {
    let found = at_diego(cc, TASKS_DOMAIN).await.context("listing tasks")?;
    let (at_diego, busy) = guids(&found);
    for guid in pending(cc, &at_diego).await? {
        again(cc, &guid).await?;
    }
    // Read after Diego was asked, so that whatever it has is known here.
    let (open, states) = {
        let mut connection = cc.db.read().await?;
        let open = tasks::open_since(&mut connection, cc.now() - YOUNG).await?;
        (open, db::states(&mut connection, "tasks", &at_diego).await?)
    };
    let Differences { lost, unwanted } = compare(&open, &states, &at_diego, &busy);
    for guid in lost {
        end(cc, &guid, Some(LOST)).await?;
    }
    cancel(cc, &unwanted).await;
    Ok(())
}

/// Diego's tasks of a domain.
pub(super) async fn at_diego(cc: &Cc, domain: &str) -> diego::bbs::Result<Vec<diego::Task>> {
    cc.bbs.tasks(&TaskFilter { domain: Some(domain.into()), cell_id: None }).await
}

/// The guids of all, and of those that Diego still has something to do for besides telling their end.
pub(super) fn guids(tasks: &[diego::Task]) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let all = tasks.iter().map(|task| task.task_guid.as_str()).collect();
    let open = tasks.iter().filter(|task| task.outcome().is_none());
    (all, open.map(|task| task.task_guid.as_str()).collect())
}

/// Takes from Diego what it still does and nobody wants any more; what cannot be taken now is left for the next sweep.
pub(super) async fn cancel(cc: &Cc, unwanted: &[String]) {
    for guid in unwanted {
        if let Err(error) = cc.bbs.cancel_task(&guid.as_str().into()).await
            && !error.is_not_found()
        {
            warn!(task.guid = guid, error = %error, "a task nobody wants was not canceled yet");
        }
    }
}

/// Those that wait for Diego to take them and are not there: begun in an earlier life, or long ago.
async fn pending(cc: &Cc, at_diego: &BTreeSet<&str>) -> anyhow::Result<Vec<String>> {
    let before = cc.began.max(cc.now() - YOUNG);
    let open = tasks::pending_since(&mut *cc.db.read().await?, before).await?;
    Ok(open.into_iter().filter(|guid| !at_diego.contains(guid.as_str())).collect())
}

/// A task leaves Diego after its end was recorded here, so one that still waits has not run and may.
async fn again(cc: &Cc, guid: &str) -> anyhow::Result<()> {
    let recipe = {
        let mut connection = cc.db.read().await?;
        let found = tasks::find(&mut connection, guid).await?;
        let Some(task) = found.filter(|task| task.state == PENDING) else { return Ok(()) };
        let app = apps::find(&mut connection, &task.app_guid).await?;
        let droplet = droplets::find(&mut connection, &task.droplet_guid).await?;
        match app.zip(droplet) {
            Some((app, droplet)) => Some(recipe(cc, &mut connection, task, app, droplet).await?),
            None => None,
        }
    };
    match recipe {
        Some(recipe) => desire(cc, &recipe).await,
        None => end(cc, guid, Some(LOST)).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_one_side_knows_is_brought_in_step() {
        let open = ["a".to_owned(), "b".to_owned()];
        let states = [("a", RUNNING), ("c", CANCELING), ("new", PENDING)];
        let states = states.map(|(guid, state)| (guid.to_owned(), state.to_owned())).into();
        let all = BTreeSet::from(["a", "c", "x", "new"]);
        let found = compare(&open, &states, &all, &all);
        assert_eq!(found.lost, ["b"]);
        assert_eq!(found.unwanted, ["c", "x"]);
    }
}
