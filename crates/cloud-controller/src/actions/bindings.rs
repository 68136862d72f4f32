//! Binding apps to user-provided service instances. What bound apps see of them is told when they start.

use serde_json::json;
use sql::Connection;

use crate::Cc;
use crate::auth::Caller;
use crate::db::apps::App;
use crate::db::service_bindings::{self, APP};
use crate::db::service_instances::ServiceInstance;
use crate::errors::{ApiError, ApiResult};
use crate::v3::common;

/// Binds the app; answers the binding's guid. Takes effect when the app starts anew.
pub async fn bind(
    cc: &Cc,
    tx: &mut Connection,
    caller: &Caller,
    app: &App,
    instance: &ServiceInstance,
    name: Option<&str>,
    by_manifest: bool,
) -> ApiResult<String> {
    if service_bindings::of_app_and_instance(tx, &app.guid, &instance.guid).await?.is_some() {
        return Err(ApiError::unprocessable("The app is already bound to the service instance"));
    }
    if let Some(name) = name
        && service_bindings::is_name_taken(tx, &app.guid, name).await?
    {
        let detail = format!(
            "The binding name is invalid. App binding names must be unique. The app already has a binding with name '{name}'."
        );
        return Err(ApiError::unprocessable(detail));
    }
    let columns = vec![
        ("type", APP.into()),
        ("name", name.into()),
        ("service_instance_guid", (&instance.guid).into()),
        ("app_guid", (&app.guid).into()),
        ("sealed_credentials", (&instance.sealed_credentials).into()),
        ("syslog_drain_url", (&instance.syslog_drain_url).into()),
    ];
    let guid = service_bindings::insert(tx, cc.now(), columns).await?;
    let mut data = json!({ "request": {
        "type": APP,
        "name": name,
        "relationships": {
            "app": common::to_one(Some(&app.guid)),
            "service_instance": common::to_one(Some(&instance.guid)),
        },
    } });
    if by_manifest {
        data["manifest_triggered"] = true.into();
    }
    let target = (guid.as_str(), "service_binding", name.unwrap_or_default());
    common::audit(
        tx,
        cc,
        caller,
        "audit.service_binding.create",
        target,
        (Some(&app.space_guid), None),
        data,
    )
    .await?;
    Ok(guid)
}
