//! Deleting a space with all that lies in it, and an organization with all its spaces.

use serde_json::json;
use sql::Connection;

use crate::Cc;
use crate::actions::apps as actions;
use crate::auth::Caller;
use crate::db::jobs::{self, Outcome};
use crate::db::{self, Stored as _, apps, domains, organizations, spaces};
use crate::errors::{ApiError, ApiResult, Kind};
use crate::v3::common;

/// Deletes the space now and answers the job that tells of it.
pub async fn space(cc: &Cc, caller: &Caller, guid: &str) -> ApiResult<String> {
    let mut tx = cc.db.begin().await?;
    let outcome = match remove_space(cc, &mut tx, caller, guid).await {
        Ok(()) => Outcome::Complete,
        Err(error) => {
            drop(tx);
            tx = cc.db.begin().await?;
            Outcome::Failed(error)
        }
    };
    finish(cc, tx, "space.delete", ("space", guid), outcome).await
}

/// Deletes the organization now and answers the job that tells of it.
pub async fn org(cc: &Cc, caller: &Caller, guid: &str) -> ApiResult<String> {
    let mut tx = cc.db.begin().await?;
    let outcome = match remove_org(cc, &mut tx, caller, guid).await {
        Ok(()) => Outcome::Complete,
        Err(error) => {
            drop(tx);
            tx = cc.db.begin().await?;
            Outcome::Failed(error)
        }
    };
    finish(cc, tx, "organization.delete", ("organization", guid), outcome).await
}

async fn finish(
    cc: &Cc,
    mut tx: sql::Tx,
    operation: &str,
    resource: (&str, &str),
    outcome: Outcome,
) -> ApiResult<String> {
    let job = jobs::insert(&mut tx, cc.now(), operation, resource, &outcome).await?;
    tx.commit().await?;
    cc.apps_gone();
    Ok(job)
}

async fn remove_space(cc: &Cc, tx: &mut Connection, caller: &Caller, guid: &str) -> ApiResult<()> {
    let space = spaces::find(tx, guid).await?.ok_or_else(|| ApiError::not_found("Space"))?;
    if let Some(name) = db::service_instances::shared_from(tx, guid).await? {
        let detail = format!(
            "Deletion of space {} failed because one or more resources within could not be deleted.\n\n\t\
             Service instances must be unshared before they can be deleted. Unsharing {name} will automatically delete any bindings \
             that have been made to applications in other spaces.",
            space.name
        );
        return Err(Kind::SpaceDeletionFailed.with(detail));
    }
    for app in apps_in(tx, guid).await? {
        actions::delete(cc, tx, caller, &app).await?;
    }
    let target = (guid, "space", space.name.as_str());
    let data = json!({ "request": { "recursive": true } });
    let place = (Some(guid), Some(space.org_guid.as_str()));
    common::audit(tx, cc, caller, "audit.space.delete-request", target, place, data).await?;
    Ok(spaces::delete(tx, guid).await?)
}

async fn apps_in(tx: &mut Connection, space: &str) -> ApiResult<Vec<apps::App>> {
    let rows = db::query("SELECT * FROM apps WHERE space_guid = $1 ORDER BY id", [space.into()])
        .all(tx)
        .await?;
    Ok(rows.iter().map(apps::App::read).collect::<db::Result<_>>()?)
}

async fn remove_org(cc: &Cc, tx: &mut Connection, caller: &Caller, guid: &str) -> ApiResult<()> {
    let org =
        organizations::find(tx, guid).await?.ok_or_else(|| ApiError::not_found("Organization"))?;
    if let Some(name) = shared_domains(tx, guid).await?.first() {
        let detail = format!(
            "Deletion of organization {} failed because one or more resources within could not be deleted.\n\n\
             Domain '{name}' is shared with other organizations. Unshare before deleting.",
            org.name
        );
        return Err(Kind::OrganizationDeletionFailed.with(detail));
    }
    for space in organizations::space_guids(tx, guid).await? {
        remove_space(cc, tx, caller, &space).await?;
    }
    let target = (guid, "organization", org.name.as_str());
    let data = json!({ "request": { "recursive": true } });
    common::audit(
        tx,
        cc,
        caller,
        "audit.organization.delete-request",
        target,
        (None, Some(guid)),
        data,
    )
    .await?;
    Ok(organizations::delete(tx, guid).await?)
}

/// Names of the organization's own domains that others use.
async fn shared_domains(tx: &mut Connection, org: &str) -> ApiResult<Vec<String>> {
    let rows = db::query("SELECT * FROM domains WHERE org_guid = $1 ORDER BY id", [org.into()])
        .all(tx)
        .await?;
    let mut names = Vec::new();
    for row in &rows {
        let domain = domains::Domain::read(row)?;
        if !domains::shared_with(tx, &domain.guid).await?.is_empty() {
            names.push(domain.name);
        }
    }
    Ok(names)
}
