//! `cf config`: what the command line does unless told otherwise.

use serde_json::json;

use crate::command::{Command, Context, Spec};
use crate::error::{Error, Result};
use crate::ui::say;

fn color(text: &str) -> std::result::Result<bool, String> {
    let wrong = |_| "COLOR must be \"true\" or \"false\"".to_owned();
    text.to_lowercase().parse().map_err(wrong)
}

fn minutes(text: &str) -> std::result::Result<u64, String> {
    let minutes = text.parse().ok().filter(|minutes| *minutes > 0);
    minutes.ok_or_else(|| "Timeout must be an integer greater than or equal to 1".to_owned())
}

/// `cf config`
#[derive(clap::Args)]
pub struct Config {
    /// Timeout in minutes for async HTTP requests
    #[arg(long, value_parser = minutes)]
    async_timeout: Option<u64>,
    /// Enable or disable color in CLI output
    #[arg(long, value_parser = color)]
    color: Option<bool>,
    /// Set default locale. If LOCALE is 'CLEAR', previous locale is deleted.
    #[arg(long)]
    locale: Option<String>,
    /// Trace HTTP requests by default. If a file path is provided then output will write to the file provided. If the file does not exist it will be created.
    #[arg(long)]
    trace: Option<String>,
}

impl Command for Config {
    const SPEC: &'static Spec = &Spec {
        name: "config",
        about: "Write default values to the config",
        usage: "{cf} config [--async-timeout TIMEOUT_IN_MINUTES] [--trace (true | false | path/to/file)] [--color (true | false)] [--locale (LOCALE | CLEAR)]",
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let Config { async_timeout, color, locale, trace } = self;
        if async_timeout.is_none() && color.is_none() && locale.is_none() && trace.is_none() {
            return Err(Error::Usage("at least one flag must be provided".to_owned()));
        }
        say!(cx.ui, "Setting values in config...");
        {
            let mut config = cx.config();
            if let Some(minutes) = async_timeout {
                config.async_timeout = minutes;
            }
            if let Some(color) = color {
                config.color_enabled = color.to_string();
            }
            if let Some(locale) = locale {
                let locale = if locale == "CLEAR" { String::new() } else { locale };
                config.others.insert("Locale".to_owned(), json!(locale));
            }
            if let Some(trace) = trace {
                config.trace = trace;
            }
        }
        cx.ui.ok();
        Ok(())
    }
}
