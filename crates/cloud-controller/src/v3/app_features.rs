//! `/v3/apps/:guid/features` and `ssh_enabled`: switches of one app.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::db::access::{DEVELOPERS, OPERATORS};
use crate::db::apps::{self, App};
use crate::db::{Columns as _, query};
use crate::errors::{ApiError, ApiResult};
use crate::message::Body;
use crate::v3::apps::visible;
use crate::{Cc, actions, respond};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feature {
    Ssh,
    Revisions,
    ServiceBindingK8s,
    FileBasedVcapServices,
}

const ALL: [Feature; 4] =
    [Feature::Ssh, Feature::Revisions, Feature::ServiceBindingK8s, Feature::FileBasedVcapServices];

impl Feature {
    fn named(name: &str) -> ApiResult<Feature> {
        ALL.into_iter()
            .find(|feature| feature.name() == name)
            .ok_or_else(|| ApiError::not_found("Feature"))
    }

    fn name(self) -> &'static str {
        match self {
            Feature::Ssh => "ssh",
            Feature::Revisions => "revisions",
            Feature::ServiceBindingK8s => "service-binding-k8s",
            Feature::FileBasedVcapServices => "file-based-vcap-services",
        }
    }

    fn column(self) -> &'static str {
        match self {
            Feature::Ssh => "enable_ssh",
            Feature::Revisions => "revisions_enabled",
            Feature::ServiceBindingK8s => "service_binding_k8s",
            Feature::FileBasedVcapServices => "file_based_vcap_services",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Feature::Ssh => "Enable SSHing into the app.",
            Feature::Revisions => "Enable versioning of an application",
            Feature::ServiceBindingK8s => "Enable k8s service bindings for the app",
            Feature::FileBasedVcapServices => "Enable file-based VCAP service bindings for the app",
        }
    }

    fn is_on(self, app: &App) -> bool {
        match self {
            Feature::Ssh => app.enable_ssh.unwrap_or(true),
            Feature::Revisions => app.revisions_enabled,
            Feature::ServiceBindingK8s => app.service_binding_k8s,
            Feature::FileBasedVcapServices => app.file_based_vcap_services,
        }
    }

    fn present(self, app: &App) -> Value {
        json!({ "name": self.name(), "description": self.description(), "enabled": self.is_on(app) })
    }
}

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/apps/{guid}/features", get(list))
        .route("/v3/apps/{guid}/features/{name}", get(find).patch(update))
        .route("/v3/apps/{guid}/ssh_enabled", get(ssh_enabled))
}

async fn list(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    let (app, _) = visible(&mut *cc.db.read().await?, &caller, &guid).await?;
    let resources: Vec<Value> = ALL.into_iter().map(|feature| feature.present(&app)).collect();
    Ok(respond::ok(json!({ "resources": resources })))
}

async fn find(
    cc: Cc,
    caller: Caller,
    Path((guid, name)): Path<(String, String)>,
) -> ApiResult<Response> {
    let (app, _) = visible(&mut *cc.db.read().await?, &caller, &guid).await?;
    Ok(respond::ok(Feature::named(&name)?.present(&app)))
}

async fn update(
    cc: Cc,
    caller: Caller,
    Path((guid, name)): Path<(String, String)>,
    body: Body,
) -> ApiResult<Response> {
    let mut fields = body.fields();
    let enabled = fields.flag("enabled");
    if enabled.is_none() && !fields.has("enabled") {
        fields.error("Enabled must be a boolean");
    }
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let (app, rights) = visible(&mut tx, &caller, &guid).await?;
    let feature = Feature::named(&name)?;
    rights.change("App", if feature == Feature::Ssh { OPERATORS } else { DEVELOPERS })?;
    let enabled = enabled.unwrap_or_default();
    let excluded = match feature {
        Feature::ServiceBindingK8s => app.file_based_vcap_services,
        Feature::FileBasedVcapServices => app.service_binding_k8s,
        _ => false,
    };
    if enabled && excluded {
        let detail = "'file-based-vcap-services' and 'service-binding-k8s' features cannot be enabled at the same time.";
        return Err(ApiError::unprocessable(detail));
    }
    apps::update(&mut tx, cc.now(), &guid, vec![(feature.column(), enabled.into())]).await?;
    let data = json!({ "request": { "features": { feature.name(): enabled } } });
    actions::apps::audit(&cc, &mut tx, &caller, "audit.app.update", &app, data).await?;
    let (app, _) = visible(&mut tx, &caller, &guid).await?;
    tx.commit().await?;
    Ok(respond::ok(feature.present(&app)))
}

async fn ssh_enabled(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    let (app, _) = visible(&mut connection, &caller, &guid).await?;
    let text = "SELECT allow_ssh FROM spaces WHERE guid = $1";
    let allowed =
        query(text, [(&app.space_guid).into()]).one(&mut connection).await?.flag("allow_ssh")?;
    let (enabled, reason) = match (cc.config.app_ssh.is_some(), allowed, Feature::Ssh.is_on(&app)) {
        (false, _, _) => (false, "Disabled globally"),
        (true, false, _) => (false, "Disabled for space"),
        (true, true, false) => (false, "Disabled for app"),
        (true, true, true) => (true, ""),
    };
    Ok(respond::ok(json!({ "enabled": enabled, "reason": reason })))
}
