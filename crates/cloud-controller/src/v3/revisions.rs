//! `/v3/revisions` and `/v3/apps/:guid/revisions`: what an app ran, and with which variables.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use base::Timestamp;
use serde_json::{Map, Value, json};

use crate::auth::Caller;
use crate::db::droplets::STAGED;
use crate::db::metadata::Metadata;
use crate::db::revisions::{self, Revision};
use crate::db::{self, Columns as _, Row, Stored};
use crate::errors::ApiResult;
use crate::query::{Filter, List, Params};
use crate::urls::Urls;
use crate::v3::apps::visible as visible_app;
use crate::v3::resource::{self, OfApp, Resource, present_one, visible};
use crate::{Cc, respond};

const KIND: &str = "revision";

const LIST: List = List {
    table: "revisions",
    filters: &[("versions", Filter::Int("revisions.version"))],
    orders: &[],
    includes: &[],
    labels: Some(KIND),
};

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/revisions/{guid}", get(find).patch(resource::update_metadata::<Shown>))
        .route("/v3/revisions/{guid}/environment_variables", get(environment_variables))
        .route("/v3/apps/{guid}/revisions", get(resource::list_of_app::<Shown>))
        .route("/v3/apps/{guid}/revisions/deployed", get(deployed))
}

/// A revision with what only readers want.
struct Shown {
    revision: Revision,
    description: String,
    deployable: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl Stored for Shown {
    const TABLE: &'static str = "revisions";
    const COLUMNS: &'static str = "revisions.*, d.state AS droplet_state";
    const FROM: &'static str = "revisions JOIN apps a ON a.guid = revisions.app_guid \
                                LEFT JOIN droplets d ON d.guid = revisions.droplet_guid";

    fn read(row: &Row) -> db::Result<Shown> {
        Ok(Shown {
            revision: revisions::read(row)?,
            description: row.text("description")?,
            deployable: row.maybe_text("droplet_state")?.as_deref() == Some(STAGED),
            created_at: row.moment("created_at")?,
            updated_at: row.moment("updated_at")?,
        })
    }
}

impl OfApp for Shown {
    const WHAT: &'static str = "Revision";
    const LIST: List = LIST;

    fn app_guid(&self) -> &str {
        &self.revision.app_guid
    }
}

/// Those that a process with running instances belongs to.
async fn deployed(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    params: Params,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    let mut connection = cc.db.read().await?;
    visible_app(&mut connection, &caller, &guid).await?;
    listing.equals("revisions.app_guid", &guid);
    listing.condition(
        "a.state = 'STARTED' AND revisions.guid IN (SELECT p.revision_guid FROM processes p \
         WHERE p.app_guid = revisions.app_guid AND p.instances > 0)",
    );
    resource::answer::<Shown>(&mut connection, listing, &urls).await
}

async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    let (shown, _, _) = visible::<Shown>(&mut connection, &caller, &guid).await?;
    Ok(respond::ok(present_one(&mut connection, &shown, &urls).await?))
}

async fn environment_variables(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    let (shown, app, rights) = visible::<Shown>(&mut connection, &caller, &guid).await?;
    rights.see_secrets("Revision")?;
    let own = format!("revisions/{guid}");
    Ok(respond::ok(json!({
        "var": cc.seal.open_json(shown.revision.sealed_env.as_deref())?,
        "links": {
            "self": urls.link(&format!("{own}/environment_variables")),
            "revision": urls.link(&own),
            "app": urls.link(&format!("apps/{}", app.guid)),
        },
    })))
}

impl Resource for Shown {
    const KIND: &'static str = KIND;

    fn guid(&self) -> &str {
        &self.revision.guid
    }

    fn present(&self, metadata: &Metadata, urls: &Urls) -> Value {
        let Revision { guid, app_guid, version, droplet_guid, commands, sidecars, .. } =
            &self.revision;
        let entries = commands.as_object().into_iter().flatten();
        let processes: Map<String, Value> =
            entries.map(|(kind, command)| (kind.clone(), json!({ "command": command }))).collect();
        json!({
            "guid": guid,
            "version": version,
            "droplet": { "guid": droplet_guid },
            "processes": processes,
            "sidecars": sidecars,
            "description": self.description,
            "deployable": self.deployable,
            "relationships": { "app": { "data": { "guid": app_guid } } },
            "created_at": self.created_at.to_rfc3339(),
            "updated_at": self.updated_at.to_rfc3339(),
            "metadata": metadata.to_json(),
            "links": {
                "self": urls.link(&format!("revisions/{guid}")),
                "app": urls.link(&format!("apps/{app_guid}")),
                "environment_variables": urls.link(&format!("revisions/{guid}/environment_variables")),
            },
        })
    }
}
