//! Small commands that belong to no subject of their own.

use serde::Deserialize;

use crate::command::{Command, Context, Needs, Spec, find};
use crate::error::{Result, failed};
use crate::help;
use crate::table::{self, row};
use crate::ui::say;

/// `cf help`
#[derive(clap::Args)]
pub struct Help {
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
    /// All available commands
    #[arg(short = 'a')]
    all: bool,
}

impl Command for Help {
    const SPEC: &'static Spec = &Spec {
        name: "help",
        alias: "h",
        about: "Show help",
        usage: "{cf} help [COMMAND]",
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        match self.command.as_deref() {
            None if self.all => help::all(cx),
            None => help::common(cx),
            Some(name) => match find(name) {
                Some(entry) => help::of(cx, entry),
                None => {
                    return failed(format!(
                        "'{name}' is not a registered command. See '{} help -a'",
                        cx.cf()
                    ));
                }
            },
        }
        Ok(())
    }
}

/// `cf version`
#[derive(clap::Args)]
pub struct Version {}

impl Command for Version {
    const SPEC: &'static Spec = &Spec {
        name: "version",
        about: "Print the version",
        usage: "{cf} version\n\n'{cf} -v' and '{cf} --version' are also accepted.",
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let cf = cx.cf();
        say!(cx.ui, "{cf} version {}", help::version());
        Ok(())
    }
}

/// `cf oauth-token`
#[derive(clap::Args)]
pub struct OauthToken {}

impl Command for OauthToken {
    const SPEC: &'static Spec = &Spec {
        name: "oauth-token",
        about: "Display the access token of the current session, renewed first",
        usage: "{cf} oauth-token",
        see_also: &["curl"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        cx.client.renew().await?;
        let token = cx.config().access_token.clone();
        say!(cx.ui, "{token}");
        Ok(())
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Buildpack {
    name: String,
    position: u64,
    stack: Option<String>,
    enabled: bool,
    locked: bool,
    state: String,
    filename: Option<String>,
    lifecycle: String,
}

/// `cf buildpacks`
#[derive(clap::Args)]
pub struct Buildpacks {
    /// Selector to filter buildpacks by labels
    #[arg(long)]
    labels: Option<String>,
    /// Only buildpacks of this lifecycle ('buildpack' or 'cnb')
    #[arg(long)]
    lifecycle: Option<String>,
}

impl Command for Buildpacks {
    const SPEC: &'static Spec = &Spec {
        name: "buildpacks",
        about: "List all buildpacks",
        usage: "{cf} buildpacks [--labels SELECTOR] [--lifecycle buildpack|cnb]",
        see_also: &["push", "stacks"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let user = cx.ui.name(cx.user()?.name);
        say!(cx.ui, "Getting buildpacks as {user}...\n");
        let mut query = vec![("order_by", "position")];
        query.extend(self.labels.as_deref().map(|labels| ("label_selector", labels)));
        query.extend(self.lifecycle.as_deref().map(|lifecycle| ("lifecycle", lifecycle)));
        let buildpacks: Vec<Buildpack> = cx.client.list("/v3/buildpacks", &query).await?.resources;
        if buildpacks.is_empty() {
            say!(cx.ui, "No buildpacks found");
            return Ok(());
        }
        let mut rows = vec![row![
            "position",
            "name",
            "stack",
            "enabled",
            "locked",
            "state",
            "filename",
            "lifecycle"
        ]];
        for pack in buildpacks {
            let (stack, filename) =
                (pack.stack.unwrap_or_default(), pack.filename.unwrap_or_default());
            rows.push(row![
                pack.position,
                pack.name,
                stack,
                pack.enabled,
                pack.locked,
                pack.state,
                filename,
                pack.lifecycle
            ]);
        }
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stack {
    name: String,
    description: Option<String>,
    state: Option<String>,
}

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
        about: "List all stacks (a stack is the root file system apps run in)",
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
        let mut stacks: Vec<Stack> = cx.client.list("/v3/stacks", &query).await?.resources;
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
