//! `lifecycle` as apps and builds carry it: which buildpacks on which stack.

use serde_json::{Value, json};
use sql::Connection;

use crate::db::{apps, feature_flags};
use crate::errors::{ApiError, ApiResult};
use crate::message::{Change, Fields};

pub const BUILDPACK: &str = "buildpack";
pub const DOCKER: &str = "docker";
/// Cloud Native Buildpacks.
pub const CNB: &str = "cnb";
const KINDS: &[&str] = &[BUILDPACK, DOCKER, CNB];

/// The names of types stand in errors as Cloud Foundry lists them.
const KINDS_SPOKEN: &str = "buildpack, docker, cnb";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    pub kind: String,
    /// Absent = leave them; empty = detect.
    pub buildpacks: Option<Vec<String>>,
    pub stack: Change<String>,
}

impl Lifecycle {
    pub fn buildpack(stack: &str) -> Lifecycle {
        Lifecycle {
            kind: BUILDPACK.to_owned(),
            buildpacks: None,
            stack: Change::Set(stack.to_owned()),
        }
    }

    /// The stack to keep: none for images, which bring their own.
    pub fn stack_or(&self, default: &str) -> Option<String> {
        if self.kind == DOCKER {
            return None;
        }
        self.stack.clone().over(Some(default.to_owned())).or_else(|| Some(default.to_owned()))
    }

    /// # Errors
    /// 422 for buildpacks and stacks that do not exist, 403 for kinds that are switched off.
    pub async fn check(&self, connection: &mut Connection) -> ApiResult<()> {
        check_kind(connection, &self.kind).await?;
        if let Change::Set(stack) = &self.stack
            && !apps::stack_exists(connection, stack).await?
        {
            return Err(ApiError::unprocessable("Stack must be an existing stack"));
        }
        let named: Vec<&String> = self.buildpacks.iter().flatten().collect();
        if named.is_empty() || self.kind != BUILDPACK {
            return Ok(());
        }
        let known = apps::known_buildpacks(connection).await?;
        match named.into_iter().find(|name| !known.contains(name) && !is_address(name)) {
            Some(name) => {
                let detail = format!(
                    "Buildpack \"{name}\" must be an existing admin buildpack or a valid git URI"
                );
                Err(ApiError::unprocessable(detail))
            }
            None => Ok(()),
        }
    }
}

/// # Errors
/// 403 for a kind of lifecycle that is switched off.
pub async fn check_kind(connection: &mut Connection, kind: &str) -> ApiResult<()> {
    match kind {
        DOCKER => feature_flags::demand(connection, "diego_docker").await,
        CNB => feature_flags::demand(connection, "diego_cnb").await,
        _ => Ok(()),
    }
}

/// Whether a buildpack is named by where it lies, rather than by the name of one that is installed.
pub fn is_address(name: &str) -> bool {
    let scheme =
        ["http://", "https://", "git://", "ssh://"].iter().any(|scheme| name.starts_with(scheme));
    scheme || (name.contains('@') && name.contains(':') && !name.contains(' '))
}

/// `None` when the message has none.
pub fn read(fields: &mut Fields<'_>) -> Option<Lifecycle> {
    fields.inside("lifecycle", |lifecycle| {
        let kind = lifecycle.text("type").unwrap_or_else(|| BUILDPACK.to_owned());
        if !KINDS.contains(&kind.as_str()) {
            lifecycle.error(format!("type is not included in list: {KINDS_SPOKEN}"));
        }
        if !lifecycle.has("data") {
            lifecycle.error("data must be an object");
        }
        let data = lifecycle.inside("data", |data| {
            if kind == DOCKER {
                return (None, Change::Keep);
            }
            if kind == CNB {
                data.object("credentials");
            }
            let buildpacks = match data.raw("buildpacks") {
                Some(Value::Null) => Some(Vec::new()),
                _ => data.texts("buildpacks"),
            };
            if buildpacks.iter().flatten().any(|name| name.is_empty() || name.len() > 4096) {
                data.error("buildpacks entries must be between 1 and 4096 characters");
            }
            (buildpacks, data.change_text("stack"))
        });
        let (buildpacks, stack) = data.unwrap_or_default();
        Lifecycle { kind, buildpacks, stack }
    })
}

pub fn present(kind: &str, buildpacks: &[String], stack: Option<&str>) -> Value {
    if kind == DOCKER {
        return json!({ "type": kind, "data": {} });
    }
    let shown: Vec<String> = buildpacks.iter().map(|name| without_password(name)).collect();
    json!({ "type": kind, "data": { "buildpacks": shown, "stack": stack } })
}

/// Buildpacks' addresses may carry a password that readers must not see.
pub fn without_password(name: &str) -> String {
    match url::Url::parse(name) {
        Ok(mut address) if address.password().is_some() => {
            // Both can only fail for addresses that cannot have them, and this one has.
            let _ = address.set_username("***");
            let _ = address.set_password(Some("***"));
            address.to_string()
        }
        _ => name.to_owned(),
    }
}

/// The rules for names and values of environment variables that users set.
pub fn check_variables(variables: &Value, mut error: impl FnMut(String)) {
    let Some(variables) = variables.as_object() else {
        return error("Environment variables must be an object".to_owned());
    };
    for (name, value) in variables {
        let upper = name.to_ascii_uppercase();
        if name.is_empty() {
            error("Environment variables key must be a minimum length of 1".to_owned());
        } else if upper == "PORT" {
            error("Environment variables cannot set PORT".to_owned());
        } else if upper.starts_with("VCAP_") {
            error("Environment variables cannot start with VCAP_".to_owned());
        } else if upper.starts_with("VMC") {
            error("Environment variables cannot start with VMC_".to_owned());
        } else if name.contains(['=', '\0']) {
            error("Environment variables key cannot contain '=' or NUL".to_owned());
        }
        if !value.is_string() && !value.is_null() {
            error(format!(
                "Non-string value in environment variable for key '{name}', value '{value}'"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_addresses_are_hidden() {
        assert_eq!(
            without_password("https://me:secret@host/repo.git"),
            "https://***:***@host/repo.git"
        );
        assert_eq!(without_password("ruby_buildpack"), "ruby_buildpack");
    }

    #[test]
    fn variables_of_the_platform_cannot_be_set() {
        let mut errors = Vec::new();
        check_variables(&json!({ "port": "1", "vcap_x": "1", "A": 1, "B": "ok" }), |error| {
            errors.push(error)
        });
        assert_eq!(errors.len(), 3, "{errors:?}");
    }
}
