//! Environment variables that every app gets, while running or while staging.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Result, failed};
use crate::table::{self, row};
use crate::ui::say;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Group {
    var: Map<String, Value>,
}

fn path(phase: &str) -> String {
    format!("/v3/environment_variable_groups/{phase}")
}

async fn show(cx: &mut Context<'_>, phase: &str) -> Result<()> {
    let me = cx.me()?;
    say!(cx.ui, "Getting the {phase} environment variable group as {me}...\n");
    let group: Group = cx.client.get(&path(phase)).await?;
    if group.var.is_empty() {
        say!(cx.ui, "No {phase} environment variable group has been set.");
        return Ok(());
    }
    let mut rows = vec![row!["variable name", "assigned value"]];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    rows.extend(group.var.iter().map(|(name, value)| row![name, text(value)]));
    table::with_header(&mut cx.ui, "", &rows);
    Ok(())
}

/// Sets the whole group: what is not among the new variables goes.
async fn set(cx: &mut Context<'_>, phase: &str, variables: &str) -> Result<()> {
    let me = cx.me()?;
    say!(cx.ui, "Setting the contents of the {phase} environment variable group as {me}...");
    let Ok(Value::Object(new)) = serde_json::from_str(variables) else {
        return failed(
            "Invalid environment variable group provided. Please provide a valid JSON object.",
        );
    };
    let old: Group = cx.client.get(&path(phase)).await?;
    let var = replacement(old.var, new);
    cx.client.patch(&path(phase), json!({ "var": var })).await?;
    cx.ui.ok();
    Ok(())
}

/// Pure: variables that are to go are sent as null; what is given as a number or a truth value is sent as its text.
fn replacement(old: Map<String, Value>, new: Map<String, Value>) -> Map<String, Value> {
    let mut var: Map<String, Value> =
        old.into_iter().map(|(name, _)| (name, Value::Null)).collect();
    let text = |value: Value| match value {
        Value::Number(_) | Value::Bool(_) => Value::String(value.to_string()),
        other => other,
    };
    var.extend(new.into_iter().map(|(name, value)| (name, text(value))));
    var
}

/// `cf running-environment-variable-group`
#[derive(clap::Args)]
pub struct RunningEnvironmentVariableGroup {}

impl Command for RunningEnvironmentVariableGroup {
    const SPEC: &'static Spec = &Spec {
        name: "running-environment-variable-group",
        alias: "revg",
        about: "Retrieve the contents of the running environment variable group",
        usage: "{cf} running-environment-variable-group",
        see_also: &["env", "staging-environment-variable-group"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        show(cx, "running").await
    }
}

/// `cf staging-environment-variable-group`
#[derive(clap::Args)]
pub struct StagingEnvironmentVariableGroup {}

impl Command for StagingEnvironmentVariableGroup {
    const SPEC: &'static Spec = &Spec {
        name: "staging-environment-variable-group",
        alias: "sevg",
        about: "Retrieve the contents of the staging environment variable group",
        usage: "{cf} staging-environment-variable-group",
        see_also: &["env", "running-environment-variable-group"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        show(cx, "staging").await
    }
}

/// `cf set-running-environment-variable-group`
#[derive(clap::Args)]
pub struct SetRunningEnvironmentVariableGroup {
    #[arg(value_name = "ENV_VAR_GROUP_JSON")]
    variables: String,
}

impl Command for SetRunningEnvironmentVariableGroup {
    const SPEC: &'static Spec = &Spec {
        name: "set-running-environment-variable-group",
        alias: "srevg",
        about: "Pass parameters as JSON to create a running environment variable group",
        usage: "{cf} set-running-environment-variable-group '{\"name\":\"value\",\"name\":\"value\"}'",
        see_also: &["running-environment-variable-group", "set-env"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        set(cx, "running", &self.variables).await
    }
}

/// `cf set-staging-environment-variable-group`
#[derive(clap::Args)]
pub struct SetStagingEnvironmentVariableGroup {
    #[arg(value_name = "ENV_VAR_GROUP_JSON")]
    variables: String,
}

impl Command for SetStagingEnvironmentVariableGroup {
    const SPEC: &'static Spec = &Spec {
        name: "set-staging-environment-variable-group",
        alias: "ssevg",
        about: "Pass parameters as JSON to create a staging environment variable group",
        usage: "{cf} set-staging-environment-variable-group '{\"name\":\"value\",\"name\":\"value\"}'",
        see_also: &["set-env", "staging-environment-variable-group"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        set(cx, "staging", &self.variables).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_replaced_and_its_values_are_texts() {
        let map = |value: Value| value.as_object().cloned().unwrap_or_default();
        let old = map(json!({ "A": "old", "B": "old" }));
        let new = map(json!({ "A": 1, "C": true, "D": "x" }));
        let want = map(json!({ "A": "1", "B": null, "C": "true", "D": "x" }));
        assert_eq!(replacement(old, new), want);
    }
}
