//! A user as SCIM writes it, and what a request may change of one.

use base::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::query::Column;
use super::{SCHEMA, moment};
use crate::db::users::Account;
use crate::error::{Error, Result};

/// The origin of accounts whose passwords are kept here.
pub(crate) const OWN_ORIGIN: &str = "uaa";

/// A group that a user is in: guid and name.
pub(crate) type Membership = (String, String);

/// The body of a request that makes or changes a user.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Message {
    pub user_name: Option<String>,
    pub password: Option<String>,
    pub origin: Option<String>,
    pub external_id: Option<String>,
    pub name: Option<Name>,
    pub emails: Option<Vec<Entry>>,
    pub phone_numbers: Option<Vec<Entry>>,
    pub active: Option<bool>,
    pub verified: Option<bool>,
    pub meta: Option<Meta>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Name {
    pub family_name: Option<String>,
    pub given_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Entry {
    pub value: Option<String>,
    pub primary: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Meta {
    /// Attributes that a patch clears.
    pub attributes: Vec<String>,
}

impl Message {
    pub(crate) fn origin(&self) -> &str {
        self.origin.as_deref().filter(|origin| !origin.is_empty()).unwrap_or(OWN_ORIGIN)
    }

    /// A new account with everything that the request says.
    pub(crate) fn create(&self, password_hash: String, now: Timestamp) -> Result<Account> {
        let blank = Account {
            guid: base::new_guid(),
            user_name: String::new(),
            origin: self.origin().to_owned(),
            external_id: String::new(),
            email: String::new(),
            family_name: String::new(),
            given_name: String::new(),
            phone_number: String::new(),
            password_hash,
            password_changed_at: now,
            password_change_required: false,
            active: true,
            verified: false,
            version: 0,
            created_at: now,
            updated_at: now,
            logon_at: Timestamp::ZERO,
            previous_logon_at: Timestamp::ZERO,
            lockout: Default::default(),
        };
        self.patch(blank)
    }

    /// The account after a change that says everything: what is left out becomes empty.
    pub(crate) fn replace(&self, account: Account) -> Result<Account> {
        let cleared = Account {
            user_name: String::new(),
            external_id: String::new(),
            email: String::new(),
            family_name: String::new(),
            given_name: String::new(),
            phone_number: String::new(),
            ..account
        };
        self.patch(cleared)
    }

    /// The account after a change that leaves alone what it does not name.
    pub(crate) fn patch(&self, mut account: Account) -> Result<Account> {
        for attribute in self.meta.iter().flat_map(|meta| &meta.attributes) {
            clear(&mut account, attribute);
        }
        set(&mut account.user_name, &self.user_name);
        set(&mut account.external_id, &self.external_id);
        if let Some(name) = &self.name {
            set(&mut account.family_name, &name.family_name);
            set(&mut account.given_name, &name.given_name);
        }
        if let Some(emails) = &self.emails {
            account.email = first(emails);
        }
        if let Some(phones) = &self.phone_numbers {
            account.phone_number = first(phones);
        }
        account.active = self.active.unwrap_or(account.active);
        account.verified = self.verified.unwrap_or(account.verified);
        check(&account)?;
        Ok(account)
    }
}

fn set(field: &mut String, value: &Option<String>) {
    if let Some(value) = value {
        value.trim().clone_into(field);
    }
}

/// One address is kept: the one that is called primary, or the first.
fn first(entries: &[Entry]) -> String {
    let chosen = entries.iter().find(|entry| entry.primary).or(entries.first());
    chosen.and_then(|entry| entry.value.clone()).unwrap_or_default()
}

fn clear(account: &mut Account, attribute: &str) {
    match attribute.to_lowercase().as_str() {
        "externalid" => account.external_id.clear(),
        "name" => {
            account.family_name.clear();
            account.given_name.clear();
        }
        "name.familyname" => account.family_name.clear(),
        "name.givenname" => account.given_name.clear(),
        "phonenumbers" => account.phone_number.clear(),
        // A user cannot be without these, or they are not for a patch to clear.
        _ => {}
    }
}

/// Longest texts, as UAA's columns have them.
const LONGEST: usize = 255;

fn check(account: &Account) -> Result<()> {
    let texts = [
        &account.user_name,
        &account.email,
        &account.family_name,
        &account.given_name,
        &account.external_id,
    ];
    if texts.iter().any(|text| text.chars().count() > LONGEST || text.contains('\0')) {
        return Err(Error::invalid_scim(format!(
            "A name or address must not be longer than {LONGEST} characters."
        )));
    }
    if account.user_name.is_empty() {
        return Err(Error::invalid_scim("A username must be provided."));
    }
    let own = account.origin == OWN_ORIGIN;
    if own && !account.user_name.chars().all(|c| c.is_alphanumeric() || "+-_.@'!".contains(c)) {
        return Err(Error::invalid_scim("Username must match pattern: [\\p{L}+0-9+\\-_.@'!]+"));
    }
    if account.email.is_empty() {
        return Err(Error::invalid_scim("Exactly one email must be provided."));
    }
    Ok(())
}

pub(crate) fn columns(attribute: &str) -> Option<Column> {
    Some(match attribute {
        "id" => Column::Exact("guid"),
        "username" => Column::Key("name_key"),
        "origin" => Column::Exact("origin"),
        "externalid" => Column::Text("external_id"),
        "email" | "emails" | "emails.value" => Column::Text("email"),
        "name.familyname" | "familyname" => Column::Text("family_name"),
        "name.givenname" | "givenname" => Column::Text("given_name"),
        "phonenumbers" | "phonenumbers.value" => Column::Text("phone_number"),
        "active" => Column::Truth("active"),
        "verified" => Column::Truth("verified"),
        "meta.created" | "created" => Column::Moment("created_at"),
        "meta.lastmodified" | "lastmodified" => Column::Moment("updated_at"),
        "lastlogontime" => Column::Moment("logon_at"),
        _ => return None,
    })
}

/// The columns of `/ids/Users`.
pub(crate) fn id_columns(attribute: &str) -> Option<Column> {
    matches!(attribute, "id" | "username" | "origin" | "meta.created")
        .then(|| columns(attribute))
        .flatten()
}

pub(crate) fn present(account: &Account, groups: &[Membership]) -> Value {
    let groups: Vec<Value> = groups
        .iter()
        .map(|(guid, name)| json!({ "value": guid, "display": name, "type": "DIRECT" }))
        .collect();
    let mut user = json!({
        "id": account.guid,
        "externalId": account.external_id,
        "meta": {
            "version": account.version,
            "created": moment(account.created_at),
            "lastModified": moment(account.updated_at),
        },
        "userName": account.user_name,
        "name": { "familyName": account.family_name, "givenName": account.given_name },
        "emails": [{ "value": account.email, "primary": false }],
        "groups": groups,
        "approvals": [],
        "active": account.active,
        "verified": account.verified,
        "origin": account.origin,
        "zoneId": "uaa",
        "passwordLastModified": moment(account.password_changed_at),
        "schemas": [SCHEMA],
    });
    if !account.phone_number.is_empty() {
        user["phoneNumbers"] = json!([{ "value": account.phone_number }]);
    }
    for (name, at) in
        [("lastLogonTime", account.logon_at), ("previousLogonTime", account.previous_logon_at)]
    {
        if at > Timestamp::ZERO {
            user[name] = at.as_millis().into();
        }
    }
    user
}

/// Only the wanted top-level attributes, when a list asks for some.
pub(crate) fn restrict(value: Value, attributes: Option<&str>) -> Value {
    let (Some(wanted), Value::Object(all)) = (attributes.filter(|text| !text.is_empty()), &value)
    else {
        return value;
    };
    let wanted: Vec<String> = wanted.split(',').map(|name| name.trim().to_lowercase()).collect();
    let keep = |key: &str| {
        wanted
            .iter()
            .any(|name| name.split('.').next().is_some_and(|head| key.to_lowercase() == head))
    };
    let kept: Map<String, Value> =
        all.iter().filter(|(key, _)| keep(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    Value::Object(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(value: Value) -> Message {
        serde_json::from_value(value).unwrap()
    }

    fn sam() -> Value {
        json!({ "userName": " sam ", "name": { "familyName": "F", "givenName": "G" },
                "emails": [{ "value": "a@b" }, { "value": "c@d", "primary": true }], "externalId": "x" })
    }

    #[test]
    fn the_primary_address_is_kept() {
        let account = message(sam()).create("!".to_owned(), Timestamp::ZERO).unwrap();
        assert_eq!((account.user_name.as_str(), account.email.as_str()), ("sam", "c@d"));
    }

    #[test]
    fn a_patch_keeps_and_a_put_clears_what_is_not_said() {
        let account = message(sam()).create("!".to_owned(), Timestamp::ZERO).unwrap();
        let change = json!({ "userName": "sam", "emails": [{ "value": "e@f" }], "name": { "givenName": "H" } });
        let patched = message(change.clone()).patch(account.clone()).unwrap();
        assert_eq!(
            (
                patched.family_name.as_str(),
                patched.given_name.as_str(),
                patched.external_id.as_str()
            ),
            ("F", "H", "x")
        );
        let put = message(change).replace(account.clone()).unwrap();
        assert_eq!(
            (put.family_name.as_str(), put.given_name.as_str(), put.external_id.as_str()),
            ("", "H", "")
        );
        let cleared = message(json!({ "meta": { "attributes": ["externalId", "name"] } }))
            .patch(account)
            .unwrap();
        assert_eq!((cleared.family_name.as_str(), cleared.external_id.as_str()), ("", ""));
    }

    #[test]
    fn bad_names_are_refused() {
        for name in ["", "a b", "a/b", "<script>", "tab\there"] {
            let mut user = sam();
            user["userName"] = name.into();
            assert!(
                message(user.clone()).create("!".to_owned(), Timestamp::ZERO).is_err(),
                "{name}"
            );
        }
        let mut user = sam();
        user["userName"] = "Jürgen.O'Neil+1@x-y_z!".into();
        assert!(message(user.clone()).create("!".to_owned(), Timestamp::ZERO).is_ok());
        user["userName"] = "CN=any thing, at all".into();
        user["origin"] = "ldap".into();
        assert!(message(user).create("!".to_owned(), Timestamp::ZERO).is_ok());
    }

    #[test]
    fn a_list_can_ask_for_some_attributes() {
        let all = json!({ "id": 1, "userName": 2, "meta": 3 });
        assert_eq!(restrict(all.clone(), Some("id, username")), json!({ "id": 1, "userName": 2 }));
        assert_eq!(restrict(all.clone(), Some("meta.version")), json!({ "meta": 3 }));
        assert_eq!(restrict(all.clone(), None), all);
    }
}
