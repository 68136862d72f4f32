//! A group as SCIM writes it.

use base::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::query::Column;
use super::user::OWN_ORIGIN;
use super::{SCHEMA, moment};
use crate::db::groups::{Group, Member};
use crate::error::{Error, Result};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Message {
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub members: Option<Vec<MemberMessage>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct MemberMessage {
    pub value: String,
    #[serde(rename = "type", default = "user")]
    pub kind: String,
    #[serde(default = "own")]
    pub origin: String,
    /// In a patch: `delete` takes the member out.
    #[serde(default)]
    pub operation: Option<String>,
}

fn user() -> String {
    "USER".to_owned()
}

fn own() -> String {
    OWN_ORIGIN.to_owned()
}

impl MemberMessage {
    pub(crate) fn member(&self) -> Result<Member> {
        let kind = self.kind.to_uppercase();
        if kind != "USER" && kind != "GROUP" {
            return Err(Error::invalid_scim(format!("Invalid group member type: {}", self.kind)));
        }
        Ok(Member { guid: self.value.clone(), kind, origin: self.origin.clone() })
    }

    pub(crate) fn leaves(&self) -> bool {
        self.operation.as_deref().is_some_and(|operation| operation.eq_ignore_ascii_case("delete"))
    }
}

pub(crate) fn new(name: &str, description: &str, now: Timestamp) -> Result<Group> {
    let name = name.trim();
    if name.is_empty()
        || name.len() > 255
        || name.chars().any(|c| c.is_whitespace() || c.is_control())
    {
        return Err(Error::invalid_scim(
            "A group must have a displayName without spaces, of at most 255 characters.",
        ));
    }
    let (guid, display_name, description) =
        (base::new_guid(), name.to_owned(), description.to_owned());
    Ok(Group { guid, display_name, description, version: 0, created_at: now, updated_at: now })
}

pub(crate) fn columns(attribute: &str) -> Option<Column> {
    Some(match attribute {
        "id" => Column::Exact("guid"),
        "displayname" => Column::Key("name_key"),
        "description" => Column::Text("description"),
        "meta.created" | "created" => Column::Moment("created_at"),
        "meta.lastmodified" | "lastmodified" => Column::Moment("updated_at"),
        _ => return None,
    })
}

pub(crate) fn present(group: &Group, members: &[Member]) -> Value {
    json!({
        "id": group.guid,
        "displayName": group.display_name,
        "description": group.description,
        "zoneId": "uaa",
        "members": members.iter().map(present_member).collect::<Vec<_>>(),
        "meta": {
            "version": group.version,
            "created": moment(group.created_at),
            "lastModified": moment(group.updated_at),
        },
        "schemas": [SCHEMA],
    })
}

pub(crate) fn present_member(member: &Member) -> Value {
    json!({ "value": member.guid, "type": member.kind, "origin": member.origin })
}
