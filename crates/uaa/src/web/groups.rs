//! `/Groups` and their members.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::users::{expect_version, page, wrong_version};
use super::{Body, Caller};
use crate::Uaa;
use crate::db;
use crate::db::groups::{Group, Member};
use crate::error::{Error, Result};
use crate::scim::group::{self, MemberMessage, Message};
use crate::scim::query::{ListQuery, Search};
use crate::scim::user::restrict;

/// Members named in one request; more come in further requests.
const MOST_MEMBERS: usize = 1_000;

pub(crate) async fn list(
    State(uaa): State<Uaa>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>> {
    caller.needs(&["scim.read"])?;
    let search = Search::new(&query, group::columns)?;
    let mut connection = uaa.db().read().await?;
    let (groups, total) = db::groups::search(&mut connection, &search).await?;
    let guids: Vec<String> = groups.iter().map(|group| group.guid.clone()).collect();
    let members = db::groups::members(&mut connection, &guids).await?;
    let resources = groups.iter().map(|group| {
        let members = members.get(&group.guid).map_or(&[][..], Vec::as_slice);
        restrict(group::present(group, members), query.attributes.as_deref())
    });
    Ok(Json(page(resources.collect(), &search, total)))
}

pub(crate) async fn create(
    State(uaa): State<Uaa>,
    caller: Caller,
    Body(message): Body<Message>,
) -> Result<(StatusCode, Json<Value>)> {
    caller.needs(&["scim.write"])?;
    let name = message.display_name.as_deref().unwrap_or("");
    let group = group::new(name, message.description.as_deref().unwrap_or(""), uaa.now())?;
    let members = all_members(&message)?;
    let mut tx = uaa.db().begin().await?;
    match db::groups::insert(&mut tx, &group).await {
        Err(error) if sql::is_taken(&error) => {
            return Err(Error::taken(format!("A group with displayName: {name} already exists.")));
        }
        result => result?,
    }
    for member in &members {
        check_member(&mut tx, member).await?;
        db::groups::add_member(&mut tx, &group.guid, member).await?;
    }
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(shown(&uaa, &group).await?)))
}

pub(crate) async fn find(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>> {
    caller.needs(&["scim.read"])?;
    Ok(Json(shown(&uaa, &existing(&uaa, &id).await?).await?))
}

pub(crate) async fn replace(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(message): Body<Message>,
) -> Result<Json<Value>> {
    caller.needs(&["scim.write", "groups.update"])?;
    let group = existing(&uaa, &id).await?;
    expect_version(&headers, group.version)?;
    let members = all_members(&message)?;
    let mut tx = uaa.db().begin().await?;
    rename(&uaa, &mut tx, group, &message).await?;
    db::groups::clear(&mut tx, &id).await?;
    for member in &members {
        check_member(&mut tx, member).await?;
        db::groups::add_member(&mut tx, &id, member).await?;
    }
    tx.commit().await?;
    Ok(Json(shown(&uaa, &existing(&uaa, &id).await?).await?))
}

pub(crate) async fn patch(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(message): Body<Message>,
) -> Result<Json<Value>> {
    caller.needs(&["scim.write", "groups.update"])?;
    let group = existing(&uaa, &id).await?;
    expect_version(&headers, group.version)?;
    let _ = all_members(&message)?;
    let mut tx = uaa.db().begin().await?;
    rename(&uaa, &mut tx, group, &message).await?;
    for message in message.members.iter().flatten() {
        if message.leaves() {
            db::groups::remove_member(&mut tx, &id, &message.value).await?;
        } else {
            let member = message.member()?;
            check_member(&mut tx, &member).await?;
            db::groups::add_member(&mut tx, &id, &member).await?;
        }
    }
    tx.commit().await?;
    Ok(Json(shown(&uaa, &existing(&uaa, &id).await?).await?))
}

async fn rename(
    uaa: &Uaa,
    tx: &mut sql::Connection,
    group: Group,
    message: &Message,
) -> Result<()> {
    let name = message.display_name.as_deref().unwrap_or(&group.display_name);
    let description = message.description.as_deref().unwrap_or(&group.description);
    let checked = group::new(name, description, uaa.now())?;
    let changed =
        Group { display_name: checked.display_name, description: checked.description, ..group };
    match db::groups::update(tx, &changed, uaa.now()).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(wrong_version()),
        Err(error) if sql::is_taken(&error) => Err(Error::taken(format!(
            "A group with displayName: {} already exists.",
            changed.display_name
        ))),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn delete(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>> {
    caller.needs(&["scim.write"])?;
    let group = existing(&uaa, &id).await?;
    expect_version(&headers, group.version)?;
    let body = shown(&uaa, &group).await?;
    let mut tx = uaa.db().begin().await?;
    db::groups::delete(&mut tx, &id).await?;
    tx.commit().await?;
    Ok(Json(body))
}

pub(crate) async fn members(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>> {
    caller.needs(&["scim.read"])?;
    existing(&uaa, &id).await?;
    let members = members_of(&uaa, &id).await?;
    Ok(Json(members.iter().map(group::present_member).collect()))
}

pub(crate) async fn member(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path((id, member)): Path<(String, String)>,
) -> Result<Json<Value>> {
    caller.needs(&["scim.read"])?;
    existing(&uaa, &id).await?;
    let members = members_of(&uaa, &id).await?;
    let found = members.iter().find(|known| known.guid == member);
    found.map(|member| Json(group::present_member(member))).ok_or_else(|| no_member(&id, &member))
}

pub(crate) async fn add_member(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path(id): Path<String>,
    Body(message): Body<MemberMessage>,
) -> Result<(StatusCode, Json<Value>)> {
    caller.needs(&["scim.write", "groups.update"])?;
    existing(&uaa, &id).await?;
    let member = message.member()?;
    let mut tx = uaa.db().begin().await?;
    check_member(&mut tx, &member).await?;
    if !db::groups::add_member(&mut tx, &id, &member).await? {
        let description = format!("{} is already a member of the group {id}", member.guid);
        return Err(Error::taken(description).code("member_already_exists"));
    }
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(group::present_member(&member))))
}

pub(crate) async fn remove_member(
    State(uaa): State<Uaa>,
    caller: Caller,
    Path((id, member)): Path<(String, String)>,
) -> Result<Json<Value>> {
    caller.needs(&["scim.write", "groups.update"])?;
    existing(&uaa, &id).await?;
    let members = members_of(&uaa, &id).await?;
    let found =
        members.iter().find(|known| known.guid == member).ok_or_else(|| no_member(&id, &member))?;
    let mut tx = uaa.db().begin().await?;
    db::groups::remove_member(&mut tx, &id, &member).await?;
    tx.commit().await?;
    Ok(Json(group::present_member(found)))
}

fn all_members(message: &Message) -> Result<Vec<Member>> {
    let members = message.members.as_deref().unwrap_or_default();
    if members.len() > MOST_MEMBERS {
        return Err(Error::invalid_scim(format!(
            "more than {MOST_MEMBERS} members in one request"
        )));
    }
    members.iter().map(MemberMessage::member).collect()
}

async fn check_member(connection: &mut sql::Connection, member: &Member) -> Result<()> {
    let known = match member.kind.as_str() {
        "GROUP" => db::groups::find(connection, &member.guid).await?.is_some(),
        _ => db::users::find(connection, &member.guid).await?.is_some(),
    };
    if known {
        Ok(())
    } else {
        Err(Error::scim_not_found(format!("Invalid group member: {}", member.guid)))
    }
}

fn no_member(id: &str, member: &str) -> Error {
    Error::scim_not_found(format!("Member {member} does not exist in group {id}"))
        .code("member_not_found")
}

async fn members_of(uaa: &Uaa, id: &str) -> Result<Vec<Member>> {
    let mut members = db::groups::members(&mut *uaa.db().read().await?, &[id.to_owned()]).await?;
    Ok(members.remove(id).unwrap_or_default())
}

async fn existing(uaa: &Uaa, id: &str) -> Result<Group> {
    let group = db::groups::find(&mut *uaa.db().read().await?, id).await?;
    group.ok_or_else(|| Error::scim_not_found(format!("Group {id} does not exist")))
}

async fn shown(uaa: &Uaa, group: &Group) -> Result<Value> {
    Ok(group::present(group, &members_of(uaa, &group.guid).await?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_counted_and_have_a_kind() {
        let message = |value: Value| serde_json::from_value::<Message>(value).unwrap();
        let many: Vec<Value> =
            (0..=MOST_MEMBERS).map(|n| json!({ "value": n.to_string() })).collect();
        assert!(all_members(&message(json!({ "members": many }))).is_err());
        assert!(
            all_members(&message(json!({ "members": [{ "value": "a", "type": "THING" }] })))
                .is_err()
        );
        let members = all_members(&message(
            json!({ "members": [{ "value": "a" }, { "value": "b", "type": "group" }] }),
        ));
        let kinds: Vec<String> = members.unwrap().into_iter().map(|member| member.kind).collect();
        assert_eq!(kinds, ["USER", "GROUP"]);
    }
}
