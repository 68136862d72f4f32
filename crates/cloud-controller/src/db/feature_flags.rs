//! Switches the operator may turn; what nobody turned stands as Cloud Foundry has it.

use base::Timestamp;
use sql::Connection;

use super::{Columns as _, Result, query};
use crate::auth::Caller;
use crate::errors::{ApiResult, Kind};

/// Every flag, and how it stands at first.
pub const DEFAULTS: &[(&str, bool)] = &[
    ("app_bits_upload", true),
    ("app_scaling", true),
    ("diego_cnb", false),
    ("diego_docker", false),
    ("env_var_visibility", true),
    ("hash_based_routing", false),
    ("hide_marketplace_from_unauthenticated_users", false),
    ("private_domain_creation", true),
    ("resource_matching", true),
    ("route_creation", true),
    ("route_sharing", false),
    ("service_instance_creation", true),
    ("service_instance_sharing", false),
    ("set_roles_by_username", true),
    ("space_developer_env_var_visibility", true),
    ("space_scoped_private_broker_creation", true),
    ("task_creation", true),
    ("unset_roles_by_username", true),
    ("user_org_creation", false),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureFlag {
    pub name: String,
    pub enabled: bool,
    pub custom_error_message: Option<String>,
    /// `None` = never turned.
    pub updated_at: Option<Timestamp>,
}

/// By name; turned or not.
pub async fn all(connection: &mut Connection) -> Result<Vec<FeatureFlag>> {
    let rows = query("SELECT * FROM feature_flags", []).all(connection).await?;
    let mut flags: Vec<FeatureFlag> = DEFAULTS
        .iter()
        .map(|(name, enabled)| FeatureFlag {
            name: (*name).to_owned(),
            enabled: *enabled,
            custom_error_message: None,
            updated_at: None,
        })
        .collect();
    for row in &rows {
        let name = row.text("name")?;
        if let Some(flag) = flags.iter_mut().find(|flag| flag.name == name) {
            flag.enabled = row.flag("enabled")?;
            flag.custom_error_message = row.maybe_text("custom_error_message")?;
            flag.updated_at = Some(row.moment("updated_at")?);
        }
    }
    Ok(flags)
}

/// `None` for a name that is no flag.
pub async fn find(connection: &mut Connection, name: &str) -> Result<Option<FeatureFlag>> {
    Ok(all(connection).await?.into_iter().find(|flag| flag.name == name))
}

pub async fn is_enabled(connection: &mut Connection, name: &str) -> Result<bool> {
    Ok(find(connection, name).await?.is_some_and(|flag| flag.enabled))
}

pub async fn set(connection: &mut Connection, now: Timestamp, flag: &FeatureFlag) -> Result<()> {
    let text = "INSERT INTO feature_flags (name, enabled, custom_error_message, updated_at) VALUES ($1, $2, $3, $4) \
                ON CONFLICT (name) DO UPDATE SET enabled = excluded.enabled, \
                custom_error_message = excluded.custom_error_message, updated_at = excluded.updated_at";
    let args =
        [(&flag.name).into(), flag.enabled.into(), (&flag.custom_error_message).into(), now.into()];
    query(text, args).run(connection).await.map(drop)
}

/// Lets through what the flag allows; administrators pass.
///
/// # Errors
/// 403 with the operator's words, or the flag's name.
pub async fn require(connection: &mut Connection, caller: &Caller, name: &str) -> ApiResult<()> {
    if caller.is_admin() { Ok(()) } else { demand(connection, name).await }
}

/// As [`require`], of administrators too.
///
/// # Errors
/// 403 with the operator's words, or the flag's name.
pub async fn demand(connection: &mut Connection, name: &str) -> ApiResult<()> {
    match find(connection, name).await? {
        Some(flag) if !flag.enabled => {
            let words = flag.custom_error_message.unwrap_or(flag.name);
            Err(Kind::FeatureDisabled.with(format!("Feature Disabled: {words}")))
        }
        _ => Ok(()),
    }
}
