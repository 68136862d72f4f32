//! Keeping what an app runs: a new revision whenever its droplet, variables, commands or sidecars are others than those
//! of the last one; and going back to an earlier one.

use serde_json::{Map, Value, json};
use sql::Connection;

use crate::Cc;
use crate::actions::apps::audit_by;
use crate::db::apps::{self, App};
use crate::db::audit_events::Actor;
use crate::db::revisions::{self, Revision};
use crate::db::{self, processes};
use crate::errors::{ApiError, ApiResult};

/// What two revisions are compared by.
#[derive(Clone, Debug, Default, PartialEq)]
struct Content {
    droplet: Option<String>,
    env: Value,
    commands: Value,
    sidecars: Value,
}

/// Pure: why `after` is another revision than `before`; nothing when it is the same.
fn reasons(before: &Content, after: &Content) -> Vec<String> {
    let mut reasons = Vec::new();
    if before.droplet != after.droplet {
        reasons.push("New droplet deployed.".to_owned());
    }
    if before.env != after.env {
        reasons.push("New environment variables deployed.".to_owned());
    }
    let none = Map::new();
    let (old, new) =
        (before.commands.as_object().unwrap_or(&none), after.commands.as_object().unwrap_or(&none));
    for (kind, command) in new {
        reasons.extend(match old.get(kind) {
            None => Some(format!("New process type '{kind}' added.")),
            Some(same) if same == command => None,
            Some(Value::Null) => Some(format!("Custom start command added for '{kind}' process.")),
            Some(_) if command.is_null() => {
                Some(format!("Custom start command removed for '{kind}' process."))
            }
            Some(_) => Some(format!("Custom start command updated for '{kind}' process.")),
        });
    }
    let gone = old.keys().filter(|kind| !new.contains_key(*kind));
    reasons.extend(gone.map(|kind| format!("Process type '{kind}' removed.")));
    reasons.extend(sidecar_reasons(&by_name(&before.sidecars), &by_name(&after.sidecars)));
    reasons.sort();
    reasons
}

fn by_name(sidecars: &Value) -> Map<String, Value> {
    let list = sidecars.as_array().into_iter().flatten();
    list.filter_map(|one| Some((one.get("name")?.as_str()?.to_owned(), one.clone()))).collect()
}

fn sidecar_reasons(old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<String> {
    let changed = new.iter().filter_map(|(name, sidecar)| match old.get(name) {
        None => Some(format!("New sidecar '{name}' added.")),
        Some(same) if same == sidecar => None,
        Some(_) => Some(format!("Sidecar '{name}' updated.")),
    });
    let gone = old
        .keys()
        .filter(|name| !new.contains_key(*name))
        .map(|name| format!("Sidecar '{name}' removed."));
    changed.chain(gone).collect()
}

fn content(cc: &Cc, revision: &Revision) -> ApiResult<Content> {
    Ok(Content {
        droplet: revision.droplet_guid.clone(),
        env: cc.seal.open_json(revision.sealed_env.as_deref())?,
        commands: revision.commands.clone(),
        sidecars: revision.sidecars.clone(),
    })
}

/// The revision of the app as it stands: the last one when nothing differs, else a new one. None without a droplet or
/// when the app keeps no revisions.
pub async fn update(
    cc: &Cc,
    connection: &mut Connection,
    actor: &Actor,
    app: &App,
) -> ApiResult<Option<Revision>> {
    if !app.revisions_enabled || app.droplet_guid.is_none() {
        return Ok(None);
    }
    let mut commands = Map::new();
    for process in processes::of_app(connection, &app.guid).await? {
        // Oldest first, so that of two web processes the newer one counts.
        commands.insert(process.kind, process.command.into());
    }
    let current = Revision {
        guid: base::new_guid(),
        app_guid: app.guid.clone(),
        version: 1,
        droplet_guid: app.droplet_guid.clone(),
        sealed_env: app.sealed_env.clone(),
        commands: Value::Object(commands),
        sidecars: revisions::sidecars(connection, &app.guid).await?,
    };
    let Some(latest) = revisions::latest(connection, &app.guid).await? else {
        return keep(cc, connection, actor, app, current, "Initial revision.").await.map(Some);
    };
    let reasons = reasons(&content(cc, &latest)?, &content(cc, &current)?);
    if reasons.is_empty() {
        return Ok(Some(latest));
    }
    let next = Revision { version: latest.version + 1, ..current };
    keep(cc, connection, actor, app, next, &reasons.join(" ")).await.map(Some)
}

/// A new revision that holds what `target` held. The app's variables and sidecars become those it had.
///
/// # Errors
/// 422 when the app runs just that already.
pub async fn roll_back(
    cc: &Cc,
    connection: &mut Connection,
    actor: &Actor,
    app: &App,
    target: &Revision,
) -> ApiResult<Revision> {
    let latest = revisions::latest(connection, &app.guid).await?;
    let (before, version) = match &latest {
        Some(latest) => (content(cc, latest)?, latest.version + 1),
        None => (Content::default(), 1),
    };
    let mut reasons = reasons(&before, &content(cc, target)?);
    if reasons.is_empty() {
        let detail = "Unable to rollback. The code and configuration you are rolling back to is the same as the deployed revision.";
        return Err(ApiError::unprocessable(detail));
    }
    reasons.push(format!("Rolled back to revision {}.", target.version));
    let now = cc.now();
    apps::update(connection, now, &app.guid, vec![("sealed_env", (&target.sealed_env).into())])
        .await?;
    // Those of the droplet came with it; the user's become those of the revision.
    let users = "DELETE FROM sidecars WHERE app_guid = $1 AND origin = 'user'";
    db::query(users, [(&app.guid).into()]).run(connection).await?;
    let present = by_name(&revisions::sidecars(connection, &app.guid).await?);
    for sidecar in target.sidecars.as_array().into_iter().flatten() {
        if sidecar["name"].as_str().is_some_and(|name| present.contains_key(name)) {
            continue;
        }
        let columns = vec![
            ("app_guid", (&app.guid).into()),
            ("name", sidecar["name"].as_str().into()),
            ("command", sidecar["command"].as_str().into()),
            ("process_types", (&sidecar["process_types"]).into()),
            ("memory_mb", sidecar["memory_in_mb"].as_i64().into()),
        ];
        db::insert_new(connection, now, "sidecars", columns).await?;
    }
    let next = Revision { guid: base::new_guid(), version, ..target.clone() };
    keep(cc, connection, actor, app, next, &reasons.join(" ")).await
}

async fn keep(
    cc: &Cc,
    connection: &mut Connection,
    actor: &Actor,
    app: &App,
    revision: Revision,
    description: &str,
) -> ApiResult<Revision> {
    revisions::insert(connection, cc.now(), &revision, description).await?;
    let data = json!({ "revision_guid": revision.guid, "revision_version": revision.version });
    audit_by(connection, cc.now(), actor.clone(), "audit.app.revision.create", app, data).await?;
    Ok(revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_in_order() {
        let before = Content {
            droplet: Some("d1".to_owned()),
            env: json!({}),
            commands: json!({ "web": null, "worker": "w", "clock": "c" }),
            sidecars: json!([{ "name": "s", "command": "a" }]),
        };
        assert!(reasons(&before, &before).is_empty());
        let after = Content {
            droplet: Some("d2".to_owned()),
            env: json!({ "A": "1" }),
            commands: json!({ "web": "run", "worker": null, "cron": null }),
            sidecars: json!([{ "name": "s", "command": "b" }]),
        };
        let expected = [
            "Custom start command added for 'web' process.",
            "Custom start command removed for 'worker' process.",
            "New droplet deployed.",
            "New environment variables deployed.",
            "New process type 'cron' added.",
            "Process type 'clock' removed.",
            "Sidecar 's' updated.",
        ];
        assert_eq!(reasons(&before, &after), expected);
    }
}
