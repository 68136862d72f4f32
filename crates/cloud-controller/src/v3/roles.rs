//! `/v3/roles`: granting, listing and revoking what users may do.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use sql::Connection;

use super::resource::by_guids;
use super::{common, users};
use crate::Cc;
use crate::auth::{self, Caller};
use crate::db::access::{self, ORG_MANAGER, ORG_USER, ROLES, SPACE_MANAGER};
use crate::db::organizations::Organization;
use crate::db::roles::{self, Role};
use crate::db::spaces::Space;
use crate::db::{self, feature_flags};
use crate::errors::{ApiError, ApiResult, when_taken};
use crate::message::Body;
use crate::query::{Filter, List, Params};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/roles", get(list).post(create))
        .route("/v3/roles/{guid}", get(find).delete(delete))
}

const KIND: &str = "role";
const INCLUDES: &[&str] = &["user", "organization", "space"];
const NO_MEMBER: &str = "Users cannot be assigned roles in a space if they do not have a role in that space's organization.";

const LIST: List = List {
    table: "roles",
    filters: &[
        ("types", Filter::Text("roles.type")),
        ("user_guids", Filter::Text("roles.user_guid")),
        ("space_guids", Filter::Text("roles.space_guid")),
        // A space role is not the organization's, though it carries its guid.
        ("organization_guids", Filter::Sql("roles.space_guid = '' AND roles.org_guid IN ({})")),
    ],
    orders: &[],
    includes: INCLUDES,
    labels: None,
};

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    listing.visible(|sql| roles::visible(sql, &caller));
    let mut connection = cc.db.read().await?;
    let page = listing.fetch(&mut connection, "roles.*", "roles").await?;
    let found = page.items.iter().map(roles::read).collect::<db::Result<Vec<_>>>()?;
    let included = included(&cc, &mut connection, &urls, &listing.includes, &found).await?;
    let resources = found.iter().map(|role| present(role, &urls)).collect();
    Ok(respond::ok(listing.present(&urls, page.total, resources, included)))
}

async fn included(
    cc: &Cc,
    connection: &mut Connection,
    urls: &Urls,
    wanted: &[String],
    found: &[Role],
) -> ApiResult<BTreeMap<&'static str, Vec<Value>>> {
    let unique = |guids: BTreeSet<String>| guids.into_iter().collect::<Vec<_>>();
    let mut included = BTreeMap::new();
    for name in wanted {
        match name.as_str() {
            "user" => {
                let guids = unique(found.iter().map(|role| role.user_guid.clone()).collect());
                included.insert("users", users::by_guids(cc, connection, &guids, urls).await?);
            }
            "space" => {
                let guids =
                    unique(found.iter().filter_map(|role| role.space_guid.clone()).collect());
                included.insert("spaces", by_guids::<Space>(connection, &guids, urls).await?);
            }
            _ => {
                let of_orgs = found.iter().filter(|role| role.space_guid.is_none());
                let guids = unique(of_orgs.map(|role| role.org_guid.clone()).collect());
                included.insert(
                    "organizations",
                    by_guids::<Organization>(connection, &guids, urls).await?,
                );
            }
        }
    }
    Ok(included)
}

/// Whom the role is for.
enum Who {
    Guid(String),
    Name { username: String, origin: Option<String> },
}

struct Message {
    kind: String,
    who: Who,
    /// Organization or space, by the role's type.
    place: String,
}

fn is_space_role(kind: &str) -> bool {
    kind.starts_with("space_")
}

fn read_message(body: &Body) -> ApiResult<Message> {
    let mut fields = body.fields();
    let kind = fields.text("type").unwrap_or_default();
    if !ROLES.contains(&kind.as_str()) {
        fields.error(format!("Type must be one of the allowed types {ROLES:?}"));
    }
    let related = fields.inside("relationships", |inner| {
        let guid = |value: Option<&Value>| {
            value
                .and_then(|value| value.pointer("/data/guid"))
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let (space, org) = (guid(inner.value("space")), guid(inner.value("organization")));
        let user =
            inner.value("user").and_then(|user| user.get("data")).cloned().unwrap_or(Value::Null);
        let text = |key: &str| user.get(key).and_then(Value::as_str).map(str::to_owned);
        let (user_guid, username, origin) = (text("guid"), text("username"), text("origin"));
        if user_guid.is_some() && username.is_some() {
            inner.error("Username cannot be specified when identifying user by guid");
        }
        if user_guid.is_some() && origin.is_some() {
            inner.error("User origin cannot be specified when identifying user by guid");
        }
        if username.is_none() && origin.is_some() {
            inner.error("User origin cannot be specified without specifying the username");
        }
        let who = match (user_guid, username) {
            (Some(guid), _) => Some(Who::Guid(guid)),
            (None, Some(username)) => Some(Who::Name { username, origin }),
            (None, None) => {
                inner.error("User must have a username or guid specified");
                None
            }
        };
        let place = match (space, org, is_space_role(&kind)) {
            (Some(_), Some(_), _) => {
                inner.error("cannot specify both an organization and a space.");
                None
            }
            (None, None, _) => {
                inner.error("must specify either a space or an organization.");
                None
            }
            (Some(_), None, false) => {
                inner.error(format!(
                    "Space cannot be provided with the organization role type: '{kind}'."
                ));
                None
            }
            (None, Some(_), true) => {
                inner.error(format!(
                    "Organization cannot be provided with the space role type: '{kind}'."
                ));
                None
            }
            (space, org, _) => space.or(org),
        };
        who.zip(place)
    });
    if related.is_none() && !fields.has("relationships") {
        fields.error("Relationships 'relationships' is not an object");
    }
    fields.finish()?;
    match related.flatten() {
        Some((who, place)) => Ok(Message { kind, who, place }),
        None => Err(ApiError::unprocessable(
            "Relationships must name a user and a space or an organization",
        )),
    }
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    let message = read_message(&body)?;
    let for_space = is_space_role(&message.kind);
    let place = authorize(&cc, &caller, &message, for_space).await?;
    // The identity is asked before the transaction begins: nothing waits for it while holding the database.
    let user = user_guid(&cc, &caller, &message, for_space).await?;
    let known = auth::users(&cc, std::slice::from_ref(&user)).await?.remove(&user);
    let spoken = known.map_or_else(|| user.clone(), |user| user.username);
    let mut tx = cc.db.begin().await?;
    db::users::ensure(&mut tx, cc.now(), &user).await?;
    let (org, space) = (place.org.as_str(), place.space.as_str());
    if for_space && !roles::is_member(&mut tx, &user, org).await? {
        return Err(ApiError::unprocessable(NO_MEMBER));
    }
    let what = if for_space { "space" } else { "organization" };
    let taken =
        format!("User '{spoken}' already has '{}' role in {what} '{}'.", message.kind, place.name);
    let made = roles::insert(&mut tx, cc.now(), &message.kind, &user, (org, space)).await;
    let guid = made.map_err(|cause| when_taken(cause, ApiError::unprocessable(taken)))?;
    audit(
        &cc,
        &mut tx,
        &caller,
        &message.kind,
        (&user, &spoken),
        (org, space),
        "add",
        body.redacted(&[]),
    )
    .await?;
    let role = roles::find_visible(&mut tx, &caller, &guid)
        .await?
        .ok_or_else(|| ApiError::not_found("Role"))?;
    tx.commit().await?;
    Ok(respond::created(present(&role, &urls)))
}

/// Where the role is to be.
struct Place {
    org: String,
    /// Empty for organization roles.
    space: String,
    name: String,
}

async fn authorize(
    cc: &Cc,
    caller: &Caller,
    message: &Message,
    for_space: bool,
) -> ApiResult<Place> {
    let mut connection = cc.db.read().await?;
    let what = if for_space { "space" } else { "organization" };
    let invalid = || {
        ApiError::unprocessable(format!(
            "Invalid {what}. Ensure that the {what} exists and you have access to it."
        ))
    };
    let allowed: &[&str] = if for_space { &[ORG_MANAGER, SPACE_MANAGER] } else { &[ORG_MANAGER] };
    let rights = if for_space {
        access::in_space(&mut connection, caller, &message.place).await?
    } else {
        access::in_org(&mut connection, caller, &message.place).await?
    };
    if rights.org_guid.is_empty() {
        return Err(invalid());
    }
    // Whoever does not see it learns no more than that it is not theirs to change.
    if !rights.can_read() {
        return Err(ApiError::forbidden());
    }
    rights.change(what, allowed)?;
    let (space, name) = if for_space {
        let space = db::spaces::find(&mut connection, &message.place).await?.ok_or_else(invalid)?;
        (space.guid, space.name)
    } else {
        let org =
            db::organizations::find(&mut connection, &message.place).await?.ok_or_else(invalid)?;
        (String::new(), org.name)
    };
    Ok(Place { org: rights.org_guid, space, name })
}

async fn user_guid(
    cc: &Cc,
    caller: &Caller,
    message: &Message,
    for_space: bool,
) -> ApiResult<String> {
    let (username, origin) = match &message.who {
        Who::Guid(guid) => {
            let seen =
                db::users::find_visible(&mut *cc.db.read().await?, caller, guid).await?.is_some();
            // A user unknown here may be given a first role in an organization, not in a space.
            return if seen || !for_space {
                Ok(guid.clone())
            } else {
                Err(ApiError::unprocessable(NO_MEMBER))
            };
        }
        Who::Name { username, origin } => (username, origin),
    };
    feature_flags::require(&mut *cc.db.read().await?, caller, "set_roles_by_username").await?;
    let origins: Vec<String> = origin.iter().cloned().collect();
    let mut found = cc.identity.users_by_names(std::slice::from_ref(username), &origins).await?;
    if found.len() > 1 {
        let mut origins: Vec<String> = found.into_iter().map(|user| user.origin).collect();
        origins.sort();
        return Err(ApiError::unprocessable(format!(
            "Ambiguous user. User with username '{username}' exists in the following origins: {}. Specify an origin to disambiguate.",
            origins.join(", ")
        )));
    }
    match (found.pop(), origin) {
        (Some(user), _) => Ok(user.guid),
        (None, _) if for_space => Err(ApiError::unprocessable(NO_MEMBER)),
        (None, Some(origin)) => Err(ApiError::unprocessable(format!(
            "No user exists with the username '{username}' and origin '{origin}'."
        ))),
        (None, None) => {
            Err(ApiError::unprocessable(format!("No user exists with the username '{username}'.")))
        }
    }
}

/// `audit.user.space_developer_add` and its like: the user is the target.
#[expect(clippy::too_many_arguments, reason = "each is one word of the event")]
async fn audit(
    cc: &Cc,
    tx: &mut Connection,
    caller: &Caller,
    role: &str,
    user: (&str, &str),
    place: (&str, &str),
    what: &str,
    request: Value,
) -> ApiResult<()> {
    let kind = format!("audit.user.{role}_{what}");
    let space = Some(place.1).filter(|space| !space.is_empty());
    let data = json!({ "request": request });
    common::audit(tx, cc, caller, &kind, (user.0, "user", user.1), (space, Some(place.0)), data)
        .await
}

async fn find(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    params.only(&["include"])?;
    let wanted = params.includes(INCLUDES)?;
    let mut connection = cc.db.read().await?;
    let role = roles::find_visible(&mut connection, &caller, &guid)
        .await?
        .ok_or_else(|| ApiError::not_found("Role"))?;
    let mut document = present(&role, &urls);
    if !wanted.is_empty() {
        document["included"] =
            json!(included(&cc, &mut connection, &urls, &wanted, &[role]).await?);
    }
    Ok(respond::ok(document))
}

async fn delete(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let found = roles::find_visible(&mut *cc.db.read().await?, &caller, &guid).await?;
    let user = found.map(|role| role.user_guid).ok_or_else(|| ApiError::not_found("Role"))?;
    let known = auth::users(&cc, std::slice::from_ref(&user)).await?.remove(&user);
    let mut tx = cc.db.begin().await?;
    let role = roles::find_visible(&mut tx, &caller, &guid)
        .await?
        .ok_or_else(|| ApiError::not_found("Role"))?;
    match &role.space_guid {
        Some(space) => access::in_space(&mut tx, &caller, space)
            .await?
            .change("Role", &[ORG_MANAGER, SPACE_MANAGER])?,
        None => access::in_org(&mut tx, &caller, &role.org_guid)
            .await?
            .change("Role", &[ORG_MANAGER])?,
    }
    if role.kind == ORG_USER
        && roles::is_in_a_space(&mut tx, &role.user_guid, &role.org_guid).await?
    {
        let detail = "Cannot delete organization_user role while user has roles in spaces in that organization.";
        return Err(ApiError::unprocessable(detail));
    }
    roles::delete(&mut tx, &guid).await?;
    let spoken = known.map_or_else(|| user.clone(), |user| user.username);
    let place = (role.org_guid.as_str(), role.space_guid.as_deref().unwrap_or_default());
    audit(&cc, &mut tx, &caller, &role.kind, (&user, &spoken), place, "remove", json!({})).await?;
    let job = common::done_job(&mut tx, cc.now(), "role.delete", (KIND, &guid)).await?;
    tx.commit().await?;
    Ok(respond::job(&urls, &job))
}

fn present(role: &Role, urls: &Urls) -> Value {
    let org = role.space_guid.is_none().then_some(role.org_guid.as_str());
    let mut links = json!({
        "self": urls.link(&format!("roles/{}", role.guid)),
        "user": urls.link(&format!("users/{}", role.user_guid)),
    });
    match &role.space_guid {
        Some(space) => links["space"] = urls.link(&format!("spaces/{space}")),
        None => links["organization"] = urls.link(&format!("organizations/{}", role.org_guid)),
    }
    json!({
        "guid": role.guid,
        "created_at": role.created_at.to_rfc3339(),
        "updated_at": role.updated_at.to_rfc3339(),
        "type": role.kind,
        "relationships": {
            "user": common::to_one(Some(&role.user_guid)),
            "organization": common::to_one(org),
            "space": common::to_one(role.space_guid.as_deref()),
        },
        "links": links,
    })
}
