//! Binding apps to user-provided service instances, and what bound apps see of them.

use serde_json::{Map, Value, json};
use sql::Connection;

use crate::Cc;
use crate::auth::Caller;
use crate::db::apps::App;
use crate::db::service_bindings::{self, APP, Binding};
use crate::db::service_instances::{ServiceInstance, USER_PROVIDED};
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
        let detail = format!("The binding name is invalid. App binding names must be unique. The app already has a binding with name '{name}'.");
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
    common::audit(tx, cc, caller, "audit.service_binding.create", target, (Some(&app.space_guid), None), data).await?;
    Ok(guid)
}

/// What a bound app is told about one binding, its credentials opened already.
#[derive(Clone, Debug)]
pub struct Bound {
    pub binding: Binding,
    pub instance: ServiceInstance,
    pub credentials: Value,
}

/// An app's bindings with credentials in the clear, oldest first.
pub async fn of_app(cc: &Cc, connection: &mut Connection, app: &str) -> ApiResult<Vec<Bound>> {
    let pairs = service_bindings::of_app(connection, app).await?;
    let open = |(binding, instance): (Binding, ServiceInstance)| -> anyhow::Result<Bound> {
        let credentials = cc.seal.open_json(binding.sealed_credentials.as_deref())?;
        Ok(Bound { binding, instance, credentials })
    };
    Ok(pairs.into_iter().map(open).collect::<anyhow::Result<_>>()?)
}

/// Pure: the value of `VCAP_SERVICES`, by label.
pub fn vcap_services(bound: &[Bound]) -> Value {
    let mut labels: Map<String, Value> = Map::new();
    for one in bound {
        let label = labels.entry(USER_PROVIDED).or_insert_with(|| json!([]));
        if let Some(list) = label.as_array_mut() {
            list.push(entry(one));
        }
    }
    Value::Object(labels)
}

fn entry(one: &Bound) -> Value {
    let (binding, instance) = (&one.binding, &one.instance);
    json!({
        "label": USER_PROVIDED,
        "name": binding.name.as_ref().unwrap_or(&instance.name),
        "tags": instance.tags,
        "instance_guid": instance.guid,
        "instance_name": instance.name,
        "binding_guid": binding.guid,
        "binding_name": binding.name,
        "credentials": one.credentials,
        "syslog_drain_url": binding.syslog_drain_url,
        "volume_mounts": [],
    })
}

#[cfg(test)]
mod tests {
    use base::Timestamp;
    use expect_test::expect;

    use super::*;

    #[test]
    fn apps_see_their_credentials_by_label() {
        let instance = ServiceInstance {
            guid: "i".to_owned(),
            name: "db".to_owned(),
            space_guid: "s".to_owned(),
            kind: USER_PROVIDED.to_owned(),
            tags: vec!["sql".to_owned()],
            sealed_credentials: None,
            syslog_drain_url: None,
            route_service_url: None,
            operation_type: "create".to_owned(),
            operation_state: "succeeded".to_owned(),
            operation_description: String::new(),
            created_at: Timestamp::ZERO,
            updated_at: Timestamp::ZERO,
        };
        let binding = Binding {
            guid: "b".to_owned(),
            kind: APP.to_owned(),
            name: None,
            service_instance_guid: "i".to_owned(),
            app_guid: Some("a".to_owned()),
            sealed_credentials: None,
            syslog_drain_url: None,
            operation_type: "create".to_owned(),
            operation_state: "succeeded".to_owned(),
            operation_description: String::new(),
            created_at: Timestamp::ZERO,
            updated_at: Timestamp::ZERO,
        };
        let bound = Bound { binding, instance, credentials: json!({ "uri": "sql://x" }) };
        let expected = expect![[r#"{"user-provided":[{"binding_guid":"b","binding_name":null,"credentials":{"uri":"sql://x"},"instance_guid":"i","instance_name":"db","label":"user-provided","name":"db","syslog_drain_url":null,"tags":["sql"],"volume_mounts":[]}]}"#]];
        expected.assert_eq(&vcap_services(&[bound]).to_string());
        assert_eq!(vcap_services(&[]).to_string(), "{}");
    }
}
