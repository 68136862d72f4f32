//! Stacks: the root file systems apps run in.

use serde_json::json;

use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Result, failed};
use crate::resources;
use crate::table::{self, row};
use crate::ui::say;

const STATES: [&str; 4] = ["active", "restricted", "deprecated", "disabled"];

/// `cf stacks`
#[derive(clap::Args)]
pub struct Stacks {
    /// Selector to filter stacks by labels
    #[arg(long)]
    labels: Option<String>,
}

impl Command for Stacks {
    const SPEC: &'static Spec = &Spec {
        name: "stacks",
        about: "List all stacks (a stack is a pre-built file system, including an operating system, that can run apps) and current state",
        usage: "{cf} stacks [--labels SELECTOR]",
        see_also: &["buildpacks", "push"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let user = cx.ui.name(cx.user()?.name);
        say!(cx.ui, "Getting stacks as {user}...\n");
        let query: Vec<(&str, &str)> =
            self.labels.as_deref().map(|labels| ("label_selector", labels)).into_iter().collect();
        let mut stacks: Vec<resources::Stack> =
            cx.client.list("/v3/stacks", &query).await?.resources;
        if stacks.is_empty() {
            say!(cx.ui, "No stacks found.");
            return Ok(());
        }
        stacks.sort_by_key(|stack| stack.name.to_lowercase());
        let with_state = stacks.iter().any(|stack| stack.state.is_some());
        let mut rows = vec![row!["name", "description"]];
        rows[0].extend(with_state.then(|| "state".to_owned()));
        for stack in stacks {
            let mut row = row![stack.name, stack.description.unwrap_or_default()];
            row.extend(with_state.then(|| stack.state.unwrap_or_default()));
            rows.push(row);
        }
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

/// `cf stack`
#[derive(clap::Args)]
pub struct Stack {
    #[arg(value_name = "STACK_NAME")]
    stack: String,
    /// Retrieve and display the given stack's guid. All other output for the stack is suppressed.
    #[arg(long)]
    guid: bool,
}

impl Command for Stack {
    const SPEC: &'static Spec = &Spec {
        name: "stack",
        about: "Show information for a stack (a stack is a pre-built file system, including an operating system, that can run apps) and current state",
        usage: "{cf} stack STACK_NAME",
        see_also: &["app", "push", "stacks", "update-stack"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        if self.guid {
            let stack = cx.client.stack(&self.stack).await?;
            say!(cx.ui, "{}", stack.guid);
            return Ok(());
        }
        let (name, me) = (cx.ui.name(&self.stack), cx.me()?);
        say!(cx.ui, "Getting info for stack {name} as {me}...\n");
        let stack = cx.client.stack(&self.stack).await?;
        show(cx, stack);
        Ok(())
    }
}

fn show(cx: &mut Context, stack: resources::Stack) {
    let mut rows =
        vec![("name:", stack.name), ("description:", stack.description.unwrap_or_default())];
    if let Some(state) = stack.state.filter(|state| !state.is_empty()) {
        let is_active = state == "ACTIVE";
        rows.push(("state:", state));
        if !is_active {
            rows.push(("reason:", stack.state_reason.unwrap_or_default()));
        }
    }
    table::key_values(&mut cx.ui, &rows);
}

/// `cf update-stack`
#[derive(clap::Args)]
pub struct UpdateStack {
    #[arg(value_name = "STACK_NAME")]
    stack: String,
    /// State to transition the stack to (active, restricted, deprecated, disabled)
    #[arg(long)]
    state: String,
    /// Optional plain text describing the stack state change
    #[arg(long)]
    reason: Option<String>,
}

impl Command for UpdateStack {
    const SPEC: &'static Spec = &Spec {
        name: "update-stack",
        about: "Transition a stack between the defined states",
        usage: "{cf} update-stack STACK_NAME [--state (active | restricted | deprecated | disabled)] [--reason text]",
        examples: "{cf} update-stack cflinuxfs3 --state disabled\n{cf} update-stack cflinuxfs3 --state deprecated --reason \"Use cflinuxfs4 instead\"",
        see_also: &["stack", "stacks"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        if !STATES.iter().any(|state| state.eq_ignore_ascii_case(&self.state)) {
            return failed(format!(
                "Invalid state: {}. Must be one of: {}",
                self.state,
                STATES.join(", ")
            ));
        }
        let (name, me) = (cx.ui.name(&self.stack), cx.me()?);
        say!(cx.ui, "Updating stack {name} as {me}...");
        let stack = cx.client.stack(&self.stack).await?;
        let mut body = json!({ "state": self.state.to_uppercase() });
        if let Some(reason) = self.reason {
            body["state_reason"] = json!(reason);
        }
        let reply = cx.client.patch(&format!("/v3/stacks/{}", stack.guid), body).await?;
        cx.ui.ok();
        say!(cx.ui);
        show(cx, reply.json()?);
        Ok(())
    }
}
