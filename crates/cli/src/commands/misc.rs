//! Small commands that belong to no subject of their own.

use crate::command::{Command, Context, Needs, Spec, find};
use crate::error::{Result, failed};
use crate::help;
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
        about: "Display the OAuth token for the current session and refresh the token if necessary",
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
